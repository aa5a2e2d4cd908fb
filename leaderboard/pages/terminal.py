"""Tables as a terminal shows them: whole columns that fit its width, intervals below their values, names never cut.

Markdown of a table of methods is three terminals wide. Here columns are left out in a stated order until the rest fits, and a
line says which. A name that is wider than what is left is folded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from ..board.store import Problem
from ..statistics.rows import Estimate, Table
from .cells import (
    CELL_HEADS,
    FINDING_HEADS,
    OVERALL_HEADS,
    Dialect,
    cell_cells,
    estimate_text,
    finding_cells,
    overall_cells,
    score_head,
)
from .comparison import PAIR_HEADS, pair_note, pair_rows, ranked_heads, ranked_rows
from .legend import PARENTHESES, finding_note, not_counted, notes_of
from .verdicts import CONTRAST_HEADS, CONTRAST_NOTE, contrast_cells, verdicts

LEAVE_OUT = (
    *("Wall s", "Cells", "Access", "Seeds", "Organisms", "Families", "Detectable", "Findings", "Nulls"),
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


def leaderboard(table: Table, problems: Sequence[Problem] = ()) -> Group:
    """As `leaderboard.md`, to be looked at; anchors are in the files only."""
    parts: list[RenderableType] = [
        Text(f"{table.header}\n"),
        Fitting(OVERALL_HEADS, [overall_cells(table, row, TERMINAL) for row in table.overall]),
        *_list("", notes_of(table)),
        *_verdicts(table),
    ]
    if table.finding_measures:
        rows = [finding_cells(row, TERMINAL) for row in table.finding_measures]
        parts += [_head("Beyond isolation"), Fitting(FINDING_HEADS, rows), Text(f"\n{finding_note(table)}")]
    parts += [_head("By organism"), Text(PARENTHESES)]
    for organism in table.organisms:
        rows = [cell_cells(row, TERMINAL)[1:] for row in table.cells if row.organism == organism]
        parts += [_head(organism), Fitting(CELL_HEADS[1:], rows)]
    parts += _list("Not counted", [": ".join(each) for each in not_counted(table)])
    return Group(*parts, *_list("Files that could not be used", [f"{p.path}: {p.reason}" for p in problems]))


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
