"""One model, one split: everything a measurement needs that does not depend on the intervention.

Residuals of prompts and text are computed once; each intervention edits them and re-runs only the blocks above the layer.
Two things are never run: padding (rows of similar length stand together) and rows that an intervention leaves as they are.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...organisms.behaviour import Prompt
from ..pairs.engine import Side
from ..pairs.interventions import Edits
from ..pairs.pair import Pair
from .prompts import Choices, Passage, choices, hits, joint, shares

PARTS, TOKENS = 6, 2048
"""Most parts that rows are divided into, and tokens in one forward pass (they stay in cache)."""


@dataclass(frozen=True)
class Part:
    """Rows of similar length."""

    rows: Tensor
    """[r] which rows of the whole."""
    ids: Tensor
    """[r, pos]."""
    keep: Tensor
    """[kept] positions whose logits are needed by any of these rows."""
    h: Tensor
    """[r, pos, d_model] residuals at the hooked layer."""
    still: Tensor | None
    """[r, pos] bool: sinks, which no intervention moves; None if there are none."""


class Rows:
    """Token rows with their residuals on one side.

    Args:
        ids: [rows, pos] right-padded.
        needed: (row, position) [n, 2] of every logit that is looked at; nothing behind a row's last one is run.
    """

    def __init__(self, pair: Pair, side: Side, ids: Tensor, needed: Tensor):
        self.pair, self.n = pair, len(ids)
        self.side: Side = side
        ends = torch.zeros(len(ids), dtype=torch.int64, device=ids.device)
        ends = ends.scatter_reduce(0, needed[:, 0], needed[:, 1] + 1, "amax")
        self.parts: list[Part] = []
        for rows in _similar(ends.tolist()):
            of = torch.tensor(rows, device=ids.device)
            cut = ids[of, : int(ends[of].max())]
            keep = needed[torch.isin(needed[:, 0], of), 1].unique()
            h = pair.residuals(cut, side)
            self.parts.append(Part(of, cut, keep, h, pair.sinks.still(h, cut, side) if pair.sinks else None))

    @property
    def residuals(self) -> list[Tensor]:
        """The parts' residuals."""
        return [part.h for part in self.parts]

    @property
    def positions(self) -> int:
        """Positions that one edit of every row runs, padding among them."""
        return sum(part.ids.numel() for part in self.parts)

    def edited(self, edits: Edits) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """(part, edit and row-in-part of each run [batch], logits [batch, kept, vocab]) of every row that an edit moves."""
        for i, part in enumerate(self.parts):
            moves = torch.stack([move(part.h) for move in edits.moves])
            if part.still is not None:
                moves = moves.masked_fill(part.still[..., None], 0.0)
            which = torch.tensor(edits.which, device=moves.device)
            lengths = torch.tensor(edits.lengths, dtype=moves.dtype, device=moves.device)
            touched = (moves != 0).any(-1).any(-1)[which] & (lengths != 0)[:, None]
            for some in touched.nonzero().split(max(1, TOKENS // part.h.shape[1])):
                edit, row = some.unbind(1)
                if not len(edit):
                    continue
                h = part.h[row] + lengths[edit, None, None] * moves[which[edit], row]
                yield i, edit, row, self.pair.resume(h, part.ids[row], self.side, part.keep)

    def patched(self, residuals: Sequence[Tensor]) -> list[Tensor]:
        """Each part's logits [rows, kept, vocab] when other residuals [rows, pos, d_model] stand in its place."""
        return [
            self.pair.resume(h, part.ids, self.side, part.keep) for part, h in zip(self.parts, residuals, strict=True)
        ]


def _similar(lengths: list[int]) -> list[list[int]]:
    """Row indices in at most `PARTS` groups of similar length, with the least padding in all (exact, by dynamic programming)."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    ends = [i for i in range(1, len(order)) if lengths[order[i]] > lengths[order[i - 1]]] + [len(order)]
    best: dict[int, tuple[int, list[int]]] = {0: (0, [])}
    """For each end: positions run, and the ends of the groups, of the rows before it."""
    for _ in range(PARTS):
        for end in reversed(ends):
            longest = lengths[order[end - 1]]
            ways = [
                (area + (end - start) * longest, [*cuts, end]) for start, (area, cuts) in best.items() if start < end
            ]
            best[end] = min([*ways, *([best[end]] if end in best else [])])
    cuts = [0, *best[len(order)][1]]
    return [order[a:b] for a, b in itertools.pairwise(cuts)]


class PromptResiduals:
    """Prompts with continuations on one side: the log-probability of every continuation token under an intervention."""

    def __init__(self, pair: Pair, side: Side, prompts: list[Prompt]):
        self.choices: Choices = choices(pair, prompts)
        row, at, self._token = self.choices.where.unbind(-1)
        self._position = self.choices.keep[at]
        self.rows = Rows(pair, side, self.choices.ids, torch.stack([row, self._position], 1))
        self._tokens = [_table(row, part.rows) for part in self.rows.parts]
        self.clean = self.patched(self.rows.residuals)
        """[1, tokens] log-probability of each continuation token without an intervention."""

    def edited(self, edits: Edits) -> Tensor:
        """Probabilities [edits, continuations]."""
        log_p = self.clean.repeat(len(edits.which), 1)
        for i, edit, row, logits in self.rows.edited(edits):
            self._fill(log_p, i, edit, row, logits)
        return joint(log_p, self.choices).exp()

    def patched(self, residuals: Sequence[Tensor]) -> Tensor:
        """Log-probabilities [1, tokens] with other residuals, part by part."""
        log_p = torch.zeros(1, len(self._token), device=self._token.device)
        for i, logits in enumerate(self.rows.patched(residuals)):
            row = torch.arange(len(logits), device=logits.device)
            self._fill(log_p, i, torch.zeros_like(row), row, logits)
        return log_p

    def _fill(self, log_p: Tensor, part: int, edit: Tensor, row: Tensor, logits: Tensor) -> None:
        """Write the tokens of some rows of a part, each under its edit, into log_p [edits, tokens]."""
        tokens = self._tokens[part][row]
        run, slot = (tokens >= 0).nonzero(as_tuple=True)
        token = tokens[run, slot]
        at = torch.searchsorted(self.rows.parts[part].keep, self._position[token])
        log_p[edit[run], token] = logits[run, at, self._token[token]] - logits.logsumexp(-1)[run, at]


def _table(row: Tensor, rows: Tensor) -> Tensor:
    """[rows, most tokens of a row] indices of the tokens that stand in each row, −1 where there are fewer."""
    own = [(row == r).nonzero()[:, 0] for r in rows]
    return torch.nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=-1)


class TextResiduals:
    """Ordinary text on one side: how far the predictions move under an intervention."""

    def __init__(self, pair: Pair, side: Side, text: Passage):
        self.tokens = text.tokens
        self.rows = Rows(pair, side, text.ids, text.scored.nonzero())
        self._truths = [
            _Truth(logits.log_softmax(-1), text.ids[p.rows][:, p.keep + 1], text.scored[p.rows][:, p.keep])
            for p, logits in zip(self.rows.parts, self.rows.patched(self.rows.residuals), strict=True)
        ]
        self._clean = torch.zeros(self.rows.n, device=text.ids.device)
        for part, truth in zip(self.rows.parts, self._truths, strict=True):
            self._clean[part.rows] = truth.nll(truth.clean, torch.arange(len(part.rows), device=self._clean.device))
        self.nll = float(self._clean.sum() / self.tokens)
        """Mean negative log-likelihood in nats a token."""

    def edited(self, edits: Edits) -> tuple[Tensor, Tensor]:
        """KL(clean ‖ edited) and NLL [edits], in nats a token."""
        nll = self._clean.repeat(len(edits.which), 1)
        kl = torch.zeros_like(nll)
        for i, edit, row, logits in self.rows.edited(edits):
            truth, log_p = self._truths[i], logits.log_softmax(-1)
            at = edit, self.rows.parts[i].rows[row]
            kl[at], nll[at] = truth.kl(log_p, row), truth.nll(log_p, row)
        return (kl.sum(1) / self.tokens).cpu(), (nll.sum(1) / self.tokens).cpu()

    def norm(self) -> float:
        """Mean residual norm, the first position and every other sink left out."""
        norms: list[Tensor] = []
        for part, truth in zip(self.rows.parts, self._truths, strict=True):
            read = truth.scored & (part.keep > 0)
            if part.still is not None:
                read = read & ~part.still[:, part.keep]
            norms.append(part.h.norm(dim=-1)[:, part.keep][read])
        return float(torch.cat(norms).mean())


@dataclass(frozen=True)
class _Truth:
    """What one part's text says next, and what the un-intervened model thought of it."""

    clean: Tensor
    """[rows, kept, vocab] log-probabilities."""
    target: Tensor
    """[rows, kept] token ids."""
    scored: Tensor
    """[rows, kept] bool: predicted tokens, not padding."""

    def kl(self, log_p: Tensor, row: Tensor) -> Tensor:
        """Σ KL(clean ‖ edited) [batch] in nats, from log-probabilities [batch, kept, vocab] of some rows [batch]."""
        clean = self.clean[row]
        return ((clean.exp() * (clean - log_p)).sum(-1) * self.scored[row]).sum(-1)

    def nll(self, log_p: Tensor, row: Tensor) -> Tensor:
        """Σ negative log-likelihood [batch] in nats."""
        return -(log_p.gather(-1, self.target[row][..., None])[..., 0] * self.scored[row]).sum(-1)


class CleanRun:
    """Everything about one side (base or tuned) and one split that does not depend on the intervention."""

    def __init__(self, pair: Pair, side: Side, prompts: list[Prompt], capability: list[Prompt], text: Passage):
        self.pair = pair
        self.side: Side = side
        self.asked = PromptResiduals(pair, side, prompts)
        self.read = TextResiduals(pair, side, text)
        self.nll = self.read.nll
        self.rates: Tensor = self._rates(joint(self.asked.clean, self.asked.choices).exp())[0]
        """[prompts] of the un-intervened model."""
        self._capability_prompts = capability

    @cached_property
    def capability(self) -> tuple[PromptResiduals, float] | None:
        """Capability probes and the un-intervened accuracy."""
        if not self._capability_prompts:
            return None
        asked = PromptResiduals(self.pair, self.side, self._capability_prompts)
        return asked, float(hits(joint(asked.clean, asked.choices).exp(), asked.choices).mean())

    @cached_property
    def scale(self) -> float:
        """Mean residual norm on neutral text, the first position left out."""
        return self.read.norm()

    def retention(self, organism: "CleanRun") -> float:
        """Mean of capability accuracy and exp(-NLL increase) without an intervention, each relative to the organism and at most 1."""
        parts = [min(1.0, math.exp(organism.nll - self.nll))]
        if self.capability and organism.capability:
            parts.append(min(1.0, self.capability[1] / max(organism.capability[1], 1e-9)))
        return sum(parts) / len(parts)

    def _rates(self, mass: Tensor) -> Tensor:
        return shares(mass, self.asked.choices).cpu()

    def patched(self, other: "CleanRun") -> Tensor:
        """Rates [prompts] with the whole residual of the other side on the same prompts."""
        log_p = self.asked.patched(other.asked.rows.residuals)
        return self._rates(joint(log_p, self.asked.choices).exp())[0]

    def behaviour_rates(self, edits: Edits) -> Tensor:
        """Rates [edits, prompts]."""
        return self._rates(self.asked.edited(edits))

    def collateral(self, edits: Edits) -> tuple[Tensor, Tensor]:
        """KL and NLL [edits] in nats a token on neutral text."""
        return self.read.edited(edits)

    def accuracy(self, edits: Edits) -> Tensor | None:
        """Capability accuracy [edits] relative to no intervention, at most 1; None without probes."""
        if self.capability is None:
            return None
        asked, clean = self.capability
        return (hits(asked.edited(edits), asked.choices).mean(1) / max(clean, 1e-9)).clamp_max(1).cpu()
