"""Ranks with their uncertainty."""

from collections.abc import Mapping

import numpy as np

from ...harness.protocol.intervals import Array
from .rows import Place

RANK_LEVEL = 0.9
"""Rank intervals run from the 5th to the 95th percentile of the ranks in draws of the scores."""


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
