"""One model, one split: everything a measurement needs that does not depend on the intervention.

Residuals of prompts and text are computed once; each intervention edits them and re-runs only the blocks above the layer.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ..organisms.behaviour import Prompt
from .pair import Pair, Side
from .probes import Choices, Passage, choices, correct, kl, nll, rates


class Arena:
    """Everything about one side (base or tuned) and one split that does not depend on the intervention."""

    def __init__(self, pair: Pair, side: Side, prompts: list[Prompt], capability: list[Prompt], text: Passage):
        self.pair, self.text = pair, text
        self.side: Side = side
        self.behaviour: Choices = choices(pair, prompts)
        self.h_behaviour = pair.residuals(self.behaviour.ids, side)
        self.h_text = pair.residuals(text.ids, side)
        self.clean = pair.resume(self.h_text, text.ids, side).log_softmax(-1)
        self.nll = float(nll(self.clean[None], text)[0])
        self.rates: Tensor = self.behaviour_of(self.h_behaviour[None], self.behaviour)[0].cpu()
        self._capability_prompts = capability

    @cached_property
    def capability(self) -> tuple[Choices, Tensor, float] | None:
        """Capability probes, their residuals and the un-intervened accuracy."""
        if not self._capability_prompts:
            return None
        c = choices(self.pair, self._capability_prompts)
        h = self.pair.residuals(c.ids, self.side)
        return c, h, float(correct(self.pair.resume(h, c.ids, self.side, c.keep)[None], c).mean())

    @cached_property
    def scale(self) -> float:
        """Mean residual norm on neutral text, the first position (attention sink) left out."""
        norms = self.h_text.norm(dim=-1)[:, 1:]
        return float((norms * self.text.scored).sum() / self.text.scored.sum())

    def behaviour_of(self, edited: Tensor, c: Choices) -> Tensor:
        """Rates [batch, prompts] from residuals [batch, rows, pos, d_model]."""
        return rates(self._logits(edited, c.ids, c.keep), c)

    def _logits(self, edited: Tensor, ids: Tensor, keep: Tensor | int = 0) -> Tensor:
        batch, rows = edited.shape[:2]
        flat = self.pair.resume(edited.flatten(0, 1), ids.repeat(batch, 1), self.side, keep)
        return flat.unflatten(0, (batch, rows))

    def behaviour_rates(self, move: Tensor, coefficients: Sequence[float]) -> Tensor:
        """Rates [options, prompts] for several strengths of one movement."""
        return torch.cat(
            [self.behaviour_of(edited, self.behaviour).cpu() for edited in _edits(self.h_behaviour, move, coefficients)]
        )

    def collateral(self, move: Tensor, coefficients: Sequence[float]) -> tuple[Tensor, Tensor]:
        """KL and NLL [options] in nats a token on neutral text for several strengths of one movement."""
        pairs: list[tuple[Tensor, Tensor]] = []
        for edited in _edits(self.h_text, move, coefficients):
            log_p = self._logits(edited, self.text.ids).log_softmax(-1)
            pairs.append((kl(self.clean, log_p, self.text), nll(log_p, self.text)))
        return torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])

    def accuracy(self, move: Callable[[Tensor], Tensor], c: float) -> float | None:
        """Capability accuracy under one option relative to none, at most 1; None without probes."""
        if self.capability is None:
            return None
        probes, h, clean = self.capability
        edited = (h + c * move(h))[None]
        return min(1.0, float(correct(self._logits(edited, probes.ids, probes.keep), probes).mean()) / max(clean, 1e-9))


def _edits(h: Tensor, move: Tensor, coefficients: Sequence[float], tokens: int = 2048) -> list[Tensor]:
    """Edited residuals in batches [some, rows, pos, d_model] of about `tokens` tokens (they stay in cache)."""
    c = torch.tensor(coefficients, dtype=h.dtype, device=h.device)
    each = max(1, tokens // (h.shape[0] * h.shape[1]))
    return [h + part[:, None, None, None] * move for part in c.split(each)]
