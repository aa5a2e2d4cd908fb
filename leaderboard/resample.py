"""The hierarchical bootstrap: organism → method seed → test prompts and random controls.

Test prompts are the same for every seed of an organism (crossed, not nested), so a draw takes one set of prompts for
all of them; drawing them anew inside each seed would treat prompts as more independent than they are. All methods see
the same draws, which makes every comparison paired. The stream of a level depends only on (seed, organism, level,
number of units), never on which methods are in the table: adding a method or a clone cannot move another method's
interval by one bit.

Organisms are resampled only when there are several. With one (as in a per-organism table) there is nothing to resample:
its weight is 1 and the interval speaks about that organism alone. Percentile intervals over few organisms run
short of their nominal coverage (tests/leaderboard/test_tables.py simulates it).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from ..harness.result import Result, Samples, sha256_json
from ..harness.stats import Array, Draws, point, score_draws, weights

CHUNK = 1000
"""Draws held at once: 8 MB of weights for 1,000 prompts. Fixed, because the streams are seeded per chunk."""


def rng(seed: int, *parts: str | int) -> np.random.Generator:
    """A generator for one named stream."""
    return np.random.default_rng(int(sha256_json([seed, *parts]), 16))


def point_scores(cells: Sequence[Result]) -> Array:
    """Mean over seeds of the four scores [scores]; a failed cell counts as 0, the null score."""
    zero = [0.0] * len(Draws._fields)
    return np.mean([[float(v[0]) for v in point(s)] if s is not None else zero for s in map(_counted, cells)], axis=0)


def organism_draws(groups: Mapping[str, Sequence[Result]], organism: str, draws: int, seed: int) -> dict[str, Array]:
    """Bootstrap one organism for several methods at once.

    `groups` maps a method to its cells (one a seed). Returns [scores, draws] for each method, in the order of `Draws`.
    NaN marks a draw in which the score is undefined (the drawn prompts show no behaviour at all).
    """
    out = {method: np.zeros((len(Draws._fields), draws)) for method in groups}
    for start in range(0, draws, CHUNK):
        shared = _chunk_weights(organism, seed, start, min(CHUNK, draws - start))
        for method, cells in groups.items():
            seeds = shared("seed", len(cells))
            for i, cell in enumerate(cells):
                out[method][:, start : start + CHUNK] += seeds[:, i] * _cell_draws(cell, shared)
    return out


def organism_weights(n: int, draws: int, seed: int) -> Array:
    """Weights over the organisms of a set [draws, n]; all 1 if there is only one."""
    return weights(n, draws, rng(seed, "organisms", n))


Shared = Callable[[str, int], Array]


def _chunk_weights(organism: str, seed: int, start: int, size: int) -> Shared:
    """Weights [size, n] by level name and number of units, each drawn once a chunk and shared by all methods."""

    @cache
    def level_weights(level: str, n: int) -> Array:
        return weights(n, size, rng(seed, organism, level, n, start))

    return level_weights


def _counted(cell: Result) -> Samples | None:
    """The samples a cell is scored by; None where it counts as 0."""
    return cell.samples if cell.status == "ok" else None


def _cell_draws(cell: Result, shared: Shared) -> Array:
    """[scores, chunk]; zeros for a failed cell."""
    samples = _counted(cell)
    if samples is None:
        return np.zeros((len(Draws._fields), 1))
    prompts, controls = shared("prompt", len(samples.b0)), shared("control", len(samples.sufficiency_controls))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.stack(score_draws(samples, prompts, controls))
    return np.where(np.isfinite(values), values, np.nan)
