"""Markdown and CSV of a table. Pure functions: the same table gives the same bytes."""

import csv
import io
from collections.abc import Sequence

from ...harness.escape import csv_field, md
from ..board.store import Problem
from ..statistics.rows import Table
from .cells import (
    ANCHOR_HEADS,
    CELL_HEADS,
    FINDING_HEADS,
    OVERALL_HEADS,
    Dialect,
    anchor_cells,
    cell_cells,
    estimate_text,
    finding_cells,
    overall_cells,
    statuses,
)
from .legend import ANCHOR_NOTE, PARENTHESES, finding_note, not_counted, notes_of
from .verdicts import CONTRAST_HEADS, CONTRAST_NOTE, contrast_cells, verdicts

MARKDOWN = Dialect(md, estimate_text)


def to_markdown(table: Table, problems: Sequence[Problem] = ()) -> str:
    """All tables, GitHub flavour, what does not count, and the files that could not be used."""
    cells = markdown_table(CELL_HEADS, [cell_cells(row, MARKDOWN) for row in table.cells])
    anchors = markdown_table(ANCHOR_HEADS, [anchor_cells(row, MARKDOWN) for row in table.anchors])
    cells += f"\n## Anchors\n\n{ANCHOR_NOTE}\n\n{anchors}" if table.anchors else ""
    out = "".join(f"- {md(organism)}: {md(scores)}: {md(why)}\n" for organism, scores, why in not_counted(table))
    cells += f"\n## Not counted\n\n{out}" if out else ""
    other = f"## Beyond isolation\n\n{finding_markdown(table)}\n" if table.finding_measures else ""
    unusable = "".join(f"- {md(problem.path)}: {md(problem.reason)}\n" for problem in problems)
    unusable = f"\n## Files that could not be used\n\n{unusable}" if problems else ""
    whole = f"{overall_markdown(table)}\n## Verdicts\n\n{verdicts_markdown(table)}\n{other}"
    return f"# Leaderboard\n\n{whole}## By organism\n\n{PARENTHESES}\n\n{cells}{unusable}"


def overall_markdown(table: Table) -> str:
    """What the table stands on, one row a method, and what the columns mean."""
    rows = markdown_table(OVERALL_HEADS, [overall_cells(table, row, MARKDOWN) for row in table.overall])
    notes = "".join(f"- {md(note)}\n" for note in notes_of(table))
    return f"{md(table.header)}\n\n{rows}\n{notes}"


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


def to_csv(table: Table) -> str:
    """One row per organism × method × score, full precision; empty where there is no value. `not_counted`: why a value is in no mean."""
    out = io.StringIO()
    lead = ("organism", "method", "kind", "access", "score", "value", "ci_low", "ci_high")
    sizes = ("seeds", "prompts", "templates", "cells", "wall_s", "not_counted")
    basis = ("protocol", "protocol_sha256", "organism_set", "bootstrap_draws", "bootstrap_seed")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(lead + sizes + basis)
    for row in table.cells:
        # a tier is one of five words; as text, `+generations` would no longer be the one of the records
        who = (csv_field(row.organism), csv_field(row.method), row.kind, row.access)
        size = (row.seeds, row.prompts, row.templates, statuses(row), row.wall_s)
        on = (*map(csv_field, (table.protocol, table.protocol_sha256, table.organism_set)), table.draws, table.seed)
        writer.writerows((*who, s, *e, *size, row.not_counted.get(s), *on) for s, e in row.scores.items())
    return out.getvalue()


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """GitHub flavour; the texts are ready-made (`md`)."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
