"""One model, one split: everything a measurement needs that does not depend on the intervention.

Residuals of prompts and text are computed once (`edited_rows.py`); each intervention edits them. What is measured is what prompts
answer, and how far predictions on ordinary text move.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ...organisms.behaviour import Prompt
from ..pairs.engine import SIDES, Side
from ..pairs.interventions import Edits
from ..pairs.pair import Pair
from .edited_rows import Read, Rows
from .prompts import Choices, Passage, choices, hits, joint, portions, shares


class PromptResiduals:
    """Prompts with continuations on one side: the probability of every continuation under an intervention."""

    def __init__(self, pair: Pair, side: Side, prompts: list[Prompt]):
        self.choices: Choices = choices(pair, prompts)
        row, at, token = self.choices.where.unbind(-1)
        self.rows = Rows(pair, side, self.choices.ids, torch.stack([row, self.choices.keep[at], token], 1))
        self.clean = self.rows.clean
        """[1, tokens] log-probability of each continuation token without an intervention."""

    def edited(self, edits: Edits) -> Tensor:
        """Log-probabilities [edits, continuations]."""
        start = self.clean.repeat(len(edits.which), 1)
        return joint(self.rows.fill(start, self.rows.edited(edits)), self.choices)

    def patched(self, residuals: Sequence[Tensor]) -> Tensor:
        """Log-probabilities [1, tokens] with other residuals, part by part."""
        return self.rows.patched(residuals)


class TextResiduals:
    """Ordinary text on one side: how far the predictions move under an intervention.

    Args:
        other: the same text on the other side: a prediction that moves there costs nothing. None: only this side counts.
    """

    def __init__(self, pair: Pair, side: Side, text: Passage, other: "TextResiduals | None" = None):
        self.other = other
        self.row, self._at = text.scored.nonzero(as_tuple=True)
        """[tokens] the text that each token is of."""
        self.rows = Rows(pair, side, text.ids, torch.stack([self.row, self._at, text.ids[self.row, self._at + 1]], 1))

    def edited(self, edits: Edits) -> Tensor:
        """Collateral [edits, tokens] in nats: the smaller of KL(this side ‖ edited) and KL(other side ‖ edited)."""
        kl = torch.zeros(len(edits.which), self.rows.places, device=self._at.device)
        for read in self.rows.edited(edits):
            kl[read.edit, read.spot] = self._nearest(read)
        return kl[:, self.rows.spot].cpu()

    def _nearest(self, read: Read) -> Tensor:
        """[n] KL from the side that is nearer."""
        own = self.rows.kl(read)
        return own if self.other is None else torch.minimum(own, self.other.rows.kl(read))

    def divergence(self, residuals: Sequence[Tensor]) -> float:
        """KL(clean ‖ handed) in nats a token, with other residuals part by part."""
        kl = torch.zeros(self.rows.places, device=self._at.device)
        for read in self.rows.handed(residuals):
            kl[read.spot] = self.rows.kl(read)
        return float(kl[self.rows.spot].mean())

    def ordinary(self) -> Tensor:
        """Residuals [n, d_model] before each token, the first position and every other sink left out."""
        found, free = self.rows.before()
        return found[free & (self._at > 0)]


class CleanRun:
    """Everything about one side (base or tuned) and one split that does not depend on the intervention."""

    def __init__(
        self,
        pair: Pair,
        side: Side,
        prompts: list[Prompt],
        capability: list[Prompt],
        text: "Passage | TextResiduals",
        by_choices: bool = False,
    ):
        self.pair = pair
        self.side: Side = side
        self.asked = PromptResiduals(pair, side, prompts)
        self.read = self.brief = text if isinstance(text, TextResiduals) else TextResiduals(pair, side, text)
        """Ordinary text, and the part of it on which controls are measured."""
        self.by_choices = by_choices
        """Whether two models differ by their whole distributions over a prompt's continuations, or by the behaviour's rate."""
        clean = joint(self.asked.clean, self.asked.choices)
        self.rates: Tensor = shares(clean, self.asked.choices)[0].cpu()
        """[prompts] of the un-intervened model."""
        self.said = self._said(clean)[0]
        """[continuations] or [prompts]: what distances are measured of."""
        self._capability_prompts = capability
        self.other = self
        """The same of the other side; see `face`."""

    @classmethod
    def both(
        cls,
        pair: Pair,
        prompts: list[Prompt],
        capability: list[Prompt],
        text: "Passage | Mapping[Side, CleanRun]",
        by_choices: bool = False,
        *,
        brief: Passage | None = None,
    ) -> "dict[Side, CleanRun]":
        """Both sides, facing each other.

        Args:
            text: ordinary text, or the runs that have read it.
            brief: less text, for what is measured of many; None, or no less: all of it.
        """
        read = {side: text if isinstance(text, Passage) else text[side].read for side in SIDES}
        base, tuned = (cls(pair, side, prompts, capability, read[side], by_choices) for side in SIDES)
        if brief is not None and not (isinstance(text, Passage) and len(brief.ids) == len(text.ids)):
            base.brief, tuned.brief = (TextResiduals(pair, side, brief) for side in SIDES)
        for here, there in ((base, tuned), (tuned, base)):
            here.other, here.read.other, here.brief.other = there, there.read, there.brief
        return {"base": base, "tuned": tuned}

    @cached_property
    def gap(self) -> Tensor:
        """[prompts] distance of the two models."""
        return self._distance(self.said[None])[0]

    @cached_property
    def capability(self) -> tuple[PromptResiduals, float] | None:
        """Capability probes and the un-intervened accuracy."""
        if not self._capability_prompts:
            return None
        asked = PromptResiduals(self.pair, self.side, self._capability_prompts)
        return asked, float(hits(joint(asked.clean, asked.choices), asked.choices).mean())

    @cached_property
    def scale(self) -> float:
        """Mean residual norm on ordinary text."""
        return float(self.read.ordinary().norm(dim=-1).mean())

    def retention(self, organism: "CleanRun") -> float:
        """Capability accuracy without an intervention, relative to the organism and at most 1, and nothing else: neither model costs
        anything on text."""
        if not (self.capability and organism.capability):
            return 1.0
        return (1 + min(1.0, self.capability[1] / max(organism.capability[1], 1e-9))) / 2

    def patched(self, other: "CleanRun") -> Tensor:
        """[prompts] distance to the other side with its whole residual on the same prompts."""
        log_p = self.asked.patched(other.asked.rows.residuals)
        return self._distance(self._said(joint(log_p, self.asked.choices)))[0]

    def measured(self, edits: Edits) -> tuple[Tensor, Tensor]:
        """Distances to the other side and rates of the behaviour, [edits, prompts] each."""
        log_mass = self.asked.edited(edits)
        return self._distance(self._said(log_mass)), shares(log_mass, self.asked.choices).cpu()

    def behaviour_rates(self, edits: Edits) -> Tensor:
        """Rates [edits, prompts]."""
        return self.measured(edits)[1]

    def collateral(self, edits: Edits) -> Tensor:
        """[edits] mean over tokens; see `TextResiduals.edited`."""
        return self.read.edited(edits).mean(1)

    def accuracy(self, edits: Edits) -> Tensor:
        """Capability accuracy [edits] relative to no intervention, at most 1; to be asked only where there are probes."""
        assert self.capability is not None, "no capability probes"
        asked, clean = self.capability
        return (hits(asked.edited(edits), asked.choices).mean(1) / max(clean, 1e-9)).clamp_max(1).cpu()

    def _said(self, log_mass: Tensor) -> Tensor:
        """[batch, continuations] shares of a prompt's continuations, or [batch, prompts] rates."""
        c = self.asked.choices
        return (portions if self.by_choices else shares)(log_mass, c).cpu()

    def _distance(self, said: Tensor) -> Tensor:
        """[batch, prompts] from the other side: total variation, or the difference of rates."""
        apart = (said - self.other.said).abs()
        if not self.by_choices:
            return apart
        c = self.asked.choices
        return apart.new_zeros(len(apart), c.n).index_add_(1, c.prompt.cpu(), apart) / 2
