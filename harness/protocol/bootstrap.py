"""Intervals from prompts that come in templates: whole templates are drawn, and few of them are allowed for.

Prompts of one template (the same question skeleton and prefill) succeed and fail together, so the template is the unit.
A draw takes templates with replacement and all prompts of each one drawn (the cluster bootstrap: Field & Welsh 2007,
"Bootstrapping clustered data"; Davison & Hinkley 1997, §3.8). Drawing prompts anew inside the drawn templates would count
the scatter within them twice.

Percentile intervals need three repairs. Few clusters make them short, because the bootstrap's spread is that of a mean times
√((n − 1)/n) and its quantiles are a normal's where Student's belong: the percentiles are taken further out (the expanded
percentile interval: Hesterberg 2015, "What teachers should know about the bootstrap", §5.3). Templates that weigh unequally
count as fewer (Kish's effective number; Carter, Schnepel & Steigerwald 2017, "Asymptotic behavior of a t-test robust to
cluster heterogeneity"). And a harmonic mean of noisy sides comes out too low, in the draws once more than in the score: the
percentiles move up by as much (bias correction: Efron & Tibshirani 1993, §14.3). Simulated coverage: docs/coverage.md.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

Array = NDArray[np.float64]


def template_weights(templates: Sequence[int | None], draws: int, rng: np.random.Generator) -> Array:
    """Bootstrap weights of prompts [draws, prompts], each row summing to 1.

    A prompt weighs as often as its template was drawn, divided by the prompts drawn: a draw is the plain mean over the
    prompts it holds, so a template of eight prompts counts eight times one of a single prompt, as it does in the score
    itself. Expected weights are 1 / prompts if templates are equally large, and otherwise up to a relative error of the
    order of 1 / templates, as for any ratio.

    Args:
        templates: the template of each prompt, any integers; None: it is not scored, and weighs 0. A single template is not
            drawn: its prompts are, and the interval speaks of that template alone.
    """
    known = [i for i, template in enumerate(templates) if template is not None]
    unit = _units([template for template in templates if template is not None])
    n = int(unit.max()) + 1
    times = rng.multinomial(n, np.full(n, 1 / n), size=draws)[:, unit]
    weights = np.zeros((draws, len(templates)))
    weights[:, known] = times / times.sum(1, keepdims=True)
    return weights


def template_interval(
    values: Array, point: float, templates: Sequence[int], gaps: Sequence[float], level: float = 0.95
) -> tuple[float, float] | None:
    """Interval over those of the [draws] that are numbers; None with one prompt, which has no spread.

    Args:
        values: a score under `template_weights`; of isolation `signed_isolation`, the ends of which are then raised to 0.
        point: the same score of all prompts.
        templates: of the prompts, as given to `template_weights`.
        gaps: of the prompts: how much each weighs in the score.
    """
    defined = values[~np.isnan(values)]
    if len(templates) < 2 or not len(defined):
        return None
    low, high = np.quantile(defined, shares(defined, point, effective(templates, gaps), level))
    return float(low), float(high)


def shares(values: Array, point: Any, clusters: Any, level: float = 0.95) -> tuple[Any, Any]:
    """Shares of the draws [..., draws] below the two ends, for points [...] and numbers of equal clusters [...].

    Φ(2 z₀ ± √(n/(n − 1)) t), with z₀ how far the point is from the middle of the draws (a tie counts as half).
    """
    point = np.asarray(point)[..., None]
    below = ((values < point).mean(-1) + (values <= point).mean(-1)) / 2
    least = 1 / values.shape[-1]
    bias = ndtri(np.clip(below, least, 1 - least))
    reach = -stdtrit(clusters - 1, (1 - level) / 2) * (clusters / (clusters - 1)) ** 0.5
    return ndtr(2 * bias - reach), ndtr(2 * bias + reach)


def signed_isolation(sufficiency: Array, necessity: Array) -> Array:
    """Isolation that goes on below 0: the harmonic mean where both sides are positive, else the smaller of them.

    Isolation itself is 0 there, and draws that tie at 0 do not tell how far their middle is from the point.
    """
    both = (sufficiency > 0) & (necessity > 0)
    total = np.where(both, sufficiency + necessity, 1.0)
    return np.where(both, 2 * sufficiency * necessity / total, np.minimum(sufficiency, necessity))


def effective(templates: Sequence[int], gaps: Sequence[float]) -> float:
    """How many templates of equal weight these are worth: (Σ w)² / Σ w², w the sum of a template's gaps."""
    weight = np.bincount(_units(templates), np.asarray(gaps, dtype=np.float64))
    return float(weight.sum() ** 2 / (weight**2).sum())


def _units(templates: Sequence[int]) -> NDArray[np.intp]:
    """[prompts] what is drawn, numbered from 0: templates, or prompts where there is one template."""
    found, unit = np.unique(np.asarray(templates, dtype=np.int64), return_inverse=True)
    return unit if len(found) > 1 else np.arange(len(unit))
