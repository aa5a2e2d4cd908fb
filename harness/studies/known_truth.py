"""What the self-test looks at: an organism, the direction known to be its change, and numbers held against their bounds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...methods.anchors import Supervised, SupervisedConfig
from ...methods.contract import Access, Budget, Edit, Finding, Gate
from ...methods.linear import discriminant
from ...organisms.behaviour import Prompt
from ...organisms.organism import truth_direction
from ..pairs.interventions import Op, Option, edits, unit
from ..pairs.pair import Pair
from ..protocol.controls import SCORE_SEED
from ..protocol.effects import Scored, Scorer
from ..protocol.intervals import summarise
from ..records.identity import SIDES
from ..records.result import Result, Score, Scores, SideName
from ..records.settings import Protocol
from ..runs.problem import Problem
from ..runs.stage import Stage

HARVESTED, DIVERGED = 4000, 1000
"""Tokens of each kind of text that are read, and those on which divergence is measured."""


@dataclass(frozen=True)
class Check:
    """One thing the instrument must say, and what it said."""

    name: str
    organism: str
    expected: str
    measured: float | None
    """None where there was no number to give."""
    low: float | None
    """95 % interval of `measured`, where it has one."""
    high: float | None
    ok: bool


@dataclass(frozen=True)
class KnownOrganism:
    """An organism with the direction that is known to be the change."""

    stage: Stage
    seeds: int
    """Seeds of the noise."""
    clone: Callable[[Sequence[Result]], float]
    """Largest change of anybody's number in a table of results when one of its methods enters twice."""

    @property
    def protocol(self) -> Protocol:
        """What scores are made with."""
        return self.stage.protocol

    @cached_property
    def planted(self) -> bool:
        """Whether the truth is written in the adapter."""
        return self.stage.organism.name.startswith("planted/")

    @cached_property
    def truth(self) -> Finding:
        """With the gate of the supervised anchor."""
        organism = self.stage.organism
        found = Supervised(SupervisedConfig(per_token=False)).diff(self._problem("supervised")).findings[0]
        direction = truth_direction(organism.adapter) if self.planted else found.direction
        return Finding(unit(direction), found.gate)

    @property
    def plain(self) -> Finding:
        """The truth without a gate: constant interventions alone, which do not reach 1."""
        return Finding(self.truth.direction)

    def noise(self, seed: int) -> Tensor:
        """A random unit direction [d_model]."""
        return _isotropic(self.stage.pair.d_model, seed)

    def noisy(self, level: float, seed: int) -> Finding:
        """The constant truth with noise at right angles to it, of a length relative to it: the cosine is 1 / √(1 + level²)."""
        noise = self.noise(seed)
        aside = unit(noise - (noise @ self.truth.direction) * self.truth.direction)
        return Finding(self.truth.direction + level * aside)

    @cached_property
    def harvest(self) -> tuple[Tensor, Tensor]:
        """Residuals of neutral text and of chat, as a method may read them, [tokens, 2, d_model] each."""
        problem = self._problem("activations")
        neutral, chat = (
            torch.cat([b.residuals.cpu() for b in problem.activations(text, tokens=HARVESTED)])
            for text in ("neutral", "chat")
        )
        return neutral, chat

    @cached_property
    def difference(self) -> Finding:
        """Mean difference of the two models on ordinary text: what anybody finds."""
        both = torch.cat(self.harvest)
        return Finding((both[:, 1] - both[:, 0]).mean(0))

    @cached_property
    def chat_gate(self) -> Gate:
        """Open on conversations (98 % of their tokens: one that leaves more alone says more than "chat"), learnt from ordinary text."""
        neutral, chat = self.harvest
        which = torch.arange(len(neutral) + len(chat)) >= len(neutral)
        read = discriminant(torch.cat([neutral, chat]), which, 0.01).read
        return Gate(read, float((chat.flatten(0, 1) @ read).quantile(0.02)))

    def most_divergent(self, candidates: int) -> Finding:
        """Of random directions the one along which exchanging the models' residuals leaves least of their divergence."""
        rows = torch.stack([self.noise(2000 + i) for i in range(candidates)])

        def along(d: Tensor) -> Edit:
            return lambda h: h[..., 0, :] + ((h[..., 1, :] - h[..., 0, :]) @ d)[..., None] * d

        left = self._problem("activations").divergence([along(d) for d in rows], "chat", DIVERGED)
        return Finding(rows[int(torch.tensor(left).argmin())])

    def _problem(self, access: Access) -> Problem:
        dev = self.stage.organism.behaviour.of("dev")
        return Problem(self.stage.pair, self.stage.texts, dev, access, 0, Budget(tokens=4 * HARVESTED))

    def closeness(self, finding: Finding, side: SideName, op: Op, strength: float) -> float:
        """R on test of one finding pushed so far, whatever it costs."""
        scorer, here = self.stage.scorer, SIDES[side]
        run, option = scorer.clean_run(here, "test"), Option(op, 1, False, strength)
        away, _ = run.measured(edits([option], scorer.directions([finding]), scorer.clean_run(here, "dev").scale))
        return scorer.closeness((run.gap - away[0]).double().numpy())

    def scored(self, findings: Sequence[Finding], scorer: Scorer | None = None) -> Scored:
        """Findings through the protocol."""
        scorer = scorer or self.stage.scorer
        return scorer.score(scorer.directions(findings))

    def summary(self, findings: Sequence[Finding], scorer: Scorer | None = None) -> Scores:
        """Scores with intervals."""
        return summarise(self.scored(findings, scorer).samples, self.protocol.draws, SCORE_SEED)

    def scorer(self, pair: Pair | None = None, prompts: Sequence[Prompt] | None = None, **protocol: Any) -> Scorer:
        """A fresh scorer, on another pair, other prompts or with other settings of the protocol."""
        behaviour = self.stage.organism.behaviour
        if prompts is not None:
            behaviour = behaviour.model_copy(update={"prompts": tuple(prompts)})
        settings = self.protocol.model_copy(update=protocol)
        return Scorer(pair or self.stage.pair, behaviour, self.stage.texts, settings)

    def check(self, name: str, value: float | None, *given: Any, **bounds: Any) -> Check:
        """`check` on this organism."""
        return check(name, self.stage.organism.name, value, *given, **bounds)

    def score(self, name: str, score: Score, at_least: float = -math.inf, at_most: float = math.inf) -> Check:
        """`check` of a score with its interval."""
        return self.check(name, score.value, at_least, at_most, (score.ci_low, score.ci_high))


def check(
    name: str,
    organism: str,
    value: float | None,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    spread: tuple[float | None, float | None] = (None, None),
) -> Check:
    """Whether a number lies where it must; a number that is not there does not."""
    known = None if value is None or math.isnan(value) else float(value)
    ok = known is not None and at_least <= known <= at_most
    return Check(name, organism, _range(at_least, at_most), known, *spread, ok=ok)


def _isotropic(d_model: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(7_000_000 + seed)
    return unit(torch.randn(d_model, generator=generator))


def _range(at_least: float, at_most: float) -> str:
    if at_least == at_most:
        return f"= {at_least:g}"
    if math.isinf(at_least):
        return f"≤ {at_most:g}"
    if math.isinf(at_most):
        return f"≥ {at_least:g}"
    middle = (at_least + at_most) / 2
    return f"{middle:g} ± {at_most - middle:.3g}"
