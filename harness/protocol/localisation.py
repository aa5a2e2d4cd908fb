"""Localisation: how close findings are to a direction that is known, on organisms whose adapter writes exactly one.

A planted organism's truth is the B column of its rank-1 adapter, read from the file; no method is handed it. Every number stands
beside what isotropic directions reach: for a fixed unit t and an isotropic unit u in d dimensions, (t·u)^2 ~ Beta(1/2, (d-1)/2).
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import beta
from torch import Tensor

from ...methods.contract import Finding
from ...organisms.organism import Organism, truth_direction
from ..pairs.interventions import span, unit
from ..records.result import Localisation, Located


def truth_of(organism: Organism) -> Tensor | None:
    """Unit direction [d_model] that a planted organism writes; None for any other organism."""
    is_planted = organism.name.startswith("planted/") and organism.in_zoo
    return truth_direction(organism.adapter) if is_planted else None


def localise(findings: Sequence[Finding], truth: Tensor, ks: Sequence[int]) -> Localisation:
    """Compare the first k findings with the truth [d_model], for every k.

    A zero direction points nowhere: its cosine is 0, it adds nothing to the span and does not count as a try.
    """
    t = truth.double() / truth.double().norm()
    found = unit(torch.stack([f.direction for f in findings]).double().cpu())
    cosines = (found @ t).numpy()
    at: list[Located] = []
    for k in ks:
        basis = span(found[:k])
        best = float(np.abs(cosines[:k]).max())
        at.append(
            Located(
                k=k,
                cos=best,
                p=p_isotropic(best, len(t), tries=int((found[:k].norm(dim=1) > 0).sum())),
                overlap=float((basis.T @ t).square().sum()),
                chance=basis.shape[1] / len(t),
            )
        )
    return Localisation(first_cos=float(cosines[0]), at=at)


def p_isotropic(cos: float, d_model: int, tries: int) -> float:
    """P(max |cos| >= `cos`) over `tries` independent isotropic directions; 1 without any."""
    if not tries or cos <= 0:
        return 1.0
    one = float(beta.sf(min(1.0, cos**2), 0.5, (d_model - 1) / 2))
    return float(-np.expm1(tries * np.log1p(-one))) if one < 1 else 1.0
