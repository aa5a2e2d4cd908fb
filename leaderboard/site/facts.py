"""What the pages of a site stand on, gathered once: the table, the records that have a page, and what was collected of findings.

A report of `bench show` is taken from `report.json` beside a run, or from the cache; it is collected anew only if that is asked for,
because that runs the models. A report of another record than the one it lies beside is not believed.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ...harness.inspection.report import Report
from ...harness.lineup.record import LineupRecord
from ...harness.runs.records import FINDINGS_FILE, RESULT_FILE
from ...harness.store.moving import place
from ...harness.store.selection import stored
from ...organisms.errors import DiffbenchError
from ...organisms.hub.files import read_text
from ..board.build import Ask
from ..board.cell import Cell
from ..board.store import Loaded
from ..pages.verdicts import verdicts
from ..statistics.resample import family
from ..statistics.rows import CellRow, MethodRow, Table
from . import links

if TYPE_CHECKING:
    from ..submissions.board import Submission

REPORT = "report.json"
"""What `bench show RUN --json` prints, where it was kept beside the run."""
MOST_REPORT = 64 * 2**20
MOST_CELLS = 2000
"""Pages of records that a site has at most, unless more are asked for."""
MOST_PAIRS = 1000
"""Pages of two methods that a site has at most: those of 45 methods."""


@dataclass(frozen=True, eq=False)
class Board:
    """Everything that pages say."""

    table: Table
    loaded: Loaded
    ask: Ask
    most_cells: int = MOST_CELLS
    reports: Mapping[str, Report] = field(default_factory=dict[str, Report])
    """By id of the record."""
    submissions: Mapping[str, "Submission"] = field(default_factory=dict[str, "Submission"])
    """By method."""
    notes: Sequence[str] = ()
    """Reports that could not be used, and why."""
    lineups: Sequence[LineupRecord] = ()
    """Strategies that have judged every pair of lineup-test."""

    @cached_property
    def gates(self) -> dict[str, str]:
        """Row label → whether some of its findings have gates."""
        gated = {row.method for row in self.table.cells if any(c.gated for c in row.cells)}
        return {row.method: "some" if row.method in gated else "none" for row in self.table.overall}

    @cached_property
    def families(self) -> dict[str, str]:
        """Organism → family."""
        return {name: family(name) for name in self.table.organisms}

    @cached_property
    def rows(self) -> dict[str, dict[str, CellRow]]:
        """Organism → method → row, both in the order of the table."""
        found: dict[str, dict[str, CellRow]] = {name: {} for name in self.table.organisms}
        for row in self.table.cells:
            found[row.organism][row.method] = row
        return found

    @cached_property
    def methods(self) -> dict[str, MethodRow]:
        """By label."""
        return {row.method: row for row in self.table.overall}

    @cached_property
    def paged(self) -> frozenset[str]:
        """Ids of the records that have a page: all, or where these are too many the first finished seed of each row, or none."""
        rows = [row for row in self.table.cells if row.cells]
        every = [c.id for row in rows for c in row.cells]
        if len(every) <= self.most_cells:
            return frozenset(every)
        return frozenset(_first(row).id for row in rows) if len(rows) <= self.most_cells else frozenset()

    @cached_property
    def pairs(self) -> frozenset[frozenset[str]]:
        """Two methods with a page together: every two with a headline, or where these are too many those of the lists of contrasts."""
        names = [row.method for row in self.table.overall if row.standing != "incomplete"]
        if len(names) * (len(names) - 1) // 2 <= MOST_PAIRS:
            return frozenset(map(frozenset[str], combinations(names, 2)))
        asked = [o.contrast for each in verdicts(self.table).lists for o in each.outcomes]
        return frozenset(frozenset((c.method, c.against)) for c in asked if {c.method, c.against} <= set(names))

    @property
    def rule(self) -> str:
        """Which records have a page, in a sentence."""
        every = sum(len(row.cells) for row in self.table.cells)
        said = f"A site has {self.most_cells:,} pages of records at most, and there are {every:,} records"
        if len(self.paged) == every:
            return "Every record has a page."
        if self.paged:
            return f"{said}: the first finished seed of each method on each organism has one (more with --cells)."
        return f"{said}: none has one (--cells asks for more); bench results show ORGANISM+METHOD+SEED prints one."

    def cell_page(self, row: CellRow) -> str:
        """The page of the first record of a row that has one; empty if none has."""
        found = [c for c in row.cells if c.id in self.paged]
        return links.cell(row.method, min(found, key=lambda c: c.status != "ok")) if found else ""

    def on(self, organism: str) -> Iterator[tuple[Cell, Report]]:
        """Records of an organism whose findings were looked at."""
        for row in self.rows[organism].values():
            yield from ((c, self.reports[c.id]) for c in row.cells if c.id in self.reports)


def _first(row: CellRow) -> Cell:
    """The first finished seed, or the first there is."""
    return next((c for c in row.cells if c.status == "ok"), row.cells[0])


def folders(cells: Sequence[Cell], sources: Sequence[Path]) -> Iterator[tuple[Cell, str, Path]]:
    """The cells that have a run folder, what it is called, and where it is."""
    for c in cells:
        if c.where.endswith(RESULT_FILE):
            places = (Path(c.where), *(s / c.where for s in sources))
            if (found := next((p for p in places if p.is_file()), None)) is not None:
                yield c, str(found.parent), found.parent


def unpacked(cells: Sequence[Cell], sources: Sequence[Path]) -> Iterator[tuple[Cell, str, Path]]:
    """The cells whose findings are in a pack, what they are called there, and a run folder that is gone when the next one is asked for."""
    wanted = {c.id: c for c in cells if not c.where.endswith(RESULT_FILE)}
    for record in stored(sources, judge=False) if wanted else ():
        if record.findings is not None and record.result and (c := wanted.pop(record.result.id, None)) is not None:
            with tempfile.TemporaryDirectory() as scratch:
                yield c, record.where, place(record, Path(scratch))


def reports(
    cells: Sequence[Cell], sources: Sequence[Path], use_cache: bool, collect: bool, tell: Callable[[str], None]
) -> tuple[dict[str, Report], list[str]]:
    """What is known of findings beyond their records, by id, and what could not be used.

    Args:
        collect: run the models where nothing is known: about ten seconds a record. Records of packs are looked at only then.
    """
    found, notes = dict[str, Report](), list[str]()
    for c, name, folder in chain(folders(cells, sources), unpacked(cells, sources) if collect else ()):
        try:
            report = _beside(folder) or _looked(folder, use_cache, collect, lambda what, n=name: tell(f"{n}: {what}"))
        except (DiffbenchError, OSError, ValueError) as error:
            notes.append(f"{name}: {error}")
            continue
        if report is not None and report.id == c.id:
            found[c.id] = report
        elif report is not None:
            notes.append(
                f"{name}/{REPORT}: it is of record {(report.id or 'none')[:12]}, not of {c.id[:12]}; remove it"
            )
    return found, notes


def _beside(folder: Path) -> Report | None:
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        return Report.model_validate_json(read_text(path, MOST_REPORT))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(
            f"{REPORT}: {'.'.join(map(str, first['loc']))}: {first['msg']}; make it again: bench show {folder} --json"
        ) from error


def _looked(folder: Path, use_cache: bool, collect: bool, tell: Callable[[str], None]) -> Report | None:
    """From the cache, or collected."""
    if not (folder / FINDINGS_FILE).is_file() or not (use_cache or collect):
        return None
    from ...harness.cache import Cache
    from ...harness.inspection.collect import kept, report
    from ...harness.inspection.subject import subject
    from ...harness.runs.stage import Machine

    of, cache = subject(folder), Cache.of_user() if use_cache else None
    if collect:
        return report(of, Machine(), cache, tell)
    return kept(of, Machine(), cache) if cache else None
