"""Ranks with their uncertainty: the only part of a table in which methods are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ..harness.stats import Array, interval
from .rows import SORT_KEY, MethodRow

RANK_LEVEL = 0.9
"""Rank intervals run from the 5th to the 95th percentile of the bootstrap ranks."""


def ranked(rows: Sequence[MethodRow], draws: Mapping[str, Array]) -> list[MethodRow]:
    """Fill in rank, rank interval and tie group of the ranked rows, given [draws] of the sort key by method.

    `rows` come sorted, best first. A method joins the group of the next better one when the 95 % interval of their
    paired difference covers 0; so the two ends of a long group may well differ. Neighbours only, and not corrected for
    the number of comparisons: letters say what is *not* separated.
    """
    compared = [row for row in rows if row.standing == "ranked"]
    scores = [draws[row.method] for row in compared]
    values = [row.scores[SORT_KEY].value or 0.0 for row in compared]
    groups = [0] + [int(separated(better, worse)) for better, worse in pairwise(scores)]
    changed: dict[str, MethodRow] = {}
    for i, row in enumerate(compared):
        ranks = 1 + np.sum([other > scores[i] for other in scores], axis=0)
        low, high = np.quantile(ranks, [(1 - RANK_LEVEL) / 2, (1 + RANK_LEVEL) / 2], method="nearest")
        changed[row.method] = replace(
            row,
            rank=1 + sum(value > values[i] for value in values),
            rank_low=int(low),
            rank_high=int(high),
            group=_letter(sum(groups[: i + 1])),
        )
    return [changed.get(row.method, row) for row in rows]


def separated(better: Array, worse: Array) -> bool:
    """Whether the 95 % interval of the paired difference [draws] excludes 0; undefined draws are left out."""
    difference = (better - worse)[~np.isnan(better - worse)]
    if not len(difference):
        return False
    low, high = interval(difference)
    return not low <= 0 <= high


def _letter(i: int) -> str:
    """0 → a, 25 → z, 26 → aa."""
    return (_letter(i // 26 - 1) if i >= 26 else "") + chr(ord("a") + i % 26)
