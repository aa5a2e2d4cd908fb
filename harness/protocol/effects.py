"""Protocol v2: from findings to the per-prompt effects that the scores are made of.

Findings, and random controls in their place, go through one procedure (`procedure.py`); what the controls reach is the zero. Formulas and
reasons: docs/protocol.md.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...organisms.behaviour import Behaviour
from ...organisms.errors import ValidationFailed
from ...organisms.texts import Texts
from ..cache import Kept
from ..pairs.engine import Side
from ..pairs.interventions import NOTHING, Directions, Option
from ..pairs.pair import Pair
from ..parallel import in_threads
from ..records.control_pack import ControlPack
from ..records.identity import SIDES
from ..records.result import COLUMNS, BySide, Choice, Column, ColumnName, Curve, Samples, SideName, SideSamples
from ..records.settings import NotScorable, Protocol
from .clean_runs import CleanRun
from .controls import MIXTURES, NULLS, SCORE_SEED, Draw, Null, control, mixture
from .intervals import hypervolume, interval, template_weights
from .procedure import Array, Candidate, Procedure, Taken
from .prompts import ordinary

SPLITS: tuple[Literal["dev", "test"], ...] = ("dev", "test")
BySides = dict[SideName, list[Taken]]


class Scorer:
    """Scores any findings on one pair; holds the residuals that all findings share.

    Args:
        kept: where what was measured of random controls is kept between runs, for this pair and these prompts; None: nowhere.
        progress: called with (splits measured, of how many).
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
        self.notes = list[str]()
        """What the texts leave to be said, one sentence each."""
        read = list[str]()
        by_choices = behaviour.distance == "choices"
        for i, split in enumerate(SPLITS):
            progress(i, len(SPLITS))
            prompts, probes = behaviour.of(split), behaviour.capability_of(split)
            tokens = protocol.dev_tokens if split == "dev" else protocol.test_tokens
            text = ordinary(pair, texts, prompts, split, tokens)
            if text.held < tokens:
                self.notes.append(
                    f"Collateral on {split} is read on {text.held:,} tokens and not on {tokens:,}: the texts hold no more."
                )
            brief = text.first(protocol.control_tokens) if split == "test" else None
            for side, run in CleanRun.both(pair, prompts, probes, text, by_choices, brief=brief).items():
                self._clean[side, split] = run
            read.append(text.sha256)
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
        p = protocol
        settings = [p.strengths, p.budgets_nats, p.aim, p.scored_gap, p.control_tokens]
        self.read_as = {"settings": settings, "read": read}
        """What a kept control depends on, beside the pair and the prompts."""
        self._kept = kept.but(**self.read_as) if kept else None
        self._procedure = Procedure(self._clean, protocol)
        self._nulls: dict[tuple[str, tuple[int, ...]], Null] = {}
        progress(len(SPLITS), len(SPLITS))

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
        shares: dict[SideName, float] = {side: self.closeness(self.oracle[side]) for side in SIDES}
        low: list[SideName] = [side for side in SIDES if shares[side] < self.protocol.min_oracle]
        if low:
            error = NotScorable(
                f"exchanging the whole residual at layer {self.pair.layer} closes {shares[low[0]]:.2f} of the gap ({low[0]}); at least "
                f"{self.protocol.min_oracle} is needed: hook another layer (field `layer` of the behaviour file)"
            )
            error.oracle = shares
            raise error

    def against(self, seed: int) -> "Scorer":
        """The same measurements beside other random controls."""
        other = copy(self)
        other._seed, other._kept, other._shipped, other._nulls = seed, None, None, {}
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

    def ks(self, findings: int) -> tuple[int, ...]:
        """How many directions interventions may use, of so many."""
        return tuple(sorted({min(k, findings) for k in self.protocol.ks}))

    def score(self, directions: Directions, progress: Callable[[int, int], None] = lambda d, t: None) -> "Scored":
        """Put findings and their random controls through the protocol.

        Args:
            directions: the findings, from `directions`.
            progress: called with (sets done, sets in all).
        """
        directions = directions.head(max(self.protocol.ks))  # a gate on what is never used opens no column
        ks = self.ks(len(directions.direction))
        own = [Candidate(directions, ks, column == "gated") for column in COLUMNS[: 1 + directions.gated]]
        columns = COLUMNS[: len(own)]
        under = [self._under(directions, ks, i) for i in range(self.protocol.controls if len(own) > 1 else 0)]
        taken: list[BySides] = []
        self.took = []
        progress(0, len(own) + len(under))
        for each, seconds in in_threads(self._timed, [*own, *under], self.pair.device):
            taken.append(each)
            self.took.append(seconds)
            progress(len(taken), len(own) + len(under))
        mine = dict(zip(columns, taken, strict=False))
        plain, mixed = (self.null(kind, ks) for kind in NULLS)
        gated = self._null([Draw(_effects(each), 0.0) for each in taken[len(own) :]]) if under else None
        front = self._procedure.front(own[-1], mine[columns[-1]]["necessity"])
        samples = self._samples(
            constant=self._column(mine["constant"], plain),
            gated=self._column(mine["gated"], gated) if gated else None,
            mixture=BySide(**{side: _floats(mixed.shares[side]) for side in SIDES}),
            mitigation=[_floats(effect) for effect, _ in front],
            mitigation_retention=[kept for _, kept in front],
            mitigation_controls=_floats(plain.volumes),
        )
        choices = [c for column in columns for side in SIDES for c in self._choices(column, side, mine[column][side])]
        curves = [c for candidate in own for side in SIDES for c in self._procedure.curves(side, candidate)]
        return Scored(samples, choices, curves)

    def oracle_samples(self) -> Samples:
        """Samples of the oracle anchor: the whole residual exchanged, no budget."""
        n, none = len(self.gap), np.zeros(self.protocol.controls)
        whole: BySides = {side: [Taken(0.0, None, self.oracle[side], 0.0, 0.0, 0.0)] for side in SIDES}
        nothing = Null(dict.fromkeys(SIDES, np.zeros(n)), dict.fromkeys(SIDES, none), none)
        return self._samples(
            constant=self._column(whole, nothing),
            gated=None,
            mixture=BySide(sufficiency=_floats(none), necessity=_floats(none)),
            mitigation=[_floats(self.oracle["necessity"])],
            mitigation_retention=[self.retention_off],
            mitigation_controls=_floats(none),
        )

    def _samples(self, **measured: Any) -> Samples:
        """What was measured of findings, with what the pair brings to it."""
        return Samples(
            templates=self.templates,
            scored=self.scored.tolist(),
            gap=_floats(self.gap.double().numpy()),
            b0=_floats(self.b0.double().numpy()),
            b1=_floats(self.b1.double().numpy()),
            oracle=BySide(**{side: _floats(effect) for side, effect in self.oracle.items()}),
            retention_off=self.retention_off,
            **measured,
        )

    @cached_property
    def retention_off(self) -> float:
        """Capability of the base relative to the organism, at most 1."""
        return self._clean["base", "test"].retention(self._clean["tuned", "test"])

    def null(self, kind: str, ks: tuple[int, ...], progress: Callable[[int], None] = lambda done: None) -> Null:
        """What constant random controls do that may use so many directions: shipped, kept, or measured now.

        Args:
            kind: one of `NULLS`.
            progress: called with the controls done.
        """
        if (kind, ks) not in self._nulls:
            if (known := self._shipped.nulls.get((kind, ks)) if self._shipped else None) is not None:
                self._nulls[kind, ks] = Null.of(known)
            else:
                draws: list[Draw] = []
                for draw in in_threads(
                    lambda i: self._draw(kind, i, ks, {}), range(self.count(kind)), self.pair.device
                ):
                    draws.append(draw)
                    progress(len(draws))
                self._nulls[kind, ks] = self._null(draws)
        return self._nulls[kind, ks]

    def has(self, kind: str, ks: tuple[int, ...]) -> bool:
        """Whether a null is known."""
        return (kind, ks) in self._nulls or (self._shipped is not None and (kind, ks) in self._shipped.nulls)

    def count(self, kind: str) -> int:
        """How many controls of a null are measured here."""
        return min(self.protocol.controls, MIXTURES) if kind == "mixture" else self.protocol.controls

    def nulls(self, ks: tuple[int, ...], progress: Callable[[int, int], None]) -> None:
        """Have every constant null that such findings are compared with."""
        done, total = 0, sum(map(self.count, NULLS))
        for kind in NULLS:
            progress(done, total)
            self.null(kind, ks, lambda some, done=done: progress(done + some, total))
            done += self.count(kind)
        progress(total, total)

    def packed(self, key: Mapping[str, Any]) -> ControlPack:
        """The constant nulls of however many findings, for a file."""
        wanted = self._wanted
        for kind in NULLS:
            draws = partial(self._draws, kind, wanted=wanted)
            each = in_threads(draws, range(self.count(kind)), self.pair.device)
            for ks, of_all in zip(wanted, zip(*each, strict=True), strict=True):
                self._nulls[kind, ks] = self._null(of_all)
        return ControlPack(key, {(kind, ks): self.null(kind, ks).arrays for kind in NULLS for ks in wanted})

    def _draws(self, kind: str, index: int, wanted: Sequence[tuple[int, ...]]) -> list[Draw]:
        """One draw in the place of different numbers of findings; what these have in common is measured once."""
        known: dict[tuple[str, Option], Any] = {}
        return [self._draw(kind, index, ks, known) for ks in wanted]

    def measured_again(self, pack: ControlPack, sample: int) -> tuple[int, float]:
        """How many values of some draws of a file were measured again, and the largest difference; also of the means, which follow from
        the draws.

        Raises:
            ValidationFailed: a null is missing.
        """
        differences = list[float]()
        rng = np.random.default_rng()
        for kind, ks in itertools.product(NULLS, self._wanted):
            if (arrays := pack.nulls.get((kind, ks))) is None:
                raise ValidationFailed(f"the file has no {kind} controls of {max(ks)} findings: build it again")
            known = Null.of(arrays)
            differences += [abs(self.closeness(known.mean[s]) - float(known.shares[s].mean())) for s in SIDES]
            for i in rng.choice(len(known.volumes), min(sample, len(known.volumes)), replace=False).tolist():
                again = self._null([self._measured(kind, i, ks, {})])
                differences += [abs(float(again.shares[s][0] - known.shares[s][i])) for s in SIDES]
                differences += [abs(float(again.volumes[0] - known.volumes[i]))] if kind == "isotropic" else []
        return len(differences), max(differences)

    @property
    def _wanted(self) -> list[tuple[int, ...]]:
        """Every set of numbers of directions that findings may have."""
        return list(dict.fromkeys(map(self.ks, range(1, max(self.protocol.ks) + 1))))

    def _draw(self, kind: str, index: int, ks: tuple[int, ...], known: dict[tuple[str, Option], Any]) -> Draw:
        """What the index-th constant control of a null does, kept or measured."""
        if (draw := Draw.known(self._kept, kind, index, ks)) is None:
            draw = self._measured(kind, index, ks, known)
            draw.keep(self._kept, kind, index, ks)
        return draw

    def _measured(self, kind: str, index: int, ks: tuple[int, ...], known: dict[tuple[str, Option], Any]) -> Draw:
        candidate = Candidate(self._frame(kind, index), ks, random=True, known=known)
        taken = self._both(candidate)
        volume = self._volume(candidate, taken["necessity"]) if kind == "isotropic" else 0.0
        return Draw(_effects(taken), volume)

    def _under(self, directions: Directions, ks: tuple[int, ...], index: int) -> Candidate:
        """The index-th random control under the findings' gates."""
        return Candidate(self._frame("isotropic", index).under(directions), ks, gated=True, random=True)

    def _frame(self, kind: str, index: int) -> Directions:
        """Directions [16, d_model] of a control, without gates."""
        drawn = (
            control(index, self.pair.d_model, self._seed)
            if kind == "isotropic"
            else mixture(index, self._differences, self._seed)
        )
        d = drawn.to(self.pair.device)
        return Directions(d, torch.zeros_like(d), d.new_full((len(d),), -float("inf")), self.centre)

    @cached_property
    def _differences(self) -> Tensor:
        """[tokens, d_model] what fine-tuning changed before each token of dev text, sinks left out."""
        (base, free), (tuned, also) = (self._clean[side, "dev"].read.rows.before() for side in SIDES.values())
        return (tuned - base)[free & also]

    def _null(self, draws: Sequence[Draw]) -> Null:
        mean: dict[SideName, Array] = {side: np.mean([d.effects[side] for d in draws], axis=0) for side in SIDES}
        shares: dict[SideName, Array] = {
            side: np.array([self.closeness(d.effects[side]) for d in draws]) for side in SIDES
        }
        return Null(mean, shares, np.array([d.volume for d in draws]))

    def _timed(self, candidate: Candidate) -> tuple[BySides, float]:
        began = time.perf_counter()
        return self._both(candidate), time.perf_counter() - began

    def _both(self, candidate: Candidate) -> BySides:
        """A set on both sides."""
        return {side: self._procedure.taken(side, candidate) for side in SIDES}

    def _volume(self, candidate: Candidate, necessity: Sequence[Taken]) -> float:
        """Normalised hypervolume of a control's front, before rescaling."""
        front = self._procedure.front(candidate, necessity)
        x, y = np.array([self.closeness(e) for e, _ in front]), np.array([kept for _, kept in front])
        off = float(hypervolume(np.ones(1), np.array([self.retention_off])))
        return min(1.0, float(hypervolume(x, y)) / off) if off else 0.0

    def _column(self, taken: BySides, null: Null) -> Column:
        effects = _effects(taken)
        return Column(
            **{
                side: SideSamples(
                    effect=_floats(effects[side]),
                    null=_floats(null.mean[side]),
                    null_controls=_floats(null.shares[side]),
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


@dataclass(frozen=True)
class Scored:
    """What scoring one set of findings yields."""

    samples: Samples
    choices: list[Choice]
    curves: list[Curve]


def _effects(taken: BySides) -> dict[SideName, Array]:
    """[prompts] mean over budgets of each side."""
    return {side: np.mean([t.effect for t in some], axis=0) for side, some in taken.items()}


def _floats(values: Array) -> list[float]:
    return [round(float(v), 7) for v in values]
