"""What in a record follows from other parts of it: an edit that is not made everywhere contradicts itself.

The id covers the identity and not the outcome, so nothing here needs a model: scores, intervals and p-values are drawn again from the
samples, and every number that is a function of others is computed once more. What a record alone cannot show: docs/protocol.md.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from scipy.special import betaincinv

from ...methods.catalogue import BUILTIN
from ..records.identity import CUSTOM, PROTOCOL_SHA256, PROTOCOL_VERSION, SIDES
from ..records.result import ALPHA, DRAWS, SCORES, Column, FalseDiscovery, Identification, Localisation, Result, Samples
from .intervals import summarise

TOLERANCE = 1e-6
"""Largest difference between a recorded number and the one that follows (float summation order, samples of seven digits)."""
LOOSE = 1e-5
"""The same where single precision was used on the way."""
INTERVAL = ("ci_low", "ci_high")
TIE = 1e-9
"""Draws of a score that are no farther from it than this tie with it: which side they fall on is rounding."""
MOST = 4096
"""Most prompts and controls of a record, so that drawing its intervals again takes a bounded amount of memory."""


def fault(result: Result, redraw: bool = True) -> str | None:
    """The first contradiction in a record, or None.

    Args:
        redraw: draw the intervals again, which is most of the work; nothing else depends on it.
    """
    return next(_faults(result, redraw), None)


def counted(result: Result) -> int:
    """How many findings a record says were scored."""
    findings = result.diagnostics.get("findings")
    return len(cast(list[Any], findings)) if isinstance(findings, list) else 0


def _faults(result: Result, redraw: bool) -> Iterator[str]:
    yield from identity_faults(result)
    yield from _findings(result)
    if result.scores is not None and result.samples is not None:
        if not _well_shaped(result.samples):
            yield f"per-prompt samples have unequal lengths, or more than {MOST}: the record was edited or damaged; run the cell again"
            return
        yield from _possible(result.samples)
        yield from _scores(result, result.samples, redraw)
        yield from _behaviour(result, result.samples)
    if result.false_discovery is not None:
        yield from _false_discovery(result.false_discovery, counted(result))
    if result.localisation is not None:
        yield from _localisation(result.localisation)
    if result.identification is not None:
        yield from _identification(result.identification)


def identity_faults(result: Result) -> Iterator[str]:
    """Protocol by name and hash, and what a built-in method's name implies."""
    i = result.identity
    if (i.protocol == PROTOCOL_VERSION) != (i.protocol_sha256 == PROTOCOL_SHA256):
        yield (
            f"protocol {i.protocol!r} with settings {i.protocol_sha256[:12]}: {PROTOCOL_VERSION} is {PROTOCOL_SHA256[:12]} and no other"
        )
    elif i.protocol not in (PROTOCOL_VERSION, CUSTOM):
        yield f"protocol {i.protocol!r} is none of this diffbench's ({PROTOCOL_VERSION}, {CUSTOM}); use the version that made the record"
    if (known := BUILTIN.get(i.method)) is None:
        return
    if i.access != known.access:
        yield f"access is {i.access!r}, but {i.method} is built in and has {known.access!r}: the record was edited"
    if result.provenance.stochastic not in (None, known.stochastic):
        draws = "draws from its seed" if known.stochastic else "draws nothing"
        yield f"provenance.stochastic is {result.provenance.stochastic}, but {i.method} is built in and {draws}: the record was edited"
    if i.method_version != result.provenance.diffbench:
        yield (
            f"method_version is {i.method_version!r}, but {i.method} is built in and came with diffbench "
            f"{result.provenance.diffbench}: the record was edited"
        )


def _findings(result: Result) -> Iterator[str]:
    """Counts of findings, readings, choices and curves."""
    n, oracle = counted(result), result.identity.method == "oracle"
    if result.status == "ok" and (n == 0) != oracle:
        yield f"{n} findings were scored, but the method is {result.identity.method}: the oracle has none, all others some"
    if len(result.readings) > n or [r.finding for r in result.readings] != list(range(len(result.readings))):
        yield f"{len(result.readings)} readings are not those of the first of {n} findings"
    for c in result.curves:
        if not len(c.strengths) == len(c.rate) == len(c.gain) == len(c.kl_nats) > 0:
            yield (
                f"a curve ({c.op}, k = {c.k}) has {len(c.strengths)} strengths, {len(c.rate)} rates, {len(c.gain)} gains, "
                f"{len(c.kl_nats)} KLs"
            )


def _columns(samples: Samples) -> list[Column]:
    return [samples.constant, *([samples.gated] if samples.gated else [])]


def _well_shaped(samples: Samples) -> bool:
    """Whether all per-prompt lists have one length, and points and controls match."""
    n, controls = len(samples.gap), len(samples.mitigation_controls)
    sides = [(c, getattr(c, side)) for c in _columns(samples) for side in SIDES]
    under_same_gates = samples.gated or samples.constant
    rows = (
        *(samples.templates, samples.scored, samples.b0, samples.b1),
        *(samples.oracle.sufficiency, samples.oracle.necessity, *samples.mitigation),
        *(row for _, s in sides for row in (s.effect, s.null)),
    )
    return (
        0 < n <= MOST
        and all(len(row) == n for row in rows)
        and all(0 < len(s.null_controls) <= MOST for _, s in sides)
        and all(len(getattr(under_same_gates, side).null_controls) == controls for side in SIDES)
        and 0 < len(samples.mitigation) == len(samples.mitigation_retention) <= MOST
    )


def _possible(samples: Samples) -> Iterator[str]:
    """A distance is a share: an effect starts at the gap and leaves from nothing to all; controls close what their effects do."""
    gap, scored = np.asarray(samples.gap), np.asarray(samples.scored)
    if not (gap[scored] > 0).all() or not scored.any():
        yield "a prompt is scored on which the two models do not differ, or none is: the record was edited"
        return
    effects = {
        f"{c}.{side}.{what}": getattr(getattr(column, side), what)
        for c, column in zip(("constant", "gated"), _columns(samples), strict=False)
        for side in SIDES
        for what in ("effect", "null")
    }
    effects |= {f"oracle.{side}": getattr(samples.oracle, side) for side in SIDES}
    effects |= {f"mitigation.{i}": row for i, row in enumerate(samples.mitigation)}
    for name, effect in effects.items():
        after = gap - np.asarray(effect)
        if after.min() < -TOLERANCE or after.max() > 1 + TOLERANCE:
            worst = after.min() if after.min() < -TOLERANCE else after.max()
            yield f"samples.{name} would leave two models {worst:.4g} apart: the record was edited or damaged"
    for c, column in zip(("constant", "gated"), _columns(samples), strict=False):
        for side in SIDES:
            s = getattr(column, side)
            mean = float(np.asarray(s.null)[scored].sum() / gap[scored].sum())
            if abs(mean - float(np.mean(s.null_controls))) > LOOSE:
                yield f"samples.{c}.{side}: controls close {np.mean(s.null_controls):.6g} of the gap, prompt by prompt {mean:.6g}"


def _scores(result: Result, samples: Samples, redraw: bool) -> Iterator[str]:
    """Scores, intervals and p-values are what the samples give; the ends of an interval only where it is known how often it was drawn."""
    assert result.scores is not None
    redraw = redraw and result.identity.protocol_sha256 == PROTOCOL_SHA256
    draws, seed = DRAWS if redraw else 1, result.identity.seeds["scores"]
    controls_ran = result.identity.method != "oracle"
    try:
        computed = summarise(samples, draws, seed, controls_ran)
    except ValueError:
        yield "its samples give no finite score: the record was edited; run the cell again"
        return
    for name in SCORES:
        score, follows = getattr(result.scores, name), getattr(computed, name)
        recorded, given = _numbers(score), _numbers(follows)
        for field, value in given.items():
            if field in INTERVAL and not redraw:
                continue
            if not _equal(recorded[field], value) and not (
                field in INTERVAL and _tied(samples, seed, name, field, recorded[field], controls_ran)
            ):
                what = name if field == "value" else f"{name}.{field}"
                shown = "none" if value is None else f"{value:.6g}"
                yield (
                    f"{what} is recorded as {recorded[field]} but its samples give {shown}: the record was edited; run the cell again"
                )
        ends = [score.ci_low, score.unclipped, score.ci_high]
        if any((end is None) != (score.value is None) for end in ends):
            yield f"{name} has a value without an interval, or an interval without a value: the record was edited"
        elif (
            score.value is not None
            and not -TOLERANCE <= abs(score.value - max(-1, min(1, score.unclipped))) <= TOLERANCE
        ):
            yield f"{name} is {score.value:.6g}, which is not {score.unclipped:.6g} in [-1, 1]: the record was edited"


def _tied(samples: Samples, seed: int, name: str, field: str, recorded: float | None, controls_ran: bool) -> bool:
    """Whether an end of an interval lies where draws that tie with the score can put it (`shares` counts how many are below it)."""
    low, high = (
        getattr(getattr(summarise(samples, DRAWS, seed, controls_ran, beside), name), field) for beside in (-TIE, TIE)
    )
    return None not in (low, high, recorded) and low - TOLERANCE <= recorded <= high + TOLERANCE


def _numbers(score: Any) -> dict[str, float | None]:
    flat = score.model_dump()
    return {k: v for k, v in flat.items() if k != "anchors"} | {f"anchors.{k}": v for k, v in flat["anchors"].items()}


def _behaviour(result: Result, samples: Samples) -> Iterator[str]:
    """Rates and choices are means of the samples."""
    b = result.behaviour
    assert b is not None
    means = {"b0_test": (b.b0_test, samples.b0), "b1_test": (b.b1_test, samples.b1)}
    for name, (recorded, values) in means.items():
        if not _equal(recorded, float(np.mean(values))):
            yield f"behaviour.{name} is recorded as {recorded} but its samples give {np.mean(values):.6g}: the record was edited"
    if b.n_test != len(samples.b0):
        yield f"behaviour.n_test is {b.n_test}, there are samples of {len(samples.b0)} prompts"
    gap, scored = np.asarray(samples.gap), np.asarray(samples.scored)
    for name, column in zip(("constant", "gated"), _columns(samples), strict=False):
        for side in SIDES:
            chosen = [c.test_gain for c in result.choices if (c.column, c.side) == (name, side)]
            effect = np.asarray(getattr(column, side).effect)
            mean = float(effect[scored].sum() / gap[scored].sum())
            if not chosen and result.identity.method != "oracle":
                yield f"there is no choice for {side} ({name}), and its samples are of some: the record was edited"
            elif chosen and abs(float(np.mean(chosen)) - mean) > LOOSE:
                yield (
                    f"the choices for {side} ({name}) close {np.mean(chosen):.6g} of the gap, its samples {mean:.6g}: the record was edited"
                )
    headline = "gated" if samples.gated else "constant"
    kept = [c.test_gain for c in result.choices if (c.column, c.side) == (headline, "necessity")]
    for row in samples.mitigation if kept else ():
        share = float(np.asarray(row)[scored].sum() / gap[scored].sum())
        if min(abs(share - gain) for gain in (0.0, *kept)) > LOOSE:
            yield f"a point of mitigation closes {share:.6g} of the gap, which no choice for necessity does: the record was edited"
    for c in result.choices:
        if c.op != "none" and c.test_kl_high > c.tau_nats + TOLERANCE:
            yield f"a choice for {c.side} counts under {c.tau_nats:g} nats and may cost {c.test_kl_high:.4g}: the record was edited"


def _false_discovery(f: FalseDiscovery, findings: int) -> Iterator[str]:
    """The share and its Clopper-Pearson interval follow from the p-values, and these can only be so small."""
    n, found = len(f.p), sum(p < ALPHA for p in f.p)
    if not 0 < n == len(f.effects) <= findings:
        yield f"false_discovery has {n} p-values and {len(f.effects)} effects for {findings} findings"
        return
    follows = {
        "share": found / n,
        "ci_low": 0.0 if found == 0 else float(betaincinv(found, n - found + 1, 0.025)),
        "ci_high": 1.0 if found == n else float(betaincinv(found + 1, n - found, 0.975)),
        "expected": (math.ceil(ALPHA * (f.controls + 1)) - 1) / (f.controls + 1),
        "p_min": 1 / (f.controls + 1),
    }
    for name, value in follows.items():
        if not _equal(getattr(f, name), value):
            yield f"false_discovery.{name} is recorded as {getattr(f, name)} but follows as {value:.6g}: the record was edited"
    if min(f.p) < follows["p_min"] - TOLERANCE:
        yield f"false_discovery has a p-value of {min(f.p):.4g}; {f.controls} controls allow none below {follows['p_min']:.4g}"


def _localisation(found: Localisation) -> Iterator[str]:
    """More findings never lie farther from the truth, and a span holds the truth at least as well as one direction in it."""
    at = found.at
    if not _rising([a.k for a in at]):
        yield "localisation has no list of rising k"
    elif at[0].k == 1 and not _equal(abs(found.first_cos), at[0].cos):
        yield f"localisation: the first finding has cosine {found.first_cos:.4g}, its size is recorded as {at[0].cos:.4g}"
    if any(a.overlap < a.cos**2 - LOOSE for a in at):
        yield "localisation: a span overlaps less with the truth than one direction in it"
    if any(b.cos < a.cos - LOOSE or b.overlap < a.overlap - LOOSE for a, b in itertools.pairwise(at)):
        yield "localisation: more findings lie farther from the truth"


def _identification(found: Identification) -> Iterator[str]:
    """Rank, raw value and value say the same."""
    m = found.candidates
    if m < 2 or not _rising([a.k for a in found.at]):
        yield f"identification has {m} candidates and k = {[a.k for a in found.at]}"
        return
    for a in found.at:
        value = (a.raw - a.control) / (1 - a.control) if a.control < 1 else None
        agree = (
            1 - LOOSE <= a.rank <= m + LOOSE
            and abs(a.raw - (m + 1 - 2 * a.rank) / (m - 1)) <= LOOSE
            and a.by
            and abs(a.raw - max(a.by.values())) <= LOOSE
            and (a.value is value if value is None or a.value is None else abs(a.value - value) <= LOOSE)
        )
        if not agree:
            yield f"identification at k = {a.k}: rank, raw value, readings and value contradict each other: the record was edited"


def _rising(ks: Sequence[int]) -> bool:
    return bool(ks) and ks[0] > 0 and all(a < b for a, b in itertools.pairwise(ks))


def _equal(recorded: float | None, computed: float | None) -> bool:
    if recorded is None or computed is None:
        return recorded is computed
    return math.isclose(recorded, computed, rel_tol=0, abs_tol=TOLERANCE)
