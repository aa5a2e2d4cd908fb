"""What is measured of the findings beside the four scores: false discoveries on nulls, localisation of planted truths, identification.

None of it enters the ranking. Where nothing is hidden there is no scale from random to oracle, a planted direction is known to
one organism family only, and a reading says what a finding is about and not what it does.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np
from scipy.stats import binomtest

from ...harness.records.result import ALPHA, FalseDiscovery
from ..board.cell import Cell
from .grid import Grid
from .resample import headline
from .rows import FAILURES, Estimate, FindingRow

KS = (1, 10)
"""Findings that localisation and identification look at."""


def finding_measures(grids: Sequence[Grid]) -> tuple[FindingRow, ...]:
    """One row for every method that has any of the three, in the order of the grids.

    Where others have the measure, a failed cell has none of the truth: localisation and identification 0; on nulls it is counted.
    """
    where = {name: _where(grids, value) for name, (value, _) in MEASURES.items()}
    nulls = _where(grids, lambda c: c.false_discovery)
    rows = [_row(grid, nulls, where) for grid in grids]
    return tuple(
        r for r in rows if r.nulls or r.nulls_failed or any(e.value is not None for e in (*r.located, *r.identified))
    )


def _where(grids: Sequence[Grid], measure: Callable[[Cell], object]) -> frozenset[str]:
    """Organisms on which anybody has a measure."""
    return frozenset(o for grid in grids for o, own in grid.cells.items() if any(measure(c) is not None for c in own))


def _row(grid: Grid, nulls: Collection[str], where: Mapping[tuple[str, int], Collection[str]]) -> FindingRow:
    tested = [c.false_discovery for own in grid.cells.values() for c in own if c.false_discovery]
    return FindingRow(
        method=grid.method,
        kind=grid.kind,
        false_discovery=false_share(tested),
        findings=sum(len(t.p) for t in tested),
        nulls=len(tested),
        nulls_failed=sum(_found_nothing(c) for o in nulls for c in grid.cells[o]),
        expected=tested[0].expected if tested else None,
        floor=tested[0].p_min if tested else None,
        located=tuple(_mean(grid, where["located", k], *MEASURES["located", k]) for k in KS),
        identified=tuple(_mean(grid, where["identified", k], *MEASURES["identified", k]) for k in KS),
    )


def false_share(tested: Sequence[FalseDiscovery]) -> Estimate:
    """Share of all findings on all nulls that are called causally active, with its Clopper-Pearson interval."""
    p = [p for test in tested for p in test.p]
    if not p:
        return Estimate()
    found = binomtest(sum(x < ALPHA for x in p), len(p))
    return Estimate(found.statistic, *found.proportion_ci())


def _mean(grid: Grid, where: Collection[str], value: Callable[[Cell], float | None], least: float) -> Estimate:
    """As a headline: over families, of the mean over organisms of the mean over seeds; from `least` to 1."""
    means = dict[str, float]()
    for o in where:
        found = [0.0 if _found_nothing(c) else value(c) for c in grid.cells[o]]
        if known := [v for v in found if v is not None]:
            means[o] = float(np.mean(known))
    return headline(dict(sorted(means.items())), (least, 1.0)) if means else Estimate()


def _found_nothing(cell: Cell) -> bool:
    """Whether a cell failed that would have had findings: the oracle has none."""
    return cell.status in FAILURES and cell.identity.method != "oracle"


def _located(cell: Cell, k: int) -> float | None:
    return next((at.cos for at in cell.localisation.at if at.k == k), None) if cell.localisation else None


def _identified(cell: Cell, k: int) -> float | None:
    return next((at.value for at in cell.identification.at if at.k == k), None) if cell.identification else None


MEASURES: dict[tuple[str, int], tuple[Callable[[Cell], float | None], float]] = {
    (name, k): (partial(value, k=k), least)
    for name, value, least in (("located", _located, 0.0), ("identified", _identified, -math.inf))
    for k in KS
}
"""What is measured of a cell's first k findings, and the least that it can be."""
