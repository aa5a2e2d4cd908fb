"""How alike the decoder rows of two dictionaries are, beside what random rows of the same shape give.

Mean max cosine A → B = (1/n_A) Σ_i max_j cos(a_i, b_j) looks for each row's best partner, so it grows with n_B and is not symmetric; a
one-to-one matching is. Chance is measured twice. *Random* rows are isotropic: their mean max cosine lies just under √(2 ln n / d).
*Alike* rows are random too, but have the second moment of the rows that they stand for: two dictionaries that share no latent but write
along the same few directions, or whose two halves are nearly one vector, agree as much as these do.

Shape letters: n rows of one dictionary, D their width (both models' side by side for a joint dictionary).
"""

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

Matching = Literal["Hungarian", "mutual nearest neighbours"]
EXACT = 4096
"""Most rows that are matched by the Hungarian algorithm, which takes n³ steps and n² numbers."""
ROWS = 4096
"""Rows compared at a time."""
SAME = 0.7
"""Cosine from which two matched rows count as one latent (the threshold of `sae_pair`; no published cut-off is known to us)."""
DRAWS = 3
"""Random pairs of dictionaries that chance is the mean of."""


class Cosines(NamedTuple):
    """Two sets of rows compared."""

    max_ab: float
    """Mean over rows of A of the largest cosine with a row of B."""
    max_ba: float
    matched: float
    """Mean cosine of matched rows."""
    same: float
    """Share of the rows of the smaller set whose match has a cosine of at least `SAME`."""
    matches: int
    """Pairs of rows."""


def formula(n: int, width: int) -> float:
    """√(2 ln n / D), what the largest of n random cosines approaches from below."""
    return min(1.0, math.sqrt(2 * math.log(max(n, 1)) / width))


def matching_of(n_a: int, n_b: int) -> Matching:
    """How rows are matched at these sizes."""
    return "Hungarian" if max(n_a, n_b) <= EXACT else "mutual nearest neighbours"


def compare_rows(a_nD: Tensor, b_nD: Tensor) -> tuple[Cosines, tuple[Tensor, Tensor]]:
    """Cosines, and the matched rows as (index in A, index in B)."""
    a_nD, b_nD = normalize(a_nD.float(), dim=1), normalize(b_nD.float(), dim=1)
    best_a, to_b = _nearest(a_nD, b_nD)
    best_b, to_a = _nearest(b_nD, a_nD)
    if matching_of(len(a_nD), len(b_nD)) == "Hungarian":
        found = linear_sum_assignment((a_nD @ b_nD.T).numpy(), maximize=True)
        rows, columns = (torch.as_tensor(np.ascontiguousarray(x)) for x in found)
    else:
        rows = (to_a[to_b] == torch.arange(len(a_nD))).nonzero()[:, 0]
        columns = to_b[rows]
    cosine = (a_nD[rows] * b_nD[columns]).sum(1)
    same = float((cosine >= SAME).sum()) / min(len(a_nD), len(b_nD))
    mean = float(cosine.mean()) if len(cosine) else 0.0
    return Cosines(float(best_a.mean()), float(best_b.mean()), mean, same, len(rows)), (rows, columns)


def random_chance(n_a: int, n_b: int, width: int) -> Cosines:
    """What isotropic rows give, mean of `DRAWS`."""
    return _random(n_a, n_b, width)


def alike_chance(a_nD: Tensor, b_nD: Tensor) -> Cosines:
    """What random rows give whose second moment is that of the unit rows of A and of B, mean of `DRAWS`."""
    return _mean(lambda g: (_alike(a_nD, g), _alike(b_nD, g)))


@functools.lru_cache(maxsize=64)
def _random(n_a: int, n_b: int, width: int) -> Cosines:
    return _mean(lambda g: (torch.randn(n_a, width, generator=g), torch.randn(n_b, width, generator=g)))


def _mean(draw: Callable[[torch.Generator], tuple[Tensor, Tensor]]) -> Cosines:
    """Over `DRAWS` draws."""
    generator = torch.Generator().manual_seed(0)
    found = [compare_rows(*draw(generator))[0] for _ in range(DRAWS)]
    ab, ba, matched, same, matches = (sum(values) / DRAWS for values in zip(*found, strict=True))
    return Cosines(ab, ba, matched, same, round(matches))


def _alike(rows_nD: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian rows [n, D] with the second moment of these unit rows."""
    unit = normalize(rows_nD.double(), dim=1)
    values, vectors = torch.linalg.eigh(unit.T @ unit / len(unit))
    noise = torch.randn(len(unit), len(values), generator=generator, dtype=torch.float64)
    return (noise * values.clamp_min(0).sqrt()) @ vectors.T


def _nearest(a_nD: Tensor, b_nD: Tensor) -> tuple[Tensor, Tensor]:
    """[n_A] largest cosine of each unit row of A with one of B, and which."""
    values, which = zip(*((part @ b_nD.T).max(1) for part in a_nD.split(ROWS)), strict=True)
    return torch.cat(values), torch.cat(which)
