"""The scores of a table: those of a record, and isolation adjusted for what random directions reach by luck.

Isolation is never negative, so directions that find nothing have a mean above 0 wherever their effects scatter (narrow models, small
gaps). Every record holds what share of the gap each random control closes: each is scored as a method would be, against the other
controls, and the mean of their isolations I₀ is taken off, (I − I₀) / (1 − I₀). A random method then has 0 in expectation, and may be
negative. As the headline, it is of the gated column where there is one: controls under the findings' gates, and isolation under them.
"""

import numpy as np

from ...harness.protocol.intervals import Array, harmonic, normalised, scale, score_draws
from ...harness.records.result import SCORES as RECORDED
from ...harness.records.result import Samples

SCORES = (*RECORDED, "adjusted")
SHOWN = ("isolation", "isolation_constant", "sufficiency", "necessity", "mitigation", "adjusted")
"""Those that pages print; the others, S and N without gates, stand in the CSV."""


def table_draws(samples: Samples, prompts: Array, controls: dict[int, Array]) -> Array:
    """[scores, draws] before clipping, under weights of test prompts [draws, prompts] and, by their number, controls [draws, controls]."""
    own = score_draws(samples, prompts, controls)
    luck = chance(samples, prompts, controls)
    return np.stack([*own, (own.isolation - luck) / (1 - luck)])


def chance(samples: Samples, prompts: Array, controls: dict[int, Array]) -> Array:
    """[draws] mean isolation of the controls, each against the others; 0 with a single control, which has no others."""
    column = samples.gated or samples.constant
    often = controls[len(column.sufficiency.null_controls)]
    if often.shape[1] < 2:
        return np.zeros(len(prompts))
    scored, gap = prompts * np.asarray(samples.scored), np.asarray(samples.gap)
    rest = np.clip(1 - often, 1e-9, None)
    sides: list[Array] = []
    for side, oracle in (
        (column.sufficiency, samples.oracle.sufficiency),
        (column.necessity, samples.oracle.necessity),
    ):
        each = np.asarray(side.null_controls)
        at = scale(side, oracle, gap, scored, often)
        # as `scale` has it: prompts move all controls alike
        closed = (at.null - often @ each)[:, None] + each
        weighed = closed * often
        others = (weighed.sum(-1, keepdims=True) - weighed) / rest
        sides.append(normalised(closed, others, at.oracle[:, None]))
    return (np.nan_to_num(harmonic(*sides)) * often).sum(-1)
