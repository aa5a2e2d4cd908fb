"""Tables as a terminal shows them: whole columns that fit its width, intervals below their values, names never cut.

Markdown of a table of methods is three terminals wide. Here columns are left out in a stated order until the rest fits, and a
line says which. A name that is wider than what is left is folded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import get_args

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from ...harness.records.result import Status
from ...organisms.errors import unknown
from ..board.resolve import RULE
from ..statistics.null_adjusted import SCORES
from ..statistics.rows import CellRow, Estimate, MethodRow, Row, Table
from .cells import (
    CELL_HEADS,
    FINDING_HEADS,
    MARK,
    PRIVATE_HEAD,
    Dialect,
    cell_cells,
    estimate_text,
    finding_cells,
    overall_cells,
    overall_heads,
    score_head,
)
from .comparison import PAIR_HEADS, TWO_HEADS, TwoMethods, pair_note, pair_rows, ranked_heads, ranked_rows, two_rows
from .legend import PARENTHESES, finding_note, not_counted, notes_of
from .verdicts import CONTRAST_HEADS, CONTRAST_NOTE, contrast_cells, verdicts

LEAVE_OUT = (
    *(
        "Wall s",
        "Cells",
        "False discoveries",
        "Access",
        "Seeds",
        "Organisms",
        "Families",
        "Detectable",
        "Findings",
        "Nulls",
    ),
    PRIVATE_HEAD,
    *("Rank, constant", *map(score_head, ("adjusted", "mitigation"))),
    *("Reading, 10", "Cosine, 10", "Rank", *map(score_head, ("isolation_constant", "necessity", "sufficiency"))),
)
"""Columns that a narrow terminal does without, the first one first."""
GAP = 2


def _narrow(estimate: Estimate) -> str:
    """One character less, which leaves room for the ranks in 80 columns."""
    return estimate_text(estimate).replace(", ", ",")


TERMINAL = Dialect(str, _narrow)


@dataclass(frozen=True)
class Chosen:
    """Which rows of a table are shown, and in which order; it changes no number of any of them."""

    wanted: Sequence[str] = ()
    """Patterns of methods; none: all."""
    statuses: Sequence[str] = ()
    """Methods and cells with one of these; none: all."""
    sort: str = ""
    """Score, `method`, `wall_s`, `false_discovery` or `rank`; empty: the table's own order."""
    all: bool = False
    """Whether to show more than the methods."""

    def methods(self, table: Table) -> list[MethodRow]:
        """Rows of the overall table."""
        rows = [row for row in table.overall if self._shows(row)]
        return sorted(rows, key=lambda row: self._key(table, row)) if self.sort else rows

    def cells(self, table: Table) -> list[CellRow]:
        """Rows by organism."""
        return [row for row in table.cells if self._shows(row)]

    def check(self, table: Table) -> None:
        """Refuse an order or a status that there is not, and methods that match none."""
        orders = [*SCORES, "rank", "method", "wall_s", "false_discovery"]
        if self.sort and self.sort not in orders:
            raise unknown("order", self.sort, orders)
        for status in self.statuses:
            if status not in get_args(Status):
                raise unknown("status", status, get_args(Status))
        for pattern in self.wanted:
            if not any(_matches(row.method, pattern) for row in table.overall):
                raise unknown("method", pattern, [row.method for row in table.overall])

    def _shows(self, row: Row) -> bool:
        wanted = not self.wanted or any(_matches(row.method, p) for p in self.wanted)
        return wanted and (not self.statuses or any(row.counts.get(s) for s in self.statuses))

    def _key(self, table: Table, row: MethodRow) -> tuple[bool, float, str]:
        if self.sort == "method":
            return False, 0.0, row.method
        if self.sort == "rank":
            value = float(row.place.rank) if row.place else None
        elif self.sort == "wall_s":
            value = row.wall_s
        elif self.sort == "false_discovery":
            value = next((f.false_discovery.value for f in table.finding_measures if f.method == row.method), None)
        else:
            value = row.scores[self.sort].value
            value = None if value is None else -value
        return value is None, value or 0.0, row.method


def _matches(method: str, pattern: str) -> bool:
    """Whether a row is meant: by its label, by its method's name, or by a pattern of either."""
    name = method.partition("[")[0]
    return pattern == method or fnmatchcase(name, pattern) or fnmatchcase(method, pattern)


@dataclass(frozen=True)
class Fitting:
    """A table that is as wide as there is room; the first column is always there."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The columns that fit, and a line that names the others."""
        rows = [[name.replace(" (", "\n("), *(cell.replace(" [", "\n[") for cell in rest)] for name, *rest in self.rows]
        widths = [_width(head, [row[i] for row in rows]) for i, head in enumerate(self.heads)]
        kept = list(range(len(self.heads)))

        def excess() -> int:
            return sum(widths[i] + GAP for i in kept) - GAP - options.max_width

        for head in LEAVE_OUT:
            if head in self.heads and excess() > 0:
                kept.remove(self.heads.index(head))
        widths[0] = max(widths[0] - max(excess(), 0), 1)
        table = RichTable(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        for i in kept:
            table.add_column(self.heads[i], width=widths[i], overflow="fold")
        for row in rows:
            table.add_row(*(Text(row[i]) for i in kept))
        yield table
        left = [head.lower() for i, head in enumerate(self.heads) if i not in kept]
        if left:
            yield Text(f"For want of width without {'; '.join(left)}.", style="dim")


def leaderboard(table: Table, chosen: Chosen | None = None) -> Group:
    """As `leaderboard.md`, to be looked at; anchors are in the files only."""
    chosen = chosen or Chosen()
    overall, cells = chosen.methods(table), chosen.cells(table)
    names = {row.method for row in overall}
    parts: list[RenderableType] = [
        Text(f"{table.header}\n"),
        Fitting(overall_heads(table), [overall_cells(table, row, TERMINAL) for row in overall]),
    ]
    if chosen.all:
        parts += [*_list("", notes_of(table)), *_verdicts(table)]
    measured = [row for row in table.finding_measures if row.method in names]
    if measured and chosen.all:
        rows = [finding_cells(row, TERMINAL) for row in measured]
        parts += [_head("Beyond isolation"), Fitting(FINDING_HEADS, rows), Text(f"\n{finding_note(table)}")]
    if chosen.all:
        parts += [_head("By organism"), Text(PARENTHESES)]
        for organism in table.organisms:
            rows = [cell_cells(row, TERMINAL)[1:] for row in cells if row.organism == organism]
            parts += [_head(organism), Fitting(CELL_HEADS[1:], rows)] if rows else []
        parts += _list("Not counted", [": ".join(each) for each in not_counted(table)])
    else:
        parts.append(
            Text(f"\n{MARK} failures count as 0. --all shows the notes, the verdicts and every organism.", style="dim")
        )
    return Group(*parts, *left_out(table))


def left_out(table: Table) -> list[RenderableType]:
    """What the table does without: missing cells with their commands, records set aside, files that could not be used."""
    aside = [f"{a.path}: {a.cell}: {a.reason}" for a in table.set_aside]
    return [
        *_list("Missing; these commands make it", [f"{m.command}  # {m.reason}" for m in table.missing]),
        *([*_list("Set aside", aside), Text(RULE)] if aside else []),
        *_list("Files that could not be used", [f"{p.path}: {p.reason}" for p in table.problems]),
    ]


def comparison(table: Table) -> Group:
    """As `comparison_markdown`."""
    return Group(
        Text(f"{table.header}\n"),
        Fitting(ranked_heads(table), ranked_rows(table, TERMINAL)),
        *_verdicts(table),
        _head("All pairs, without verdicts"),
        Text(f"{pair_note(table)}\n"),
        Fitting(PAIR_HEADS, pair_rows(table, TERMINAL)),
    )


def two_methods(table: Table, two: TwoMethods) -> Group:
    """Two methods side by side, organism by organism."""
    return Group(
        Text(f"{table.header}\n"),
        Fitting(two_heads(two), two_rows(two, TERMINAL)),
        Text(f"\n{two.said}"),
    )


def two_heads(two: TwoMethods) -> tuple[str, ...]:
    """The methods by name, then the difference."""
    return (TWO_HEADS[0], two.first, two.second, *TWO_HEADS[1:])


def _verdicts(table: Table) -> list[RenderableType]:
    found = verdicts(table)
    parts: list[RenderableType] = [_head("Verdicts"), Text(found.said)]
    for each in found.lists:
        rows = [contrast_cells(o, each.named, TERMINAL) for o in each.outcomes]
        parts += [_head(each.title), *map(Text, each.said), Text(), Fitting(CONTRAST_HEADS, rows)]
    return [*parts, *([Text(f"\n{CONTRAST_NOTE}")] if found.lists else [])]


def _head(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _list(title: str, lines: Sequence[str]) -> list[RenderableType]:
    """Nothing without lines."""
    return [_head(title) if title else Text(), *(Text(f"- {line}") for line in lines)] if lines else []


def _width(head: str, cells: Sequence[str]) -> int:
    """Of the longest line; a head may be broken between words."""
    return max(map(cell_len, (*head.split(), *(line for cell in cells for line in cell.split("\n")))))
