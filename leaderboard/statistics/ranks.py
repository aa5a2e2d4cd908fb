"""Ranks with their uncertainty and groups of methods that are not separated."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...harness.protocol.intervals import Array
from .compare import letters
from .rows import MethodRow, Pair, Place

RANK_LEVEL = 0.9
"""Rank intervals run from the 5th to the 95th percentile of the bootstrap ranks."""


def places(values: Mapping[str, float], draws: Mapping[str, Array]) -> dict[str, Place]:
    """Ranks of methods by their scores, given [draws] of each.

    Draws in which any of them has no score are left out: they have no ranks.
    """
    if not values:
        return {}
    scores = np.stack([draws[method] for method in values])
    scores = scores[:, ~np.isnan(scores).any(0)]
    tails = [(1 - RANK_LEVEL) / 2, (1 + RANK_LEVEL) / 2]
    found: dict[str, Place] = {}
    for i, (method, value) in enumerate(values.items()):
        ranks = 1 + (scores > scores[i]).sum(0)
        low, high = np.quantile(ranks, tails, method="nearest") if len(ranks) else (1, len(values))
        found[method] = Place(1 + sum(v > value for v in values.values()), int(low), int(high))
    return found


def ranked(
    rows: Sequence[MethodRow],
    by_key: Mapping[str, Place],
    by_constant: Mapping[str, Place],
    pairs: Sequence[Pair],
    here: Sequence[Pair],
) -> list[MethodRow]:
    """Fill in places and letters of the ranked rows, best first."""
    groups = letters(list(by_key), pairs)
    known = {m for pair in here for m in (pair.better, pair.worse)}
    apart = [pair for pair in here if pair.separated]
    ahead, behind = Counter(pair.better for pair in apart), Counter(pair.worse for pair in apart)
    return [
        replace(
            row,
            place=by_key.get(row.method),
            place_constant=by_constant.get(row.method),
            group=groups.get(row.method, ""),
            ahead_here=ahead[row.method] if row.method in known else None,
            behind_here=behind[row.method] if row.method in known else None,
        )
        for row in rows
    ]
