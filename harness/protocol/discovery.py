"""False discovery: what findings do on a pair in which nothing was hidden, beside random directions in their place.

The one idea: a null's behaviour is a sample of every other family's prompts, so whatever a finding moves there is a claim about a
behaviour that the organism does not have. Each finding alone goes through one procedure (ladder on dev, the best option under each
KL budget, measured on test), and so does every control: an isotropic direction under the finding's gate. The p-value of the
finding is its rank among the controls. The null hypothesis and what it leaves out: docs/protocol.md.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

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
from .procedure import within
from .prompts import ordinary

CONTROLS, TOP, ENOUGH = 39, 10, 3
"""Most random controls of a finding, findings that are tested, and after how many stronger controls a finding's test ends."""
EVERY = 2
"""Every second prompt of the panel is used."""


class Aim(NamedTuple):
    """One way to push: only where the gate is open, or everywhere, and how far in mean residual norms of neutral dev text."""

    gated: bool
    strength: float


NOTHING = Aim(False, 0.0)


KIND, VERSION = "false-discovery", "1"
"""Of what is kept of a control. The version is that of the procedure: change it whenever its numbers change."""


@dataclass
class _Push:
    """A unit direction [d_model], and what was measured of it without a gate: of a control that is kept between cells and runs.

    Threads may add to one at the same time.
    """

    direction: Tensor
    kept: Kept | None = None
    index: int = 0
    """Which control it is, if it is one."""
    known: dict[tuple[str, float], float] = field(default_factory=dict[tuple[str, float], float])
    """By what was measured and the strength."""

    def __post_init__(self) -> None:
        self.known |= self._on_disk()

    def keep(self) -> None:
        """Write down what is known now, and what another process has added meanwhile."""
        if self.kept is not None:
            self.known |= {at: value for at, value in self._on_disk().items() if at not in self.known}
            facts = [[what, strength, value] for (what, strength), value in list(self.known.items())]
            self.kept.put(KIND, VERSION, facts=facts, index=self.index)

    def _on_disk(self) -> dict[tuple[str, float], float]:
        entry = self.kept.get(KIND, VERSION, index=self.index) if self.kept is not None else None
        return {(what, strength): value for what, strength, value in entry.facts} if entry else {}


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
        kept = kept.but(ladder=ladder, read=text.sha256) if kept else None
        self._controls = [_Push(self._random(i), kept, i) for i in range(controls)]

    @property
    def gap(self) -> float:
        """Largest distance of the two models on a test prompt."""
        return float(self._clean["base", "test"].gap.max())

    def test(
        self, findings: Sequence[Finding], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> FalseDiscovery:
        """p-values of the first findings, each alone, and the share of false discoveries."""
        some = Directions.of(findings[:TOP], self.pair.device)
        tests: list[tuple[float, float]] = []
        for tested in in_threads(lambda j: self._test(some, j), range(len(some.direction)), self.pair.device):
            tests.append(tested)
            progress(len(tests), len(some.direction))
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
        one = Directions(findings.direction[[j]], findings.read[[j]], findings.threshold[[j]])
        effect = self._effect(_Push(one.direction[0]), one)
        stronger = 0
        start = j * len(self._controls) // TOP
        for done, control in enumerate(self._controls[start:] + self._controls[:start], 1):
            stronger += self._effect(control, one) >= effect
            if stronger == ENOUGH:
                return effect, stronger / done
        return effect, (1 + stronger) / (1 + len(self._controls))

    def _effect(self, push: _Push, gate: Directions) -> float:
        """Mean over budgets and sides of the effect on test: the best of everywhere and, with a gate, gated."""
        return sum(self._side(push, gate, side) for side in SIDES) / len(SIDES)

    def _side(self, push: _Push, gate: Directions, side: Side) -> float:
        p, recall = self.protocol, partial(_recall, push)

        def cost(aims: list[Aim]) -> list[float]:
            return self._clean[side, "dev"].collateral(self._edits(push, aims, gate, side)).tolist()

        kl: dict[Aim, float] = {}
        for gated in (False, True) if gate.gated else (False,):
            climb = [Aim(gated, s) for s in p.strengths]
            costs = recall(f"{side} cost", climb, cost)
            found = within(p.strengths, [costs[a] for a in climb], p.budgets_nats, p.aim)
            kl |= {Aim(gated, s): nats for s, nats in found.items()}
        dev = recall(f"{side} dev", list(kl), lambda aims: self._changes(push, aims, gate, side, "dev"))
        chosen: list[Aim] = []
        for tau in p.budgets_nats:
            allowed = [a for a in kl if kl[a] <= p.aim * tau and dev[a] > 0]
            chosen.append(max(allowed, key=lambda a: dev[a], default=NOTHING))
        aims = list(dict.fromkeys(a for a in chosen if a != NOTHING))
        test = recall(f"{side} test", aims, lambda some: self._changes(push, some, gate, side, "test"))
        return sum(test.get(a, 0.0) for a in chosen) / len(chosen)

    def _changes(self, push: _Push, aims: list[Aim], gate: Directions, side: Side, split: str) -> list[float]:
        """Mean |change of rate| over the prompts."""
        if not aims:
            return []
        clean_run = self._clean[side, split]
        after = clean_run.behaviour_rates(self._edits(push, aims, gate, side))
        return (after - clean_run.rates).abs().double().mean(1).tolist()

    def _edits(self, push: _Push, aims: list[Aim], gate: Directions, side: Side) -> Edits:
        """Added to the base, subtracted from the organism."""
        under = Directions(push.direction[None], gate.read, gate.threshold)
        moves: list[Move] = [partial(movement, directions=under, op="add", k=1, gated=g) for g in (False, True)]
        length = self._scale[side] if side == "base" else -self._scale[side]
        return Edits(moves, [int(a.gated) for a in aims], [length * a.strength for a in aims])

    def _random(self, index: int) -> Tensor:
        """The index-th random unit direction [d_model]."""
        key = hashlib.sha256(f"false discovery {index}".encode()).digest()[:7]  # no method's seed can meet it
        noise = torch.randn(self.pair.d_model, generator=torch.Generator().manual_seed(int.from_bytes(key)))
        return unit(noise).to(self.pair.device)


def _recall(
    push: _Push, what: str, aims: Sequence[Aim], measure: Callable[[list[Aim]], Sequence[float]]
) -> dict[Aim, float]:
    """`measure(aims)`, of which those without a gate are measured once, each in a batch that nothing else has a say in."""
    plain = [a for a in aims if not a.gated and (what, a.strength) not in push.known]
    for a in plain:
        push.known[what, a.strength] = measure([a])[0]
    if plain:
        push.keep()
    gated = [a for a in aims if a.gated]
    fresh = dict(zip(gated, measure(gated) if gated else (), strict=True))
    return {a: fresh[a] if a.gated else push.known[what, a.strength] for a in aims}
