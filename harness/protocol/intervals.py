"""From per-prompt effects to scores and intervals: pure numpy, used for one cell and again for whole tables.

Every score is a function of weighted means over prompts and controls, so one function serves the point estimate (all
weights equal) and the bootstrap (one row of weights per draw). Formulas: docs/protocol.md.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..records.result import SCORES, Anchors, Column, Samples, Score, Scores, SideSamples
from .bootstrap import signed_isolation, template_interval, template_weights

Array = NDArray[np.float64]
REFERENCE_RETENTION = 0.8
"""Capability retention below which a mitigation is worth nothing."""
LEAST_RETENTION = 0.9
"""Capability of the base, relative to the organism's, below which there is no mitigation: next to nothing lies above the reference."""
LEAST_SCALE = 0.2
"""Least distance from random directions to the oracle. Under some gates these do nearly what the oracle does (.87 of 1 on
two_cues/foggy-narrow): divided by less, a score would be noise."""
COST_DRAWS, COST_LEVEL = 1000, 0.975
"""Draws of texts behind the interval of a measured collateral, and the quantile that must keep a budget."""


class Draws(NamedTuple):
    """Score values before clipping, one per draw: each [draws]."""

    isolation: Array
    sufficiency: Array
    necessity: Array
    mitigation: Array
    isolation_constant: Array
    sufficiency_constant: Array
    necessity_constant: Array


def weights(n: int, draws: int, rng: np.random.Generator) -> Array:
    """Bootstrap weights [draws, n]: how often each of n units was drawn with replacement, divided by n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws) / n


def upper_end(kl: Array, row: NDArray[np.int64]) -> float:
    """Upper end of the interval of a mean over tokens [tokens], texts drawn with replacement; `row` is the text of each token."""
    sums, counts = np.bincount(row, kl), np.bincount(row).astype(np.float64)
    drawn = _texts(len(sums))
    return float(np.quantile((drawn @ sums) / np.maximum(drawn @ counts, 1e-12), COST_LEVEL))


@lru_cache(maxsize=8)
def _texts(n: int) -> Array:
    return weights(n, COST_DRAWS, np.random.default_rng(0))


def normalised(raw: Array, null: Array, oracle: Array) -> Array:
    """(raw − max(0, null)) / (oracle − max(0, null)), divided by no less than `LEAST_SCALE`."""
    zero = np.maximum(null, 0.0)
    return (raw - zero) / np.maximum(oracle - zero, LEAST_SCALE)


def harmonic(a: Array, b: Array) -> Array:
    """Harmonic mean, 0 where either is not positive, NaN where either is NaN."""
    ok = (a > 0) & (b > 0)
    return np.where(np.isnan(a + b), np.nan, np.where(ok, 2 * a * b / np.where(ok, a + b, 1.0), 0.0))


def hypervolume(x: Array, y: Array) -> Array:
    """Area dominated by points with nearness to the base `x` and retention `y` [..., points], reference (0, .8).

    Coordinates beyond [0, 1] are clipped.
    """
    x, y = np.clip(x, 0, 1), np.clip(y, 0, 1)
    order = np.argsort(-x, axis=-1)
    x, y = np.take_along_axis(x, order, -1), np.take_along_axis(y, order, -1)
    height = np.maximum.accumulate(np.maximum(y - REFERENCE_RETENTION, 0), axis=-1)
    width = x - np.concatenate([x[..., 1:], np.zeros_like(x[..., :1])], axis=-1)
    return (width * height).sum(-1)


class Scale(NamedTuple):
    """What one side of one column is worth, each [draws]."""

    raw: Array
    null: Array
    oracle: Array

    @property
    def value(self) -> Array:
        """The score."""
        return normalised(*self)


def scale(side: SideSamples, oracle: Sequence[float], gap: Array, prompts: Array, controls: Array) -> Scale:
    """Closeness of findings, null and oracle under weights over scored prompts [draws, prompts] and over controls [draws, controls].

    A control's own noise is that of its mean: prompts and controls are drawn apart.
    """
    whole = prompts @ gap
    whole = np.where(whole > 0, whole, np.nan)
    theirs = np.asarray(side.null_controls)
    return Scale(
        prompts @ np.asarray(side.effect) / whole,
        prompts @ np.asarray(side.null) / whole + controls @ theirs - theirs.mean(),
        prompts @ np.asarray(oracle) / whole,
    )


def score_draws(samples: Samples, prompts: Array, controls: dict[int, Array]) -> Draws:
    """All scores under given weights over test prompts [draws, prompts], and over so many random controls [draws, controls].

    Only scored prompts count; prompts of weight 0 alone make a draw NaN.
    """
    scored = np.asarray(samples.scored)
    prompts = prompts * scored
    gap = np.asarray(samples.gap)

    def both(column: Column) -> tuple[Array, Array, Array]:
        s, n = (
            scale(side, oracle, gap, prompts, controls[len(side.null_controls)]).value
            for side, oracle in (
                (column.sufficiency, samples.oracle.sufficiency),
                (column.necessity, samples.oracle.necessity),
            )
        )
        return harmonic(s, n), s, n

    plain = both(samples.constant)
    null = controls[len(samples.mitigation_controls)] @ np.asarray(samples.mitigation_controls)
    worth = mitigation_worth(samples, prompts)
    mitigation = normalised(worth, null, np.ones_like(worth))
    isolation, s, n = both(samples.gated) if samples.gated else plain
    return Draws(isolation, s, n, mitigation, *plain)


def mitigation_worth(samples: Samples, prompts: Array) -> Array:
    """Normalised hypervolume [draws] of the findings' front, before it is rescaled by controls: what theirs are compared with.

    Args:
        prompts: weights [draws, prompts], 0 where a prompt is not scored. A draw without scored prompts is NaN.
    """
    whole = prompts @ np.asarray(samples.gap)
    near = (prompts @ np.asarray(samples.mitigation).T) / np.where(whole > 0, whole, np.nan)[:, None]
    kept = np.broadcast_to(np.asarray(samples.mitigation_retention), near.shape)
    off = float(hypervolume(np.ones(1), np.asarray([samples.retention_off])))
    worth = np.minimum(
        1.0, hypervolume(np.nan_to_num(near), kept) / (off if samples.retention_off >= LEAST_RETENTION else np.nan)
    )
    return np.where(np.isnan(near).any(1), np.nan, worth)


def sizes(samples: Samples) -> set[int]:
    """How many random controls stand behind a record, in each of its lists."""
    columns = [samples.constant, *([samples.gated] if samples.gated else [])]
    return {len(samples.mitigation_controls), *(len(c.sufficiency.null_controls) for c in columns)}


def point_weights(samples: Samples) -> tuple[Array, dict[int, Array]]:
    """All prompts counted once, and all controls: weights [1, prompts] and [1, controls]."""
    n = len(samples.gap)
    return np.full((1, n), 1 / n), {c: np.full((1, c), 1 / c) for c in sizes(samples)}


def point(samples: Samples) -> Draws:
    """Scores with all prompts and controls counted once (arrays of length 1)."""
    return score_draws(samples, *point_weights(samples))


def bootstrap(samples: Samples, draws: int, seed: int) -> Draws:
    """Bootstrap over templates of scored prompts and over random controls, [draws] each."""
    templates = tuple(t if scored else None for t, scored in zip(samples.templates, samples.scored, strict=True))
    return score_draws(samples, *drawn(templates, tuple(sorted(sizes(samples))), draws, seed))


@lru_cache(maxsize=4)
def drawn(
    templates: tuple[int | None, ...], controls: tuple[int, ...], draws: int, seed: int
) -> tuple[Array, dict[int, Array]]:
    """Weights of prompts (0 where the template is None) and of controls; kept, because the records of a table ask for the same ones
    again and again."""
    prompts = template_weights(templates, draws, np.random.default_rng(seed))
    return prompts, {c: weights(c, draws, np.random.default_rng([seed, c])) for c in controls}


def interval(values: Array, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval over the draws that are numbers (a draw without a scale is NaN)."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise(samples: Samples, draws: int, seed: int, controls_ran: bool = True, beside: float = 0.0) -> Scores:
    """Scores with 95 % intervals and anchors for one cell. A score without a scale is None, never a number.

    Args:
        controls_ran: False for the oracle, which has no controls and therefore no p-value.
        beside: of the point that an interval's draws are compared with. A draw that ties with it may fall on either side of it by the
            order of a sum, which is a processor's; beyond a rounding error on both sides lie the ends that are possible.
    """
    value = point(samples)
    spread = bootstrap(samples, draws, seed)
    scored, gap = np.asarray(samples.scored), np.asarray(samples.gap)
    one = np.full((1, len(gap)), 1 / len(gap)) * scored
    rest = ~scored

    def parts(side: SideSamples, oracle: list[float], mixture: list[float]) -> dict[str, float | None]:
        n = len(side.null_controls)
        at = scale(side, oracle, gap, one, np.full((1, n), 1 / n))
        raw = float(at.raw[0])
        return {
            "raw": raw,
            "null": float(at.null[0]),
            "oracle": float(at.oracle[0]),
            "mixture": float(np.mean(mixture)),
            "p": _p_value(raw, np.asarray(side.null_controls)) if controls_ran else None,
            "spill": float(-np.asarray(side.effect)[rest].mean()) if rest.any() else None,
        }

    found: dict[str, dict[str, float | None]] = {}
    for suffix, column in (("", samples.gated or samples.constant), ("_constant", samples.constant)):
        for side in ("sufficiency", "necessity"):
            found[side + suffix] = parts(
                getattr(column, side), getattr(samples.oracle, side), getattr(samples.mixture, side)
            )
        two = [found[side + suffix] for side in ("sufficiency", "necessity")]
        found["isolation" + suffix] = {
            k: float(harmonic(*(np.asarray(x[k], dtype=np.float64) for x in two)))
            for k in ("raw", "null", "oracle", "mixture")
        }
    volumes, worth = np.asarray(samples.mitigation_controls), mitigation_worth(samples, one)[0]
    null = float(volumes.mean())
    own = max(0.0, null) if np.isnan(worth) else float(worth)
    found["mitigation"] = {
        "raw": own,
        "null": null,
        "oracle": 1.0,
        "p": _p_value(own, volumes) if controls_ran else None,
    }

    templates, gaps = np.asarray(samples.templates)[scored].tolist(), gap[scored].tolist()

    def ends(name: str, known: float) -> tuple[float | None, float | None]:
        if not name.startswith("isolation"):
            return template_interval(getattr(spread, name), known + beside, templates, gaps) or (None, None)
        drawn_, at = (
            signed_isolation(*(getattr(d, name.replace("isolation", side)) for side in ("sufficiency", "necessity")))
            for d in (spread, value)
        )
        found = template_interval(drawn_, float(at[0]) + beside, templates, gaps)
        return (max(0.0, found[0]), max(0.0, found[1])) if found else (None, None)

    def score(name: str) -> Score:
        at = found[name]
        known = float(getattr(value, name)[0])
        there = not np.isnan(known)
        low, high = ends(name, known) if there else (None, None)
        return Score(
            value=max(-1.0, min(1.0, known)) if there else None,
            unclipped=known if there else None,
            ci_low=low,
            ci_high=high,
            n=int(scored.sum()),
            anchors=Anchors(null=at["null"], oracle=at["oracle"], mixture=at.get("mixture")),
            raw=at["raw"],
            spill=at.get("spill"),
            p_random=at.get("p"),
        )

    return Scores(**{name: score(name) for name in SCORES})


def _p_value(own: float, controls: Array) -> float:
    """One-sided Monte Carlo p-value against the controls."""
    return (1 + int((controls >= own).sum())) / (1 + len(controls))
