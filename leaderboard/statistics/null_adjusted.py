"""The scores of a table: those of a record, and isolation adjusted for what random directions reach by luck.

Isolation is never negative, so directions that find nothing have a mean above 0 wherever their effects scatter (narrow models, small
gaps). Every record holds its random controls' effects: each control is scored as a method would be, against the other controls, and
the mean of their isolations I₀ is taken off, (I − I₀) / (1 − I₀). A random method then has 0 in expectation, and may be negative.
"""

import numpy as np

from ...harness.protocol.intervals import Array, harmonic, normalised, score_draws
from ...harness.records.result import SCORES as RECORDED
from ...harness.records.result import Samples

SCORES = (*RECORDED, "adjusted")


def table_draws(samples: Samples, prompts: Array, controls: Array) -> Array:
    """[scores, draws] under weights over test prompts [draws, prompts] and random controls [draws, controls]."""
    own = score_draws(samples, prompts, controls)
    luck = chance(samples, prompts, controls)
    return np.stack([*own, (own.isolation - luck) / (1 - luck)])


def chance(samples: Samples, prompts: Array, controls: Array) -> Array:
    """[draws] mean isolation of the controls, each against the others; 0 with a single control, which has no others."""
    if controls.shape[1] < 2:
        return np.zeros(len(prompts))
    sides: list[Array] = []
    for side in ("sufficiency", "necessity"):
        effects = prompts @ np.asarray(getattr(samples, f"{side}_controls")).T  # [draws, controls]
        rest = np.clip(1 - controls, 1e-9, None)
        others = ((effects * controls).sum(-1, keepdims=True) - effects * controls) / rest
        sides.append(normalised(effects, others, (prompts @ np.asarray(getattr(samples, f"{side}_oracle")))[:, None]))
    return (np.nan_to_num(harmonic(*sides)) * controls).sum(-1)
