"""Ranks with their uncertainty and groups of methods that are not separated."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...harness.protocol.intervals import Array
from .compare import letters
from .rows import MethodRow, Pair

RANK_LEVEL = 0.9
"""Rank intervals run from the 5th to the 95th percentile of the bootstrap ranks."""


def ranked(
    rows: Sequence[MethodRow], key: str, draws: Mapping[str, Array], pairs: Sequence[Pair], here: Sequence[Pair]
) -> list[MethodRow]:
    """Fill in rank, rank interval and letters of the ranked rows, best first, given [draws] of the sort key by method.

    Draws in which any ranked method has no score are left out: they have no ranks.
    """
    compared = [row for row in rows if row.standing == "ranked"]
    if not compared:
        return list(rows)
    scores = np.stack([draws[row.method] for row in compared])
    scores = scores[:, ~np.isnan(scores).any(0)]
    values = [row.scores[key].value or 0.0 for row in compared]
    groups = letters([row.method for row in compared], pairs)
    known = {m for pair in here for m in (pair.better, pair.worse)}
    apart = [pair for pair in here if pair.separated]
    ahead, behind = Counter(pair.better for pair in apart), Counter(pair.worse for pair in apart)
    changed: dict[str, MethodRow] = {}
    for i, row in enumerate(compared):
        ranks = 1 + (scores > scores[i]).sum(0)
        tails = [(1 - RANK_LEVEL) / 2, (1 + RANK_LEVEL) / 2]
        low, high = np.quantile(ranks, tails, method="nearest") if len(ranks) else (1, len(compared))
        changed[row.method] = replace(
            row,
            rank=1 + sum(value > values[i] for value in values),
            rank_low=int(low),
            rank_high=int(high),
            group=groups[row.method],
            ahead_here=ahead[row.method] if row.method in known else None,
            behind_here=behind[row.method] if row.method in known else None,
        )
    return [changed.get(row.method, row) for row in rows]
