"""What a score's interval is made of: within an organism a bootstrap, over a set Student's t on the means of families.

On one organism a draw takes method seeds, templates with the prompts in them, and random controls. Test prompts are the same
for every method seed (crossed, not nested), so a draw takes one set of prompts for all of them; drawing them anew inside each
seed would treat prompts as more independent than they are. All methods see the same draws, which makes every comparison paired.
The stream of a level depends only on (seed, what is drawn from), never on which methods are in the table: adding a method or a
clone cannot move another method's interval by one bit. Scores are clipped to [−1, 1] where they are stated, never in a draw. A
level with one unit is not resampled: the interval then speaks about that unit alone.

Over a set the families are what might have been others, and what happens below them already shows in how much their means
scatter; drawing organisms, seeds and prompts inside drawn families once more makes intervals a tenth too wide
(docs/coverage.md). So families weigh alike, and their means are the sample.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import stats

from ...harness.protocol.intervals import Array, point_weights, sizes, template_weights, weights
from ...harness.records.identity import sha256_json
from ...harness.records.result import Result, Samples
from ...organisms.hub.registry.schema import kind_of
from .null_adjusted import SCORES, table_draws
from .rows import Estimate

CHUNK = 1000
"""Draws held at once: 8 MB of weights for 1,000 prompts. Fixed, because the streams are seeded per chunk."""


def rng(seed: int, *parts: str | int) -> np.random.Generator:
    """A generator for one named stream."""
    return np.random.default_rng(int(sha256_json([seed, *parts]), 16))


def point_scores(cells: Sequence[Result], most: float = 1.0) -> Array:
    """Mean over seeds of the scores [scores], each in [−most, most]; a failed cell counts as 0, the null score."""

    def score(samples: Samples | None) -> Array:
        if samples is None:
            return np.zeros(len(SCORES))
        return np.clip(table_draws(samples, *point_weights(samples))[:, 0], -most, most)

    return np.mean([score(_counted(cell)) for cell in cells], axis=0)


class Spread(NamedTuple):
    """Bootstrap of one method on one organism: [scores, draws] each, in the order of `SCORES`.

    NaN marks a draw in which the score is undefined (no scored prompt was drawn).
    """

    drawn: Array
    """Method seeds, prompts and controls drawn."""
    even: Array
    """The same prompts and controls with every method seed counted once."""


def organism_draws(groups: Mapping[str, Sequence[Result]], organism: str, draws: int, seed: int) -> dict[str, Spread]:
    """Bootstrap one organism for several methods at once; `groups` maps a method to its cells, one a seed."""
    out = {method: Spread(*np.zeros((2, len(SCORES), draws))) for method in groups}
    for start in range(0, draws, CHUNK):
        shared = _chunk_weights(organism, seed, start, min(CHUNK, draws - start))
        chunk = slice(start, start + CHUNK)
        for method, cells in groups.items():
            seeds = shared.units("seed", len(cells))
            for i, cell in enumerate(cells):
                values = _cell_draws(cell, shared)
                out[method].drawn[:, chunk] += seeds[:, i] * values
                out[method].even[:, chunk] += values / len(cells)
    return out


def family(organism: str) -> str:
    """`taboo` of `taboo/gold-narrow-s1` and of `hub/taboo-gold-gemma2-9b`; a name without a slash is its own family."""
    return kind_of(organism) or organism.partition("/")[0]


def lineage(organism: str) -> str:
    """The organism without its seed: `taboo/gold-narrow` of `taboo/gold-narrow-s1`."""
    return re.sub(r"-s\d+$", "", organism)


LEVELS: tuple[Callable[[str], str], ...] = (lambda organism: "", family, lineage, lambda organism: organism)
"""From the whole set to one trained organism: what contains what."""


def clusters(organisms: Sequence[str]) -> int | None:
    """Units of the highest level that has several: families, else organisms, else organism seeds; None without any."""
    n = len(_members(organisms))
    return n if n > 1 else None


def shares(organisms: Sequence[str]) -> dict[str, float]:
    """What each organism weighs in a mean: clusters alike, and the organisms of one cluster alike."""
    groups = _members(organisms)
    return {o: 1 / (len(groups) * len(group)) for group in groups for o in group}


def cluster_means(scores: Mapping[str, float]) -> Array:
    """[clusters] means of a score by organism (mean over method seeds), in the order of the organisms."""
    return np.array([float(np.mean([scores[o] for o in group])) for group in _members(scores)])


def headline(scores: Mapping[str, float], within: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Mean over families of the mean over their organisms, with Student's 95 % interval over the families.

    With one family its organisms take that place, with one organism its seeds (`clusters`); one alone has no interval.
    `within` is the range of the score: few clusters give ends beyond it, which are put back.
    """
    means = cluster_means(scores)
    value = float(means.mean())
    if len(means) < 2:
        return Estimate(value)
    reach = float(stats.t.isf(0.025, len(means) - 1) * stats.sem(means))
    return Estimate(value, max(value - reach, within[0]), min(value + reach, within[1]))


def cluster_draws(scores: Mapping[str, Mapping[str, float]], draws: int, seed: int) -> dict[str, Array]:
    """[draws] of the headlines of several methods together, from their scores by organism: Student's t of several dimensions.

    Each alone scatters as its interval says, and the difference of two as theirs does; with few clusters a bootstrap of them
    would be too sure of ranks.
    """
    means = {method: cluster_means(of) for method, of in scores.items()}
    if not means:
        return {}
    n = len(next(iter(means.values())))
    random = rng(seed, "clusters", n)
    t = random.standard_normal((draws, n)) / np.sqrt(n * random.chisquare(n - 1, (draws, 1)))
    return {method: of.mean() + t @ (of - of.mean()) for method, of in means.items()}


def _members(organisms: Iterable[str]) -> list[list[str]]:
    """The organisms of each cluster."""
    names = list(organisms)
    of = next((of for of in LEVELS[1:] if len(set(map(of, names))) > 1), family)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(of(name), []).append(name)
    return list(groups.values())


class Shared(NamedTuple):
    """Weights of one chunk, each drawn once and shared by all methods."""

    units: Callable[[str, int], Array]
    """[size, n] by level name and number of units."""
    prompts: Callable[[tuple[int | None, ...]], Array]
    """[size, prompts] by the template of each prompt; None, and weight 0, where it is not scored."""


def _chunk_weights(organism: str, seed: int, start: int, size: int) -> Shared:
    @cache
    def units(level: str, n: int) -> Array:
        return weights(n, size, rng(seed, organism, level, n, start))

    @cache
    def prompts(templates: tuple[int | None, ...]) -> Array:
        return template_weights(templates, size, rng(seed, organism, "prompt", len(templates), start))

    return Shared(units, prompts)


def _counted(cell: Result) -> Samples | None:
    """The samples a cell is scored by; None where it counts as 0."""
    return cell.samples if cell.status == "ok" else None


def _cell_draws(cell: Result, shared: Shared) -> Array:
    """[scores, chunk]; zeros for a failed cell."""
    samples = _counted(cell)
    if samples is None:
        return np.zeros((len(SCORES), 1))
    prompts = shared.prompts(
        tuple(t if scored else None for t, scored in zip(samples.templates, samples.scored, strict=True))
    )
    controls = {n: shared.units("control", n) for n in sizes(samples)}
    with np.errstate(divide="ignore", invalid="ignore"):
        values = table_draws(samples, prompts, controls)
    return np.where(np.isfinite(values), values, np.nan)
