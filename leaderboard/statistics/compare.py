"""How far two methods are apart, pair by pair: to be looked at, not judged. Verdicts are given on contrasts only (`contrasts`).

Two questions, two errors. For organisms like these (`across`) the families are the sample: Student's t on the differences of
their means, which is what a headline's interval is made of. On this very set of organisms: `fixed_set`.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import stats

from ...harness.protocol.intervals import Array
from .resample import cluster_means
from .rows import Estimate, Pair

Error = Callable[[str, str], tuple[float, float]]
"""Standard error of the difference of two methods' scores, and its degrees of freedom."""


def paired(values: Mapping[str, float], error: Error) -> tuple[Pair, ...]:
    """Every pair of methods, given their scores (best first)."""
    found: list[Pair] = []
    for better, worse in combinations(values, 2):
        gap = values[better] - values[worse]
        deviation, df = error(better, worse)
        t = stats.t(df)
        reach = float(t.ppf(0.975)) * deviation
        ratio = gap / deviation if deviation else np.inf * gap if gap else 0.0
        difference = Estimate(gap) if np.isinf(deviation) else Estimate(gap, gap - reach, gap + reach)
        found.append(Pair(better, worse, difference, 2 * float(t.sf(abs(ratio)))))
    return tuple(found)


def across(scores: Mapping[str, Mapping[str, float]]) -> Error:
    """The error for organisms like these, from the scores of each method by organism.

    One organism says nothing of others: the error is then without bound.
    """

    def error(a: str, b: str) -> tuple[float, float]:
        means = cluster_means({o: value - scores[b][o] for o, value in scores[a].items()})
        return (float(stats.sem(means)), len(means) - 1) if len(means) > 1 else (np.inf, 1)

    return error


def holm(p: Sequence[float]) -> Array:
    """Step-down corrected p-values [n], in the order given (Holm 1979): max over smaller ones of (n − rank) p, at most 1."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return corrected
