"""Protocol v2: from findings to the per-prompt effects that the scores are made of.

Findings, and random controls in their place, go through one procedure (`procedure.py`); what the controls reach is the zero. Formulas and
reasons: docs/protocol.md.
"""

import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...organisms.behaviour import Behaviour
from ...organisms.texts import Texts
from ..cache import Kept
from ..pairs.engine import Side
from ..pairs.interventions import NOTHING, Directions
from ..pairs.pair import Pair
from ..parallel import in_threads
from ..records.control_pack import ControlPack
from ..records.identity import SIDES
from ..records.result import COLUMNS, BySide, Choice, Column, ColumnName, Curve, Samples, SideName, SideSamples
from ..records.settings import NotScorable, Protocol
from .clean_runs import CleanRun
from .controls import NULLS, SCORE_SEED, Controls, Draw, Null, groups
from .intervals import interval, template_weights
from .procedure import DECIMALS, Array, BySides, Candidate, Procedure, Taken, floats, mean_effects
from .prompts import ordinary

SPLITS: tuple[Literal["dev", "test"], ...] = ("dev", "test")


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
        self.pair, self.protocol = pair, protocol
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
        self._procedure = Procedure(self._clean, protocol)
        within = kept.but(**self.read_as) if kept else None
        self.controls = Controls(self._procedure, self._clean, protocol, self.centre, self.closeness, within, shipped)
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
        other.controls = self.controls.of_seed(seed)
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
        return self._procedure.ks(findings)

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
        under = [self.controls.under(directions, ks, i) for i in range(self.protocol.controls if len(own) > 1 else 0)]
        taken, draws = list[BySides](), list[Draw]()
        self.took = []
        progress(0, len(own) + len(under))
        sets = [*([each] for each in own), *groups(under)]
        for some, drawn, seconds in in_threads(self._timed, sets, self.pair.device):
            taken += some
            draws += drawn
            self.took += [seconds / len(some)] * len(some)
            progress(len(taken), len(own) + len(under))
        mine = dict(zip(columns, taken, strict=False))
        plain, mixed = (self.controls.null(kind, ks) for kind in NULLS)
        gated = self.controls.joined(draws) if under else None
        front = self._procedure.front(own[-1], mine[columns[-1]]["necessity"])
        samples = self._samples(
            constant=self._column(mine["constant"], plain),
            gated=self._column(mine["gated"], gated) if gated else None,
            mixture=BySide(**{side: floats(mixed.shares[side]) for side in SIDES}),
            mitigation=[floats(effect) for effect, _ in front],
            mitigation_retention=[kept for _, kept in front],
            mitigation_controls=floats((gated or plain).volumes),
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
            mixture=BySide(sufficiency=floats(none), necessity=floats(none)),
            mitigation=[floats(self.oracle["necessity"])],
            mitigation_retention=[self.retention_off],
            mitigation_controls=floats(none),
        )

    def _samples(self, **measured: Any) -> Samples:
        """What was measured of findings, with what the pair brings to it."""
        return Samples(
            templates=self.templates,
            scored=self.scored.tolist(),
            gap=floats(self.gap.double().numpy()),
            b0=floats(self.b0.double().numpy()),
            b1=floats(self.b1.double().numpy()),
            oracle=BySide(**{side: floats(effect) for side, effect in self.oracle.items()}),
            retention_off=self.retention_off,
            **measured,
        )

    @property
    def retention_off(self) -> float:
        """Capability of the base relative to the organism, at most 1."""
        return self._procedure.retention_off

    def _timed(self, candidates: Sequence[Candidate]) -> tuple[list[BySides], list[Draw], float]:
        """What is kept of each, what those that are random controls do, and the seconds it took."""
        began = time.perf_counter()
        taken = self._procedure.both(candidates)
        draws = [
            self.controls.draw(candidate, each)
            for candidate, each in zip(candidates, taken, strict=True)
            if candidate.random
        ]
        return taken, draws, time.perf_counter() - began

    def _column(self, taken: BySides, null: Null) -> Column:
        effects = mean_effects(taken)
        return Column(
            **{
                side: SideSamples(
                    effect=floats(effects[side]),
                    null=floats(null.mean[side]),
                    null_controls=floats(null.shares[side]),
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
                dev_gain=round(t.point.gain if t.point else 0.0, DECIMALS),
                test_gain=round(self.closeness(t.effect), DECIMALS),
                test_rate=round(t.rate, DECIMALS),
                dev_kl_nats=round(t.point.kl_nats if t.point else 0.0, DECIMALS),
                test_kl_nats=round(t.kl_nats, DECIMALS),
                test_kl_high=round(t.kl_high, DECIMALS),
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
