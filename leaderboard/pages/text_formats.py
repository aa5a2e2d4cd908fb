"""Markdown of a table. Pure functions: the same table gives the same bytes."""

import re
from collections.abc import Sequence

from ...harness.escape import md
from ...harness.store.labels import bare
from ..board.account import runs
from ..board.resolve import RULE
from ..statistics.rows import MethodRow, Table
from .cells import (
    ANCHOR_HEADS,
    CELL_HEADS,
    FINDING_HEADS,
    Dialect,
    anchor_cells,
    cell_cells,
    estimate_text,
    finding_cells,
    overall_cells,
    overall_heads,
)
from .legend import ANCHOR_NOTE, PARENTHESES, finding_note, not_counted, notes_of
from .verdicts import CONTRAST_HEADS, CONTRAST_NOTE, contrast_cells, verdicts

MARKDOWN = Dialect(md, estimate_text)


def to_markdown(table: Table) -> str:
    """All tables, GitHub flavour, and what does not count, was left out or is missing."""
    cells = markdown_table(CELL_HEADS, [cell_cells(row, MARKDOWN) for row in table.cells])
    anchors = markdown_table(ANCHOR_HEADS, [anchor_cells(row, MARKDOWN) for row in table.anchors])
    parts = ["# Leaderboard", overall_markdown(table), f"## Verdicts\n\n{verdicts_markdown(table)}"]
    parts += [f"## Beyond isolation\n\n{finding_markdown(table)}"] * bool(table.finding_measures)
    parts += [f"## By organism\n\n{PARENTHESES}\n\n{cells}"]
    parts += [f"## Anchors\n\n{ANCHOR_NOTE}\n\n{anchors}"] * bool(table.anchors)
    for head, lines in (
        ("Not counted", [f"{md(o)}: {md(scores)}: {md(why)}" for o, scores, why in not_counted(table)]),
        ("Missing", [f"{md(m.reason)}: {_code(m.command)}" for m in table.missing]),
        ("Set aside", [f"{md(a.path)}: {md(a.cell)}: {md(a.reason)}" for a in table.set_aside]),
        ("Files that could not be used", [f"{md(p.path)}: {md(p.reason)}" for p in table.problems]),
    ):
        listed = [RULE] * (head == "Set aside") + ["\n".join(f"- {line}" for line in lines)]
        parts += ["\n\n".join([f"## {head}", *listed])] * bool(lines)
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def overall_markdown(table: Table) -> str:
    """What the table stands on, one row a method, and what the columns mean."""
    rows = markdown_table(overall_heads(table), [overall_cells(table, row, MARKDOWN) for row in table.overall])
    notes = "".join(f"- {md(note)}\n" for note in notes_of(table))
    return f"{md(table.header)}\n\n{rows}\n{notes}"


def row_markdown(table: Table, method: str) -> str:
    """A method's row between its neighbours in the ranking, and where it stands in words; of several rows of it, one after another."""
    mine = [row for row in table.overall if method in (row.method, bare(row.method))]
    return "\n".join(_standing(table, row) for row in mine) or f"{md(method)} has no row on this board.\n"


def _standing(table: Table, mine: MethodRow) -> str:
    method = mine.method
    ranked = [row for row in table.overall if row.place]
    at = ranked.index(mine) if mine in ranked else None
    shown = [mine] if at is None else ranked[max(0, at - 1) : at + 2]
    if mine.place is None:
        why = "a cell is missing, so there is no headline" if mine.standing == "incomplete" else "its kind has no rank"
        said = f"{md(method)} is not ranked: {why}."
    else:
        said = (
            f"{md(method)} has rank {mine.place.rank} of {len(ranked)} by {md(table.key)}, and with the headlines as uncertain as their "
            f"intervals say, rank {mine.place.low} to {mine.place.high} in 90 % of the draws."
        )
    heads = overall_heads(table)
    rows = markdown_table(heads, [overall_cells(table, row, MARKDOWN) for row in shown])
    example = next((c for row in table.cells if row.method == method for c in row.cells), None)
    missing = [m for m in table.missing if example is not None and runs(m.command, example)]
    lines = "".join(f"- missing, {md(m.reason)}: {_code(m.command)}\n" for m in missing)
    return f"{said} {md(table.header)}.\n\n{rows}" + f"\n{lines}" * bool(lines)


def finding_markdown(table: Table) -> str:
    """False discovery, localisation and identification, and what the columns mean."""
    rows = markdown_table(FINDING_HEADS, [finding_cells(row, MARKDOWN) for row in table.finding_measures])
    return f"{rows}\n{md(finding_note(table))}\n"


def verdicts_markdown(table: Table) -> str:
    """The pre-registered contrasts, list by list."""
    found = verdicts(table)
    parts = [md(found.said)]
    for each in found.lists:
        rows = [contrast_cells(o, each.named, MARKDOWN) for o in each.outcomes]
        parts += [f"### {md(each.title)}", *map(md, each.said), markdown_table(CONTRAST_HEADS, rows).rstrip()]
    return "\n\n".join([*parts, *([md(CONTRAST_NOTE)] if found.lists else [])]) + "\n"


def _code(command: str) -> str:
    """A command to be copied, where it holds nothing that Markdown could read."""
    return f"`{command}`" if re.fullmatch(r"[\w ./,='-]+", command) else md(command)


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """GitHub flavour; the texts are ready-made (`md`)."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
