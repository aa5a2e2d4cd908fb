"""What is measured of the findings beside the four scores: false discoveries on nulls, localisation of planted truths, identification.

None of it enters the ranking. Where nothing is hidden there is no scale from random to oracle, a planted direction is known to
one organism family only, and a reading says what a finding is about and not what it does.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest

from ...harness.records.result import ALPHA, FalseDiscovery
from ..board.cell import Cell
from .grid import Grid
from .resample import headline
from .rows import Estimate, FindingRow

KS = (1, 10)
"""Findings that localisation and identification look at."""


def finding_measures(grids: Sequence[Grid]) -> tuple[FindingRow, ...]:
    """One row for every method that has any of the three, in the order of the grids."""
    rows = map(_row, grids)
    return tuple(r for r in rows if r.nulls or any(e.value is not None for e in (*r.located, *r.identified)))


def _row(grid: Grid) -> FindingRow:
    tested = [c.false_discovery for own in grid.cells.values() for c in own if c.false_discovery]
    return FindingRow(
        method=grid.method,
        kind=grid.kind,
        false_discovery=false_share(tested),
        findings=sum(len(t.p) for t in tested),
        nulls=len(tested),
        expected=tested[0].expected if tested else None,
        floor=tested[0].p_min if tested else None,
        located=tuple(_mean(grid, lambda c, k=k: _located(c, k), 0.0) for k in KS),
        identified=tuple(_mean(grid, lambda c, k=k: _identified(c, k), -math.inf) for k in KS),
    )


def false_share(tested: Sequence[FalseDiscovery]) -> Estimate:
    """Share of all findings on all nulls that are called causally active, with its Clopper-Pearson interval."""
    p = [p for test in tested for p in test.p]
    if not p:
        return Estimate()
    found = binomtest(sum(x < ALPHA for x in p), len(p))
    return Estimate(found.statistic, *found.proportion_ci())


def _mean(grid: Grid, value: Callable[[Cell], float | None], least: float) -> Estimate:
    """As a headline: over families, of the mean over organisms of the mean over seeds; from `least` to 1."""
    values = {o: [v for c in own if (v := value(c)) is not None] for o, own in grid.cells.items()}
    means = {o: float(np.mean(v)) for o, v in values.items() if v}
    return headline(means, (least, 1.0)) if means else Estimate()


def _located(cell: Cell, k: int) -> float | None:
    return next((at.cos for at in cell.localisation.at if at.k == k), None) if cell.localisation else None


def _identified(cell: Cell, k: int) -> float | None:
    return next((at.value for at in cell.identification.at if at.k == k), None) if cell.identification else None
