"""Positions that are no ordinary text: the first one, special tokens, and those whose residual is an outlier.

Real models park attention on a few positions, whose residuals there have a hundred times the norm of all others (Xiao et al. 2023,
"Efficient Streaming Language Models with Attention Sinks"; Sun et al. 2024, "Massive Activations"). One of them in a batch decides its
mean, its covariance and its reconstruction loss: dictionary_learning #52, sparsify #113 and SAELens #333 report it of training. So they
are found, by position, by token and by norm, and left out wherever residuals are read. docs/protocol.md (Sinks) says what each kind is
left out of, and docs/performance.md what one does to a dictionary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .anatomy import PairError
from .engine import SIDES, Side

TIMES = 10.0
"""An outlier's norm is more than so many times the median of ordinary positions on its side."""
CALIBRATION_TOKENS = 2000


@dataclass
class Count:
    """What was left out of the text that was read."""

    read: int = 0
    first: int = 0
    special: int = 0
    outliers: int = 0
    largest: float = 0.0
    """Norm of the largest residual left out."""
    tokens: dict[int, int] = field(default_factory=dict[int, int])
    """How often each token id was left out as an outlier."""

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "Count":
        """A count that was written as JSON, which knows no numbers as keys."""
        fields: dict[str, Any] = {**written, "tokens": {int(token): n for token, n in written["tokens"].items()}}
        return cls(**fields)

    def add(self, other: "Count") -> None:
        """Count what another reading left out."""
        self.read += other.read
        self.first += other.first
        self.special += other.special
        self.outliers += other.outliers
        self.largest = max(self.largest, other.largest)
        for token, n in other.tokens.items():
            self.tokens[token] = self.tokens.get(token, 0) + n


class Sinks:
    """The rule, with its norms fixed once for a pair so that it does not depend on what a batch holds.

    Args:
        special: token ids that are control tokens.
        median: median norm of ordinary positions, for each side.
    """

    def __init__(self, special: Sequence[int], median: dict[Side, float]):
        self.special, self.median = torch.tensor(sorted(special)), median
        self._control = frozenset(special)
        self.most = {side: float(f"{TIMES * value:.3g}") for side, value in median.items()}
        """Largest norm of an ordinary position. Three digits: another processor's median differs in its last bit, and means the same."""

    @classmethod
    def of(cls, pair: Any, rows: Sequence[Sequence[int]]) -> "Sinks":
        """Calibrated on some token rows of ordinary text (at most `CALIBRATION_TOKENS` tokens are read).

        Raises:
            PairError: no ordinary position in them.
        """
        special = special_ids(pair.tokenizer)
        rule = cls(special, dict.fromkeys(SIDES, float("inf")))
        norms: dict[Side, list[Tensor]] = {side: [] for side in SIDES}
        for row in rows:
            ids, mask = pair.pad([row])
            ordinary = mask & ~rule.first(ids) & ~rule.control(ids)
            for side in SIDES:
                norms[side].append(pair.residuals(ids, side).norm(dim=-1)[ordinary])
            if sum(map(len, norms["base"])) >= CALIBRATION_TOKENS:
                break
        return cls(special, {side: _median(found) for side, found in norms.items()})

    @property
    def rule(self) -> dict[str, Any]:
        """All that decides which positions are left out, as JSON."""
        return {"special": self.special.tolist(), "most": self.most}

    def first(self, ids: Tensor) -> Tensor:
        """[rows, pos] bool: the first position of each row."""
        return (torch.arange(ids.shape[1], device=ids.device) == 0).expand_as(ids)

    def control(self, ids: Tensor) -> Tensor:
        """[rows, pos] bool: special tokens."""
        return torch.isin(ids, self.special.to(ids.device))

    def eligible(self, row: Sequence[int]) -> list[bool]:
        """For each token of one row whether neither its place nor its id leaves it out."""
        return [at > 0 and token not in self._control for at, token in enumerate(row)]

    def outlier(self, residual: Tensor, side: Side) -> Tensor:
        """[rows, pos] bool of residuals [rows, pos, d_model] of one side."""
        return residual.norm(dim=-1) > self.most[side]

    def still(self, residual: Tensor, ids: Tensor, side: Side) -> Tensor:
        """[rows, pos] bool: positions that an intervention does not move. Special tokens are moved: an answer may begin at one."""
        return self.first(ids) | self.outlier(residual, side)

    def ordinary(self, both: Tensor, ids: Tensor, mask: Tensor, count: Count) -> Tensor:
        """[rows, pos] bool: positions of residuals [rows, pos, 2, d_model] to be read, of those in `mask`; what is not is counted."""
        norms = both.norm(dim=-1)
        most = torch.tensor([self.most[side] for side in SIDES], device=norms.device)
        first, special, far = self.first(ids), self.control(ids), (norms > most).any(-1)
        kept = mask & ~first & ~special & ~far
        count.read += int(mask.sum())
        count.first += int((mask & first).sum())
        count.special += int((mask & ~first & special).sum())
        outliers = mask & ~first & ~special & far
        count.outliers += int(outliers.sum())
        if (dropped := norms[mask & ~kept]).numel():
            count.largest = max(count.largest, float(dropped.max()))
        for token in ids[outliers].tolist():
            count.tokens[token] = count.tokens.get(token, 0) + 1
        return kept


def special_ids(tokenizer: Any) -> list[int]:
    """Ids of control tokens: what a tokenizer calls special, whether it has a name for it or not."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return sorted({*tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)})


def _median(norms: list[Tensor]) -> float:
    found = torch.cat(norms) if norms else torch.zeros(0)
    if not len(found):
        raise PairError(
            "the neutral texts have no positions but first ones and special tokens, so no norm of an ordinary residual can be measured; "
            "give texts of several words, or --sinks keep"
        )
    return float(found.median())
