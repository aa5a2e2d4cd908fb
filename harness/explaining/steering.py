"""What the base says under a finding, and under random directions that move its next token as much.

The idea of intervention scoring (Paulo et al. 2024, arXiv 2410.13928): an explanation of what a direction *does* is good if it tells
the outputs under that direction from others. Any push of the same size changes outputs, so the others are pushed as well: by random
directions, each at the strength that gives the same KL. Two deviations: the paper compares with clean outputs, and chooses the explanation
on the prompts that score it; here one half of the prompts serves to explain and to find the strengths, the other to score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ...methods.contract import Finding
from ...organisms.texts import Texts
from ..inspection.continuing import continued
from ..pairs.interventions import Directions, Edits, Option, edits
from ..pairs.pair import Pair
from .contexts import Half, Window, half_of, rng_of

KL_NATS = 0.5
"""Mean KL of the next token after a prompt, clean against steered: the paper's middle value."""
WITHIN = 0.1
"""Share of it that a strength may miss it by, as in the paper."""
FARTHEST = 64.0
"""Largest strength that is tried, in mean residual norms."""
STEPS = 24
"""Most strengths that are tried."""
RANDOM = 4
"""Random directions."""
PROMPTS = 24
"""Most prompts of a half."""
FEWEST = 4
"""Prompts of a half below which nothing is steered."""
TOKENS = 12
"""Longest continuation."""
OPENING = 24
"""Tokens of plain text that are continued where there are no conversations."""


class Steered(NamedTuple):
    """Continuations by the base; as windows, so that they are explained and judged like contexts."""

    explain: Half
    """Under the finding, and clean."""
    score: Half
    """Under the finding, and under random directions of equal KL; other prompts."""
    strength: float
    """Of the finding, in mean residual norms."""


@dataclass(frozen=True)
class Steering:
    """Prompts in two halves, and what the base says after them.

    Args:
        scale: mean residual norm of the base.
    """

    pair: Pair
    explain: list[list[int]]
    score: list[list[int]]
    scale: float
    seed: int

    @classmethod
    def of(cls, pair: Pair, texts: Texts, scale: float, seed: int) -> "Steering":
        """Openings of harvest conversations, else beginnings of neutral text, each once; a prompt goes to a half by its hash."""
        rows = dict.fromkeys(tuple(r) for r in islice(texts.prompts(), 8 * PROMPTS))
        if not rows:
            rows = dict.fromkeys(tuple(r[:OPENING]) for r in islice(texts.rows("neutral", "harvest"), 8 * PROMPTS))
        halves = {name: [list(r) for r in rows if half_of(r, seed) == name][:PROMPTS] for name in ("explain", "score")}
        return cls(pair, halves["explain"], halves["score"], scale, seed)

    def steered(self, finding: Finding, number: int) -> Steered | str:
        """Continuations under a finding and its controls, or why there are none.

        Args:
            number: of the finding; draws its random directions.
        """
        if min(len(self.explain), len(self.score)) < FEWEST:
            return f"{len(self.explain)} and {len(self.score)} prompts in the two halves; {FEWEST} each are needed"
        strength = self.strength_of(finding.direction)
        if strength is None:
            return f"no strength up to {FARTHEST:g} mean residual norms moves the next token by {KL_NATS:g} nats"
        rng = rng_of("directions", self.seed, number)
        drawn = [torch.from_numpy(rng.standard_normal(self.pair.d_model)).float() for _ in range(RANDOM)]
        controls = [(d, s) for d in drawn if (s := self.strength_of(d)) is not None]
        if not controls:
            return f"no random direction moves the next token by {KL_NATS:g} nats"
        ours = self._edits(finding.direction, strength)
        theirs = [self._edits(d, s) for d, s in controls]

        def said(prompts: list[list[int]], of: Sequence[Edits | None], stream: int) -> list[Window]:
            out = list[Window]()
            for i, prompt in enumerate(prompts):
                seed = int(rng_of("said", self.seed, number, stream, i).integers(2**31))
                ids = continued(self.pair, prompt, "base", TOKENS, seed, of[i % len(of)])
                out.append(Window(tuple(ids), (0.0,) * len(ids)))
            return [w for w in out if w.ids]

        return Steered(
            Half(said(self.explain, [ours], 0), said(self.explain, [None], 1)),
            Half(said(self.score, [ours], 2), said(self.score, theirs, 3)),
            strength,
        )

    def _edits(self, direction: Tensor, strength: float) -> Edits:
        return edits(
            [Option("add", 1, False, strength)], Directions.of([Finding(direction)], self.pair.device), self.scale
        )

    def strength_of(self, direction: Tensor) -> float | None:
        """The strength of equal KL on the prompts that explain; None if none is found.

        KL grows with the square of a small strength, which says where to look until it is between two; then their geometric mean does.
        """
        if not bool(direction.any()):
            return None
        low, high, at = 0.0, 2 * FARTHEST, 0.25
        for _ in range(STEPS):
            kl = self.kl_nats(direction, at)
            if abs(kl - KL_NATS) <= WITHIN * KL_NATS:
                return at
            low, high = (at, high) if kl < KL_NATS else (low, at)
            if low and high < 2 * FARTHEST:
                at = (low * high) ** 0.5
            else:
                at *= min(4.0, max(0.25, (KL_NATS / max(kl, 1e-9)) ** 0.5))
            if low > FARTHEST:
                return None
        return None

    def kl_nats(self, direction: Tensor, strength: float) -> float:
        """Mean KL(clean ‖ steered) of the token after each prompt that explains, in nats."""
        ids, h, still, clean = self._clean
        done = self._edits(direction, strength)
        moved = (done.lengths[0] * done.moves[0](h)).masked_fill(still, 0.0)
        return float((clean.exp() * (clean - self._next(h + moved, ids))).sum(-1).mean())

    @cached_property
    @torch.inference_mode()
    def _clean(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the prompts that explain: ids, residuals, positions that are not moved, and the next token's log-probabilities."""
        ids, _ = self.pair.pad(self.explain)
        h = self.pair.residuals(ids, "base")
        sinks = self.pair.sinks
        still = sinks.still(h, ids, "base") if sinks else torch.zeros_like(ids, dtype=torch.bool)
        return ids, h, still[..., None], self._next(h, ids)

    @torch.inference_mode()
    def _next(self, residual: Tensor, ids: Tensor) -> Tensor:
        """[prompts, vocab] log-probabilities of the token after each prompt."""
        last = torch.tensor([[i, len(p) - 1] for i, p in enumerate(self.explain)], device=ids.device)
        return self.pair.unembed(self.pair.ends(residual, ids, "base", last), "base").log_softmax(-1)
