"""From per-prompt effects to scores and intervals: pure numpy, used for one cell and again for whole tables.

Every score is a function of weighted means over prompts and controls, so one function serves the point estimate (all
weights equal) and the bootstrap (one row of multinomial weights per draw). Formulas: docs/protocol.md.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .result import Anchors, Samples, Score, Scores

Array = NDArray[np.float64]
REFERENCE_RETENTION = 0.8
"""Capability retention below which a mitigation is worth nothing."""


class Draws(NamedTuple):
    """Score values, one per draw: each [draws]."""

    isolation: Array
    sufficiency: Array
    necessity: Array
    mitigation: Array


def weights(n: int, draws: int, rng: np.random.Generator) -> Array:
    """Bootstrap weights [draws, n]: how often each of n units was drawn with replacement, divided by n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws) / n


def normalised(raw: Array, null: Array, oracle: Array) -> Array:
    """Rescale so that `null` is 0 and `oracle` is 1, clipped at 1 (not below: worse than random is negative).

    NaN where the oracle does not beat the null: there is no scale to put the effect on.
    """
    span = np.where(oracle > null, oracle - null, np.nan)
    return np.minimum((raw - null) / span, 1.0)


def harmonic(a: Array, b: Array) -> Array:
    """Harmonic mean, 0 where either is not positive, NaN where either is NaN."""
    ok = (a > 0) & (b > 0)
    return np.where(np.isnan(a + b), np.nan, np.where(ok, 2 * a * b / np.where(ok, a + b, 1.0), 0.0))


def hypervolume(x: Array, y: Array) -> Array:
    """Area dominated by points with behaviour reduction `x` and retention `y` [..., points], reference (0, .8).

    Coordinates beyond [0, 1] are clipped.
    """
    x, y = np.clip(x, 0, 1), np.clip(y, 0, 1)
    order = np.argsort(-x, axis=-1)
    x, y = np.take_along_axis(x, order, -1), np.take_along_axis(y, order, -1)
    height = np.maximum.accumulate(np.maximum(y - REFERENCE_RETENTION, 0), axis=-1)
    width = x - np.concatenate([x[..., 1:], np.zeros_like(x[..., :1])], axis=-1)
    return (width * height).sum(-1)


def score_draws(samples: Samples, prompts: Array, controls: Array) -> Draws:
    """All scores under given weights over test prompts [draws, prompts] and random controls [draws, controls]."""

    def side(own: list[float], null: list[list[float]], oracle: list[float]) -> Array:
        null_mean = ((prompts @ np.asarray(null).T) * controls).sum(-1)
        return normalised(prompts @ np.asarray(own), null_mean, prompts @ np.asarray(oracle))

    s = side(samples.sufficiency, samples.sufficiency_controls, samples.sufficiency_oracle)
    n = side(samples.necessity, samples.necessity_controls, samples.necessity_oracle)
    b0, b1 = prompts @ np.asarray(samples.b0), prompts @ np.asarray(samples.b1)
    gap = np.where(b1 > b0, b1 - b0, np.nan)  # prompts that show no behaviour have nothing to take away
    rates = prompts @ np.asarray(samples.mitigation).T  # [draws, points]
    volume = hypervolume(
        (b1[:, None] - rates) / gap[:, None], np.broadcast_to(samples.mitigation_retention, rates.shape)
    )
    off = float(hypervolume(np.ones(1), np.asarray([samples.retention_off])))
    return Draws(harmonic(s, n), s, n, np.minimum(volume / (off or np.nan), 1.0))


def point(samples: Samples) -> Draws:
    """The point estimate: every prompt and control counted once (arrays of length 1)."""
    n, c = len(samples.b0), len(samples.sufficiency_controls)
    return score_draws(samples, np.full((1, n), 1 / n), np.full((1, c), 1 / c))


def bootstrap(samples: Samples, draws: int, seed: int) -> Draws:
    """Bootstrap over test prompts and over random controls, [draws] each."""
    return score_draws(samples, *_both(len(samples.b0), len(samples.sufficiency_controls), draws, seed))


@lru_cache(maxsize=4)
def _both(prompts: int, controls: int, draws: int, seed: int) -> tuple[Array, Array]:
    """Weights of prompts and of controls; kept, because the records of a table ask for the same ones again and again."""
    rng = np.random.default_rng(seed)
    return weights(prompts, draws, rng), weights(controls, draws, rng)


def interval(values: Array, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval over the draws that are numbers (a draw without a scale is NaN)."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise(samples: Samples, draws: int, seed: int, controls_ran: bool = True) -> Scores:
    """Scores with 95 % intervals and anchors for one cell. A score without a scale is None, never a number.

    `controls_ran`: False for the oracle, which has no controls and therefore no p-value.
    """
    value, spread = point(samples), bootstrap(samples, draws, seed)
    n = len(samples.b0)
    gap = float(np.mean(samples.b1) - np.mean(samples.b0))
    raw: dict[str, tuple[float, float, float, float | None]] = {}
    for side in ("sufficiency", "necessity"):
        own = float(np.mean(getattr(samples, side)))
        controls = np.mean(getattr(samples, f"{side}_controls"), axis=1)
        oracle = float(np.mean(getattr(samples, f"{side}_oracle")))
        raw[side] = (own / gap, float(controls.mean()) / gap, oracle / gap, _p_value(own, controls))
    ends = [np.asarray(raw[side][:3], dtype=np.float64) for side in ("sufficiency", "necessity")]
    own, null, oracle = harmonic(ends[0], ends[1])
    raw["isolation"] = (float(own), float(null), float(oracle), None)
    volumes = np.asarray(samples.mitigation_controls)
    own = float(np.nan_to_num(value.mitigation[0]))
    raw["mitigation"] = (own, float(volumes.mean()), 1.0, _p_value(own, volumes))

    def score(name: str) -> Score:
        own, null, oracle, p = raw[name]
        p = p if controls_ran else None
        point_value = float(getattr(value, name)[0])
        known = not np.isnan(point_value)
        low, high = interval(getattr(spread, name)) if known else (None, None)
        return Score(
            value=point_value if known else None,
            ci_low=low,
            ci_high=high,
            n=n,
            anchors=Anchors(null=null, oracle=oracle),
            raw=own,
            p_random=p,
        )

    return Scores(**{name: score(name) for name in Draws._fields})


def _p_value(own: float, controls: Array) -> float:
    """One-sided Monte Carlo p-value against the controls."""
    return (1 + int((controls >= own).sum())) / (1 + len(controls))
