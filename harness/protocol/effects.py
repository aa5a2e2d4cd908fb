"""Protocol v2: from findings to the per-prompt effects that the scores are made of.

One procedure, for the method's findings and for every random control: find the strengths that cost what each budget allows, keep under
each budget the option that brings dev prompts nearest to the other model (doing nothing is always one), and measure it on test. Of
findings, the cost of what was kept is measured again on more text, and it counts under the budgets it keeps there. Formulas and
reasons: docs/protocol.md.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...organisms.behaviour import Behaviour
from ...organisms.texts import Texts
from ..cache import Kept, ids_sha256
from ..pairs.engine import Side
from ..pairs.interventions import NOTHING, Directions, Op, Option, edits, kinds
from ..pairs.pair import Pair
from ..parallel import in_threads
from ..records.control_pack import ControlPack
from ..records.result import COLUMNS, BySide, Choice, Column, ColumnName, Curve, Samples, SideName, SideSamples
from ..records.settings import NotScorable, Protocol
from .clean_runs import CleanRun
from .controls import MIXTURES, SCORE_SEED, Candidate, ControlMemory, Value, control, mixture, unpacked
from .intervals import hypervolume, interval, template_weights, upper_end
from .prompts import ordinary
from .strengths import within

SIDES: dict[SideName, Side] = {"sufficiency": "base", "necessity": "tuned"}
"""Which model is edited on each side; the other is where it should go."""
SPLITS: tuple[Literal["dev", "test"], ...] = ("dev", "test")
NULLS = ("isotropic", "mixture")
"""Constant random controls: directions of no model, which are the zero; and mixtures of differences between the two, reported beside."""
Array = NDArray[np.float64]
BySides = dict[SideName, Array]


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


@dataclass(frozen=True)
class Null:
    """What random controls do."""

    effects: BySides
    """[controls, prompts] of each side."""
    volumes: Array
    """[controls] mitigation before rescaling."""


class Scorer:
    """Scores any findings on one pair; holds the residuals that all findings share.

    Args:
        kept: where what was measured of random controls is kept between runs, for this pair and these prompts; None: nowhere.
        progress: called with (what is measured, of how much) while that is done: both sides' clean runs, then the controls.
        shipped: constant controls that were measured before, as many as there are; None: the protocol's number are measured here.
    """

    def __init__(
        self,
        pair: Pair,
        behaviour: Behaviour,
        texts: Texts,
        protocol: Protocol,
        kept: Kept | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
        shipped: ControlPack | None = None,
    ):
        self.pair, self.protocol, self._shipped, self._seed = pair, protocol, shipped, SCORE_SEED
        self._clean: dict[tuple[Side, str], CleanRun] = {}
        read = list[str]()
        by_choices = behaviour.distance == "choices"
        total = len(SPLITS) + sum(map(self._count, NULLS))
        for i, split in enumerate(SPLITS):
            progress(i, total)
            prompts, probes = behaviour.of(split), behaviour.capability_of(split)
            tokens = protocol.dev_tokens if split == "dev" else protocol.test_tokens
            text = ordinary(pair, texts, prompts, split, tokens)
            for side, run in CleanRun.both(pair, prompts, probes, text, by_choices).items():
                self._clean[side, split] = run
            read.append(ids_sha256([text.ids.tolist(), text.scored.tolist()]))
        self.b0, self.b1 = (self._clean[side, "test"].rates for side in SIDES.values())
        self.b0_dev, self.b1_dev = (float(self._clean[side, "dev"].rates.mean()) for side in SIDES.values())
        self.gap = self._clean["base", "test"].gap
        """[prompts] distance of the two models on test."""
        self.scored = self.gap >= protocol.scored_gap
        """[prompts] bool: only there can a score be read."""
        self.templates = behaviour.clusters("test")
        self.centre = self._clean["base", "dev"].read.ordinary().mean(0)
        """[d_model] the base's mean residual on ordinary text."""
        self.took: list[float] = []
        """Seconds of each set that was scored last, the findings' first: what a plan goes by."""
        self._check(by_choices)
        self.oracle = {side: self._patch(side) for side in SIDES}
        """[prompts] effect of exchanging the whole residual."""
        self._check_oracle()
        self._kept = (
            kept.but(settings=[protocol.strengths, protocol.budgets_nats, protocol.aim], read=read) if kept else None
        )
        self._draws: dict[str, list[Candidate]] = {}
        self._nulls: dict[tuple[str, tuple[int, ...]], Null] = {}
        done = len(SPLITS)
        for kind in NULLS:
            progress(done, total)
            self.null(kind, protocol.ks, lambda some, done=done: progress(done + some, total))
            done += self._count(kind)
        progress(total, total)

    def clean_run(self, side: Side, split: str) -> CleanRun:
        """What no intervention changes, of one side and split."""
        return self._clean[side, split]

    def _check(self, by_choices: bool) -> None:
        p, n = self.protocol, int(self.scored.sum())
        if n < p.min_scored or not bool((self._clean["base", "dev"].gap >= p.scored_gap).any()):
            raise NotScorable(
                f"the two models differ by {p.scored_gap} or more on {n} of {len(self.gap)} test prompts and "
                f"{int((self._clean['base', 'dev'].gap >= p.scored_gap).sum())} dev prompts (mean rate {float(self.b0.mean()):.3f} in the "
                f"base and {float(self.b1.mean()):.3f} in the fine-tuned model); {p.min_scored} test prompts and one on dev are needed"
            )
        if by_choices:
            return
        each = (self.b1 - self.b0).double().numpy()
        gap, draws = float(each.mean()), np.random.default_rng(SCORE_SEED)
        low, high = interval(template_weights(self.templates, p.draws, draws) @ each)
        if low <= 0:
            raise NotScorable(
                f"the behaviour's gap on {len(each)} test prompts is {gap:.3f} [{low:.3f}, {high:.3f}]: it may be nothing, so no "
                "effect can be divided by it; give more test prompts, or some on which the models differ"
                + ("; it falls: are targets and alternatives exchanged?" if gap < 0 else "")
            )

    def _check_oracle(self) -> None:
        for side, effect in self.oracle.items():
            if (share := self.closeness(effect)) < self.protocol.min_oracle:
                raise NotScorable(
                    f"exchanging the whole residual at layer {self.pair.layer} closes {share:.2f} of the gap ({side}); at least "
                    f"{self.protocol.min_oracle} is needed: hook another layer (field `layer` of the behaviour file)"
                )

    def against(self, seed: int) -> "Scorer":
        """The same measurements beside other random controls."""
        other = copy(self)
        other._seed, other._kept, other._shipped, other._draws, other._nulls = seed, None, None, {}, {}
        return other

    def closeness(self, effect: Array) -> float:
        """R of per-prompt effects [prompts]: the share of the gap that is closed, over the scored prompts."""
        scored = self.scored.numpy()
        return float(effect[scored].sum() / self.gap.double().numpy()[scored].sum())

    def _patch(self, name: SideName) -> Array:
        here = self._clean[SIDES[name], "test"]
        return (here.gap - here.patched(here.other)).double().numpy()

    def directions(self, findings: Sequence[object]) -> Directions:
        """Findings as they are put to use here."""
        return Directions.of(findings, self.pair.device, self.centre)  # pyright: ignore[reportArgumentType]

    def score(self, directions: Directions, progress: Callable[[int, int], None] = lambda d, t: None) -> "Scored":
        """Put findings and their random controls through the protocol.

        Args:
            directions: the findings, from `directions`.
            progress: called with (sets done, sets in all).
        """
        ks = tuple(sorted({min(k, len(directions.direction)) for k in self.protocol.ks}))
        own = [Candidate(directions, ks, column == "gated") for column in COLUMNS[: 1 + directions.gated]]
        columns = COLUMNS[: len(own)]
        sets = (
            own if len(own) == 1 else [*own, *(self._under(directions, ks, i) for i in range(self.protocol.controls))]
        )
        taken: list[dict[SideName, list[Taken]]] = []
        self.took = []
        progress(0, len(sets))
        for each, seconds in in_threads(self._timed, sets, self.pair.device):
            taken.append(each)
            self.took.append(seconds)
            progress(len(taken), len(sets))
        mine, theirs = dict(zip(columns, taken, strict=False)), taken[len(columns) :]
        plain, mixed = self.null("isotropic", ks), self.null("mixture", ks)
        gated: BySides = {side: np.array([_mean(each[side]) for each in theirs]) for side in SIDES}
        front = self._front(own[-1], mine[columns[-1]]["necessity"])
        samples = Samples(
            templates=self.templates,
            scored=self.scored.tolist(),
            gap=_floats(self.gap.double().numpy()),
            b0=_floats(self.b0.double().numpy()),
            b1=_floats(self.b1.double().numpy()),
            oracle=BySide(**{side: _floats(effect) for side, effect in self.oracle.items()}),
            constant=self._column(mine["constant"], plain.effects),
            gated=self._column(mine["gated"], gated) if theirs else None,
            mixture=BySide(**{side: [round(self.closeness(e), 7) for e in mixed.effects[side]] for side in SIDES}),
            mitigation=[_floats(effect) for effect, _ in front],
            mitigation_retention=[kept for _, kept in front],
            mitigation_controls=_floats(plain.volumes),
            retention_off=self.retention_off,
        )
        choices = [c for column in columns for side in SIDES for c in self._choices(column, side, mine[column][side])]
        curves = [c for candidate in own for side in SIDES for c in self._curves(side, candidate)]
        return Scored(samples, choices, curves)

    def oracle_samples(self) -> Samples:
        """Samples of the oracle anchor: the whole residual exchanged, no budget."""
        nothing = np.zeros((self.protocol.controls, len(self.gap)))
        whole: dict[SideName, list[Taken]] = {
            side: [Taken(0.0, None, self.oracle[side], 0.0, 0.0, 0.0)] for side in SIDES
        }
        none = [0.0] * self.protocol.controls
        return Samples(
            templates=self.templates,
            scored=self.scored.tolist(),
            gap=_floats(self.gap.double().numpy()),
            b0=_floats(self.b0.double().numpy()),
            b1=_floats(self.b1.double().numpy()),
            oracle=BySide(**{side: _floats(effect) for side, effect in self.oracle.items()}),
            constant=self._column(whole, dict.fromkeys(SIDES, nothing)),
            gated=None,
            mixture=BySide(sufficiency=none, necessity=none),
            mitigation=[_floats(self.oracle["necessity"])],
            mitigation_retention=[self.retention_off],
            mitigation_controls=none,
            retention_off=self.retention_off,
        )

    @cached_property
    def retention_off(self) -> float:
        """Capability of the base relative to the organism, at most 1."""
        return self._clean["base", "test"].retention(self._clean["tuned", "test"])

    def null(self, kind: str, ks: Sequence[int], progress: Callable[[int], None] = lambda done: None) -> Null:
        """What constant random controls do that may use so many directions.

        Args:
            kind: `isotropic`, or `mixture` of differences between the two models.
        """
        key = kind, tuple(ks)
        if key not in self._nulls:
            draws = [replace(draw, ks=tuple(ks)) for draw in self._drawn(kind)]
            sets: list[dict[SideName, list[Taken]]] = []
            for each in in_threads(self._both, draws, self.pair.device):
                sets.append(each)
                progress(len(sets))
            effects: BySides = {side: np.array([_mean(each[side]) for each in sets]) for side in SIDES}
            volumes = [0.0] * len(sets)
            if kind == "isotropic":
                volumes = [self._volume(draw, each["necessity"]) for draw, each in zip(draws, sets, strict=True)]
            self._nulls[key] = Null(effects, np.array(volumes))
        return self._nulls[key]

    def _count(self, kind: str) -> int:
        """How many draws a null has."""
        if self._shipped is not None and kind in self._shipped.draws:
            return len(self._shipped.draws[kind])
        return min(self.protocol.controls, MIXTURES) if kind == "mixture" else self.protocol.controls

    def _drawn(self, kind: str) -> list[Candidate]:
        """The draws of a null."""
        if kind not in self._draws:
            known = self._shipped.draws.get(kind) if self._shipped else None
            values = [{} for _ in range(self._count(kind))] if known is None else [*map(unpacked, known)]
            self._draws[kind] = [
                Candidate(
                    self._frame(self._random(kind, i)),
                    self.protocol.ks,
                    draw=ControlMemory(self._kept if known is None else None, {"null": kind, "index": i}, own),
                )
                for i, own in enumerate(values)
            ]
        return self._draws[kind]

    def measured_again(self, pack: ControlPack, sample: int) -> tuple[int, float]:
        """How many values of the first draws of a file were measured again, and the largest difference.

        Only what follows from a draw itself: what it costs, and what its strengths as written do.
        """
        differences = list[float]()
        for kind, draws in pack.draws.items():
            for i, known in enumerate(draws[:sample]):
                candidate = Candidate(self._frame(self._random(kind, i)), self.protocol.ks)
                for (what, option), value in unpacked(known).items():
                    mine = self._measure(what, candidate, [option])[0]
                    pairs = zip(_list(value), _list(mine), strict=True)
                    differences += [abs(a - b) for a, b in pairs]
        return len(differences), float(max(differences, default=0.0))

    def packed(self, key: Mapping[str, Any]) -> ControlPack:
        """What is known of the constant controls, for a file: also for those who have fewer findings."""
        ks = self.protocol.ks
        for kind, n in itertools.product(NULLS, range(1, len(ks))):
            self.null(kind, ks[:n])
        draws = {kind: [d.draw.packed() for d in self._drawn(kind) if d.draw] for kind in NULLS}
        return ControlPack(key, draws)

    def _random(self, kind: str, index: int) -> Tensor:
        if kind == "isotropic":
            return control(index, self.pair.d_model, self._seed)
        return mixture(index, self._differences, self._seed)

    def _frame(self, directions: Tensor) -> Directions:
        """Directions [n, d_model] without gates."""
        d = directions.to(self.pair.device)
        return Directions(d, torch.zeros_like(d), d.new_full((len(d),), -float("inf")), self.centre)

    @cached_property
    def _differences(self) -> Tensor:
        """[tokens, d_model] what fine-tuning changed before each token of dev text, sinks left out."""
        (base, free), (tuned, also) = (self._clean[side, "dev"].read.rows.before() for side in SIDES.values())
        return (tuned - base)[free & also]

    def _under(self, directions: Directions, ks: tuple[int, ...], index: int) -> Candidate:
        """The index-th random control under the findings' gates."""
        return Candidate(self._frame(self._random("isotropic", index)).under(directions), ks, gated=True)

    def _timed(self, candidate: Candidate) -> tuple[dict[SideName, list[Taken]], float]:
        began = time.perf_counter()
        return self._both(candidate), time.perf_counter() - began

    def _both(self, candidate: Candidate) -> dict[SideName, list[Taken]]:
        """A set on both sides."""
        return {side: self._taken(side, candidate) for side in SIDES}

    def _measured(self, what: str, candidate: Candidate, options: Sequence[Option]) -> list[Any]:
        """What is measured of options, once of each.

        Args:
            what: `SIDE cost` (collateral on dev text) or `SIDE dev` (gain and mean rate on dev prompts); on test `SIDE test` (effects of
                the prompts and their mean rate), `SIDE collateral` (mean and upper end), `SIDE accuracy`.
        """
        return candidate.recall(what, options, lambda some: self._measure(what, candidate, some))

    def _measure(self, what: str, candidate: Candidate, options: Sequence[Option]) -> Sequence[Value]:
        side: Side = "base" if what.startswith("base") else "tuned"
        kind = what.removeprefix(f"{side} ")
        run = self._clean[side, "dev" if kind in ("cost", "dev") else "test"]
        # strengths are in mean residual norms of ordinary dev text
        made = edits(options, candidate.directions, self._clean[side, "dev"].scale)
        if kind == "cost":
            return run.collateral(made).tolist()
        if kind == "collateral":
            row = run.read.row.cpu().numpy()
            return [[float(kl.mean()), upper_end(kl, row)] for kl in run.read.edited(made).double().numpy()]
        if kind == "accuracy":
            found = run.accuracy(made)
            return [] if found is None else found[:, None].tolist()
        away, rates = run.measured(made)
        nearer, rate = run.gap - away, rates.double().mean(1, keepdim=True)
        if kind == "dev":
            scored = run.gap >= self.protocol.scored_gap
            nearer = nearer[:, scored].double().sum(1, keepdim=True) / float(run.gap[scored].sum())
        return torch.cat([nearer, rate], 1).tolist()

    def _points(self, name: SideName, candidate: Candidate) -> list[Point]:
        """Every option on dev: those strengths of each kind that cost what a budget allows."""
        side, asked = SIDES[name], list(kinds(name, candidate.directions, candidate.ks, candidate.gated))
        found: list[Point] = []
        # what is kept of a draw is measured in batches that nothing else has a say in
        for some in [asked] if candidate.draw is None else [(kind,) for kind in asked]:
            climbs = [self._climb_of(kind) for kind in some]
            costs = iter(self._measured(f"{side} cost", candidate, [o for climb in climbs for o in climb]))
            options: dict[Option, float] = {}
            for climb in climbs:
                options |= self._within([next(costs) for _ in climb], climb)
            dev = self._measured(f"{side} dev", candidate, list(options))
            found += [Point(o, gain, rate, kl) for (o, kl), (gain, rate) in zip(options.items(), dev, strict=True)]
        return found

    def _climb_of(self, kind: Option) -> list[Option]:
        """The strengths at which a kind's collateral is measured."""
        if kind.op == "ablate":
            return [kind]
        return [replace(kind, strength=s) for s in self.protocol.strengths]

    def _within(self, costs: Sequence[float], climb: Sequence[Option]) -> dict[Option, float]:
        """Options of one kind and their collateral on dev, for each budget the strength that aims at it."""
        p = self.protocol
        if len(climb) == 1:
            return {climb[0]: costs[0]} if costs[0] <= p.aim * p.budgets_nats[-1] else {}
        found = within(p.strengths, costs, p.budgets_nats, p.aim)
        return {replace(climb[0], strength=s): kl for s, kl in found.items()}

    def _chosen(self, points: Sequence[Point]) -> list[Point]:
        """For each budget the option of most gain on dev, the first of equals, where one has any; each once."""
        out: dict[Point, None] = {}
        for tau in self.protocol.budgets_nats:
            allowed = [x for x in points if x.gain > 0 and x.kl_nats <= self.protocol.aim * tau]
            out |= dict.fromkeys([max(allowed, key=lambda x: x.gain)] if allowed else [])
        return list(out)

    def _taken(self, name: SideName, candidate: Candidate) -> list[Taken]:
        """What each budget keeps on test: of the options chosen for any, the one of most gain on dev that keeps it there."""
        side = SIDES[name]
        chosen, run = self._chosen(self._points(name, candidate)), self._clean[side, "test"]
        on_test = self._of(f"{side} test", candidate, chosen)
        costs = self._of(f"{side} collateral", candidate, chosen)
        out: list[Taken] = []
        for tau in self.protocol.budgets_nats:
            keeps = [i for i, (_, high) in enumerate(costs) if high <= tau]
            best = max(keeps, key=lambda i: chosen[i].gain, default=None)
            if best is None:
                out.append(Taken(tau, None, np.zeros(len(run.gap)), float(run.rates.mean()), 0.0, 0.0))
            else:
                *effect, rate = on_test[best]
                out.append(Taken(tau, chosen[best], np.array(effect), rate, costs[best][0], costs[best][1]))
        return out

    def _of(self, what: str, candidate: Candidate, points: Sequence[Point]) -> list[list[float]]:
        """What is measured of points, together; of a draw each by itself, so that what is kept depends on nothing else."""
        options = [x.option for x in points]
        batches = ([options] if options else []) if candidate.draw is None else [[o] for o in options]
        return [value for some in batches for value in self._measured(what, candidate, some)]

    def _front(self, candidate: Candidate, necessity: Sequence[Taken]) -> list[tuple[Array, float]]:
        """Doing nothing and what was kept for necessity: effects [prompts], and how much capability stays."""
        kept = {t.point: t for t in necessity if t.point is not None}.values()
        points = [t.point for t in kept if t.point is not None]
        run = self._clean["tuned", "test"]

        retained = [float(np.exp(-t.kl_nats)) for t in kept]
        if run.capability:
            accuracy = self._of("tuned accuracy", candidate, points)
            retained = [(y + a) / 2 for y, [a] in zip(retained, accuracy, strict=True)]
        return [(np.zeros(len(run.gap)), 1.0), *((t.effect, y) for t, y in zip(kept, retained, strict=True))]

    def _volume(self, candidate: Candidate, necessity: Sequence[Taken]) -> float:
        """Normalised hypervolume of a control's front, before rescaling."""
        front = self._front(candidate, necessity)
        x, y = np.array([self.closeness(e) for e, _ in front]), np.array([kept for _, kept in front])
        off = float(hypervolume(np.ones(1), np.array([self.retention_off])))
        return float(hypervolume(x, y)) / off if off else 0.0

    def _column(self, taken: dict[SideName, list[Taken]], null: BySides) -> Column:
        return Column(
            **{
                side: SideSamples(
                    effect=_floats(_mean(taken[side])),
                    null=_floats(null[side].mean(0)),
                    null_controls=[round(self.closeness(e), 7) for e in null[side]],
                )
                for side in SIDES
            }
        )

    def _choices(self, column: ColumnName, side: SideName, taken: Sequence[Taken]) -> list[Choice]:
        """What was kept, for the record."""
        return [
            Choice(
                column=column,
                side=side,
                tau_nats=t.tau_nats,
                op=option.op,
                k=option.k,
                gated=option.gated,
                strength=option.strength,
                dev_gain=t.point.gain if t.point else 0.0,
                test_gain=self.closeness(t.effect),
                test_rate=t.rate,
                dev_kl_nats=t.point.kl_nats if t.point else 0.0,
                test_kl_nats=t.kl_nats,
                test_kl_high=t.kl_high,
            )
            for t in taken
            for option in [t.point.option if t.point else NOTHING]
        ]

    def _curves(self, side: SideName, candidate: Candidate) -> list[Curve]:
        """Dose–response on dev, of the strengths that were tried."""
        groups: dict[tuple[Op, int], list[Point]] = {}
        for x in self._points(side, candidate):
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


@dataclass(frozen=True)
class Scored:
    """What scoring one set of findings yields."""

    samples: Samples
    choices: list[Choice]
    curves: list[Curve]


def _list(value: Value) -> list[float]:
    return value if isinstance(value, list) else [value]


def _mean(taken: Sequence[Taken]) -> Array:
    """[prompts] mean over budgets."""
    return np.mean([t.effect for t in taken], axis=0)


def _floats(values: Array) -> list[float]:
    return [round(float(v), 7) for v in values]
