"""Coverage of a cell's intervals: templates, prompts and controls are drawn, the method and the organism are as they are."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from diffbench.harness.protocol.bootstrap import shares, template_weights
from scipy import stats

from .world import METHOD_SPREAD, SCORES, SIDES, Array, Index, Layout, Truth, effects, organism, scores

DRAWS = 2000
CHUNK = 250
"""Repetitions held at once."""
METHODS = {
    "strong": (0.8, 0.7),
    "middling": (0.45, 0.35),
    "lopsided": (0.7, 0.15),
    "weak": (0.08, 0.08),
    "none": (-0.1, -0.1),
}
"""Mean share of the gap moved, for sufficiency and for necessity."""
CANDIDATES = (
    "percentile, templates and prompts",
    "percentile, templates",
    "expanded percentile, templates and prompts",
    "expanded percentile, templates",
    "jackknife, Student",
    "BCa, templates",
    "expanded percentile, templates by weight",
    "bias-corrected expanded percentile, templates by weight",
)
Ends = Mapping[str, Mapping[str, tuple[Array, Array]]]
"""Candidate → score → the two ends [reps]."""


def two_stage_weights(template: Index, draws: int, rng: np.random.Generator) -> Array:
    """Templates with replacement, then as many prompts as they have from each drawn template, with replacement; rows sum to 1."""
    n = int(template.max()) + 1
    times = rng.multinomial(n, np.full(n, 1 / n), size=draws)
    found = np.zeros((draws, len(template)))
    for t in range(n):
        own = np.flatnonzero(template == t)
        found[:, own] = rng.multinomial(times[:, t] * len(own), np.full(len(own), 1 / len(own)))
    return found / found.sum(1, keepdims=True)


def measured(layout: Layout, truth: Truth, reps: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row per method, candidate and score."""
    rng = np.random.default_rng(seed)
    template = layout.template
    drawn = {
        "templates": template_weights(template.tolist(), DRAWS, rng),
        "templates and prompts": two_stage_weights(template, DRAWS, rng),
    }
    controls = rng.multinomial(layout.controls, np.full(layout.controls, 1 / layout.controls), DRAWS) / layout.controls
    ends: dict[str, list[Ends]] = {method: [] for method in METHODS}
    for start in range(0, reps, CHUNK):
        size = min(CHUNK, reps - start)
        o = organism(rng, size, layout)
        worth = effective_numbers(template, o.gap)
        spread = {side: METHOD_SPREAD * layout.scatter(rng, size) for side in SIDES}
        for method, moved in METHODS.items():
            effect = {s: effects(o.gap, o.room[s], m + spread[s]) for s, m in zip(SIDES, moved, strict=True)}
            values = {name: scores(o, effect, w, controls) for name, w in drawn.items()}
            even = np.full((1, layout.controls), 1 / layout.controls)
            left = scores(o, effect, leave_one_out(template), even)
            swayed = scores(o, effect, np.full((1, len(template)), 1 / len(template)), _without_one(layout.controls))
            ends[method].append(intervals(values, left, swayed, layout.templates, worth))
    for method, moved in METHODS.items():
        true = truth.of(*moved)
        for candidate in CANDIDATES:
            for score in SCORES:
                low, high = (np.concatenate([e[candidate][score][i] for e in ends[method]]) for i in (0, 1))
                if score == "isolation":
                    low, high = np.maximum(low, 0), np.maximum(high, 0)
                yield {
                    "templates": layout.templates,
                    "sizes": list(layout.sizes),
                    "icc": layout.icc,
                    "controls": layout.controls,
                    "method": method,
                    "interval": candidate,
                    "score": score,
                    **covered(true[score], low, high),
                }


def covered(truth: float | Array, low: Array, high: Array) -> dict[str, float]:
    """How often the ends [reps] contain the truth (one, or [reps]), how often they lie below it, and how wide they are."""
    return {
        "coverage": round(float(np.mean((low <= truth) & (truth <= high))), 4),
        "too_low": round(float(np.mean(high < truth)), 4),
        "width": round(float(np.mean(high - low)), 4),
    }


def intervals(
    values: Mapping[str, Mapping[str, Array]],
    left: Mapping[str, Array],
    swayed: Mapping[str, Array],
    n: int,
    worth: Array,
) -> Ends:
    """All candidates from the draws [reps, draws] of both schemes and the scores without one template or control.

    Args:
        left: [reps, 1 + n], led by the score on all prompts; `swayed`: [reps, controls].
        n: templates; `worth`: [reps] how many of equal weight they are worth.
    """
    found: dict[str, dict[str, tuple[Array, Array]]] = {name: {} for name in CANDIDATES}
    for score, (whole, *without) in ((s, v.T) for s, v in left.items()):
        for scheme, of in values.items():
            ordered = np.sort(of[score], axis=1)
            found[f"percentile, {scheme}"][score] = at_shares(ordered, np.array(0.025), np.array(0.975))
            found[f"expanded percentile, {scheme}"][score] = at_shares(ordered, *tails(n))
            if scheme == "templates":
                found["expanded percentile, templates by weight"][score] = at_shares(ordered, *tails(worth))
                corrected = at_shares(ordered, *shares(ordered, whole, worth))
                found["bias-corrected expanded percentile, templates by weight"][score] = corrected
                found["BCa, templates"][score] = bca(ordered, whole, np.stack(without, axis=1))
        variance = _jackknife_variance(np.stack(without, axis=1)) + _jackknife_variance(swayed[score])
        reach = stats.t.isf(0.025, n - 1) * np.sqrt(variance)
        found["jackknife, Student"][score] = whole - reach, whole + reach
    return found


def bca(ordered: Array, whole: Array, without: Array) -> tuple[Array, Array]:
    """Bias-corrected and accelerated ends (Efron & Tibshirani 1993, §14.3) from sorted draws [reps, draws]."""
    apart = without.mean(1, keepdims=True) - without
    square = (apart**2).sum(1) ** 1.5
    skew = np.divide((apart**3).sum(1), 6 * square, out=np.zeros_like(square), where=square > 0)
    bias = stats.norm.ppf(np.clip((ordered < whole[:, None]).mean(1), 1e-4, 1 - 1e-4))
    low, high = (
        stats.norm.cdf(bias + (bias + z) / (1 - skew * (bias + z)))
        for z in (stats.norm.ppf(0.025), stats.norm.ppf(0.975))
    )
    return at_shares(ordered, low, high)


def at_shares(ordered: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Quantiles of sorted draws [reps, draws] at shares [reps] of their own, between neighbours as numpy has it."""
    last = ordered.shape[1] - 1
    low, high = (np.broadcast_to(share, len(ordered)) for share in (low, high))

    def quantile(share: Array) -> Array:
        place = share * last
        below = np.clip(np.floor(place).astype(int), 0, last - 1)
        a, b = (np.take_along_axis(ordered, at[:, None], 1)[:, 0] for at in (below, below + 1))
        return a + (place - below) * (b - a)

    return quantile(low), quantile(high)


def tails(clusters: Any) -> tuple[Any, Any]:
    """Shares of the draws below the two ends of an expanded percentile interval."""
    tail = stats.norm.sf(stats.t.isf(0.025, clusters - 1) * (clusters / (clusters - 1)) ** 0.5)
    return tail, 1 - tail


def effective_numbers(template: Index, gap: Array) -> Array:
    """`bootstrap.effective` of each repetition, from gaps [reps, prompts]."""
    weight = gap @ (template[:, None] == np.arange(template.max() + 1))
    return weight.sum(1) ** 2 / (weight**2).sum(1)


def leave_one_out(template: Index) -> Array:
    """Weights [1 + templates, prompts]: all prompts, then all but one template's."""
    kept = np.vstack([np.ones(len(template)), template[None] != np.arange(template.max() + 1)[:, None]])
    return kept / kept.sum(1, keepdims=True)


def _without_one(n: int) -> Array:
    return (1 - np.eye(n)) / (n - 1)


def _jackknife_variance(without: Array) -> Array:
    n = without.shape[1]
    return (n - 1) * without.var(1)
