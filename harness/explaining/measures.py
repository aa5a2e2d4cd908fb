"""Figures of a scorer's answers, each with a 95 % interval: whole windows are drawn with replacement, active and other ones apart.

Windows are one a document, so a draw takes documents (percentile bootstrap: Efron & Tibshirani 1993, §13.3). The interval is about the
text, not about the explainer, who is asked once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A figure and the ends of its interval."""

    value: float
    low: float
    high: float


def auroc(active: Sequence[float], other: Sequence[float]) -> Estimate | None:
    """Probability that an active window is answered higher than another one, a tie counting half: .5 by chance. None without both sorts."""
    if not active or not other:
        return None
    a, o = np.asarray(active, dtype=np.float64), np.asarray(other, dtype=np.float64)
    wins = (a[:, None] > o[None]) + 0.5 * (a[:, None] == o[None])
    left, right = _weights(len(a), 0), _weights(len(o), 1)
    return _estimate(float(wins.mean()), ((left @ wins) * right).sum(1))


def balanced_accuracy(active: Sequence[float], other: Sequence[float]) -> Estimate | None:
    """Mean of the shares of active windows answered above 0 and of other ones answered at or below: .5 by chance, whoever always says yes
    included."""
    if not active or not other:
        return None
    yes, no = np.asarray(active) > 0, np.asarray(other) <= 0
    drawn = _weights(len(yes), 0) @ yes.astype(np.float64) + _weights(len(no), 1) @ no.astype(np.float64)
    return _estimate(float(yes.mean() + no.mean()) / 2, drawn / 2)


def accuracy(right: Sequence[bool]) -> Estimate | None:
    """Share of right answers; None without any."""
    if not right:
        return None
    hits = np.asarray(right, dtype=np.float64)
    return _estimate(float(hits.mean()), _weights(len(hits), 0) @ hits)


def correlation(said: Sequence[Sequence[float]], true: Sequence[Sequence[float]]) -> Estimate | None:
    """Pearson's r over the tokens of all windows, one behind the other: 0 by chance. None where one of the two never varies."""
    if not said:
        return None
    sums = np.array([_sums(np.asarray(x, dtype=np.float64), np.asarray(y)) for x, y in zip(said, true, strict=True)])
    value = _r(sums.sum(0)[None])[0]
    if np.isnan(value):
        return None
    drawn = _r(_weights(len(sums), 0) @ sums)
    return _estimate(float(value), drawn[~np.isnan(drawn)])


def _sums(x: Array, y: Array) -> list[float]:
    return [len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]


def _r(sums: Array) -> Array:
    """[rows] r of rows of sums [rows, 6]."""
    n, x, y, xx, yy, xy = sums.T
    spread = (xx / n - (x / n) ** 2).clip(0) * (yy / n - (y / n) ** 2).clip(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-18, (xy / n - x * y / n**2) / np.sqrt(spread), np.nan)


def _weights(n: int, stream: int) -> Array:
    """[draws, n] how often each is drawn, as a share."""
    rng = np.random.default_rng([n, stream])
    return rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n


def _estimate(value: float, drawn: Array) -> Estimate:
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (value, value)
    return Estimate(value, float(low), float(high))
