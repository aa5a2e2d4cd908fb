"""Protocol v2: from findings to the per-prompt effects that the scores are made of.

One procedure, for the method's findings and for every random control: find the strengths that cost what each budget allows, keep under
each budget the option that brings dev prompts nearest to the other model (doing nothing is always one), and measure it on test. Of
findings, the cost of what was kept is measured again on more text, and it counts under the budgets it keeps there. Formulas and
reasons: docs/protocol.md.
"""

import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...organisms.behaviour import Behaviour
from ...organisms.texts import Texts
from ..cache import Kept, ids_sha256
from ..pairs.engine import Side
from ..pairs.interventions import NOTHING, Directions, Edits, Op, Option, edits, kinds
from ..pairs.pair import Pair
from ..parallel import in_threads
from ..records.result import COLUMNS, BySide, Choice, Column, ColumnName, Curve, Samples, SideName, SideSamples
from ..records.settings import NotScorable, Protocol
from .clean_runs import CleanRun
from .controls import SCORE_SEED, Candidate, ControlMemory, Member, Value, control, mixture
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

    member: Member
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
        self.pair, self.protocol, self._seed = pair, protocol, SCORE_SEED
        self._clean: dict[tuple[Side, str], CleanRun] = {}
        read = list[str]()
        by_choices = behaviour.distance == "choices"
        for i, split in enumerate(SPLITS):
            progress(i, len(SPLITS) + len(NULLS) * protocol.controls)
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
        total = len(SPLITS) + len(NULLS) * protocol.controls
        for i, kind in enumerate(NULLS):
            first = len(SPLITS) + i * protocol.controls
            progress(first, total)
            self.null(kind, protocol.ks, lambda done, first=first: progress(first + done, total))
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
        other._seed, other._kept, other._draws, other._nulls = seed, None, {}, {}
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
        own = Candidate(directions)
        columns = COLUMNS if directions.gated else COLUMNS[:1]
        sets: list[tuple[Candidate, ColumnName]] = [(own, column) for column in columns]
        if directions.gated:
            sets.extend((self._under(directions, i), COLUMNS[1]) for i in range(self.protocol.controls))
        taken: list[dict[SideName, list[Taken]]] = []
        self.took = []
        progress(0, len(sets))
        for each, seconds in in_threads(self._timed, sets, self.pair.device):
            taken.append(each)
            self.took.append(seconds)
            progress(len(taken), len(sets))
        mine, theirs = dict(zip(columns, taken, strict=False)), taken[len(columns) :]
        ks = tuple(sorted({min(k, len(directions.direction)) for k in self.protocol.ks}))
        plain, mixed = self.null("isotropic", ks), self.null("mixture", ks)
        gated: BySides = {side: np.array([_mean(each[side]) for each in theirs]) for side in SIDES}
        front = self._front(mine[columns[-1]]["necessity"])
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
        curves = [c for column in columns for side in SIDES for c in self._curves(side, own, column)]
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
            draws = self._drawn(kind)
            tried = {side: tuple(kinds(side, draws[0].directions, ks, False)) for side in SIDES}
            sets: list[dict[SideName, list[Taken]]] = []
            for each in in_threads(lambda draw: self._both([Member(draw, tried)]), draws, self.pair.device):
                sets.append(each)
                progress(len(sets))
            effects: BySides = {side: np.array([_mean(each[side]) for each in sets]) for side in SIDES}
            volumes = [self._volume(each["necessity"]) for each in sets] if kind == "isotropic" else [0.0] * len(sets)
            self._nulls[key] = Null(effects, np.array(volumes))
        return self._nulls[key]

    def _drawn(self, kind: str) -> list[Candidate]:
        """The draws of a null."""
        if kind not in self._draws:
            self._draws[kind] = [
                Candidate(
                    replace(self._frame(self._random(kind, i)), centre=self.centre),
                    ControlMemory(self._kept, {"null": kind, "index": i}),
                )
                for i in range(self.protocol.controls)
            ]
        return self._draws[kind]

    def _random(self, kind: str, index: int) -> Tensor:
        if kind == "isotropic":
            return control(index, self.pair.d_model, self._seed)
        return mixture(index, self._differences, self._seed)

    def _frame(self, directions: Tensor) -> Directions:
        """Directions [n, d_model] without gates."""
        d = directions.to(self.pair.device)
        return Directions(d, torch.zeros_like(d), d.new_full((len(d),), -float("inf")))

    @cached_property
    def _differences(self) -> Tensor:
        """[tokens, d_model] what fine-tuning changed before each token of dev text, sinks left out."""
        (base, free), (tuned, also) = (self._clean[side, "dev"].read.rows.before() for side in SIDES.values())
        return (tuned - base)[free & also]

    def _under(self, directions: Directions, index: int) -> Candidate:
        """The index-th random control under the findings' gates."""
        return Candidate(replace(self._frame(self._random("isotropic", index)), centre=self.centre).under(directions))

    def _timed(self, which: tuple[Candidate, ColumnName]) -> tuple[dict[SideName, list[Taken]], float]:
        began = time.perf_counter()
        return self._both([self._member(*which)]), time.perf_counter() - began

    def _member(self, candidate: Candidate, column: ColumnName) -> Member:
        gated = column == "gated"
        tried = {side: tuple(kinds(side, candidate.directions, self.protocol.ks, gated)) for side in SIDES}
        return Member(candidate, tried)

    def _both(self, members: Sequence[Member]) -> dict[SideName, list[Taken]]:
        """A set on both sides."""
        return {side: self._taken(side, members) for side in SIDES}

    def _edits(self, side: Side, candidate: Candidate, chosen: Sequence[Option]) -> Edits:
        """Strengths are in mean residual norms of ordinary dev text."""
        return edits(chosen, candidate.directions, self._clean[side, "dev"].scale)

    def _points(self, name: SideName, member: Member) -> list[Point]:
        """Every option on dev: those strengths of each kind that cost what a budget allows."""
        p, side = self.protocol, SIDES[name]
        candidate, run = member.candidate, self._clean[side, "dev"]
        scored = run.gap >= p.scored_gap
        whole = float(run.gap[scored].sum())

        def cost(some: Sequence[Option]) -> list[float]:
            return run.collateral(self._edits(side, candidate, some)).tolist()

        def near(some: Sequence[Option]) -> list[list[float]]:
            away, rates = run.measured(self._edits(side, candidate, some))
            gain = (run.gap - away)[:, scored].double().sum(1) / whole
            return torch.stack([gain, rates.double().mean(1)], 1).tolist()

        found: list[Point] = []
        asked = member.kinds[name]
        # what is kept of a draw is measured in batches that nothing else has a say in
        for some in [asked] if candidate.draw is None else [(kind,) for kind in asked]:
            climbs = [self._climb_of(kind) for kind in some]
            costs = iter(candidate.recall(f"{side} cost", [o for climb in climbs for o in climb], cost))
            options: dict[Option, float] = {}
            for climb in climbs:
                options |= self._within([next(costs) for _ in climb], climb)
            dev = candidate.recall(f"{side} dev", list(options), near)
            found += [
                Point(member, o, gain, rate, kl) for (o, kl), (gain, rate) in zip(options.items(), dev, strict=True)
            ]
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

    def _chosen(self, name: SideName, members: Sequence[Member]) -> list[Point | None]:
        """For each budget the option of most gain on dev, the first of equals; None where none has any."""
        points = [point for member in members for point in self._points(name, member)]
        out: list[Point | None] = []
        for tau in self.protocol.budgets_nats:
            allowed = [x for x in points if x.kl_nats <= self.protocol.aim * tau and x.gain > 0]
            out.append(max(allowed, key=lambda x: x.gain, default=None))
        return out

    def _taken(self, name: SideName, members: Sequence[Member]) -> list[Taken]:
        """What each budget keeps on test: of the options chosen for any, the one of most gain on dev that keeps it there."""
        chosen = self._chosen(name, members)
        distinct = list({id(x): x for x in chosen if x is not None}.values())
        run, budgets = self._clean[SIDES[name], "test"], self.protocol.budgets_nats
        on_test = {id(x): measured for x, measured in zip(distinct, self._on_test(name, distinct), strict=True)}
        costs = {id(x): c for x, c in zip(distinct, self._costs(name, distinct), strict=True)}
        out: list[Taken] = []
        for tau in budgets:
            best = max((x for x in distinct if costs[id(x)][1] <= tau), key=lambda x: x.gain, default=None)
            if best is None:
                out.append(Taken(tau, None, np.zeros(len(run.gap)), float(run.rates.mean()), 0.0, 0.0))
            else:
                out.append(Taken(tau, best, *on_test[id(best)], *costs[id(best)]))
        return out

    def _on_test(self, name: SideName, points: Sequence[Point]) -> list[tuple[Array, float]]:
        """Effects [prompts] and mean rate of options."""
        side = SIDES[name]
        run = self._clean[side, "test"]

        def measure(candidate: Candidate, some: Sequence[Option]) -> list[list[float]]:
            away, rates = run.measured(self._edits(side, candidate, some))
            return torch.cat([run.gap - away, rates.mean(1, keepdim=True)], 1).tolist()

        return [(np.array(values[:-1]), values[-1]) for values in self._of(f"{side} test", points, measure)]

    def _costs(self, name: SideName, points: Sequence[Point]) -> list[tuple[float, float]]:
        """Collateral of options and the upper end of its interval, on test text."""
        side = SIDES[name]
        text = self._clean[side, "test"].read

        def measure(candidate: Candidate, some: Sequence[Option]) -> list[list[float]]:
            each = text.edited(self._edits(side, candidate, some)).double().numpy()
            return [[float(kl.mean()), upper_end(kl, text.row.cpu().numpy())] for kl in each]

        return [(kl, high) for kl, high in self._of(f"{side} collateral", points, measure)]

    def _of(
        self,
        what: str,
        points: Sequence[Point],
        measure: Callable[[Candidate, Sequence[Option]], Sequence[Value]],
    ) -> list[list[float]]:
        """`measure` of each point, those of one candidate together; of a draw each by itself."""
        found: dict[int, list[float]] = {}
        for candidate in {id(x.member.candidate): x.member.candidate for x in points}.values():
            mine = [x for x in points if x.member.candidate is candidate]
            for some in [mine] if candidate.draw is None else [[x] for x in mine]:
                values = candidate.recall(what, [x.option for x in some], lambda o, c=candidate: measure(c, o))
                found |= {id(x): value for x, value in zip(some, values, strict=True)}
        return [found[id(x)] for x in points]

    def _front(self, necessity: Sequence[Taken]) -> list[tuple[Array, float]]:
        """Doing nothing and what was kept for necessity: effects [prompts], and how much capability stays."""
        kept = {id(t.point): t for t in necessity if t.point is not None}.values()
        points = [t.point for t in kept if t.point is not None]
        run = self._clean["tuned", "test"]

        def measure(candidate: Candidate, some: Sequence[Option]) -> list[list[float]]:
            found = run.accuracy(self._edits("tuned", candidate, some))
            return [] if found is None else found[:, None].tolist()

        retained = [float(np.exp(-t.kl_nats)) for t in kept]
        if run.capability:
            accuracy = self._of("accuracy", points, measure)
            retained = [(y + a) / 2 for y, [a] in zip(retained, accuracy, strict=True)]
        return [(np.zeros(len(run.gap)), 1.0), *((t.effect, y) for t, y in zip(kept, retained, strict=True))]

    def _volume(self, necessity: Sequence[Taken]) -> float:
        """Normalised hypervolume of a control's front, before rescaling."""
        front = self._front(necessity)
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

    def _curves(self, side: SideName, own: Candidate, column: ColumnName) -> list[Curve]:
        """Dose–response on dev, of the strengths that were tried."""
        groups: dict[tuple[Op, int], list[Point]] = {}
        for x in self._points(side, self._member(own, column)):
            groups.setdefault((x.option.op, x.option.k), []).append(x)
        return [
            Curve(
                op=op,
                k=k,
                gated=column == "gated",
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


def _mean(taken: Sequence[Taken]) -> Array:
    """[prompts] mean over budgets."""
    return np.mean([t.effect for t in taken], axis=0)


def _floats(values: Array) -> list[float]:
    return [round(float(v), 7) for v in values]
