"""Where the noise of a score comes from, and how small a difference between two methods a benchmark can see.

The score y of a method m on a trained organism i (family f, organism l, organism seed i), method seed s and template of prompts p is
modelled with crossed and nested random effects, methods fixed:

    y = μ_m + [a_f + a_l + a_i + a_ip] + [b_mf + b_ml + b_mi + b_mip] + c_mis + e_misp

The first bracket is common to all methods and cancels in a paired difference; the second is how differently methods
take to a family, an organism, a seed or a template; c is the method seed and e its interaction with templates. Prompts of
one template are not independent, so templates are what is counted. Samples of a score that is no mean over them are its
jackknife pseudo-values n·θ − (n−1)·θ₋ₚ, moved so that their mean is the cell's score before clipping (Efron & Tibshirani
1993, ch. 11). Random controls are the same for all methods and are held fixed.

Components are estimated by the method of moments with unweighted means (Searle, Casella & McCulloch 1992, ch. 4-5): a
level's sum of squares around its parent's means has expectation Σ(n−1)·σ² + Σ v·(1−1/n), with v the variance that the
levels below leave in each unit's mean; solving upwards gives σ². Estimates below 0 count as 0 in what is reported. A
method with one seed beside methods with several is deterministic and has no seed variance; if all have one, seed
variance is unknown and is part of the level above. The difference of two methods then has the variance

    2 [ σ²_mf Σw_f² + σ²_ml Σw_l² + (σ²_mi + σ²_c/S + σ²_mip/P + σ²_e/(S·P)) Σw_i² ]

with w what a family, organism or trained organism weighs in a headline (`resample.shares`). "On this set" leaves the first three terms
out: they are what changes with other organisms, and a frozen set has none. The minimum detectable difference is the one
a two-sided t-test (families − 1 degrees of freedom; normal on the set) finds with 80 % power at α = .05, one comparison.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from scipy import optimize, stats

from ...harness.protocol.intervals import Array, point_weights
from ...harness.records.result import Result, Samples
from ...organisms.errors import PrerequisiteError
from ..board.cell import Cell
from .grid import Grid, status
from .null_adjusted import SCORES, table_draws
from .resample import LEVELS, clusters, shares
from .rows import SORT_KEY, count, scored_templates
from .tables import chosen_grids

ALPHA, POWER = 0.05, 0.8
TARGET = 0.05
"""The difference that `needed` asks for."""
MOST = 10_000
"""Seeds, templates or organisms beyond which the answer is: no number."""
NESTED = ("family", "organism", "organism seed")
Blocks = Mapping[str, Mapping[str, Array]]
"""Organism → method → [seeds, templates] values; all methods of an organism have the same templates."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    organisms: tuple[str, ...]
    seeds: int
    templates: float
    times: int = 1
    """As many sets of organisms like this one, each with families of its own."""

    @property
    def clusters(self) -> int | None:
        """Families, else organisms, else organism seeds."""
        n = clusters(self.organisms)
        return self.times * n if n else self.times if self.times > 1 else None

    def concentration(self, level: int) -> float:
        """Σw² over the units of a level of `NESTED`; 1 / their number if all weigh alike."""
        units: dict[str, float] = {}
        for organism, share in shares(self.organisms).items():
            unit = LEVELS[level + 1](organism)
            units[unit] = units.get(unit, 0.0) + share
        return sum(w**2 for w in units.values()) / self.times


@dataclass(frozen=True)
class Components:
    """Variance components of a score, squared score units; None where the runs cannot tell it from another one."""

    main: Mapping[str, float | None]
    """Common to all methods: family, organism, organism seed, template."""
    interaction: Mapping[str, float | None]
    """Of a method: the same four × method, method seed, and method seed × template."""
    methods: tuple[str, ...]
    seeded: int
    """Methods with several seeds, the only ones that show seed variance."""
    size: Size
    score: str = SORT_KEY
    left_out: tuple[str, ...] = ()
    """Organisms on which the score is undefined for some method, no cell finished or there is one template."""
    not_counted: tuple[str, ...] = ()
    """Organisms that do not count in the score (`grid`)."""

    @property
    def pairs(self) -> int:
        """Pairs of the methods that are compared."""
        return math.comb(len(self.methods), 2)

    def variance(self, size: Size, on_this_set: bool) -> float:
        """Of the difference between the means of two methods."""
        part = {name: max(value or 0.0, 0.0) for name, value in self.interaction.items()}
        s, p = size.seeds, size.templates
        noise = (part["method seed"] + part["method seed × template"] / p) / s + part["template"] / p
        noise *= size.concentration(NESTED.index("organism seed"))
        spread = 0.0 if on_this_set else sum(part[name] * size.concentration(i) for i, name in enumerate(NESTED))
        return 2 * (noise + spread)

    def detectable(self, size: Size, on_this_set: bool, pairs: int = 1) -> float | None:
        """Minimum detectable difference, as one of several pairs (Bonferroni); None where one cluster cannot speak for others."""
        if not on_this_set and size.clusters is None:
            return None
        df = np.inf if on_this_set or size.clusters is None else size.clusters - 1
        return math.sqrt(self.variance(size, on_this_set)) * noncentrality(df, ALPHA / pairs)

    def needed(self, what: str, target: float = TARGET, pairs: int = 1) -> int | None:
        """The smallest number of `seeds` or `templates` (on this set) or `organisms` that detects `target`, all else as it is.

        None: no number is enough. Organisms come in whole sets like the present one, families included.
        """

        def enough(n: int) -> bool:
            fields = {"times": n} if what == "organisms" else {what: n}
            found = self.detectable(replace(self.size, **cast(dict[str, Any], fields)), what != "organisms", pairs)
            return found is not None and found <= target

        if not enough(MOST):
            return None
        low, high = 0, MOST
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high * len(self.size.organisms) if what == "organisms" else high


def noncentrality(df: float, alpha: float = ALPHA) -> float:
    """How many standard errors a true difference needs, for `POWER` of a two-sided t-test at `alpha`."""
    if math.isinf(df):
        return float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(POWER))
    cut = float(stats.t.ppf(1 - alpha / 2, df))

    def miss(d: float) -> float:
        return float(stats.nct.sf(cut, df, d)) - POWER

    return cast(float, optimize.brentq(miss, 0, 10 * cut))


def components(
    results: Sequence[Result] | Sequence[Cell],
    organisms: Sequence[str] | None = None,
    organism_set: str = "as found",
    score: str = SORT_KEY,
) -> Components:
    """Components of one score over the ranked methods of a table.

    Raises:
        PrerequisiteError: fewer than two ranked methods. Others as `chosen_grids`.
    """
    _, _, found = chosen_grids(results, organisms, organism_set, score)
    compared = [grid for grid in found if grid.standing == "ranked"]
    if len(compared) < 2:
        raise PrerequisiteError(
            f"{count(len(compared), 'method')} with every cell of the set {organism_set!r}: variance between methods needs "
            "two; run another one, or the missing cells"
        )
    blocks = {organism: _block(compared, organism, score) for organism in compared[0].counted(score)}
    whole = {o: block for o, block in blocks.items() if block and not any(np.isnan(y).any() for y in block.values())}
    if not whole:
        raise PrerequisiteError(f"{score} is undefined on every organism for some method: nothing to decompose")
    left_out = tuple(o for o in blocks if o not in whole)
    out = tuple(o for o in compared[0].used if o not in blocks)
    return replace(decompose(whole), score=score, left_out=left_out, not_counted=out)


def decompose(blocks: Blocks) -> Components:
    """Components from values by template of at least two methods, all of them on every organism."""
    organisms = tuple(blocks)
    methods = tuple(blocks[organisms[0]])
    several = [y for block in blocks.values() for y in block.values() if len(y) > 1]
    # method seed × template, then method seed: two-way tables without replication
    e = _ratio(sum(_square(_residual(y)) for y in several), sum((len(y) - 1) * (y.shape[1] - 1) for y in several))
    c = _ratio(
        sum(_square(y.mean(1) - y.mean()) - (e or 0.0) * (len(y) - 1) / y.shape[1] for y in several),
        sum(len(y) - 1 for y in several),
    )
    # template × method and template, from tables of seed means [methods, templates]
    tables = {o: np.stack([y.mean(0) for y in block.values()]) for o, block in blocks.items()}
    per_seed = {o: float(np.mean([1 / len(y) if len(y) > 1 else 0.0 for y in b.values()])) for o, b in blocks.items()}
    m = len(methods)
    df = {o: t.shape[1] - 1 for o, t in tables.items()}
    mp = _ratio(
        sum(_square(_residual(t)) - (e or 0.0) * per_seed[o] * (m - 1) * df[o] for o, t in tables.items()),
        (m - 1) * sum(df.values()),
    )
    p = _ratio(
        sum(
            _square(t.mean(0) - t.mean()) - ((mp or 0.0) + (e or 0.0) * per_seed[o]) * df[o] / m
            for o, t in tables.items()
        ),
        sum(df.values()),
    )
    # family, organism and organism seed, from the table of means [methods, organisms]
    means = np.stack([tables[o].mean(1) for o in organisms], axis=1)
    wide = np.array([tables[o].shape[1] for o in organisms], dtype=np.float64)
    below = ((c or 0.0) + (e or 0.0) / wide) * np.array([per_seed[o] for o in organisms]) + (mp or 0.0) / wide
    average = means.mean(0)
    crossed, total = (
        nested(means - average, below, organisms, m - 1),
        nested(average[None], below / m + (p or 0.0) / wide, organisms, 1),
    )
    main = {
        n: None if t is None else t - (x or 0.0) / m for (n, t), x in zip(total.items(), crossed.values(), strict=True)
    }
    size = Size(
        organisms,
        int(np.median([len(y) for y in several])) if several else 1,
        float(1 / np.mean(1 / wide)),
    )
    return Components(
        {**main, "template": p},
        {**crossed, "template": mp, "method seed": c, "method seed × template": e},
        methods,
        sum(any(len(b[name]) > 1 for b in blocks.values()) for name in methods),
        size,
    )


def nested(values: Array, noise: Array, organisms: Sequence[str], df: int) -> dict[str, float | None]:
    """Components of `NESTED` from [rows, organisms] whose rows have `df` free dimensions; `noise` [organisms] is what is below.

    None where no unit of a level has a sibling: its variance is then part of the level above.
    """
    found: dict[str, float | None] = {}
    names = list(organisms)
    for name, whole in zip(reversed(NESTED), reversed(LEVELS[:-1]), strict=True):
        groups = {g: [i for i, o in enumerate(names) if whole(o) == g] for g in dict.fromkeys(map(whole, names))}
        squares = free = 0.0
        for members in groups.values():
            inside, n = values[:, members], len(members)
            squares += _square(inside - inside.mean(1, keepdims=True)) / df - float(noise[members].sum()) * (1 - 1 / n)
            free += n - 1
        variance = found[name] = _ratio(squares, free)
        noise = np.array([(noise[i] + (variance or 0.0)).sum() / len(i) ** 2 for i in groups.values()])
        values = np.stack([values[:, i].mean(1) for i in groups.values()], axis=1)
        names = [names[i[0]] for i in groups.values()]
    return {name: found[name] for name in NESTED}


def pseudo_values(samples: Samples, score: str) -> Array:
    """[templates] jackknife pseudo-values of a score, with the score as their mean; templates without a scored prompt have none."""
    of, names = np.asarray(samples.templates), sorted(set(scored_templates(samples)))
    kept = np.stack([np.ones(len(of)), *(of != t for t in names)])
    every = kept / kept.sum(1, keepdims=True)
    controls = {n: np.broadcast_to(at, (len(every), n)) for n, at in point_weights(samples)[1].items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        whole, *without = table_draws(samples, every, controls)[SCORES.index(score)]
    n = len(names)
    pseudo = n * whole - (n - 1) * np.asarray(without)
    return pseudo - pseudo.mean() + whole


def _block(compared: Sequence[Grid], organism: str, score: str) -> dict[str, Array]:
    """Method → [seeds, templates]; a failed cell is all zeros. Empty if no cell finished, or there is one template."""
    cells = {grid.method: grid.scored[organism] for grid in compared}
    templates = next((c.templates for own in cells.values() for c in own if status(c) == "ok"), 0)
    if templates < 2:
        return {}
    return {method: np.stack([_values(c, score, templates) for c in own]) for method, own in cells.items()}


def _values(cell: Cell, score: str, templates: int) -> Array:
    samples = cell.result.samples if cell.status == "ok" else None
    return pseudo_values(samples, score) if samples else np.zeros(templates)


def _residual(table: Array) -> Array:
    """Of a two-way table without replication."""
    return table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()


def _square(values: Array) -> float:
    return float((values**2).sum())


def _ratio(total: float, df: float) -> float | None:
    return total / df if df else None
