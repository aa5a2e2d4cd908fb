"""Protocol v1: from findings to the per-prompt effects that the scores are made of.

One procedure, applied without distinction to the method's findings and to every random control: walk the ladder on dev,
keep under each KL budget the option with the best dev effect (doing nothing is always an option), and measure the kept
options on test. Formulas and reasons: docs/protocol.md.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ...methods.contract import MAX_FINDINGS, Finding
from ...organisms.behaviour import Behaviour
from ...organisms.errors import ValidationFailed
from ...organisms.texts import Texts
from ..cache import Kept, ids_sha256
from ..pairs.engine import Side
from ..pairs.interventions import NOTHING, Directions, Edits, Op, Option, edits, options
from ..pairs.pair import Pair
from ..parallel import in_threads
from .clean_runs import CleanRun
from .controls import SCORE_SEED, Candidate, ControlMemory, Value, control
from .intervals import hypervolume, interval, weights
from .prompts import passage
from .result import DRAWS, Choice, Curve, Samples

SideName = Literal["sufficiency", "necessity"]
SIDES: tuple[Side, ...] = ("base", "tuned")
SIDE_NAMES: tuple[SideName, ...] = ("sufficiency", "necessity")
Array = NDArray[np.float64]


class Protocol(BaseModel):
    """Settings of the scoring protocol. Their hash is part of every result's identity."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    budgets_nats: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    """KL budgets: collateral allowed per token of neutral text."""
    ks: tuple[int, ...] = (1, 3, 10)
    """How many of the top findings an intervention may use."""
    strengths: tuple[float, ...] = (0.15, 0.27, 0.5, 0.9, 1.6)
    """Ladder of add and subtract, in mean residual norms."""
    shares: tuple[float, ...] = (1.0,)
    """Ladder of project: share of the component removed."""
    controls: int = Field(default=16, ge=1)
    """Random controls put through the same procedure."""
    dev_tokens: int = 200
    """Neutral tokens on which KL is measured to choose options."""
    test_tokens: int = 600
    """Neutral tokens on which the KL and the NLL of chosen options are reported."""
    draws: int = DRAWS
    """Bootstrap draws."""
    min_gap: float = 0.1
    """Smallest b1 - b0 that is scored."""
    min_oracle: float = 0.2
    """Smallest share of the gap the layer's oracle must recover, both ways, to be divided by."""


PROTOCOL_V1 = Protocol()
"""Version 1, as docs/protocol.md states it."""


class NotScorable(ValidationFailed):
    """The pair cannot be scored: the behaviour's gap or the oracle is too small to divide by."""


@dataclass(frozen=True)
class Point:
    """One option measured on dev: mean behaviour rate, collateral KL, neutral NLL."""

    option: Option
    rate: float
    kl_nats: float
    nll: float


@dataclass(frozen=True)
class Measured:
    """One option measured on test."""

    rates: Tensor
    """[prompts]."""
    retention: float
    """Mean of capability accuracy and exp(-NLL increase), each relative to the organism and at most 1."""


@dataclass(frozen=True)
class SideScore:
    """One side of one set of directions, after selection."""

    name: SideName
    effects: list[Array]
    """For each budget [prompts]: effect on test of the option chosen under it."""
    chosen: list[Point]
    """For each budget, as measured on dev."""
    points: list[Point]
    """Every option within the largest budget, on dev."""

    @property
    def effect(self) -> Array:
        """[prompts] mean over budgets of the effect on test."""
        return np.mean(self.effects, axis=0)


class Scorer:
    """Scores any findings on one pair; holds the residuals that all findings share.

    Args:
        kept: where what was measured of random controls is kept between runs, for this pair and these prompts; None: nowhere.
        progress: called with (what is measured, of how much) while that is done: both sides' clean runs, then the controls.
    """

    def __init__(
        self,
        pair: Pair,
        behaviour: Behaviour,
        texts: Texts,
        protocol: Protocol,
        kept: Kept | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ):
        self.pair, self.protocol = pair, protocol
        dev = passage(pair, texts.rows("neutral", "dev"), protocol.dev_tokens)
        test = passage(pair, texts.rows("neutral", "test"), protocol.test_tokens)
        self._clean: dict[tuple[Side, str], CleanRun] = {}
        for side, (split, text) in itertools.product(SIDES, (("dev", dev), ("test", test))):
            progress(len(self._clean), 2 * len(SIDES) + protocol.controls)
            clean_run = CleanRun(pair, side, behaviour.of(split), behaviour.capability_of(split), text)
            self._clean[side, split] = clean_run
        self.b0, self.b1 = (self._clean[side, "test"].rates for side in SIDES)
        self.b0_dev, self.b1_dev = (float(self._clean[side, "dev"].rates.mean()) for side in SIDES)
        self.oracle = {s: self._patch(s) for s in SIDE_NAMES}
        self._controls: dict[tuple[int, int], tuple[Tensor, ControlMemory]] = {}
        self.took: list[float] = []
        """Seconds of each set that was scored last, the findings' first: what a plan goes by."""
        ladder = [protocol.ks, protocol.strengths, protocol.shares, protocol.budgets_nats[-1]]
        read = [ids_sha256([t.ids.tolist(), t.scored.tolist()]) for t in (dev, test)]
        self._kept = kept.but(ladder=ladder, read=read) if kept else None
        self._check()
        self._climb_controls(progress)

    def clean_run(self, side: Side, split: str) -> CleanRun:
        """What no intervention changes, of one side and split."""
        return self._clean[side, split]

    def _check(self) -> None:
        gap = float((self.b1 - self.b0).mean())
        if gap < self.protocol.min_gap:
            raise NotScorable(
                f"the behaviour is {float(self.b0.mean()):.3f} in the base and {float(self.b1.mean()):.3f} in the fine-tuned "
                f"model on test prompts; "
                f"a gap of at least {self.protocol.min_gap} is needed to score anything"
                + ("; it falls: are targets and alternatives exchanged?" if gap < 0 else "")
            )
        each = (self.b1 - self.b0).double().numpy()
        low, high = interval(weights(len(each), self.protocol.draws, np.random.default_rng(SCORE_SEED)) @ each)
        if low <= 0:
            raise NotScorable(
                f"the behaviour's gap on {len(each)} test prompts is {gap:.3f} [{low:.3f}, {high:.3f}]: it may be nothing, so no "
                "effect can be divided by it; give more test prompts, or some on which the models differ"
            )
        for side, effect in self.oracle.items():
            if (share := float(effect.mean()) / gap) < self.protocol.min_oracle:
                raise NotScorable(
                    f"exchanging the whole residual at layer {self.pair.layer} recovers {share:.2f} of the behaviour ({side}); at least "
                    f"{self.protocol.min_oracle} is needed: hook another layer (field `layer` of the behaviour file)"
                )

    def _climb_controls(self, progress: Callable[[int, int], None]) -> None:
        """The constant ladders of the random controls on dev, which every method of this pair is compared with."""
        plain = Directions.of([Finding(torch.ones(self.pair.d_model))] * MAX_FINDINGS, self.pair.device)
        sets = [self._control(plain, SCORE_SEED, i) for i in range(self.protocol.controls)]

        def climb(each: Candidate) -> None:
            self._ladder("sufficiency", "base", each)
            self._ladder("necessity", "tuned", each)

        first, total = len(self._clean), len(self._clean) + len(sets)
        progress(first, total)
        for done, _ in enumerate(in_threads(climb, sets, self.pair.device), 1):
            progress(first + done, total)

    def _patch(self, name: SideName) -> Array:
        """[prompts] effect of exchanging the whole residual on the behaviour prompts."""
        into: Side = "base" if name == "sufficiency" else "tuned"
        here, there = self._clean[into, "test"], self._clean["tuned" if into == "base" else "base", "test"]
        return _effect(name, here.patched(there), here.rates)

    def samples(
        self, directions: Directions, seed: int, progress: Callable[[int, int], None] = lambda d, t: None
    ) -> "Scored":
        """Put findings and their random controls through the protocol.

        Args:
            directions: the findings.
            seed: seed of the random controls.
            progress: called with (sets done, sets in all).
        """
        sets = [Candidate(directions), *(self._control(directions, seed, i) for i in range(self.protocol.controls))]
        scored: list[tuple[SideScore, SideScore, list[Measured]]] = []
        self.took = []
        progress(0, len(sets))
        for each, seconds in in_threads(self._timed, sets, self.pair.device):
            scored.append(each)
            self.took.append(seconds)
            progress(len(scored), len(sets))
        (s, n, front), controls = scored[0], scored[1:]
        samples = Samples(
            sufficiency=_floats(s.effect),
            sufficiency_controls=[_floats(c[0].effect) for c in controls],
            sufficiency_oracle=_floats(self.oracle["sufficiency"]),
            necessity=_floats(n.effect),
            necessity_controls=[_floats(c[1].effect) for c in controls],
            necessity_oracle=_floats(self.oracle["necessity"]),
            mitigation=[_floats(m.rates.double().numpy()) for m in front],
            mitigation_retention=[m.retention for m in front],
            mitigation_controls=[self._volume(c[2]) for c in controls],
            b0=_floats(self.b0.double().numpy()),
            b1=_floats(self.b1.double().numpy()),
            retention_off=self.retention_off,
        )
        return Scored(
            samples, [*self._choices(sets[0], s), *self._choices(sets[0], n)], _curves(s.points) + _curves(n.points)
        )

    def _timed(self, each: Candidate) -> tuple[tuple[SideScore, SideScore, list[Measured]], float]:
        began = time.perf_counter()
        return self._score(each), time.perf_counter() - began

    def _score(self, each: Candidate) -> tuple[SideScore, SideScore, list[Measured]]:
        """Both sides of one set, and its points of mitigation."""
        s, n = self._side("sufficiency", each), self._side("necessity", each)
        return s, n, self._front(each, n)

    def _control(self, directions: Directions, seed: int, index: int) -> Candidate:
        """The index-th random control: isotropic unit directions, with the findings' count and gates."""
        if (seed, index) not in self._controls:
            noise = control(index, self.pair.d_model, seed).to(directions.direction)
            self._controls[seed, index] = noise, ControlMemory(self._kept, {"seed": seed, "index": index})
        noise, memory = self._controls[seed, index]
        return Candidate(Directions(noise[: len(directions.direction)], directions.read, directions.threshold), memory)

    def oracle_samples(self) -> Samples:
        """Samples of the oracle anchor: the whole residual exchanged, no KL budget."""
        s, n = self.oracle["sufficiency"], self.oracle["necessity"]
        zero = [[0.0] * len(s)] * self.protocol.controls
        return Samples(
            sufficiency=_floats(s),
            sufficiency_controls=zero,
            sufficiency_oracle=_floats(s),
            necessity=_floats(n),
            necessity_controls=zero,
            necessity_oracle=_floats(n),
            mitigation=[_floats(self.b1.double().numpy() - n)],
            mitigation_retention=[self.retention_off],
            mitigation_controls=[0.0] * self.protocol.controls,
            b0=_floats(self.b0.double().numpy()),
            b1=_floats(self.b1.double().numpy()),
            retention_off=self.retention_off,
        )

    @cached_property
    def retention_off(self) -> float:
        """Capability of the base relative to the organism, at most 1."""
        return self._clean["base", "test"].retention(self._clean["tuned", "test"])

    def _side(self, name: SideName, each: Candidate) -> SideScore:
        """Ladder on dev, choice under each budget, measurement on test."""
        side: Side = "base" if name == "sufficiency" else "tuned"
        points = self._ladder(name, side, each)
        dev, test = self._clean[side, "dev"], self._clean[side, "test"]
        sign = 1.0 if name == "sufficiency" else -1.0
        nothing = Point(NOTHING, float(dev.rates.mean()), 0.0, dev.nll)
        chosen = [
            max([nothing, *(p for p in points if p.kl_nats <= tau)], key=lambda p: sign * p.rate)
            for tau in self.protocol.budgets_nats
        ]
        rates = self._test_rates(side, each, [p.option for p in chosen])
        return SideScore(name, [_effect(name, r, test.rates) for r in rates], chosen, points)

    def _choices(self, each: Candidate, s: SideScore) -> list[Choice]:
        """What was chosen, for the record."""
        side: Side = "base" if s.name == "sufficiency" else "tuned"
        sign, start = (1.0, self.b0_dev) if s.name == "sufficiency" else (-1.0, self.b1_dev)
        damage = self._test_collateral(side, each, [p.option for p in s.chosen])
        return [
            Choice(
                side=s.name,
                tau_nats=tau,
                **vars(p.option),
                dev_effect=sign * (p.rate - start),
                test_effect=float(effect.mean()),
                test_kl_nats=kl,
            )
            for tau, p, effect, (kl, _) in zip(self.protocol.budgets_nats, s.chosen, s.effects, damage, strict=True)
        ]

    def _edits(self, side: Side, each: Candidate, chosen: Sequence[Option]) -> Edits:
        """Strengths are in mean residual norms of neutral dev text."""
        return edits(chosen, each.directions, self._clean[side, "dev"].scale)

    def _ladder(self, name: SideName, side: Side, each: Candidate) -> list[Point]:
        """Every option within the largest budget, measured on dev: collateral of all, behaviour of those."""
        p = self.protocol

        def climb(ladder: Sequence[Option]) -> list[Value]:
            clean_run = self._clean[side, "dev"]
            kl, nll = (x.tolist() for x in clean_run.collateral(self._edits(side, each, ladder), p.budgets_nats[-1]))
            allowed = [i for i, damage in enumerate(kl) if damage <= p.budgets_nats[-1]]
            points: list[Value] = [None] * len(ladder)
            if allowed:
                after = (
                    clean_run.behaviour_rates(self._edits(side, each, [ladder[i] for i in allowed])).mean(-1).tolist()
                )
                for i, rate in zip(allowed, after, strict=True):
                    points[i] = [rate, kl[i], nll[i]]
            return points

        ladder = list(options(name, each.directions, p.ks, p.strengths, p.shares))
        found = each.recall(f"{side} dev", ladder, climb, together=True)
        return [Point(option, *point) for option, point in zip(ladder, found, strict=True) if point]

    def _test_rates(self, side: Side, each: Candidate, chosen: Sequence[Option]) -> list[Tensor]:
        """[prompts] behaviour rate on test under each option."""

        def measure(some: Sequence[Option]) -> list[list[float]]:
            return self._clean[side, "test"].behaviour_rates(self._edits(side, each, some)).tolist()

        return [torch.tensor(rates) for rates in each.recall(f"{side} rate", chosen, measure)]

    def _test_collateral(self, side: Side, each: Candidate, chosen: Sequence[Option]) -> list[tuple[float, float]]:
        """KL and NLL on neutral test text under each option."""

        def measure(some: Sequence[Option]) -> list[list[float]]:
            return torch.stack(self._clean[side, "test"].collateral(self._edits(side, each, some)), 1).tolist()

        return [(kl, nll) for kl, nll in each.recall(f"{side} collateral", chosen, measure)]

    def _front(self, each: Candidate, necessity: SideScore) -> list[Measured]:
        """Doing nothing and what was chosen for necessity, measured on test."""
        test = self._clean["tuned", "test"]

        def retention(some: Sequence[Option]) -> list[float]:
            kept = [min(1.0, float(np.exp(test.nll - n))) for _, n in self._test_collateral("tuned", each, some)]
            accuracy = test.accuracy(self._edits("tuned", each, some))
            return kept if accuracy is None else [(k + a) / 2 for k, a in zip(kept, accuracy.tolist(), strict=True)]

        some = list(dict.fromkeys(p.option for p in necessity.chosen if p.option != NOTHING))
        rates = self._test_rates("tuned", each, some)
        kept = each.recall("retention", some, retention)
        return [Measured(test.rates, 1.0), *(Measured(r, k) for r, k in zip(rates, kept, strict=True))]

    def _volume(self, front: list[Measured]) -> float:
        """Normalised hypervolume of a control's front."""
        b0, b1 = float(self.b0.mean()), float(self.b1.mean())
        x = np.array([(b1 - float(m.rates.mean())) / (b1 - b0) for m in front])
        y = np.array([m.retention for m in front])
        off = float(hypervolume(np.ones(1), np.array([self.retention_off])))
        return float(min(1.0, hypervolume(x, y) / off)) if off else 0.0


@dataclass(frozen=True)
class Scored:
    """What scoring one set of findings yields."""

    samples: Samples
    choices: list[Choice]
    curves: list[Curve]


def _effect(name: SideName, after: Tensor, before: Tensor) -> Array:
    """Change of the rate in the wanted direction, per prompt."""
    change = (after - before).double().numpy()
    return change if name == "sufficiency" else -change


def _curves(points: list[Point]) -> list[Curve]:
    groups: dict[tuple[Op, int, bool], list[Point]] = {}
    for p in points:
        groups.setdefault((p.option.op, p.option.k, p.option.gated), []).append(p)
    return [
        Curve(
            op=op,
            k=k,
            gated=gated,
            strengths=[p.option.strength for p in ps],
            rate=[p.rate for p in ps],
            kl_nats=[p.kl_nats for p in ps],
        )  # pyright: ignore[reportArgumentType]
        for (op, k, gated), ps in groups.items()
    ]


def _floats(values: Array) -> list[float]:
    return [round(float(v), 7) for v in values]
