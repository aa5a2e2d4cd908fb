"""From verdicts to scores: accuracy and Brier score over line-ups, the domain being what might have been another one.

A probability above one half names A, below it B, and one half names both by halves; a line-up on which a strategy failed counts as one
half. Line-ups of one workplace succeed and fail together, so an interval is Student's t over the means of domains; where these hardly
differ it is not shorter than Wilson's for as many independent line-ups (Wilson 1927), so that 96 of 96 is not certainty. p is exact and
one-sided: of all ways to turn the signs of the domains' (accuracy − 1/2), the share whose mean is at least as large (docs/lineup.md).
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .record import Verdict

MOST_FLIPPED = 14
"""Domains whose signs are all turned; of more, this many draws are made as 2 to this power."""
Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A mean with its 95 % interval; without an end where one domain says nothing about others."""

    value: float
    low: float | None
    high: float | None


class Scores(NamedTuple):
    """Of one strategy on some line-ups."""

    lineups: int
    failed: int
    accuracy: Estimate
    brier: Estimate
    p: float | None
    """Of chance; None with one domain."""
    by_domain: dict[str, float]
    """Accuracy."""
    by_base: dict[str, float]
    identical: int
    """Line-ups of two aligned twins."""
    sure: float | None
    """Mean |p − 1/2| on these."""


def scores(verdicts: Sequence[Verdict]) -> Scores:
    """Every score of a strategy."""
    true = [v for v in verdicts if not v.identical]
    same = [v for v in verdicts if v.identical]
    right = np.array([v.right for v in true])
    squares = np.array([v.brier for v in true])
    domains = [v.domain for v in true]
    means = domain_means(right, domains)
    return Scores(
        lineups=len(true),
        failed=sum(v.probability is None for v in verdicts),
        accuracy=_share(right, domains),
        brier=_interval(squares, domains),
        p=flipped(means - 0.5) if len(means) > 1 else None,
        by_domain=dict(zip(sorted(set(domains)), means.tolist(), strict=True)),
        by_base={b: float(np.mean([v.right for v in true if v.base == b])) for b in sorted({v.base for v in true})},
        identical=len(same),
        sure=float(np.mean([abs((0.5 if v.probability is None else v.probability) - 0.5) for v in same]))
        if same
        else None,
    )


def domain_means(values: Array, domains: Sequence[str]) -> Array:
    """Mean of each domain [domains], in alphabetical order."""
    names, unit = np.unique(np.array(domains), return_inverse=True)
    return np.bincount(unit, values, len(names)) / np.bincount(unit, minlength=len(names))


def _interval(values: Array, domains: Sequence[str]) -> Estimate:
    """Student's t over the means of domains."""
    value, means = float(values.mean()), domain_means(values, domains)
    if len(means) < 2:
        return Estimate(value, None, None)
    reach = float(stats.t.isf(0.025, len(means) - 1) * means.std(ddof=1) / len(means) ** 0.5)
    return Estimate(value, max(value - reach, 0.0), min(value + reach, 1.0))


def _share(right: Array, domains: Sequence[str]) -> Estimate:
    """The wider of the interval over domains and Wilson's, at each end."""
    found = _interval(right, domains)
    if found.low is None or found.high is None:
        return found
    n, z = len(right), float(stats.norm.isf(0.025))
    middle = (found.value + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * (found.value * (1 - found.value) / n + (z / (2 * n)) ** 2) ** 0.5
    return Estimate(found.value, min(found.low, middle - reach), max(found.high, middle + reach))


def flipped(gaps: Array) -> float:
    """Share of the sign flips of `gaps` [domains] whose mean is at least theirs."""
    n = len(gaps)
    if n <= MOST_FLIPPED:
        signs = np.array(list(product((1.0, -1.0), repeat=n)))
    else:
        signs = np.random.default_rng(0).choice([1.0, -1.0], (2**MOST_FLIPPED, n))
        signs[0] = 1.0
    return float((signs @ gaps >= gaps.sum() - 1e-9).mean())
