"""Protocol v1: from findings to the per-prompt effects that the scores are made of.

One procedure, applied without distinction to the method's findings and to every random control: walk the ladder on dev,
keep under each KL budget the option with the best dev effect (doing nothing is always an option), and measure the kept
options on test. Formulas and reasons: docs/protocol.md.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..methods.contract import MAX_FINDINGS
from ..organisms.behaviour import Behaviour
from ..organisms.errors import ValidationFailed
from ..organisms.texts import Texts
from .arena import Arena
from .interventions import NOTHING, Directions, Op, Option, coefficient, movement, options, unit
from .pair import Pair, Side
from .probes import passage
from .result import Choice, Curve, Samples
from .stats import hypervolume

SideName = Literal["sufficiency", "necessity"]
SIDES: tuple[Side, ...] = ("base", "tuned")
SIDE_NAMES: tuple[SideName, ...] = ("sufficiency", "necessity")
Array = NDArray[np.float64]
T = TypeVar("T")


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
    front: int = 4
    """Points of the mitigation front measured on test, spread evenly over the front found on dev."""
    draws: int = 10_000
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


@dataclass
class SideScore:
    """One side of one set of directions, after selection."""

    effect: Array
    """[prompts] mean over budgets of the effect on test."""
    choices: list[Choice] = field(default_factory=list[Choice])
    points: list[Point] = field(default_factory=list[Point])


@dataclass(frozen=True)
class _Set:
    """Directions under test, with what has been measured of them so far.

    The constant interventions of a random control do not depend on the findings it is a control for, so what was measured
    of them is kept between the cells of a run; gated ones use the findings' gates and are measured anew.
    """

    directions: Directions
    constant: dict[object, Any]
    gated: dict[object, Any] = field(default_factory=dict[object, Any])

    def recall(self, gated: bool, key: object, measure: Callable[[], T]) -> T:
        """`measure()`, or what it returned before for the same intervention."""
        memory = self.gated if gated else self.constant
        if key not in memory:
            memory[key] = measure()
        return memory[key]


class Scorer:
    """Scores any findings on one pair; holds the residuals that all findings share."""

    def __init__(self, pair: Pair, behaviour: Behaviour, texts: Texts, protocol: Protocol):
        self.pair, self.protocol = pair, protocol
        dev = passage(pair, texts.rows("neutral", "dev"), protocol.dev_tokens)
        test = passage(pair, texts.rows("neutral", "test"), protocol.test_tokens)
        self._arenas: dict[tuple[Side, str], Arena] = {
            (side, split): Arena(pair, side, behaviour.of(split), behaviour.capability_of(split), text)
            for side in SIDES
            for split, text in (("dev", dev), ("test", test))
        }
        self.b0, self.b1 = (self._arenas[side, "test"].rates for side in SIDES)
        self.b0_dev, self.b1_dev = (float(self._arenas[side, "dev"].rates.mean()) for side in SIDES)
        self.oracle = {s: self._patch(s) for s in SIDE_NAMES}
        self._controls: dict[tuple[int, int], tuple[Tensor, dict[object, object]]] = {}
        self._check()

    def _check(self) -> None:
        gap = float((self.b1 - self.b0).mean())
        if gap < self.protocol.min_gap:
            raise NotScorable(
                f"the behaviour is {float(self.b0.mean()):.3f} in the base and {float(self.b1.mean()):.3f} in the fine-tuned "
                f"model on test prompts; "
                f"a gap of at least {self.protocol.min_gap} is needed to score anything"
            )
        for side, effect in self.oracle.items():
            if (share := float(effect.mean()) / gap) < self.protocol.min_oracle:
                raise NotScorable(
                    f"exchanging the whole residual at layer {self.pair.layer} recovers {share:.2f} of the behaviour ({side}); at least "
                    f"{self.protocol.min_oracle} is needed: hook another layer (field `layer` of the behaviour file)"
                )

    def _patch(self, name: SideName) -> Array:
        """[prompts] effect of exchanging the whole residual on the behaviour prompts."""
        into: Side = "base" if name == "sufficiency" else "tuned"
        here, there = self._arenas[into, "test"], self._arenas["tuned" if into == "base" else "base", "test"]
        patched = here.behaviour_of(there.h_behaviour[None], here.behaviour)[0].cpu()
        return _effect(name, patched, here.rates)

    def samples(
        self, directions: Directions, seed: int, progress: Callable[[int, int], None] = lambda d, t: None
    ) -> "Scored":
        """Put findings and their random controls through the protocol.

        Args:
            directions: the findings.
            seed: seed of the random controls.
            progress: called with (sets done, sets in all).
        """
        sets = [_Set(directions, {}), *(self._control(directions, seed, i) for i in range(self.protocol.controls))]
        scored: list[tuple[SideScore, SideScore, list[Measured]]] = []
        for i, each in enumerate(sets):
            progress(i, len(sets))
            s, n = self._side("sufficiency", each, own=i == 0), self._side("necessity", each, own=i == 0)
            scored.append((s, n, self._front(each, n.points)))
        progress(len(sets), len(sets))
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
        return Scored(samples, s.choices + n.choices, _curves(s.points) + _curves(n.points))

    def _control(self, directions: Directions, seed: int, index: int) -> _Set:
        """The index-th random control: isotropic unit directions, with the findings' count and gates."""
        if (seed, index) not in self._controls:
            key = hashlib.sha256(f"random control {seed} {index}".encode()).digest()[:7]  # no method's seed can meet it
            generator = torch.Generator().manual_seed(int.from_bytes(key))
            noise = torch.randn(MAX_FINDINGS, self.pair.d_model, generator=generator)
            self._controls[seed, index] = unit(noise).to(directions.direction), {}
        noise, memory = self._controls[seed, index]
        return _Set(Directions(noise[: len(directions.direction)], directions.read, directions.threshold), memory)

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
        base, tuned = self._arenas["base", "test"], self._arenas["tuned", "test"]
        parts = [min(1.0, float(np.exp(tuned.nll - base.nll)))]
        if base.capability and tuned.capability:
            parts.append(min(1.0, base.capability[2] / max(tuned.capability[2], 1e-9)))
        return float(np.mean(parts))

    def _side(self, name: SideName, each: _Set, own: bool) -> SideScore:
        """Ladder on dev, choice under each budget, measurement on test."""
        side: Side = "base" if name == "sufficiency" else "tuned"
        points = self._ladder(name, side, each)
        dev, test = self._arenas[side, "dev"], self._arenas[side, "test"]
        start = float(dev.rates.mean())
        sign = 1.0 if name == "sufficiency" else -1.0
        nothing = Point(NOTHING, start, 0.0, dev.nll)
        chosen = [
            max([nothing, *(p for p in points if p.kl_nats <= tau)], key=lambda p: sign * p.rate)
            for tau in self.protocol.budgets_nats
        ]
        effects = {p.option: _effect(name, self._test_rates(side, each, p.option), test.rates) for p in chosen}
        return SideScore(
            np.mean([effects[p.option] for p in chosen], axis=0),
            [
                Choice(
                    side=name,
                    tau_nats=tau,
                    **vars(p.option),
                    dev_effect=sign * (p.rate - start),
                    test_effect=float(effects[p.option].mean()),
                    test_kl_nats=self._test_collateral(side, each, p.option)[0],
                )
                for tau, p in zip(self.protocol.budgets_nats, chosen, strict=True)
                if own
            ],
            points,
        )

    def _ladder(self, name: SideName, side: Side, each: _Set) -> list[Point]:
        """Dev rate and KL of every option within the largest budget."""
        p = self.protocol
        groups: dict[tuple[Op, int, bool], list[Option]] = {}
        for option in options(name, each.directions, p.ks, p.strengths, p.shares):
            groups.setdefault((option.op, option.k, option.gated), []).append(option)
        return [
            point
            for (op, k, gated), ladder in groups.items()
            for point in each.recall(gated, (side, op, k), lambda ladder=ladder: self._climb(side, each, ladder))
        ]

    def _climb(self, side: Side, each: _Set, ladder: list[Option]) -> list[Point]:
        """One ladder on dev: collateral of every rung, behaviour of those within the largest budget."""
        arena, o = self._arenas[side, "dev"], ladder[0]
        coefficients = [coefficient(option, arena.scale) for option in ladder]
        damage, loss = arena.collateral(movement(arena.h_text, each.directions, o.op, o.k, o.gated), coefficients)
        allowed = [i for i in range(len(ladder)) if float(damage[i]) <= self.protocol.budgets_nats[-1]]
        if not allowed:
            return []
        move = movement(arena.h_behaviour, each.directions, o.op, o.k, o.gated)
        after = arena.behaviour_rates(move, [coefficients[i] for i in allowed]).mean(-1)
        return [
            Point(ladder[i], float(r), float(damage[i]), float(loss[i])) for i, r in zip(allowed, after, strict=True)
        ]

    def _test_rates(self, side: Side, each: _Set, o: Option) -> Tensor:
        """[prompts] behaviour rate on test under one option."""
        test = self._arenas[side, "test"]
        if o.op == "none":
            return test.rates

        def measure() -> Tensor:
            move = movement(test.h_behaviour, each.directions, o.op, o.k, o.gated)
            return test.behaviour_rates(move, [coefficient(o, self._arenas[side, "dev"].scale)])[0]

        return each.recall(o.gated, (side, o), measure)

    def _test_collateral(self, side: Side, each: _Set, o: Option) -> tuple[float, float]:
        """KL and NLL on neutral test text under one option."""
        test = self._arenas[side, "test"]
        if o.op == "none":
            return 0.0, test.nll
        move = movement(test.h_text, each.directions, o.op, o.k, o.gated)
        damage, loss = test.collateral(move, [coefficient(o, self._arenas[side, "dev"].scale)])
        return float(damage[0]), float(loss[0])

    def _front(self, each: _Set, points: list[Point]) -> list[Measured]:
        """Options that no other beats on dev in both behaviour rate and neutral NLL, measured on test."""
        dev, test = self._arenas["tuned", "dev"], self._arenas["tuned", "test"]
        front: list[Point] = []
        for p in sorted(points, key=lambda p: (p.nll, p.rate)):
            if p.rate < min([float(dev.rates.mean()), *(q.rate for q in front)]):
                front.append(p)

        def measure(o: Option) -> Measured:
            kept = [min(1.0, float(np.exp(test.nll - self._test_collateral("tuned", each, o)[1])))]
            accuracy = test.accuracy(
                lambda h: movement(h, each.directions, o.op, o.k, o.gated), coefficient(o, dev.scale)
            )
            return Measured(
                self._test_rates("tuned", each, o), float(np.mean([*kept, *([] if accuracy is None else [accuracy])]))
            )

        nothing = Measured(test.rates, 1.0)
        chosen = _thin(front, self.protocol.front)
        return [
            nothing,
            *(each.recall(p.option.gated, ("front", p.option), lambda o=p.option: measure(o)) for p in chosen),
        ]

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


def _thin(front: list[Point], n: int) -> list[Point]:
    """At most n points, evenly spread over the front, its ends kept."""
    if len(front) <= n:
        return front
    return [front[round(i * (len(front) - 1) / (n - 1))] for i in range(n)]


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
