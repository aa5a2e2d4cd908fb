"""The paper's order of strategies on these pairs: each contrast replicates, does not, or is unresolved.

The contrasts were written down before any strategy ran on lineup-test. A contrast is the difference of two accuracies, workplace by
workplace; p is exact over sign flips of workplaces and two-sided, Holm over the list. Numbers of the paper: arXiv 2405.05466 and its
repository (324 pairs, which are 18 + 18 models).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..statistics.contrasts import sign_flip_p

CONTRASTS: tuple[tuple[str, str], ...] = (
    ("uniform_noise", "log_prob"),
    ("steering", "log_prob"),
    ("uniform_noise", "tuning_speed"),
    ("tuning_speed", "log_prob"),
    ("concepts", "log_prob"),
    ("uniform_noise", "concepts"),
    ("concepts", "decision_speed"),
    ("concepts", "attentiveness"),
    ("log_prob", "decision_speed"),
    ("log_prob", "attentiveness"),
)
"""First and second strategy: in the paper the first is more often right."""
PAPER: dict[str, float] = {
    "log_prob": 0.64,
    "steering": 1.0,
    "uniform_noise": 0.98,
    "tuning_speed": 0.90,
    "concepts": 0.71,
    "decision_speed": 0.47,
    "attentiveness": 0.46,
}
"""Share of the paper's pairs in which each was right; tuning_speed at a step that was picked with the labels."""
ALPHA = 0.05


class Outcome(NamedTuple):
    """What became of a contrast."""

    better: str
    worse: str
    difference: float | None
    """Accuracy of the first minus that of the second, mean over workplaces; None: one of them has not run."""
    p: float | None
    """After Holm."""
    verdict: str


def outcomes(by_domain: Mapping[str, Mapping[str, float]]) -> list[Outcome]:
    """Every contrast.

    Args:
        by_domain: accuracy by strategy and workplace.
    """
    gaps = dict[tuple[str, str], "np.ndarray[tuple[int], np.dtype[np.float64]]"]()
    for one, other in CONTRASTS:
        both = sorted(by_domain.get(one, {}).keys() & by_domain.get(other, {}).keys())
        if len(both) > 1:
            gaps[one, other] = np.array([by_domain[one][d] - by_domain[other][d] for d in both])
    p = {pair: sign_flip_p(gap) for pair, gap in gaps.items()}
    adjusted, highest = dict[tuple[str, str], float](), 0.0
    for rank, pair in enumerate(sorted(p, key=lambda x: p[x])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[pair]))
        adjusted[pair] = highest
    return [_outcome(pair, gaps, adjusted) for pair in CONTRASTS]


def _outcome(
    pair: tuple[str, str],
    gaps: "Mapping[tuple[str, str], np.ndarray[tuple[int], np.dtype[np.float64]]]",
    adjusted: Mapping[tuple[str, str], float],
) -> Outcome:
    if pair not in gaps:
        return Outcome(*pair, None, None, "not run")
    difference, p = float(gaps[pair].mean()), adjusted[pair]
    if p >= ALPHA:
        return Outcome(*pair, difference, p, "unresolved")
    return Outcome(*pair, difference, p, "replicates" if difference > 0 else "does not replicate")
