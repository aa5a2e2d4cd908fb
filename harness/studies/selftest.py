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
from scipy.stats import spearmanr, ttest_1samp

from ...methods.baselines import RandomDirections
from ...methods.contract import MAX_FINDINGS, Budget, Finding, Gate, NoConfig
from ...methods.registry import load_method
from ...organisms.registry import load_organism
from ..pairs.interventions import unit
from ..pairs.pair import Pair
from ..parallel import threads
from ..protocol import clean_runs
from ..protocol.controls import SCORE_SEED
from ..protocol.intervals import Array, point, summarise
from ..protocol.prompts import passage
from ..records.result import SCORES, Result, Scores
from ..records.settings import PROTOCOL_V2, Protocol
from ..runs.cell import Cell, run_cell
from ..runs.stage import Stage
from .known_truth import Check, KnownOrganism
from .recomputation import RECOMPUTED, recomputed

ORGANISMS = ("subliminal/fox-narrow", "planted/owl-strong")
"""A behaviour on the smallest base, and a planted truth."""
REDUCED = PROTOCOL_V2.model_copy(
    update={"controls": 8, "strengths": (0.27, 0.9), "dev_tokens": 100, "test_tokens": 200, "draws": 2000}
)
"""Protocol v1 with half the controls, two of five strengths and less neutral text: what runs without `--full`."""
MINIMAL: dict[str, Any] = {"controls": 1, "ks": (1, 3), "strengths": (0.5,)}
"""What is left of the protocol where only equality is asked for."""
RANDOMS = 8
"""Seeds of `random`."""
LEVELS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Length of the noise added to a truth of length 1."""
RETESTS = (1, 2)
"""Seeds of other random controls."""
ALWAYS = -1e9
"""Threshold of a gate that is open on every token."""
EXACT, SAME, CLOSE = 1e-6, 1e-5, 1e-3
"""Largest differences of what is equal by construction, by another order of additions, and by another precision."""


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
    """`reduced` or `v1`."""
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
        full: protocol v1 whole and more seeds, instead of the reduced protocol.
        progress: called with what is being looked at.
        protocol: another protocol still; for tests.

    Raises:
        NotScorable: an organism on which there is nothing to measure. UsageError: no such organism.
    """
    start, checks, noise = time.perf_counter(), list[Check](), list[Noisy]()
    for name in organisms:
        chosen = protocol or (PROTOCOL_V2 if full else REDUCED)
        known = KnownOrganism(Stage.load(load_organism(name), "cpu", chosen), 8 if full else 5, clone)
        for look in CHECKS:
            progress(f"{name}: {look.__name__.strip('_').replace('_', ' ')}")
            checks += look(known)
        progress(f"{name}: noise")
        own = _noise(known)
        checks.append(_monotone(known, own))
        noise += own
    return Report("v1" if full else "reduced", checks, noise, round(time.perf_counter() - start, 1))


def _oracle(s: KnownOrganism) -> Iterator[Check]:
    """Exchanging the whole residual is 1 by definition; that it carries the behaviour is not."""
    samples = s.stage.scorer.oracle_samples()
    scores = summarise(samples, s.protocol.draws, SCORE_SEED, controls_ran=False)
    yield from (s.score(f"oracle: {name}", getattr(scores, name), 1 - EXACT, 1 + EXACT) for name in SCORES)
    for side in ("sufficiency", "necessity"):
        yield s.check(f"oracle: share of the gap, {side}", getattr(scores, side).anchors.oracle, 0.8, 1.2)


def _truth(s: KnownOrganism) -> Iterator[Check]:
    """The truth where it belongs, and what the instrument reports of it computed again by other means."""
    yield s.score("truth: isolation", s.summary([s.truth]).isolation, 0.9 if s.planted else 0.3)
    scored = s.scored([s.plain])
    for side in ("sufficiency", "necessity"):
        reported = np.array(getattr(scored.samples, side)[:RECOMPUTED])
        again = recomputed(s, [c for c in scored.choices if c.side == side])
        worst = float(np.abs(reported - again).max())
        yield s.check(f"truth: {side} against a plain hook, largest difference", worst, at_most=1e-4)


def _random(s: KnownOrganism) -> Iterator[Check]:
    """What a method scores that found nothing, each seed against random controls of its own.

    Controls that all seeds share would make the mean as noisy as those few controls are; seeds with their own are independent,
    and Student's interval over them holds.
    """
    d, scorer = s.stage.pair.d_model, s.scorer(controls=4)
    found = [RandomDirections(NoConfig()).diff(_Seeded(seed, d)).findings for seed in range(RANDOMS)]  # pyright: ignore[reportArgumentType]
    samples = [s.scored(f, 100 + seed, scorer).samples for seed, f in enumerate(found)]
    for side in ("sufficiency", "necessity"):
        values = np.array([getattr(point(x), side)[0] for x in samples])
        low, high = map(float, ttest_1samp(values, 0.0).confidence_interval())
        looked = s.check(f"random: {side}, mean of {RANDOMS} seeds", float(values.mean()), -0.1, 0.1, (low, high))
        yield replace(looked, expected=f"{looked.expected}, 0 inside", ok=looked.ok and low <= 0 <= high)
    yield s.check("random: isolation, mean", float(np.mean([point(x).isolation for x in samples])), at_most=0.1)
    spread = np.std(samples[0].necessity_controls, axis=0).mean()
    yield s.check("random controls: spread of their effects", float(spread), at_least=EXACT)


def _nothing_true(s: KnownOrganism) -> Iterator[Check]:
    """The opposite of the truth, labels of another behaviour, and no direction at all."""
    anti = s.summary([Finding(-s.truth.direction)])
    yield s.score("anti-oracle: sufficiency", anti.sufficiency, at_most=0)
    yield s.score("anti-oracle: isolation", anti.isolation, at_most=0)
    rotated = [
        p
        if p.split == "test" or not p.alternatives
        else p.model_copy(update={"targets": p.alternatives[:1], "alternatives": (*p.alternatives[1:], *p.targets)})
        for p in s.stage.organism.behaviour.prompts
    ]
    permuted = s.summary([s.plain], scorer=s.scorer(prompts=rotated))
    yield s.score("permuted dev labels: sufficiency", permuted.sufficiency, at_most=0.1)
    yield s.score("permuted dev labels: isolation", permuted.isolation, at_most=0.1)
    zero = s.scored([Finding(torch.zeros(s.stage.pair.d_model))]).samples
    effect = max(float(np.abs(zero.sufficiency).max()), float(np.abs(zero.necessity).max()))
    yield s.check("zero direction: largest effect", effect, 0, 0)
    yield s.check("zero direction: isolation", float(point(zero).isolation[0]), at_most=0)


def _no_reward(s: KnownOrganism) -> Iterator[Check]:
    """Findings that are active everywhere, that add up everything, or that say one thing often."""
    d = s.stage.pair.d_model
    always = Gate(torch.zeros(d), ALWAYS)
    rows = [s.noise(1000 + i) for i in range(MAX_FINDINGS)]
    every = s.summary([Finding(r, always) for r in rows])
    yield s.score("16 random directions, always active: isolation", every.isolation, at_most=0.1)
    total = s.summary([Finding(torch.stack(rows).sum(0))])
    yield s.score("the sum of 16 random directions: isolation", total.isolation, at_most=0.1)
    ids = passage(s.stage.pair, s.stage.texts.rows("neutral", "dev"), s.protocol.dev_tokens).ids
    mean = s.stage.pair.residuals(ids, "base")[:, 1:].mean((0, 1))
    yield s.score("the base's mean residual: isolation", s.summary([Finding(mean)]).isolation, at_most=0.1)
    one, open_gate = s.summary([s.plain]), s.summary([Finding(s.truth.direction, always)])
    yield s.check("a gate that is always open: gain", _gain(open_gate, one), at_most=EXACT)
    many = s.summary([s.plain] * MAX_FINDINGS)
    yield s.check("16 copies of a finding: gain", _gain(many, one), at_most=EXACT)
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
        yield differs("batch size", values(), SAME)
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
        again = s.summary(finding, seed).isolation.value
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
    _random,
    _nothing_true,
    _no_reward,
    _invariance,
    _retest,
)


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


def _gain(other: Scores, one: Scores) -> float:
    """Largest advantage of one set of scores over another."""
    gains = [getattr(other, name).value - getattr(one, name).value for name in SCORES]
    return float(max(gains))


@contextlib.contextmanager
def _batches_of(tokens: int) -> Generator[None, None, None]:
    """Forward passes of at most `tokens` tokens inside the block."""
    usual, clean_runs.TOKENS = clean_runs.TOKENS, tokens
    try:
        yield
    finally:
        clean_runs.TOKENS = usual
