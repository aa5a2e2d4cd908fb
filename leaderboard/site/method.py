"""The page of a method: what it computes, with which settings, its scores by family and organism, and what its findings read as."""

import json
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup, escape

from ...harness.escape import plain
from ...harness.inspection.report import MARKED, Context, Shown
from ...methods.catalogue import BUILTIN
from ..board.cell import Cell
from ..pages.cells import estimate_text, place_text, score_head
from ..pages.legend import PARENTHESES
from ..statistics.null_adjusted import SHOWN
from ..statistics.rows import MethodRow, Table
from . import grids, links
from .facts import Board
from .grids import Grid, Item, Line
from .links import Page

BY_FAMILY = ("Family", *map(score_head, SHOWN), "Rank", "Organisms")
READS = ("Organism", "Finding", "Reads as", "Strongest on", "Seed")
OPTIONS = ("Option", "Used")
MOST_FINDINGS = 3
"""Findings of a record that are listed with the text on which they are strongest."""


def method(board: Board, row: MethodRow, parts: Sequence[tuple[str, str, Table]], panels: Mapping[str, Markup]) -> Page:
    """The page of one; `panels` are its dose-response curves by organism."""
    label = row.method
    rows = [of[label] for of in board.rows.values() if label in of]
    cells = [c for r in rows for c in r.cells]
    href = {r.organism: board.cell_page(r) or links.organism(r.organism) for r in rows}
    reads = [line for r in rows for line in _reads(board, r.cells, href[r.organism])]
    told = {
        "about": _about(board, cells),
        "facts": [*_facts(board, row, cells)],
        "card": board.submissions.get(cells[0].identity.method) if cells else None,
        "said": f"{score_head(board.table.key)} {estimate_text(row.scores[board.table.key])}, rank {place_text(row.place)}",
        "standing": row.standing,
        "options": _options(cells),
        "families": _families(label, parts),
        "grid": grids.of_method(rows, board.families, href, f"{label} by organism"),
        "parentheses": PARENTHESES,
        "panels": [(organism, href[organism], panel) for organism, panel in panels.items() if panel],
        "reads": Grid("What its findings are active on", grids.heads(READS), reads) if reads else None,
        "rivals": [
            (m, links.pair(label, m)) for m in board.methods if frozenset((label, m)) in board.pairs and m != label
        ],
    }
    return Page(links.method(label), "method.html", label, told, [("Methods", "index.html")], "index.html")


def _about(board: Board, cells: Sequence[Cell]) -> str:
    """What it computes, in a line."""
    if not cells:
        return ""
    i, made = cells[0].identity, cells[0].made
    if made.method_origin == "built-in" and i.method in BUILTIN:
        return BUILTIN[i.method].summary
    if (card := board.submissions.get(i.method)) is not None:
        return card.card.summary
    return f"A method of others: {made.method_origin}."


def _facts(board: Board, row: MethodRow, cells: Sequence[Cell]) -> Iterator[tuple[str, str]]:
    yield "Access", row.access
    yield "Gates", f"{board.gates[row.method]} of its findings have them"
    if cells:
        i, made = cells[0].identity, cells[0].made
        built_in = BUILTIN.get(i.method) if made.method_origin == "built-in" else None
        if built_in and built_in.paper:
            yield "Paper", built_in.paper
        if built_in:
            yield "Work", built_in.cost
        draws: dict[bool | None, str] = {
            True: "another seed can give other findings",
            False: "draws nothing: one seed says all",
            None: "the records do not say whether it draws anything",
        }
        yield "Chance", draws[built_in.stochastic if built_in else made.stochastic]
        yield "Origin", f"{made.method_origin}, version {', '.join(sorted({c.identity.method_version for c in cells}))}"
    if cells and (card := board.submissions.get(cells[0].identity.method)) is not None:
        yield "Authors", ", ".join(card.card.authors)
        yield "Licence", card.card.licence
        yield "Developed on", ", ".join(card.card.developed_on) or "no organism of diffbench"
        for v in card.verified:
            yield "Verified", f"by {v.by}, {v.at_utc}, {v.cells} cells, {v.values:,} values, on {v.cpu}"


def _options(cells: Sequence[Cell]) -> Grid | None:
    """Every option with the values that the records have."""
    used = dict[str, dict[str, None]]()
    for c in cells:
        for name, value in {**c.identity.config, **{f"budget.{k}": v for k, v in c.identity.budget.items()}}.items():
            used.setdefault(name, {})[json.dumps(value, sort_keys=True)] = None
    lines = [Line([grids.text(name), grids.text(" or ".join(values), style="wrap")]) for name, values in used.items()]
    return Grid("Settings", grids.heads(OPTIONS), lines) if lines else None


def _families(label: str, parts: Sequence[tuple[str, str, Table]]) -> Grid | None:
    """A line a family: the headline on its organisms alone."""
    lines = list[Line]()
    for what, name, table in parts:
        row = next((r for r in table.overall if r.method == label), None)
        if what == "family" and row is not None:
            scores = [grids.score(row, s) for s in SHOWN]
            lines.append(
                Line(
                    [
                        Item(name, name, href=links.subset(what, name)),
                        *scores,
                        grids.place(row.place),
                        grids.text(row.organisms),
                    ]
                )
            )
    return Grid(f"{label} by family", grids.heads(BY_FAMILY), lines) if lines else None


def _reads(board: Board, cells: Sequence[Cell], href: str) -> Iterator[Line]:
    """The first findings of the first record that was looked at."""
    c = next((c for c in cells if c.id in board.reports), None)
    for f in board.reports[c.id].findings[:MOST_FINDINGS] if c else ():
        read = next(iter(f.readings), None)
        said = f"{read.name}: {' '.join(read.promotes)}" if read else "–"
        yield Line(
            [
                Item(c.identity.organism, c.identity.organism, href=href) if c else Item("–"),
                grids.text(f.number),
                grids.text(plain(said), style="wrap"),
                Item("", bar=_strongest(f), style="wrap"),
                grids.text(c.identity.seeds["method"]) if c else Item("–"),
            ]
        )


def _strongest(f: Shown) -> Markup:
    """The window on which a finding is strongest in the organism, its strong tokens marked."""
    windows = [c for c in f.contexts if not c.sample]
    if not windows:
        return Markup("–")
    return _marked(max(windows, key=lambda c: c.organism))


def _marked(c: Context) -> Markup:
    parts = [
        Markup("<mark>{}</mark>").format(plain(t.text)) if t.shade_organism >= MARKED else escape(plain(t.text))
        for t in c.tokens
    ]
    ends = [Markup("…") if cut else Markup() for cut in c.cut]
    return Markup('<span class="text">{}{}{}</span>').format(ends[0], Markup().join(parts), ends[1])
