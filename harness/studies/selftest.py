"""`bench selftest`: the instrument measures what it says, tried on organisms whose right answers are known beforehand.

The idea: every check names what a sound scoring protocol must answer (anchors at their places, nothing won by trickery, less
score for less truth, the same score whatever the batch size, threads, precision or scale) before anything is measured, and a
check that is not met fails. The truth is the direction a planted adapter writes, or the `supervised` anchor on other organisms.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from scipy.stats import spearmanr, ttest_ind

from ...methods.baselines import RandomDirections
from ...methods.contract import MAX_FINDINGS, Budget, Finding, Gate, NoConfig
from ...methods.registry import load_method
from ...organisms.registry import load_organism
from ..pairs.interventions import unit
from ..pairs.pair import Pair
from ..parallel import threads
from ..protocol import edited_rows
from ..protocol.controls import SCORE_SEED
from ..protocol.intervals import Array, harmonic, normalised, point, summarise
from ..records.identity import SIDES
from ..records.result import SCORES, Result, Scores
from ..records.settings import PROTOCOL_V2, Protocol
from ..runs.cell import Cell, run_cell
from ..runs.stage import Stage
from .known_truth import Check, KnownOrganism, check
from .recomputation import RECOMPUTED, recomputed

ORGANISMS = ("subliminal/fox-narrow", "planted/owl-strong")
"""A behaviour on the smallest base, and a planted truth."""
NULL = "null/base-identical"
"""An adapter that changes nothing."""
REDUCED = PROTOCOL_V2.model_copy(update={"controls": 8, "draws": 2000})
"""Protocol v2 with half the controls and fewer draws: what runs without `--full`."""
MINIMAL: dict[str, Any] = {"controls": 3, "ks": (1, 3), "dev_tokens": 100, "test_tokens": 100}
"""What is left of the protocol where only equality is asked for."""
RANDOMS = 16
"""Seeds of `random`."""
LEVELS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Length of the noise added to a truth of length 1."""
DOSES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Strengths of the truth, the best one that is within a budget being 1."""
RETESTS = (1, 2)
"""Seeds of other random controls."""
CANDIDATES = 200
"""Random directions of which a method may keep the one that `divergence` likes best."""
ALWAYS = -1e9
"""Threshold of a gate that is open on every token."""
EXACT, SAME, CLOSE, FREE = 1e-6, 1e-5, 1e-3, 0.02
"""Largest differences of what is equal by construction, by the same arithmetic, and by another (the last digit of a strength may differ);
and the largest gain of a trick."""


@dataclass(frozen=True)
class Noisy:
    """Isolation of a truth with noise added."""

    organism: str
    level: float
    """Length of the noise, that of the truth being 1."""
    seed: int
    cosine: float
    isolation: float


@dataclass(frozen=True)
class Report:
    """Every check of one run."""

    protocol: str
    """`reduced` or `v2`."""
    checks: list[Check]
    noise: list[Noisy]
    wall_s: float

    @property
    def failed(self) -> list[Check]:
        """Checks that are not met."""
        return [c for c in self.checks if not c.ok]

    def data(self) -> dict[str, Any]:
        """As JSON."""
        return {"ok": not self.failed, **asdict(self)}


def selftest(
    clone: Callable[[Sequence[Result]], float],
    organisms: Sequence[str] = ORGANISMS,
    full: bool = False,
    progress: Callable[[str], None] = lambda what: None,
    protocol: Protocol | None = None,
) -> Report:
    """Every check on every organism.

    Args:
        clone: see `KnownOrganism.clone`; tables are not the harness's business.
        full: protocol v2 whole and more seeds, instead of the reduced protocol.
        progress: called with what is being looked at.
        protocol: another protocol still; for tests.

    Raises:
        NotScorable: an organism on which there is nothing to measure. UsageError: no such organism.
    """
    start, checks, noise = time.perf_counter(), list[Check](), list[Noisy]()
    chosen = protocol or (PROTOCOL_V2 if full else REDUCED)
    for name in organisms:
        known = KnownOrganism(Stage.load(load_organism(name), "cpu", chosen), 8 if full else 3, clone)
        for look in CHECKS:
            progress(f"{name}: {look.__name__.strip('_').replace('_', ' ')}")
            checks += look(known)
        progress(f"{name}: noise")
        own = _noise(known)
        checks.append(_monotone(known, own))
        noise += own
    progress(f"{NULL}: nothing to find")
    checks += _nothing_there(chosen)
    return Report("v2" if full else "reduced", checks, noise, round(time.perf_counter() - start, 1))


def _oracle(s: KnownOrganism) -> Iterator[Check]:
    """Exchanging the whole residual is 1 by definition; that it carries the behaviour is not."""
    samples = s.stage.scorer.oracle_samples()
    scores = summarise(samples, s.protocol.draws, SCORE_SEED, controls_ran=False)
    yield from (s.score(f"oracle: {name}", getattr(scores, name), 1 - EXACT, 1 + EXACT) for name in SCORES)
    for side in SIDES:
        share = getattr(scores, side).anchors.oracle
        yield s.check(f"oracle: share of the gap, {side}", share, s.protocol.min_oracle, 1 + EXACT)


def _truth(s: KnownOrganism) -> Iterator[Check]:
    """The truth where it belongs, and what the instrument reports of it computed again by other means."""
    yield s.score("truth: isolation", s.summary([s.plain]).isolation, 0.6 if s.planted else 0.3)
    yield s.score("truth under its gate: isolation", s.summary([s.truth]).isolation, 0.6 if s.planted else 0.3)
    scored = s.scored([s.plain])
    for side in SIDES:
        reported = np.array(getattr(scored.samples.constant, side).effect[:RECOMPUTED])
        again = recomputed(s, [c for c in scored.choices if c.side == side])
        worst = float(np.abs(reported - again).max())
        yield s.check(f"truth: {side} against a plain hook, largest difference", worst, at_most=1e-4)


def _dose(s: KnownOrganism) -> Iterator[Check]:
    """Beyond the other model is as far from it as before it: more of the truth is first better, then worse."""
    (added,) = (c for c in s.scored([s.plain]).curves if c.op == "add")
    best = max(zip(added.gain, added.strengths, strict=True))[1]
    near = [s.closeness(s.plain, "sufficiency", "add", dose * best) for dose in DOSES]
    top = max(near)
    yield s.check("dose: share of the gap closed at a quarter, less than at best by", top - near[0], at_least=0.1)
    yield s.check("dose: share of the gap closed at four times, less than at best by", top - near[-1], at_least=0.01)


def _random(s: KnownOrganism) -> Iterator[Check]:
    """What a method scores that found nothing: its seeds and the controls are draws of one distribution, so Welch's interval of the
    difference of their means holds 0 (99 %, because many are looked at)."""
    d, scorer = s.stage.pair.d_model, s.stage.scorer
    found = [RandomDirections(NoConfig()).diff(_Seeded(seed, d)).findings for seed in range(RANDOMS)]  # pyright: ignore[reportArgumentType]
    samples = [s.scored(f).samples for f in found]
    for side, effect in scorer.oracle.items():
        theirs = np.array(getattr(samples[0].constant, side).null_controls)
        own = np.array([scorer.closeness(np.array(getattr(x.constant, side).effect)) for x in samples])
        low, high = map(float, ttest_ind(own, theirs, equal_var=False).confidence_interval(0.99))
        scale = scorer.closeness(effect) - max(0.0, float(theirs.mean()))
        value = float(own.mean() - theirs.mean()) / scale
        looked = s.check(f"random: {side}, mean of {RANDOMS} seeds", value, -0.2, 0.2, (low / scale, high / scale))
        yield replace(looked, expected=f"{looked.expected}, 0 inside", ok=looked.ok and low <= 0 <= high)
    yield s.check("random: isolation, mean", float(np.mean([point(x).isolation for x in samples])), at_most=0.2)
    spread = np.std(samples[0].constant.necessity.null_controls)
    yield s.check("random controls: spread of their effects", float(spread), at_least=EXACT)


def _nothing_true(s: KnownOrganism) -> Iterator[Check]:
    """The opposite of the truth, and no direction at all."""
    for what, finding in (("truth", s.plain), ("mean difference", s.difference)):
        opposite = s.summary([Finding(-finding.direction)])
        for name in ("isolation", *SIDES):
            yield s.score(f"the opposite of the {what}: {name}", getattr(opposite, name), at_most=FREE)
    zero = s.scored([Finding(torch.zeros(s.stage.pair.d_model))]).samples
    effect = max(float(np.abs(getattr(zero.constant, side).effect).max()) for side in SIDES)
    yield s.check("zero direction: largest effect", effect, 0, 0)
    yield s.check("zero direction: isolation", float(point(zero).isolation[0]), at_most=0)


def _no_reward(s: KnownOrganism) -> Iterator[Check]:
    """One finding said otherwise: often, with its opposite, under a gate that is always open or means no more than chat."""
    d = s.stage.pair.d_model
    always, mine = Gate(torch.zeros(d), ALWAYS), s.difference.direction
    one = s.summary([s.difference])
    tricks = {
        "16 copies of a finding": [s.difference] * MAX_FINDINGS,
        "a finding, its opposite, itself": [s.difference, Finding(-mine), s.difference],
        "a gate that is always open": [Finding(mine, always)],
    }
    for what, findings in tricks.items():
        yield s.check(f"{what}: gain", _gain(s.summary(findings), one, SCORES), at_most=FREE)
    chat = s.summary([Finding(mine, s.chat_gate)])
    yield s.check("a gate that means chat: gain", _gain(chat, one, ("isolation",)), at_most=FREE)
    rows = [s.noise(1000 + i) for i in range(MAX_FINDINGS)]
    neutral, _ = s.harvest
    blind = {
        "16 random directions, always active": [Finding(r, always) for r in rows],
        "16 random directions under a gate that means chat": [Finding(r, s.chat_gate) for r in rows],
        "the sum of 16 random directions": [Finding(torch.stack(rows).sum(0))],
        "the base's mean residual": [Finding(neutral[:, 0].mean(0))],
        f"the best of {CANDIDATES} random directions by divergence": [s.most_divergent(CANDIDATES)],
    }
    for what, findings in blind.items():
        found = s.summary(findings)
        yield s.score(f"{what}: isolation", found.isolation, at_most=max(FREE, round(_mixed(found), 3)))
    cells = [
        Cell(
            s.stage.organism,
            load_method(m),
            load_method(m).config_class(),
            0,
            protocol=s.protocol,
            budget=Budget(tokens=2000),
        )
        for m in ("random", "mean_diff")
    ]
    yield s.check(
        "a copy of a method: largest change of a table",
        s.clone([run_cell(c, s.stage).result for c in cells]),
        at_most=0,
    )


def _invariance(s: KnownOrganism) -> Iterator[Check]:
    """The same findings, computed in other ways."""
    findings = [
        s.plain,
        s.noisy(1.0, 0),
        Finding(s.noise(1), s.truth.gate),
    ]  # a gated truth is 1 however hard it is pushed

    def values(some: Sequence[Finding] = findings, pair: Pair | None = None) -> Array:
        return np.concatenate(point(s.scored(some, scorer=s.scorer(pair, **MINIMAL)).samples))

    usual = values()

    def differs(what: str, other: Array, at_most: float) -> Check:
        return s.check(f"invariance to {what}: largest difference", float(np.abs(other - usual).max()), at_most=at_most)

    with _batches_of(128):
        yield differs("batch size", values(), CLOSE)
    with threads(1 if torch.get_num_threads() > 1 else 2):
        yield differs("threads", values(), SAME)
    scaled = [Finding(f.direction * 1000, f.gate and Gate(f.gate.read * 7, f.gate.threshold * 7)) for f in findings]
    yield differs("a finding's scale", values(scaled), SAME)
    double = Stage.load(s.stage.organism, "cpu", s.protocol).pair
    double.double()
    yield differs("precision (float64 blocks)", values(pair=double), CLOSE)


def _retest(s: KnownOrganism) -> Iterator[Check]:
    """The same finding against other random controls."""
    finding = [s.noisy(1.0, 0)]
    first = s.summary(finding).isolation
    for seed in RETESTS:
        again = s.summary(finding, s.stage.scorer.against(seed)).isolation.value
        difference = None if again is None or first.value is None else abs(again - first.value)
        bound = 0.0 if first.ci_low is None or first.ci_high is None else first.ci_high - first.ci_low
        yield s.check(
            f"test–retest, control seed {seed}: |difference| of isolation",
            difference,
            at_most=round(max(bound, EXACT), 6),
        )


CHECKS: tuple[Callable[[KnownOrganism], Iterator[Check]], ...] = (
    _oracle,
    _truth,
    _dose,
    _random,
    _nothing_true,
    _no_reward,
    _invariance,
    _retest,
)


def _nothing_there(protocol: Protocol) -> Iterator[Check]:
    """An organism that is its base: nothing to score, and nothing that a finding could be wrong about more often than by chance."""
    stage = Stage.load(load_organism(NULL), "cpu", protocol)
    found = RandomDirections(NoConfig()).diff(_Seeded(0, stage.pair.d_model)).findings  # pyright: ignore[reportArgumentType]
    assert stage.panel is not None
    yield check("10 random findings: share of false discoveries", NULL, stage.panel.test(found).share, at_most=0.2)
    yield check("a model against itself: largest gap", NULL, stage.panel.gap, 0, 0)


def _noise(s: KnownOrganism) -> list[Noisy]:
    """Isolation at every level and seed of noise."""
    found: list[Noisy] = []
    for level in LEVELS:
        for seed in range(s.seeds if level else 1):
            finding = s.noisy(level, seed)
            cosine = float(unit(finding.direction) @ s.truth.direction)
            isolation = float(point(s.scored([finding]).samples).isolation[0])
            found.append(Noisy(s.stage.organism.name, level, seed, round(cosine, 4), round(isolation, 4)))
    return found


def _monotone(s: KnownOrganism, noise: Sequence[Noisy]) -> Check:
    means = [np.mean([n.isolation for n in noise if n.level == level]) for level in LEVELS]
    found = cast(Any, spearmanr(LEVELS, means))
    return s.check("monotonicity: Spearman of noise and isolation", float(found.statistic), at_most=-0.8)


@dataclass(frozen=True)
class _Seeded:
    """All of a diff problem that `random` looks at."""

    seed: int
    d_model: int


def _gain(other: Scores, one: Scores, names: Sequence[str]) -> float:
    """Largest advantage of one set of scores over another."""
    gains = [getattr(other, name).value - getattr(one, name).value for name in names]
    return float(max(gains))


def _mixed(scores: Scores) -> float:
    """Isolation of mixtures of the models' differences."""
    at = [getattr(scores, side).anchors for side in SIDES]
    s, n = (normalised(*(np.array([x]) for x in (a.mixture, a.null, a.oracle))) for a in at)
    return float(np.nan_to_num(harmonic(s, n))[0])


@contextlib.contextmanager
def _batches_of(tokens: int) -> Generator[None, None, None]:
    """Forward passes of at most `tokens` tokens inside the block."""
    usual, edited_rows.TOKENS = edited_rows.TOKENS, tokens
    try:
        yield
    finally:
        edited_rows.TOKENS = usual
