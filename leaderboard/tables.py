"""Turns results into the two tables: one row per method, and one per organism and method.

The one idea: a row's score depends on that method's own cells and on the organism set, on nothing else. So a failure
counts as 0 (the null score) instead of leaving the mean, a hole in the grid takes the headline away, and adding a
method or a clone moves nobody's number. Only `ranks` compares methods.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from ..harness.result import SCORES, Result
from ..harness.stats import Array, interval
from ..organisms.errors import PrerequisiteError, ValidationFailed
from .labels import row_labels
from .ranks import ranked
from .resample import organism_draws, organism_weights, point_scores
from .rows import FAILURES, KINDS, SORT_KEY, STATUSES, CellRow, Estimate, MethodRow, Standing, Table
from .store import cell_name, check_comparable, sample_fault, sort_key

DRAWS = 10_000


def build_table(
    results: Sequence[Result],
    organisms: Sequence[str] | None = None,
    organism_set: str = "as found",
    draws: int = DRAWS,
    seed: int = 0,
) -> Table:
    """Score every method over one organism set.

    `organisms` is the frozen set. None takes every organism among the results, which is fit for one's own runs only: a
    result on one more organism then enlarges the set for everybody. A published table names its set.

    Raises:
        PrerequisiteError: no results. ValidationFailed: an `ok` record whose scores do not follow from its samples.
        MixedResultsError: the records measured different things.
    """
    names = sorted(set(organisms) if organisms is not None else {r.identity.organism for r in results})
    chosen = sorted((r for r in results if r.identity.organism in names), key=sort_key)
    if not chosen:
        raise PrerequisiteError(
            f"no results on the organism set {organism_set!r} ({', '.join(names) or 'empty'}): run them first"
        )
    check_comparable(chosen)
    for result in chosen:
        if (fault := sample_fault(result)) is not None:
            raise ValidationFailed(f"{cell_name(result)}: {fault}")
    grids = _grids(chosen, names)
    headline = {grid.method: np.zeros((len(SCORES), draws)) for grid in grids}
    rows: dict[str, list[CellRow]] = {grid.method: [] for grid in grids}
    shares = {n: organism_weights(n, draws, seed) for n in {len(grid.used) for grid in grids} if n}
    for organism in names:  # one at a time, so that memory grows with the methods and not with the cells
        spread = organism_draws(
            {g.method: g.scored[organism] for g in grids if organism in g.used}, organism, draws, seed
        )
        for grid in grids:
            rows[grid.method].append(_cell_row(grid, organism, spread.get(grid.method)))
            if organism in grid.used:
                share = shares[len(grid.used)][:, grid.used.index(organism)]
                # where: an organism that was not drawn cannot make a draw undefined
                headline[grid.method] += np.where(share > 0, share * spread[grid.method], 0.0)
    overall = [_method_row(rows[grid.method], headline[grid.method]) for grid in grids]
    overall.sort(key=lambda r: (r.standing == "incomplete", -(r.scores[SORT_KEY].value or 0.0), r.method))
    overall = ranked(overall, {m: values[SCORES.index(SORT_KEY)] for m, values in headline.items()})
    return Table(
        overall=tuple(overall),
        cells=tuple(rows[row.method][i] for i in range(len(names)) for row in overall),
        organisms=tuple(names),
        organism_set=organism_set,
        outside=len(results) - len(chosen),
        protocol=chosen[0].identity.protocol,
        protocol_sha256=chosen[0].identity.protocol_sha256,
        draws=draws,
        seed=seed,
    )


@dataclass(frozen=True)
class _Grid:
    """The cells of one row label over the organism set."""

    method: str
    access: str
    cells: dict[str, tuple[Result, ...]]
    """By organism, all of the set."""
    scored: dict[str, tuple[Result, ...]]
    """Those that carry a score."""
    used: tuple[str, ...]
    """Organisms with any such cell."""
    seeds: frozenset[str]
    """Seeds seen on any organism: each is expected on every organism."""


def _grids(results: Sequence[Result], names: Sequence[str]) -> list[_Grid]:
    """One grid per row label, by label."""
    labels = row_labels(results)
    grids: list[_Grid] = []
    for label in sorted(set(labels.values())):
        own = [r for r in results if labels[r.id] == label]
        cells = {o: tuple(r for r in own if r.identity.organism == o) for o in names}
        scored = {o: tuple(c for c in cells[o] if c.status in ("ok", *FAILURES)) for o in names}
        used, seeds = tuple(o for o in names if scored[o]), frozenset(map(_seed, own))
        grids.append(_Grid(label, own[0].provenance.access, cells, scored, used, seeds))
    return grids


def _cell_row(grid: _Grid, organism: str, spread: Array | None) -> CellRow:
    """The row of one organism, given its [scores, draws]."""
    cells, scored = grid.cells[organism], grid.scored[organism]
    counts = Counter[str](c.status for c in cells)
    if not counts["not_applicable"]:
        counts["not_run"] += len(grid.seeds - set(map(_seed, cells)))
    whole = bool(scored) and not counts["not_run"]
    return CellRow(
        method=grid.method,
        kind=KINDS.get(grid.access, "method"),
        access=grid.access,
        scores=_estimates(point_scores(scored), spread) if whole and spread is not None else _estimates(),
        counts=_ordered(counts),
        wall_s=_median_wall(cells),
        organism=organism,
        cells=cells,
    )


def _method_row(rows: Sequence[CellRow], spread: Array) -> MethodRow:
    """The headline: the mean over the organisms, unless a cell is missing."""
    counts = sum((Counter[str](row.counts) for row in rows), Counter[str]())
    used = [row for row in rows if row.seeds]
    whole = bool(used) and not counts["not_run"]
    mean = np.mean([[cast(float, row.scores[s].value) for s in SCORES] for row in used], axis=0) if whole else None
    comparable = rows[0].kind == "method" and not counts["not_applicable"]
    standing: Standing = "incomplete" if not whole else "ranked" if comparable else "unranked"
    return MethodRow(
        method=rows[0].method,
        kind=rows[0].kind,
        access=rows[0].access,
        scores=_estimates(mean, spread) if mean is not None else _estimates(),
        counts=_ordered(counts),
        wall_s=_median_wall([cell for row in rows for cell in row.cells]),
        standing=standing,
        organisms=len(used),
        seeds=(min((r.seeds for r in used), default=0), max((r.seeds for r in used), default=0)),
    )


def _seed(cell: Result) -> str:
    return repr(sorted(cell.identity.seeds.items()))


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return {status: counts[status] for status in STATUSES if counts[status]}


def _median_wall(cells: Sequence[Result]) -> float | None:
    ran = [c.cost.wall_s for c in cells if c.status in ("ok", *FAILURES)]
    return float(np.median(ran)) if ran else None


def _estimates(value: Array | None = None, spread: Array | None = None) -> dict[str, Estimate]:
    """[scores] and [scores, draws] to estimates by name; intervals over the draws in which the score is defined."""
    if value is None or spread is None:
        return {name: Estimate() for name in SCORES}
    defined = [row[~np.isnan(row)] for row in spread]
    return {
        s: Estimate()
        if np.isnan(value[i])
        else Estimate(float(value[i]), *(interval(defined[i]) if len(defined[i]) else ()))
        for i, s in enumerate(SCORES)
    }
