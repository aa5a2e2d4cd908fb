"""The procedure that findings and random controls go through: which strengths cost what a budget allows, which option brings dev
prompts nearest to the other model, and what that one does on test.

Collateral is smooth in strength: a line between the logarithms of three measurements says where a budget is reached. An edit moves by
its strength, so collateral begins as the square of it: below the first measurement the slope is 2. What an option costs on other text
than this is measured afterwards.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..pairs.engine import Side
from ..pairs.interventions import Directions, Edits, Op, Option, edits, kinds
from ..records.identity import SIDES
from ..records.result import Curve, SideName
from ..records.settings import Protocol
from .clean_runs import CleanRun
from .intervals import upper_end

DIGITS = 7
"""Significant digits of a strength: what is written down is what was used. Four would be coarser than single precision: where another
machine's last bit tips the rounding, a strength would move by a thousandth, and scores by more than the 1e-4 that `bench verify` allows."""
FREE = 1e-12
"""Collateral in nats that counts as none."""
Array = NDArray[np.float64]


def reaching(strengths: Sequence[float], kl_nats: Sequence[float], target: float) -> float:
    """The first strength at which collateral reaches `target` nats, at most the last one measured.

    Args:
        strengths: rising.
        kl_nats: collateral at each.
    """
    cost = [max(FREE, kl) for kl in kl_nats]
    if cost[0] >= target:
        return _rounded(strengths[0] * math.sqrt(target / cost[0]))
    for i in range(len(cost) - 1):
        if cost[i] < target <= cost[i + 1]:
            share = math.log(target / cost[i]) / math.log(cost[i + 1] / cost[i])
            return _rounded(strengths[i] * (strengths[i + 1] / strengths[i]) ** share)
    return _rounded(strengths[-1])


def _rounded(strength: float) -> float:
    return float(f"{strength:.{DIGITS}g}")


def within(
    strengths: Sequence[float], kl_nats: Sequence[float], budgets: Sequence[float], aim: float
) -> dict[float, float]:
    """For each budget the strength that aims at a share `aim` of it, and the collateral that it should have; equal ones once.

    Below the smallest budget's strength it is halved down to the first one measured, at that budget's cost: under a gate that is closed
    on ordinary text every strength is free, and the largest only breaks what it reaches.
    """
    out: dict[float, float] = {}
    for tau in budgets:
        out.setdefault(reaching(strengths, kl_nats, aim * tau), min(aim * tau, max(kl_nats)))
    half, cost = next(iter(out.items()))
    while (half := _rounded(half / 2)) >= strengths[0]:
        out.setdefault(half, cost)
    return out


@dataclass(frozen=True)
class Candidate:
    """Directions under test and how they may be used, with what has been measured of them so far."""

    directions: Directions
    ks: tuple[int, ...]
    """How many of the first directions an intervention may use."""
    gated: bool = False
    """Whether it acts where the gates are open, or everywhere."""
    random: bool = False
    """Whether it is a control, whose costs on test are measured on less text."""
    known: dict[tuple[str, Option], Any] = field(default_factory=dict[tuple[str, Option], Any])

    def recall(
        self, what: str, chosen: Sequence[Option], measure: Callable[[Sequence[Option]], Sequence[Any]]
    ) -> list[Any]:
        """`measure(options)`, of which only what was not measured before is measured."""
        missing = [o for o in dict.fromkeys(chosen) if (what, o) not in self.known]
        if missing:
            self.known.update(((what, o), value) for o, value in zip(missing, measure(missing), strict=True))
        return [self.known[what, o] for o in chosen]


@dataclass(frozen=True)
class Point:
    """One option on dev."""

    option: Option
    gain: float
    """How much nearer the scored prompts come to the other model, as a share of the gap."""
    rate: float
    """Mean behaviour rate of all prompts."""
    kl_nats: float
    """Collateral, as the line between three measurements has it."""


@dataclass(frozen=True)
class Taken:
    """What a budget keeps, on test."""

    tau_nats: float
    point: Point | None
    """None: nothing helps, or nothing that helps keeps the budget."""
    effect: Array
    """[prompts] how much nearer each comes to the other model."""
    rate: float
    """Mean behaviour rate of all prompts."""
    kl_nats: float
    kl_high: float
    """Collateral on test text, and the upper end of its interval."""


BySides = dict[SideName, list[Taken]]


def mean_effects(taken: BySides) -> dict[SideName, Array]:
    """[prompts] mean over budgets of each side."""
    return {side: np.mean([t.effect for t in some], axis=0) for side, some in taken.items()}


class Procedure:
    """The procedure on one pair.

    Args:
        clean: what no intervention changes, of each side and split.
    """

    def __init__(self, clean: Mapping[tuple[Side, str], CleanRun], protocol: Protocol):
        self._clean, self._protocol = clean, protocol

    def ks(self, findings: int) -> tuple[int, ...]:
        """How many directions interventions may use, of so many findings."""
        return tuple(sorted({min(k, findings) for k in self._protocol.ks}))

    @cached_property
    def retention_off(self) -> float:
        """Capability of the base relative to the organism, at most 1."""
        return self._clean["base", "test"].retention(self._clean["tuned", "test"])

    def both(self, candidate: Candidate) -> BySides:
        """What a set does on either side."""
        return {side: self.taken(side, candidate) for side in SIDES}

    def taken(self, name: SideName, candidate: Candidate) -> list[Taken]:
        """What each budget keeps on test: of the options chosen for any, the one of most gain on dev that keeps it there."""
        side = SIDES[name]
        chosen, run = self._chosen(self.points(name, candidate)), self._clean[side, "test"]
        on_test = self._of(f"{side} test", candidate, chosen)
        costs = self._of(f"{side} {'brief' if candidate.random else 'collateral'}", candidate, chosen)
        out: list[Taken] = []
        for tau in self._protocol.budgets_nats:
            keeps = [i for i, (_, high) in enumerate(costs) if high <= tau]
            best = max(keeps, key=lambda i: chosen[i].gain, default=None)
            if best is None:
                out.append(Taken(tau, None, np.zeros(len(run.gap)), float(run.rates.mean()), 0.0, 0.0))
            else:
                *effect, rate = on_test[best]
                out.append(Taken(tau, chosen[best], np.array(effect), rate, costs[best][0], costs[best][1]))
        return out

    def points(self, name: SideName, candidate: Candidate) -> list[Point]:
        """Every option on dev: those strengths of each kind that cost what a budget allows."""
        side = SIDES[name]
        climbs = [self._climb(kind) for kind in kinds(name, candidate.directions, candidate.ks, candidate.gated)]
        costs = iter(self._measured(f"{side} cost", candidate, [o for climb in climbs for o in climb]))
        options: dict[Option, float] = {}
        for climb in climbs:
            options |= self._within([next(costs) for _ in climb], climb)
        dev = self._measured(f"{side} dev", candidate, list(options))
        return [Point(o, gain, rate, kl) for (o, kl), (gain, rate) in zip(options.items(), dev, strict=True)]

    def front(self, candidate: Candidate, necessity: Sequence[Taken]) -> list[tuple[Array, float]]:
        """Doing nothing and what was kept for necessity: effects [prompts], and how much capability stays."""
        kept = {t.point: t for t in necessity if t.point is not None}.values()
        run = self._clean["tuned", "test"]
        retained = [float(np.exp(-t.kl_nats)) for t in kept]
        if run.capability:
            accuracy = self._of("tuned accuracy", candidate, [t.point for t in kept if t.point is not None])
            retained = [(y + a) / 2 for y, [a] in zip(retained, accuracy, strict=True)]
        return [(np.zeros(len(run.gap)), 1.0), *((t.effect, y) for t, y in zip(kept, retained, strict=True))]

    def curves(self, name: SideName, candidate: Candidate) -> list[Curve]:
        """Dose–response on dev, of the strengths that were tried."""
        groups: dict[tuple[Op, int], list[Point]] = {}
        for x in self.points(name, candidate):
            groups.setdefault((x.option.op, x.option.k), []).append(x)
        return [
            Curve(
                op=op,
                k=k,
                gated=candidate.gated,
                strengths=[x.option.strength for x in some],
                rate=[x.rate for x in some],
                gain=[x.gain for x in some],
                kl_nats=[x.kl_nats for x in some],
            )
            for (op, k), points in groups.items()
            for some in [sorted(points, key=lambda x: x.option.strength)]
        ]

    def _climb(self, kind: Option) -> list[Option]:
        """The strengths at which a kind's collateral is measured."""
        if kind.op == "ablate":
            return [kind]
        return [replace(kind, strength=s) for s in self._protocol.strengths]

    def _within(self, costs: Sequence[float], climb: Sequence[Option]) -> dict[Option, float]:
        """Options of one kind and their collateral on dev, for each budget the strength that aims at it."""
        p = self._protocol
        if climb[0].op == "ablate":
            return {climb[0]: costs[0]} if costs[0] <= p.aim * p.budgets_nats[-1] else {}
        found = within(p.strengths, costs, p.budgets_nats, p.aim)
        return {replace(climb[0], strength=s): kl for s, kl in found.items()}

    def _chosen(self, points: Sequence[Point]) -> list[Point]:
        """For each budget the option of most gain on dev, the first of equals, where one has any; each once."""
        out: dict[Point, None] = {}
        for tau in self._protocol.budgets_nats:
            allowed = [x for x in points if x.gain > 0 and x.kl_nats <= self._protocol.aim * tau]
            out |= dict.fromkeys([max(allowed, key=lambda x: x.gain)] if allowed else [])
        return list(out)

    def _of(self, what: str, candidate: Candidate, points: Sequence[Point]) -> list[list[float]]:
        return self._measured(what, candidate, [x.option for x in points])

    def _measured(self, what: str, candidate: Candidate, options: Sequence[Option]) -> list[Any]:
        """What is measured of options, once of each.

        Args:
            what: `SIDE cost` (collateral on dev text) or `SIDE dev` (gain and mean rate on dev prompts); on test `SIDE test` (effects of
                the prompts and their mean rate), `SIDE collateral` (mean and upper end; `brief`: of a control), `SIDE accuracy`.
        """
        side: Side = "base" if what.startswith("base") else "tuned"
        kind = what.removeprefix(f"{side} ")
        run = self._clean[side, "dev" if kind in ("cost", "dev") else "test"]
        scale = self._clean[side, "dev"].scale  # strengths are in mean residual norms of ordinary dev text
        return candidate.recall(
            what, options, lambda some: self._measure(kind, run, edits(some, candidate.directions, scale))
        )

    def _measure(self, kind: str, run: CleanRun, made: Edits) -> Sequence[Any]:
        if kind == "cost":
            return run.collateral(made).tolist()
        if kind in ("collateral", "brief"):
            read = run.brief if kind == "brief" else run.read
            row, shrinks = read.row.cpu().numpy(), math.sqrt(len(read.row) / len(run.read.row))
            costs = [(float(kl.mean()), upper_end(kl, row)) for kl in read.edited(made).double().numpy()]
            return [[mean, mean + shrinks * (high - mean)] for mean, high in costs]
        if kind == "accuracy":
            return run.accuracy(made)[:, None].tolist()
        away, rates = run.measured(made)
        nearer, rate = run.gap - away, rates.double().mean(1, keepdim=True)
        if kind == "dev":
            scored = run.gap >= self._protocol.scored_gap
            nearer = nearer[:, scored].double().sum(1, keepdim=True) / float(run.gap[scored].sum())
        return torch.cat([nearer, rate], 1).tolist()
