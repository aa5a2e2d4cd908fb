"""The procedure that findings and random controls go through: which strengths cost what a budget allows, which option brings dev
prompts nearest to the other model, and what that one does on test.

Collateral is smooth in strength: a line between the logarithms of three measurements says where a budget is reached. An edit moves by
its strength, so collateral begins as the square of it: below the first measurement the slope is 2. What an option costs on other text
than this is measured afterwards.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..pairs.engine import Side
from ..pairs.interventions import Directions, Edits, Op, Option, edits, joined, kinds
from ..records.identity import SIDES
from ..records.result import Curve, SideName
from ..records.settings import Protocol
from .clean_runs import CleanRun
from .intervals import upper_end

DIGITS = 7
"""Significant digits of a strength: what is written down is what was used. Four would be coarser than single precision: where another
machine's last bit tips the rounding, a strength would move by a thousandth, and scores by more than the 1e-4 that `bench verify` allows."""
DECIMALS = 7
"""Of what a record keeps of measurements: single precision knows no more, and scores are made of what is written down."""
FREE = 1e-12
"""Collateral in nats that counts as none."""
Array = NDArray[np.float64]


def floats(values: Iterable[float]) -> list[float]:
    """Numbers as a record keeps them."""
    return [round(float(v), DECIMALS) for v in values]


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

    def unknown(self, what: str, options: Sequence[Option]) -> list[Option]:
        """Those of which it was not measured before, each once."""
        return [o for o in dict.fromkeys(options) if (what, o) not in self.known]


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

    def both(self, candidates: Sequence[Candidate]) -> list[BySides]:
        """What sets do on either side."""
        found = {side: self.taken(side, candidates) for side in SIDES}
        return [{side: found[side][i] for side in SIDES} for i in range(len(candidates))]

    def taken(self, name: SideName, candidates: Sequence[Candidate]) -> list[list[Taken]]:
        """What each budget keeps on test, for each set: of the options chosen for any, the one of most gain on dev that keeps it there.

        Args:
            candidates: measured together, which takes fewer passes; all of them controls, or none.
        """
        side = SIDES[name]
        chosen = [self._chosen(points) for points in self.points(name, candidates)]
        [random] = {c.random for c in candidates}
        costs = self._of(f"{side} {'brief' if random else 'collateral'}", candidates, chosen)
        best = [[self._best(cost, tau) for tau in self._protocol.budgets_nats] for cost in costs]
        kept = [list(dict.fromkeys(p for p in points if p)) for points in best]
        on_test = self._of(f"{side} test", candidates, kept)
        return [
            [self._taken(side, *each, cost, test) for each in zip(self._protocol.budgets_nats, points, strict=True)]
            for points, cost, test in zip(best, costs, on_test, strict=True)
        ]

    def _best(self, costs: Mapping[Point, Any], tau: float) -> Point | None:
        """Of options with mean and upper end of their cost on test, the one of most gain on dev that keeps a budget."""
        return max((p for p, (_, high) in costs.items() if high <= tau), key=lambda p: p.gain, default=None)

    def _taken(
        self, side: Side, tau: float, point: Point | None, costs: Mapping[Point, Any], on_test: Mapping[Point, Any]
    ) -> Taken:
        run = self._clean[side, "test"]
        if point is None:
            return Taken(tau, None, np.zeros(len(run.gap)), float(run.rates.mean()), 0.0, 0.0)
        *effect, rate = on_test[point]
        return Taken(tau, point, np.array(effect), rate, *costs[point])

    def points(self, name: SideName, candidates: Sequence[Candidate]) -> list[list[Point]]:
        """Every option on dev, for each set: those strengths of each kind that cost what a budget allows."""
        side = SIDES[name]
        climbs = [[self._climb(kind) for kind in kinds(name, c.directions, c.ks, c.gated)] for c in candidates]
        asked = [list(itertools.chain(*some)) for some in climbs]
        costs = self._measured(f"{side} cost", candidates, asked)
        options = [
            {o: kl for climb in some for o, kl in self._within([cost[o] for o in climb], climb).items()}
            for some, cost in zip(climbs, costs, strict=True)
        ]
        dev = self._measured(f"{side} dev", candidates, [list(some) for some in options])
        return [
            [Point(o, *found[o], kl_nats=kl) for o, kl in some.items()]
            for some, found in zip(options, dev, strict=True)
        ]

    def front(self, candidate: Candidate, necessity: Sequence[Taken]) -> list[tuple[Array, float]]:
        """Doing nothing and what was kept for necessity: effects [prompts], and how much capability stays."""
        kept = {t.point: t for t in necessity if t.point is not None}.values()
        run = self._clean["tuned", "test"]
        retained = [float(np.exp(-t.kl_nats)) for t in kept]
        if run.capability:
            [accuracy] = self._of("tuned accuracy", [candidate], [[t.point for t in kept if t.point is not None]])
            retained = [(y + a) / 2 for y, [a] in zip(retained, accuracy.values(), strict=True)]
        return [(np.zeros(len(run.gap)), 1.0), *((t.effect, y) for t, y in zip(kept, retained, strict=True))]

    def curves(self, name: SideName, candidate: Candidate) -> list[Curve]:
        """Dose–response on dev, of the strengths that were tried."""
        groups: dict[tuple[Op, int], list[Point]] = {}
        [points] = self.points(name, [candidate])
        for x in points:
            groups.setdefault((x.option.op, x.option.k), []).append(x)
        return [
            Curve(
                op=op,
                k=k,
                gated=candidate.gated,
                strengths=[x.option.strength for x in some],
                rate=floats(x.rate for x in some),
                gain=floats(x.gain for x in some),
                kl_nats=floats(x.kl_nats for x in some),
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

    def _of(
        self, what: str, candidates: Sequence[Candidate], points: Sequence[Sequence[Point]]
    ) -> list[dict[Point, Any]]:
        found = self._measured(what, candidates, [[p.option for p in some] for some in points])
        return [{p: of[p.option] for p in some} for some, of in zip(points, found, strict=True)]

    def _measured(
        self, what: str, candidates: Sequence[Candidate], options: Sequence[Sequence[Option]]
    ) -> list[dict[Option, Any]]:
        """What is measured of options of each set, once of each and of all sets in one go.

        Args:
            what: `SIDE cost` (collateral on dev text) or `SIDE dev` (gain and mean rate on dev prompts); on test `SIDE test` (effects of
                the prompts and their mean rate), `SIDE collateral` (mean and upper end; `brief`: of a control), `SIDE accuracy`.
        """
        side: Side = "base" if what.startswith("base") else "tuned"
        kind = what.removeprefix(f"{side} ")
        run = self._clean[side, "dev" if kind in ("cost", "dev") else "test"]
        scale = self._clean[side, "dev"].scale  # strengths are in mean residual norms of ordinary dev text
        missing = [(c, some) for c, asked in zip(candidates, options, strict=True) if (some := c.unknown(what, asked))]
        if missing:
            made = joined([edits(some, c.directions, scale) for c, some in missing])
            places = [(c.known, (what, o)) for c, some in missing for o in some]
            for (known, at), value in zip(places, self._measure(kind, run, made), strict=True):
                known[at] = value
        return [{o: c.known[what, o] for o in asked} for c, asked in zip(candidates, options, strict=True)]

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
