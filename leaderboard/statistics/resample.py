"""The hierarchical bootstrap: family → organism → organism seed → method seed → templates, prompts in them, and random controls.

A draw weighs the organisms of a set: families are drawn with replacement, within a drawn family its organisms, within a
drawn organism its seeds; the weights are divided by their sum, so that a draw is a mean over the organisms it drew. The
headline itself is the plain mean over organisms and does not depend on families: families only say which organisms are
likely to succeed or fail together.

Test prompts are the same for every method seed of an organism (crossed, not nested), so a draw takes one set of prompts
for all of them; drawing them anew inside each seed would treat prompts as more independent than they are. Nor are prompts of
one template independent: templates are drawn, then prompts within each. All methods see the same draws, which makes every
comparison paired. The stream of a level depends only on (seed, what is drawn from), never on which methods are in the table:
adding a method or a clone cannot move another method's interval by one bit. Scores are clipped to [−1, 1] where they are
stated, never in a draw.

A level with one unit is not resampled: the interval then speaks about that unit alone. Few clusters make percentile
intervals short, because the bootstrap puts normal quantiles where Student's belong; the percentiles are therefore taken
at the tail mass that a normal has beyond Student's quantile (Hesterberg 2015, "What teachers should know about the
bootstrap", §5.3; his factor √(C/(C−1)) is left out, since resampling below the clusters widens the draws already). With
fewer than five clusters that is beyond what 10,000 draws resolve, and the interval is their range and runs short.
Coverage is simulated in tests/leaderboard.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import stats

from ...harness.protocol.intervals import Array, interval, point_weights, sizes, template_weights, weights
from ...harness.records.identity import sha256_json
from ...harness.records.result import Result, Samples
from .null_adjusted import SCORES, table_draws
from .rows import Estimate

CHUNK = 1000
"""Draws held at once: 8 MB of weights for 1,000 prompts. Fixed, because the streams are seeded per chunk."""


def rng(seed: int, *parts: str | int) -> np.random.Generator:
    """A generator for one named stream."""
    return np.random.default_rng(int(sha256_json([seed, *parts]), 16))


def point_scores(cells: Sequence[Result]) -> Array:
    """Mean over seeds of the scores [scores], each in [−1, 1]; a failed cell counts as 0, the null score."""

    def score(samples: Samples | None) -> Array:
        if samples is None:
            return np.zeros(len(SCORES))
        return np.clip(table_draws(samples, *point_weights(samples))[:, 0], -1, 1)

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
    """`taboo` of `taboo/gold-narrow-s1`; a name without a slash is its own family."""
    return organism.partition("/")[0]


def lineage(organism: str) -> str:
    """The organism without its seed: `taboo/gold-narrow` of `taboo/gold-narrow-s1`."""
    return re.sub(r"-s\d+$", "", organism)


LEVELS: tuple[Callable[[str], str], ...] = (lambda organism: "", family, lineage, lambda organism: organism)
"""From the whole set to one trained organism: what contains what."""


def organism_weights(organisms: Sequence[str], draws: int, seed: int) -> Array:
    """Weights over the organisms of a set [draws, organisms], each row summing to 1; all 1 if there is only one."""
    shares = np.ones((draws, len(organisms)))
    for depth, (whole, part) in enumerate(pairwise(LEVELS)):
        for name in sorted({whole(o) for o in organisms}):
            units = sorted({part(o) for o in organisms if whole(o) == name})
            drawn = weights(len(units), draws, rng(seed, "organisms", depth, name, *units)) * len(units)
            for j, organism in enumerate(organisms):
                if whole(organism) == name:
                    shares[:, j] *= drawn[:, units.index(part(organism))]
    return shares / shares.sum(1, keepdims=True)


def clusters(organisms: Sequence[str]) -> int | None:
    """Units of the highest level that has several: families, else organisms, else organism seeds; None without any."""
    return next((n for level in LEVELS[1:] if (n := len({level(o) for o in organisms})) > 1), None)


def cluster_interval(values: Array, n: int | None) -> tuple[float, float]:
    """95 % interval over the [draws] that are numbers, for `n` clusters; without clusters plain percentiles."""
    return interval(values, 0.95 if n is None else 1 - 2 * float(stats.norm.sf(stats.t.ppf(0.975, n - 1))))


def headline(scores: Mapping[str, float]) -> Estimate:
    """Mean over families of the mean over their organisms, with Student's 95 % interval over the families.

    The families are what is drawn, and what happens below them is already in how much their means scatter. With one family
    its organisms take that place, with one organism its seeds (`clusters`); one alone has no interval.

    Args:
        scores: by organism, mean over method seeds.
    """
    level = next((of for of in LEVELS[1:] if len({of(o) for o in scores}) > 1), family)
    groups: dict[str, list[float]] = {}
    for organism, score in scores.items():
        groups.setdefault(level(organism), []).append(score)
    means = np.array([np.mean(group) for group in groups.values()])
    if len(means) < 2:
        return Estimate(float(means.mean()))
    reach = float(stats.t.isf(0.025, len(means) - 1) * stats.sem(means))
    return Estimate(float(means.mean()), float(means.mean()) - reach, float(means.mean()) + reach)


class Shared(NamedTuple):
    """Weights of one chunk, each drawn once and shared by all methods."""

    units: Callable[[str, int], Array]
    """[size, n] by level name and number of units."""
    prompts: Callable[[tuple[int, ...]], Array]
    """[size, prompts] by the template of each prompt."""


def _chunk_weights(organism: str, seed: int, start: int, size: int) -> Shared:
    @cache
    def units(level: str, n: int) -> Array:
        return weights(n, size, rng(seed, organism, level, n, start))

    @cache
    def prompts(templates: tuple[int, ...]) -> Array:
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
    prompts = shared.prompts(tuple(samples.templates))
    controls = {n: shared.units("control", n) for n in sizes(samples)}
    with np.errstate(divide="ignore", invalid="ignore"):
        values = table_draws(samples, prompts, controls)
    return np.where(np.isfinite(values), values, np.nan)
