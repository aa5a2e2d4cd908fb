"""Turns results into the two tables: one row per method, and one per organism and method.

The one idea: a row's score depends on that method's own cells and on the organism set, on nothing else. So a failure
counts as 0 (the null score) instead of leaving the mean, a hole in the grid takes the headline away, and adding a
method or a clone moves nobody's number. Which organisms count in a score is the labelled anchor's to say (`grid`), for all
alike. Only `ranks` and `compare` look at several methods at once, and only `contrasts` judges.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...harness.protocol.bootstrap import template_interval
from ...harness.protocol.consistency import fault
from ...harness.protocol.intervals import Array
from ...harness.records.result import Result
from ...organisms.errors import PrerequisiteError, ValidationFailed, unknown
from ..board.account import costs, failures, missing
from ..board.cell import Cell
from ..board.keep import Keep
from ..board.resolve import cell_name, check_comparable, sort_key
from .compare import across, paired
from .finding_measures import false_share, finding_measures
from .fixed_set import Noise, noise, on_this_set
from .grid import Grid, grids, untried
from .null_adjusted import SCORES
from .ranks import places
from .resample import Spread, cluster_draws, cluster_means, clusters, headline, organism_draws, point_scores, shares
from .rows import CONSTANT, FAILURES, SIDES, SORT_KEY, STATUSES, AnchorRow, CellRow, Estimate, MethodRow, Table

DRAWS = 10_000
NOTHING = {name: Estimate() for name in SCORES}


def build_table(
    results: Sequence[Result] | Sequence[Cell],
    organisms: Sequence[str] | None = None,
    organism_set: str = "as found",
    draws: int = DRAWS,
    seed: int = 0,
    key: str = SORT_KEY,
    settled: Collection[str] = (),
    pairs: bool = True,
    keep: Keep | None = None,
) -> Table:
    """Score every method over one organism set, sorted and compared by the score `key`.

    `organisms` is the frozen set. None takes every organism among the results, which is fit for one's own runs only: a
    result on one more organism then enlarges the set for everybody. A published table names its set. `settled` are methods
    known to draw nothing, for which one method seed says all (`fixed_set`). Without `pairs` no two methods are compared, and
    intervals that are in `keep` are not drawn again: most of the work of a table.

    Raises:
        UsageError, PrerequisiteError, ValidationFailed, MixedResultsError: as `chosen_grids`.
    """
    names, chosen, found = chosen_grids(results, organisms, organism_set, key)
    rows: dict[str, list[CellRow]] = {grid.method: [] for grid in found}
    seeds = {
        g.method: 1 if g.name in settled else g.seeds
        for g in found
        if pairs and g.standing == "ranked" and (g.seeds > 1 or g.name in settled)
    }
    unsolvable = found[0].unsolvable
    inside = [name for name in names if name not in found[0].inapplicable]
    counted = {score: tuple(o for o in inside if o not in unsolvable[score]) for score in SCORES}
    noises: list[Noise] = []
    alone: dict[str, dict[str, Array]] = {}
    kept = _Kept(keep or Keep(on=False), draws, seed)
    for organism in names:  # one at a time, so that memory grows with the methods and not with the cells
        groups = {g.method: g.scored[organism] for g in found if organism in g.used}
        whole = (seeds and organism in counted[key]) or any(counted[s] == (organism,) for s in (key, CONSTANT))
        ends, spread = kept.intervals(organism, groups, bool(whole))
        for grid in found:
            rows[grid.method].append(_cell_row(grid, organism, ends.get(grid.method)))
        if seeds and organism in counted[key]:
            templates = max(row[-1].templates for row in rows.values())
            noises.append(noise({m: spread[m] for m in seeds}, seeds, templates, SCORES.index(key)))
        alone |= {
            score: {m: s.drawn[SCORES.index(score)] for m, s in spread.items()}
            for score in (key, CONSTANT)
            if counted[score] == (organism,)
        }
    overall = [_method_row(grid, rows[grid.method], key) for grid in found]
    overall.sort(key=lambda r: (r.standing == "incomplete", -(r.scores[key].value or 0.0), r.method))
    compared = {s: _by_organism(overall, rows, counted[s], s) for s in (key, CONSTANT)}
    values = {s: {m: float(cluster_means(x).mean()) for m, x in of.items()} for s, of in compared.items()}
    placed = {s: places(values[s], alone.get(s) or cluster_draws(of, draws, seed)) for s, of in compared.items()}
    overall = [
        replace(r, place=placed[key].get(r.method), place_constant=placed[CONSTANT].get(r.method)) for r in overall
    ]
    known = {m: v for m, v in values[key].items() if m in seeds}
    weight = shares(counted[key])
    cells = tuple(rows[row.method][i] for i in range(len(names)) for row in overall)
    order = {row.method: i for i, row in enumerate(overall)}
    on: dict[str, list[Cell]] = {}
    for cell in chosen:
        on.setdefault(cell.identity.organism, []).append(cell)
    return Table(
        overall=tuple(overall),
        cells=cells,
        pairs=paired(values[key], across(compared[key])) if pairs else (),
        here=paired(known, on_this_set(noises, seeds, [weight[o] for o in counted[key]])),
        unknown_here=tuple(m for m in values[key] if m not in known),
        finding_measures=tuple(sorted(finding_measures(found), key=lambda r: order[r.method])),
        anchors=tuple(row for name in inside for row in _anchors(on.get(name, []), name)),
        costs=costs(overall, rows),
        failures=failures(cells),
        missing=missing(rows, inside, chosen),
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
    results: Sequence[Result] | Sequence[Cell], organisms: Sequence[str] | None, organism_set: str, key: str
) -> tuple[list[str], list[Cell], list[Grid]]:
    """The names of the set, the cells on it and the grid of each row label, everything that can be refused refused.

    Cells come from `store.load`, which believes no record that contradicts itself; of records this is asked here.

    Raises:
        UsageError: no such score. PrerequisiteError: no results. MixedResultsError: they measured different things.
        ValidationFailed: a record whose scores do not follow from its samples.
    """
    if key not in SCORES:
        raise unknown("score", key, SCORES)
    names = sorted(set(organisms) if organisms is not None else {r.identity.organism for r in results})
    inside = set(names)
    chosen = sorted((r for r in results if r.identity.organism in inside), key=sort_key)
    if not chosen:
        raise PrerequisiteError(
            f"no results on the organism set {organism_set!r} ({', '.join(names) or 'empty'}): run them first"
        )
    check_comparable(chosen)
    for result in chosen:
        if isinstance(result, Result) and (wrong := fault(result, redraw=False)):  # a table draws its own intervals
            raise ValidationFailed(f"{cell_name(result)}: {wrong}")
    cells = [Cell.of(r, r.id) if isinstance(r, Result) else r for r in chosen]
    return names, cells, grids(cells, names)


class _Kept:
    """Intervals of the rows of one organism after another, drawn where they are not kept."""

    def __init__(self, keep: Keep, draws: int, seed: int):
        self.keep, self.draws, self.seed = keep, draws, seed

    def intervals(
        self, organism: str, groups: Mapping[str, Sequence[Cell]], whole: bool
    ) -> tuple[Mapping[str, Mapping[str, Estimate]], dict[str, Spread]]:
        """Scores with intervals by method; and the draws of all of them, if they are wanted as a `whole`."""
        keys = {m: ".".join(c.sha256 for c in own) for m, own in groups.items()}
        known: dict[str, list[list[float | None]]] = self.keep.get("intervals", organism, self.draws, self.seed) or {}
        new = {m: own for m, own in groups.items() if whole or keys[m] not in known}
        results = {m: [c.result for c in own] for m, own in new.items()}
        spread = organism_draws(results, organism, self.draws, self.seed)
        fresh = {
            keys[m]: [list(e) for e in _estimates(_points(groups[m]), s.drawn, results[m]).values()]
            for m, s in spread.items()
        }
        if fresh.keys() - known.keys():
            self.keep.put(known | fresh, "intervals", organism, self.draws, self.seed)
        known |= fresh
        ends = {m: {str(s): Estimate(*e) for s, e in zip(SCORES, known[k], strict=True)} for m, k in keys.items()}
        return ends, spread


def _points(cells: Sequence[Cell]) -> Array:
    """Mean over seeds of the scores [scores]; a failed cell counts as 0, the null score."""
    zero = (0.0,) * len(SCORES)
    own = [cell.points if cell.status == "ok" and cell.points else zero for cell in cells]
    return np.mean(np.array(own, dtype=np.float64), axis=0)


def _cell_row(grid: Grid, organism: str, scores: Mapping[str, Estimate] | None) -> CellRow:
    """The row of one organism, given its scores with their intervals."""
    cells, counts = grid.cells[organism], grid.counts(organism)
    return CellRow(
        method=grid.method,
        kind=grid.kind,
        access=grid.access,
        scores=scores if scores and "not_run" not in counts else NOTHING,
        counts=counts,
        wall_s=_median_wall(cells),
        organism=organism,
        cells=cells,
        not_counted={s: reasons[organism] for s, reasons in grid.unsolvable.items() if organism in reasons},
        false_discovery=false_share([c.false_discovery for c in cells if c.false_discovery]),
    )


def _method_row(grid: Grid, rows: Sequence[CellRow], key: str) -> MethodRow:
    """The headline: the mean over the organisms that count, unless a cell is missing."""
    counts = sum((Counter[str](row.counts) for row in rows), Counter[str]())
    used = [row for row in rows if row.seeds]
    of = {row.organism: row.scores for row in rows}
    whole = grid.standing != "incomplete"
    return MethodRow(
        method=grid.method,
        kind=grid.kind,
        access=grid.access,
        scores={s: _headline({o: of[o][s] for o in grid.counted(s)}, s) for s in SCORES} if whole else NOTHING,
        counts={status: counts[status] for status in STATUSES if counts[status]},
        wall_s=_median_wall([cell for row in rows for cell in row.cells]),
        standing=grid.standing,
        organisms=len(grid.counted(key)),
        seeds=(min((r.seeds for r in used), default=0), max((r.seeds for r in used), default=0)),
    )


def _headline(of: Mapping[str, Estimate], score: str) -> Estimate:
    """By organism; one alone keeps its interval. Nothing where there is none, or one is undefined."""
    values = {o: e.value for o, e in of.items() if e.value is not None}
    if not values or len(values) < len(of):
        return Estimate()
    if len(of) == 1:
        return next(iter(of.values()))
    return headline(values, (0.0 if score.startswith("isolation") else -1.0, 1.0))


def _by_organism(
    rows: Sequence[MethodRow], cells: Mapping[str, Sequence[CellRow]], on: Sequence[str], score: str
) -> dict[str, dict[str, float]]:
    """Ranked methods that have the score, best first: what each has on each organism that counts."""
    scored = [r for r in rows if r.standing == "ranked" and r.scores[score].value is not None]
    scored.sort(key=lambda r: -(r.scores[score].value or 0.0))
    return {
        r.method: {c.organism: c.scores[score].value or 0.0 for c in cells[r.method] if c.organism in on}
        for r in scored
    }


def _anchors(on: Sequence[Cell], organism: str) -> Iterator[AnchorRow]:
    """Both sides of one organism, as all scored records say that have controls; how many findings a method has changes its controls."""
    cells = [c for c in on if c.scores and c.controls]
    if not cells:
        return
    for side in SIDES:
        anchors = [c.scores[f"{side}_constant"] for c in cells]
        null, mixture, oracle = (_mean([a[name] for a in anchors]) for name in ("null", "mixture", "oracle"))
        yield AnchorRow(organism, side, cells[0].gap or 0.0, null, None if np.isnan(mixture) else mixture, oracle)


def _median_wall(cells: Sequence[Cell]) -> float | None:
    ran = [c.cost.wall_s for c in cells if c.status in ("ok", *FAILURES)]
    return float(np.median(ran)) if ran else None


def _mean(values: Sequence[float | None]) -> float:
    """NaN where one is undefined."""
    return float(np.mean([np.nan if v is None else v for v in values]))


def _estimates(value: Array, spread: Array, results: Sequence[Result]) -> dict[str, Estimate]:
    """[scores] and [scores, draws] to estimates by name; ends at a record's shares of the draws in which the score is defined."""
    known = next((r.samples for r in results if r.status == "ok" and r.samples), None)
    if known is None:  # nothing but failures
        return {s: Estimate(0.0, 0.0, 0.0) for s in SCORES}
    templates = [t for t, counts in zip(known.templates, known.scored, strict=True) if counts]
    gaps = [gap for gap, counts in zip(known.gap, known.scored, strict=True) if counts]
    unclipped = point_scores(results, math.inf)  # as the draws are
    return {
        s: Estimate()
        if np.isnan(value[i])
        else Estimate(
            float(value[i]), *(template_interval(spread[i], float(unclipped[i]), templates, gaps) or ())
        ).stated
        for i, s in enumerate(SCORES)
    }
