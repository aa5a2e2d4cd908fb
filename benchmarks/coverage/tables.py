"""Coverage of a table's intervals: families, organisms and method seeds are drawn too, and two methods are compared.

What a method reaches is normal around its mean with a part for the family, the organism and the seed; both sides share
`ALIKE` of the variance. The headline is the mean over families of the mean over their organisms and seeds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diffbench.harness.protocol.bootstrap import template_weights
from diffbench.leaderboard.statistics.contrasts import flip_interval
from scipy import stats

from .cells import covered, effective_numbers, tails
from .world import METHOD_SPREAD, SIDES, UNLIMITED, Array, Layout, Truth, effects, organism, scores

DRAWS = 1000
CHUNK = 100
METHODS = {"first": (0.6, 0.45), "second": (0.4, 0.3)}
"""Mean share of the gap moved, for sufficiency and for necessity."""
FAMILY, ORGANISM, SEED = 0.25, 0.15, 0.1
"""Standard deviations of the share moved."""
ALIKE = 0.7
CANDIDATES = ("Student, families", "expanded percentile, families", "every level, Student's tail")


@dataclass(frozen=True)
class Grid:
    """How many of each are in the table."""

    families: int
    organisms: tuple[int, int]
    """Of the smallest and of the largest family; sizes go round between them."""
    seeds: int
    layout: Layout

    @property
    def family(self) -> Array:
        """[organisms] family of each."""
        low, high = self.organisms
        return np.repeat(np.arange(self.families), low + np.arange(self.families) % (high - low + 1))


def measured(grid: Grid, truth: Truth, reps: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row per candidate and quantity: isolation of a method, and the difference of two."""
    rng = np.random.default_rng(seed)
    true = {method: _expected(truth, shares) for method, shares in METHODS.items()}
    goal = {"isolation": true["first"], "difference": true["first"] - true["second"]}
    found: dict[tuple[str, str], list[tuple[Array, Array]]] = {}
    here: list[tuple[Array, Array, Array]] = []
    for start in range(0, reps, CHUNK):
        value, drawn, on_set, known = _repetitions(grid, truth, min(CHUNK, reps - start), rng)
        here.append((*on_set, known))
        for what in goal:
            for name, ends in intervals(value[what], drawn[what], rng).items():
                found.setdefault((name, what), []).append(ends)
    row = {"families": grid.families, "organisms": len(grid.family), "seeds": grid.seeds, "icc": grid.layout.icc}
    row |= {"templates": grid.layout.templates, "controls": grid.layout.controls}
    for (name, what), parts in found.items():
        low, high = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
        yield row | {"interval": name, "score": what} | covered(goal[what], low, high)
    low, high, known = (np.concatenate([p[i] for p in here]) for i in (0, 1, 2))
    yield row | {"interval": "on this set", "score": "isolation"} | covered(known, low, high)


def intervals(family_means: Array, drawn: Array, rng: np.random.Generator) -> dict[str, tuple[Array, Array]]:
    """All candidates, and the sign-flip interval of a contrast, from family means [reps, families] and draws [reps, draws]."""
    n = family_means.shape[1]
    mean, error = family_means.mean(1), stats.sem(family_means, axis=1)
    reach = stats.t.isf(0.025, n - 1) * error
    resampled = family_means @ (rng.multinomial(n, np.full(n, 1 / n), size=4 * DRAWS) / n).T
    expanded = np.quantile(resampled, tails(n), axis=1)
    tail = float(stats.norm.sf(stats.t.isf(0.025, n - 1)))
    every = np.quantile(drawn, [tail, 1 - tail], axis=1)
    flips = np.array([flip_interval(row) or (-np.inf, np.inf) for row in family_means])
    return {
        "Student, families": (mean - reach, mean + reach),
        "expanded percentile, families": (expanded[0], expanded[1]),
        "every level, Student's tail": (every[0], every[1]),
        "sign flips, families": (flips[:, 0], flips[:, 1]),
    }


def _repetitions(
    grid: Grid, truth: Truth, reps: int, rng: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array], tuple[Array, Array], Array]:
    """Family means [reps, families], draws of the headline [reps, draws], interval and truth on this set."""
    family = grid.family
    shares = _organism_weights(family, rng)
    common = {m: _sides(rng, FAMILY, reps, grid.families) for m in METHODS}
    cells = {m: np.zeros((reps, len(family))) for m in METHODS}
    drawn = {m: np.zeros((reps, DRAWS)) for m in METHODS}
    variances, known = list[Array](), list[Array]()
    for i, f in enumerate(family):
        o = organism(rng, reps, grid.layout)
        weights, worth = _cell_weights(grid, rng), effective_numbers(grid.layout.template, o.gap)
        for method, own in METHODS.items():
            centre = np.asarray(own)[:, None] + common[method][..., f] + _sides(rng, ORGANISM, reps)
            point, draws = _method_on(o, centre, grid, weights, rng)
            cells[method][:, i] = point
            drawn[method] += shares[:, i] * draws.drawn
            if method == "first":
                variances.append(draws.stretched(grid.seeds, worth).var(1))
                known.append(_seed_mean(truth, centre) if grid.seeds > 1 else truth.isolation(centre))
    weight = 1 / (grid.families * np.bincount(family)[family])
    value = {m: np.stack([of[:, family == f].mean(1) for f in range(grid.families)], 1) for m, of in cells.items()}
    ends = _on_this_set(cells["first"] @ weight, np.stack(variances, 1), weight, grid)
    return (
        {"isolation": value["first"], "difference": value["first"] - value["second"]},
        {"isolation": drawn["first"], "difference": drawn["first"] - drawn["second"]},
        ends,
        np.stack(known, 1) @ weight,
    )


@dataclass(frozen=True)
class Spread:
    """As `resample.Spread`, of isolation: [reps, draws] with seeds drawn and with each counted once."""

    drawn: Array
    even: Array

    def stretched(self, seeds: int, worth: Array) -> Array:
        """As `fixed_set`: two seeds' bootstrap has half of their variance, and n templates' has (n − 1)/n; `worth` [reps]."""
        middle, n = self.even.mean(1, keepdims=True), worth[:, None]
        prompts = (n / (n - 1)) ** 0.5 * (self.even - middle)
        return middle + prompts + ((seeds / (seeds - 1)) ** 0.5 * (self.drawn - self.even) if seeds > 1 else 0)


def _method_on(
    o: Any, centre: Array, grid: Grid, weights: Sequence[Array], rng: np.random.Generator
) -> tuple[Array, Spread]:
    """Isolation of a method on an organism, mean over seeds [reps], and its draws; `centre` [sides, reps] is what it moves there."""
    prompts, controls, seeds = weights
    reps, n = len(o.gap), len(grid.layout.template)
    common = [grid.layout.scatter(rng, reps) for _ in SIDES]
    point, drawn, even = np.zeros(reps), np.zeros((reps, DRAWS)), np.zeros((reps, DRAWS))
    for s in range(grid.seeds):
        moved = centre + (_sides(rng, SEED, reps) if grid.seeds > 1 else 0)
        effect = {
            side: effects(
                o.gap,
                o.room[side],
                moved[k][:, None] + METHOD_SPREAD * (0.8**0.5 * common[k] + 0.2**0.5 * grid.layout.scatter(rng, reps)),
            )
            for k, side in enumerate(SIDES)
        }
        c = grid.layout.controls
        whole = scores(o, effect, np.full((1, n), 1 / n), np.full((1, c), 1 / c))["isolation"][:, 0]
        point += np.maximum(whole, 0) / grid.seeds
        values = np.maximum(scores(o, effect, prompts, controls)["isolation"], 0)
        drawn += seeds[:, s] * values
        even += values / grid.seeds
    return point, Spread(drawn, even)


def _on_this_set(mean: Array, variances: Array, weight: Array, grid: Grid) -> tuple[Array, Array]:
    """As `fixed_set`: variances [reps, organisms] add up, Satterthwaite's degrees of freedom."""
    parts = variances * weight**2
    free = min(grid.seeds, grid.layout.templates) - 1 if grid.seeds > 1 else grid.layout.templates - 1
    df = parts.sum(1) ** 2 / (parts**2 / free).sum(1)
    reach = stats.t.isf(0.025, df) * np.sqrt(parts.sum(1))
    return mean - reach, mean + reach


def _cell_weights(grid: Grid, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    def even(n: int) -> Array:
        return rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n

    layout = grid.layout
    return template_weights(layout.template.tolist(), DRAWS, rng), even(layout.controls), even(grid.seeds)


def _organism_weights(family: Array, rng: np.random.Generator) -> Array:
    """[draws, organisms] families with replacement, then organisms within each; rows sum to 1."""
    n = int(family.max()) + 1
    times = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n
    shares = np.zeros((DRAWS, len(family)))
    for f in range(n):
        own = np.flatnonzero(family == f)
        shares[:, own] = (
            times[:, [f]] * rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=DRAWS) / len(own)
        )
    return shares


def _sides(rng: np.random.Generator, deviation: float, *shape: int) -> Array:
    """[sides, *shape] normal, of which `ALIKE` of the variance is common to both sides."""
    return deviation * (ALIKE**0.5 * rng.standard_normal(shape) + (1 - ALIKE) ** 0.5 * rng.standard_normal((2, *shape)))


def _expected(truth: Truth, shares: tuple[float, float]) -> float:
    """Mean isolation over unlimited families, organisms and seeds."""
    deviation = (FAMILY**2 + ORGANISM**2 + SEED**2) ** 0.5
    moved = np.asarray(shares)[:, None] + _sides(np.random.default_rng(1), deviation, UNLIMITED)
    return float(truth.isolation(moved).mean())


def _seed_mean(truth: Truth, centre: Array) -> Array:
    """[reps] mean isolation over unlimited seeds of a method that moves `centre` [sides, reps] on average."""
    return truth.isolation(centre[..., None] + _sides(np.random.default_rng(2), SEED, 1, 512)).mean(-1)
