"""Turns results into the two tables: one row per method, and one per organism and method.

The one idea: a row's score depends on that method's own cells and on the organism set, on nothing else. So a failure
counts as 0 (the null score) instead of leaving the mean, a hole in the grid takes the headline away, and adding a
method or a clone moves nobody's number. Which organisms count in a score is the labelled anchor's to say (`grid`), for all
alike. Only `ranks` compares methods.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from ...harness.protocol.consistency import fault
from ...harness.protocol.intervals import Array
from ...harness.records.result import Result
from ...organisms.errors import PrerequisiteError, ValidationFailed, unknown
from ..board.store import cell_name, check_comparable, sort_key
from .compare import across, paired
from .finding_measures import finding_measures
from .fixed_set import Noise, noise, on_this_set
from .grid import Grid, grids, untried
from .null_adjusted import SCORES
from .ranks import places, ranked
from .resample import Spread, cluster_interval, clusters, organism_draws, organism_weights, point_scores
from .rows import CONSTANT, FAILURES, SORT_KEY, STATUSES, AnchorRow, CellRow, Estimate, MethodRow, Table

DRAWS = 10_000


def build_table(
    results: Sequence[Result],
    organisms: Sequence[str] | None = None,
    organism_set: str = "as found",
    draws: int = DRAWS,
    seed: int = 0,
    key: str = SORT_KEY,
    settled: Collection[str] = (),
) -> Table:
    """Score every method over one organism set, sorted and compared by the score `key`.

    `organisms` is the frozen set. None takes every organism among the results, which is fit for one's own runs only: a
    result on one more organism then enlarges the set for everybody. A published table names its set. `settled` are methods
    known to draw nothing, for which one method seed says all (`fixed_set`).

    Raises:
        UsageError, PrerequisiteError, ValidationFailed, MixedResultsError: as `chosen_grids`.
    """
    names, chosen, found = chosen_grids(results, organisms, organism_set, key)
    headline = {grid.method: np.zeros((len(SCORES), draws)) for grid in found}
    rows: dict[str, list[CellRow]] = {grid.method: [] for grid in found}
    means = {on for grid in found for score in SCORES if (on := grid.counted(score))}
    shares = {on: organism_weights(on, draws, seed) for on in means}
    seeds = {
        g.method: 1 if g.name in settled else g.seeds
        for g in found
        if g.standing == "ranked" and (g.seeds > 1 or g.name in settled)
    }
    unsolvable = found[0].unsolvable
    inside = [name for name in names if name not in found[0].inapplicable]
    counted = {score: tuple(o for o in inside if o not in unsolvable[score]) for score in SCORES}
    noises: list[Noise] = []
    for organism in names:  # one at a time, so that memory grows with the methods and not with the cells
        spread = organism_draws(
            {g.method: g.scored[organism] for g in found if organism in g.used}, organism, draws, seed
        )
        for grid in found:
            rows[grid.method].append(_cell_row(grid, organism, spread.get(grid.method)))
            for i, score in enumerate(SCORES):
                if organism in (on := grid.counted(score)):
                    share = shares[on][:, on.index(organism)]
                    # where: an organism that was not drawn cannot make a draw undefined
                    headline[grid.method][i] += np.where(share > 0, share * spread[grid.method].drawn[i], 0.0)
        if seeds and organism in counted[key]:
            templates = max(row[-1].templates for row in rows.values())
            noises.append(noise({m: spread[m] for m in seeds}, seeds, templates, SCORES.index(key)))
    overall = [_method_row(grid, rows[grid.method], headline[grid.method], key) for grid in found]
    overall.sort(key=lambda r: (r.standing == "incomplete", -(r.scores[key].value or 0.0), r.method))
    values, spreads = _compared(overall, headline, key)
    pairs = paired(values, across(spreads, clusters(counted[key])))
    known = {m: v for m, v in values.items() if m in seeds}
    here = paired(known, on_this_set(noises, seeds))
    constant = places(*_compared(overall, headline, CONSTANT))
    overall = ranked(overall, places(values, spreads), constant, pairs, here)
    return Table(
        overall=tuple(overall),
        cells=tuple(rows[row.method][i] for i in range(len(names)) for row in overall),
        pairs=pairs,
        here=here,
        unknown_here=tuple(m for m in values if m not in known),
        finding_measures=tuple(
            sorted(finding_measures(found, draws, seed), key=lambda r: [o.method for o in overall].index(r.method))
        ),
        anchors=tuple(row for name in inside for row in _anchors(chosen, name)),
        organisms=tuple(names),
        inapplicable=tuple(name for name in names if name in found[0].inapplicable),
        counted=counted,
        unsolvable=unsolvable,
        untried=untried(chosen, inside),
        organism_set=organism_set,
        clusters=clusters(counted[key]),
        key=key,
        outside=len(results) - len(chosen),
        protocol=chosen[0].identity.protocol,
        protocol_sha256=chosen[0].identity.protocol_sha256,
        draws=draws,
        seed=seed,
    )


def chosen_grids(
    results: Sequence[Result], organisms: Sequence[str] | None, organism_set: str, key: str
) -> tuple[list[str], list[Result], list[Grid]]:
    """The names of the set, the results on it and the grid of each row label, everything that can be refused refused.

    Raises:
        UsageError: no such score. PrerequisiteError: no results. MixedResultsError: they measured different things.
        ValidationFailed: a record whose scores do not follow from its samples.
    """
    if key not in SCORES:
        raise unknown("score", key, SCORES)
    names = sorted(set(organisms) if organisms is not None else {r.identity.organism for r in results})
    chosen = sorted((r for r in results if r.identity.organism in names), key=sort_key)
    if not chosen:
        raise PrerequisiteError(
            f"no results on the organism set {organism_set!r} ({', '.join(names) or 'empty'}): run them first"
        )
    check_comparable(chosen)
    for result in chosen:
        if (wrong := fault(result, redraw=False)) is not None:  # a table draws its own intervals
            raise ValidationFailed(f"{cell_name(result)}: {wrong}")
    return names, chosen, grids(chosen, names)


def _cell_row(grid: Grid, organism: str, spread: Spread | None) -> CellRow:
    """The row of one organism, given its [scores, draws]."""
    cells, scored, counts = grid.cells[organism], grid.scored[organism], grid.counts(organism)
    whole = spread is not None and "not_run" not in counts
    return CellRow(
        method=grid.method,
        kind=grid.kind,
        access=grid.access,
        scores=_estimates(point_scores(scored), spread.drawn) if spread and whole else _estimates(),
        counts=counts,
        wall_s=_median_wall(cells),
        organism=organism,
        cells=cells,
        not_counted={s: reasons[organism] for s, reasons in grid.unsolvable.items() if organism in reasons},
    )


def _method_row(grid: Grid, rows: Sequence[CellRow], spread: Array, key: str) -> MethodRow:
    """The headline: the mean over the organisms that count, unless a cell is missing."""
    counts = sum((Counter[str](row.counts) for row in rows), Counter[str]())
    used = [row for row in rows if row.seeds]
    whole = grid.standing != "incomplete"
    of = {row.organism: row.scores for row in rows}
    mean = np.array([_mean([of[o][s].value for o in grid.counted(s)]) for s in SCORES]) if whole else None
    return MethodRow(
        method=grid.method,
        kind=grid.kind,
        access=grid.access,
        scores=_estimates(mean, spread, [clusters(grid.counted(s)) for s in SCORES]),
        counts={status: counts[status] for status in STATUSES if counts[status]},
        wall_s=_median_wall([cell for row in rows for cell in row.cells]),
        standing=grid.standing,
        organisms=len(grid.counted(key)),
        seeds=(min((r.seeds for r in used), default=0), max((r.seeds for r in used), default=0)),
    )


def _mean(values: Sequence[float | None]) -> float:
    """NaN where one is undefined, or there is none."""
    known = [np.nan if v is None else v for v in values]
    return float(np.mean(known)) if known else np.nan


def _compared(
    rows: Sequence[MethodRow], headline: Mapping[str, Array], score: str
) -> tuple[dict[str, float], dict[str, Array]]:
    """Score of each ranked method that has one, best first, and the [draws] of all."""
    found = {r.method: v for r in rows if r.standing == "ranked" and (v := r.scores[score].value) is not None}
    best = dict(sorted(found.items(), key=lambda item: -item[1]))
    return best, {method: values[SCORES.index(score)] for method, values in headline.items()}


def _anchors(results: Sequence[Result], organism: str) -> Iterator[AnchorRow]:
    """Both sides of one organism, as all scored records say that have controls; how many findings a method has changes its controls."""
    cells = [r for r in results if r.identity.organism == organism and r.scores and r.samples]
    cells = [r for r in cells if r.scores and r.scores.sufficiency_constant.p_random is not None]
    if not cells or not (samples := cells[0].samples):
        return
    for side in ("sufficiency", "necessity"):
        anchors = [getattr(r.scores, f"{side}_constant").anchors.model_dump() for r in cells]
        null, mixture, oracle = (_mean([a[name] for a in anchors]) for name in ("null", "mixture", "oracle"))
        gap = float(np.mean(np.asarray(samples.gap)[np.asarray(samples.scored)]))
        yield AnchorRow(organism, side, gap, null, None if np.isnan(mixture) else mixture, oracle)


def _median_wall(cells: Sequence[Result]) -> float | None:
    ran = [c.cost.wall_s for c in cells if c.status in ("ok", *FAILURES)]
    return float(np.median(ran)) if ran else None


def _estimates(
    value: Array | None = None, spread: Array | None = None, n: Sequence[int | None] = (None,) * len(SCORES)
) -> dict[str, Estimate]:
    """[scores] and [scores, draws] to estimates by name; intervals over the draws in which the score is defined.

    `n`: clusters of each score, see `cluster_interval`.
    """
    if value is None or spread is None:
        return {name: Estimate() for name in SCORES}
    defined = [row[~np.isnan(row)] for row in spread]
    return {
        s: Estimate()
        if np.isnan(value[i])
        else Estimate(float(value[i]), *(cluster_interval(defined[i], n[i]) if len(defined[i]) else ()))
        for i, s in enumerate(SCORES)
    }
