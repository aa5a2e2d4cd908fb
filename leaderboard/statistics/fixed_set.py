"""Which methods differ on a fixed set of organisms: would the order survive if the same cells were run again with other seeds?

Families and organisms are not drawn, because the set is what it is; method seeds, templates, test prompts and random controls
are, each organism on its own. The bootstrap of a mean of n seeds has only (n − 1)/n of its variance, which is half with two,
so the deviation that the seeds add is stretched by √(n/(n − 1)) (Rao & Wu 1988, "Resampling inference with complex
survey data"). The variance of the mean over organisms is the sum of theirs, and its degrees of freedom are
Satterthwaite's (1946): an organism has those of its seeds, or of its templates where both methods draw nothing.

A method that draws and was run with one seed has no error here and is not compared. Coverage is simulated in
tests/leaderboard.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...harness.protocol.intervals import Array
from .compare import Error
from .resample import Spread


class Noise(NamedTuple):
    """How much the scores of several methods on one organism would vary between repetitions."""

    covariance: Mapping[tuple[str, str], float]
    """By pair of methods, squared score units."""
    templates: int


def noise(spreads: Mapping[str, Spread], seeds: Mapping[str, int], templates: int, score: int) -> Noise:
    """From the draws of one organism; `seeds` says how many each method has, `score` which row of the draws counts."""
    values = np.stack([_stretched(spread, seeds[method])[score] for method, spread in spreads.items()])
    values = values[:, ~np.isnan(values).any(0)]
    found: Array = np.atleast_2d(np.cov(values)) if values.shape[1] > 1 else np.full((len(values),) * 2, np.nan)
    names = list(spreads)
    return Noise({(a, b): float(found[i, j]) for i, a in enumerate(names) for j, b in enumerate(names)}, templates)


def on_this_set(noises: Sequence[Noise], seeds: Mapping[str, int], shares: Sequence[float]) -> Error:
    """Standard error of the difference of two methods' means over these organisms, and its degrees of freedom.

    `shares`: what each organism weighs in the mean.
    """
    weight = np.square(shares)

    def error(a: str, b: str) -> tuple[float, float]:
        variances = np.array([n.covariance[a, a] + n.covariance[b, b] - 2 * n.covariance[a, b] for n in noises])
        variances = np.clip(variances, 0.0, None) * weight
        several = [seeds[m] for m in (a, b) if seeds[m] > 1]
        free = np.array([max(1, min(several, default=n.templates) - 1) for n in noises])
        total = float(variances.sum())
        if math.isnan(total):  # an organism on which no draw is defined for all methods
            return math.inf, 1
        squares = float((variances**2 / free).sum())
        return math.sqrt(total), total**2 / squares if squares else math.inf

    return error


def _stretched(spread: Spread, seeds: int) -> Array:
    """[scores, draws] in which the mean over seeds varies as much as seeds do."""
    if seeds < 2:
        return spread.even
    return spread.even + math.sqrt(seeds / (seeds - 1)) * (spread.drawn - spread.even)
