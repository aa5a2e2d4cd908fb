"""False discovery: what findings do on a pair in which nothing was hidden, beside random directions in their place.

The one idea: a null's behaviour is a sample of six other families' prompts, so whatever a finding moves there is a claim about a
behaviour that the organism does not have. Each finding alone goes through one procedure (ladder on dev, the best option under each
KL budget, measured on test), and so does every control: an isotropic direction under the finding's gate. The p-value of the
finding is its rank among the controls. The null hypothesis and what it leaves out: docs/protocol.md.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor

from ...methods.contract import Finding
from ...organisms.behaviour import Behaviour
from ...organisms.texts import Texts
from ..cache import Kept
from ..pairs.engine import SIDES, Side
from ..pairs.interventions import Directions, Edits, Move, movement, unit
from ..pairs.pair import Pair
from ..parallel import in_threads
from ..records.result import ALPHA, FalseDiscovery
from ..records.settings import Protocol
from .clean_runs import CleanRun
from .controls import groups
from .procedure import within
from .prompts import ordinary

CONTROLS, TOP, ENOUGH = 39, 10, 3
"""Most random controls of a finding, findings that are tested, and after how many stronger controls a finding's test ends."""
EVERY = 2
"""Every second prompt of the panel is used."""


KIND, VERSION = "false-discovery", "2"
"""Of what is kept of a control. The version is that of the procedure: change it whenever its numbers change."""


class Aim(NamedTuple):
    """One way to push: only where the gate is open, or everywhere, and how far in mean residual norms of neutral dev text."""

    gated: bool
    strength: float


class Rung(NamedTuple):
    """What one way to push does on dev."""

    kl_nats: float
    """Collateral that it should have."""
    effect: float


Ladder = dict[Aim, Rung]


class Everywhere(NamedTuple):
    """What a direction does without a gate, on one side: of a control it is the same for every finding."""

    ladder: Ladder
    test: dict[Aim, float]
    """Effect on test of those that a budget chooses."""

    @property
    def facts(self) -> tuple[list[Any], list[Any]]:
        """For a file."""
        return [*self.ladder.items()], [*self.test.items()]

    @classmethod
    def of(cls, ladder: Sequence[Any], test: Sequence[Any]) -> "Everywhere":
        """As a file has it."""
        return cls({Aim(*aim): Rung(*rung) for aim, rung in ladder}, {Aim(*aim): effect for aim, effect in test})


OfSides = dict[Side, Everywhere]


class Panel:
    """The prompts of a null on both sides and splits, and the controls that all cells on it share.

    Args:
        kept: see `Scorer`.
    """

    def __init__(
        self,
        pair: Pair,
        behaviour: Behaviour,
        texts: Texts,
        protocol: Protocol,
        controls: int = CONTROLS,
        kept: Kept | None = None,
    ):
        self.pair, self.protocol = pair, protocol
        text = ordinary(pair, texts, behaviour.prompts, "dev", protocol.dev_tokens)
        dev, test = (behaviour.of(split)[::EVERY] for split in ("dev", "test"))
        first = CleanRun.both(pair, dev, [], text)
        self._clean = {(side, "dev"): run for side, run in first.items()}
        self._clean |= {(side, "test"): run for side, run in CleanRun.both(pair, test, [], first).items()}
        self._scale = {side: self._clean[side, "dev"].scale for side in SIDES}
        ladder = [protocol.strengths, protocol.budgets_nats, protocol.aim]
        self._kept = kept.but(ladder=ladder, read=text.sha256) if kept else None
        self._controls = torch.stack([self._random(i) for i in range(controls)])
        """[controls, d_model] unit directions."""
        self._known: list[OfSides] = []
        """What each does everywhere, once it is measured."""

    @property
    def gap(self) -> float:
        """Largest distance of the two models on a test prompt."""
        return float(self._clean["base", "test"].gap.max())

    def test(
        self, findings: Sequence[Finding], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> FalseDiscovery:
        """p-values of the first findings, each alone, and the share of false discoveries."""
        some = Directions.of(findings[:TOP], self.pair.device)
        blocks = [] if self._known else groups(range(len(self._controls)))
        total = len(blocks) + len(some.direction)
        known: list[OfSides] = []
        for done, measured in enumerate(in_threads(self._block, blocks, self.pair.device), 1):
            known += measured
            progress(done, total)
        self._known = self._known or known
        tests: list[tuple[float, float]] = []
        for tested in in_threads(lambda j: self._test(some, j), range(len(some.direction)), self.pair.device):
            tests.append(tested)
            progress(len(blocks) + len(tests), total)
        effects, p = map(list, zip(*tests, strict=True))
        n = len(self._controls)
        share = binomtest(sum(x < ALPHA for x in p), len(p))
        interval = share.proportion_ci(method="exact")
        return FalseDiscovery(
            effects=[round(e, 7) for e in effects],
            p=p,
            share=float(share.statistic),
            ci_low=float(interval.low),
            ci_high=float(interval.high),
            expected=(math.ceil(ALPHA * (n + 1)) - 1) / (n + 1),
            controls=n,
            p_min=1 / (n + 1),
        )

    def _test(self, findings: Directions, j: int) -> tuple[float, float]:
        """Effect of the j-th finding and its p-value: sequential Monte Carlo (Besag & Clifford 1991), which is as valid as a full one.

        Findings start at different controls, so that their p-values share few of them.
        """
        gate = Directions(findings.direction[[j]], findings.read[[j]], findings.threshold[[j]])
        [effect] = self._effects(gate.direction, gate, self._everywhere(gate.direction))
        stronger, done, n = 0, 0, len(self._controls)
        start = j * n // TOP
        for some in groups([*range(start, n), *range(start)]):
            for other in self._effects(self._controls[list(some)], gate, [self._known[i] for i in some]):
                stronger, done = stronger + (other >= effect), done + 1
                if stronger == ENOUGH:
                    return effect, stronger / done
        return effect, (1 + stronger) / (1 + n)

    def _effects(self, directions: Tensor, gate: Directions, known: Sequence[OfSides]) -> list[float]:
        """Mean over budgets and sides of the effect on test of directions [n, d_model]: the best of everywhere and, with a gate, gated."""
        sides = [self._side(directions, gate, [each[side] for each in known], side) for side in SIDES]
        return [sum(some) / len(SIDES) for some in zip(*sides, strict=True)]

    def _side(self, directions: Tensor, gate: Directions, known: Sequence[Everywhere], side: Side) -> list[float]:
        gated = self._ladders(directions, side, gate) if gate.gated else [Ladder() for _ in known]
        chosen = [self._chosen(each.ladder | more) for each, more in zip(known, gated, strict=True)]
        fresh = [list(dict.fromkeys(a for a in aims if a and a.gated)) for aims in chosen]
        on_test = self._changes(directions, fresh, side, "test", gate)
        return [
            sum((each.test | more)[a] for a in aims if a) / len(aims)
            for each, more, aims in zip(known, on_test, chosen, strict=True)
        ]

    def _block(self, block: Sequence[int]) -> list[OfSides]:
        """What controls do everywhere, kept or measured."""
        if (entry := self._kept.get(KIND, VERSION, block=list(block)) if self._kept else None) is not None:
            return [{side: Everywhere.of(*each[side]) for side in SIDES} for each in entry.facts]
        found = self._everywhere(self._controls[list(block)])
        if self._kept:
            facts = [{side: of.facts for side, of in each.items()} for each in found]
            self._kept.put(KIND, VERSION, facts=facts, block=list(block))
        return found

    def _everywhere(self, directions: Tensor) -> list[OfSides]:
        """What directions [n, d_model] do without a gate."""
        found: dict[Side, list[Everywhere]] = {}
        for side in SIDES:
            ladders = self._ladders(directions, side)
            chosen = [list(dict.fromkeys(a for a in self._chosen(ladder) if a)) for ladder in ladders]
            found[side] = list(map(Everywhere, ladders, self._changes(directions, chosen, side, "test")))
        return [{side: found[side][i] for side in SIDES} for i in range(len(directions))]

    def _ladders(self, directions: Tensor, side: Side, gate: Directions | None = None) -> list[Ladder]:
        """On dev, the strengths of each direction [n, d_model] that cost what a budget allows."""
        p = self.protocol
        climb = [[Aim(gate is not None, s) for s in p.strengths] for _ in directions]
        costs = (
            self._clean[side, "dev"].collateral(self._edits(directions, climb, side, gate)).view(len(directions), -1)
        )
        found = [
            {Aim(gate is not None, s): kl for s, kl in within(p.strengths, of, p.budgets_nats, p.aim).items()}
            for of in costs.tolist()
        ]
        effects = self._changes(directions, [list(some) for some in found], side, "dev", gate)
        return [{a: Rung(kl, e[a]) for a, kl in some.items()} for some, e in zip(found, effects, strict=True)]

    def _chosen(self, ladder: Ladder) -> list[Aim | None]:
        """For each budget what has the largest effect on dev, if anything has one."""
        p = self.protocol
        return [
            max(
                (a for a, rung in ladder.items() if rung.kl_nats <= p.aim * tau and rung.effect > 0),
                key=lambda a: ladder[a].effect,
                default=None,
            )
            for tau in p.budgets_nats
        ]

    def _changes(
        self,
        directions: Tensor,
        aims: Sequence[Sequence[Aim]],
        side: Side,
        split: str,
        gate: Directions | None = None,
    ) -> list[dict[Aim, float]]:
        """Mean |change of rate| over the prompts, for the aims of each direction."""
        run = self._clean[side, split]
        if not any(aims):
            return [{} for _ in aims]
        after = run.behaviour_rates(self._edits(directions, aims, side, gate))
        changes = iter((after - run.rates).abs().double().mean(1).tolist())
        return [{a: next(changes) for a in some} for some in aims]

    def _edits(self, directions: Tensor, aims: Sequence[Sequence[Aim]], side: Side, gate: Directions | None) -> Edits:
        """Directions [n, d_model] added to the base, subtracted from the organism: everywhere, or where a gate is open."""
        each = [Directions.ungated(d[None]) for d in directions]
        under = each if gate is None else [d.under(gate) for d in each]
        moves: list[Move] = [partial(movement, directions=d, op="add", k=1, gated=gate is not None) for d in under]
        length = self._scale[side] if side == "base" else -self._scale[side]
        which = [i for i, some in enumerate(aims) for _ in some]
        return Edits(moves, which, [length * a.strength for some in aims for a in some])

    def _random(self, index: int) -> Tensor:
        """The index-th random unit direction [d_model]."""
        key = hashlib.sha256(f"false discovery {index}".encode()).digest()[:7]  # no method's seed can meet it
        noise = torch.randn(self.pair.d_model, generator=torch.Generator().manual_seed(int.from_bytes(key)))
        return unit(noise).to(self.pair.device)
