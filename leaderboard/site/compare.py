"""Two methods side by side: a page a pair, with their difference on every organism, and a page to choose two."""

import json
from collections.abc import Iterator

from markupsafe import Markup

from ..pages.cells import Dialect, estimate_text, p_text, score_head
from ..pages.comparison import TwoMethods, two_methods, two_rows
from ..pages.svg import pair_bar
from . import grids, links
from .facts import MOST_PAIRS, Board
from .grids import Grid, Head, Item, Line
from .links import Page

PLAIN = Dialect(str, estimate_text)
PAIRS = ("Pair", "Difference", "p", "Families", "Written down before")
TOP = ("Compare two methods", "compare.html")


def compared(board: Board) -> Iterator[Page]:
    """The page to choose on, then a page a pair."""
    found = {pair: two_methods(board.table, *sorted(pair)) for pair in sorted(board.pairs, key=sorted)}
    lines = [_line(two) for two in found.values()]
    names = sorted({m for pair in board.pairs for m in pair})
    every = len(board.methods) == len(names)
    notes = [f"{'Every two methods' if every else 'Every two methods that have a headline'} are compared."]
    if len(names) * (len(names) - 1) // 2 > len(found):
        notes = [
            f"More than {MOST_PAIRS:,} pairs: those that were written down before have a page; bench leaderboard compare A B prints any."
        ]
    notes.append("Only a comparison that was written down before has a verdict; of so many pairs some differ by luck.")
    told = {
        "names": [(links.slug(m), m) for m in names],
        "pages": json.dumps([links.pair(two.first, two.second) for two in found.values()]),
        "grid": Grid("Pairs of methods", grids.heads(PAIRS), lines),
        "notes": notes,
    }
    yield Page("compare.html", "compare.html", TOP[0], told, section="compare.html")
    for two in found.values():
        yield _page(board, two)


def _line(two: TwoMethods) -> Line:
    o = two.outcome
    there = o.difference.value is not None
    return Line(
        [
            Item(f"{two.first} against {two.second}", two.first, href=links.pair(two.first, two.second)),
            grids.estimate(o.difference),
            grids.figure(o.p, shown=p_text(o.p)) if there else Item("–"),
            grids.text(o.families),
            grids.text("yes" if two.registered else "no"),
        ]
    )


def _heads(two: TwoMethods) -> list[Head]:
    """Of a pair's table: the methods by their names."""
    own = [
        Head(name, f"{score_head(two.score)} of {name}, with its 95 % interval.") for name in (two.first, two.second)
    ]
    organism, *rest = grids.heads(("Organism", "Difference", "Apart", "Family"), 2)
    return [organism, *own, *rest]


def _page(board: Board, two: TwoMethods) -> Page:
    of = {o: (a, b) for o, a, b in two.organisms}
    lines = list[Line]()
    for organism, _, _, difference in two_rows(two, PLAIN):
        a, b = of[organism]
        rows = board.rows[organism]
        lines.append(
            Line(
                [
                    Item(organism, organism, href=links.organism(organism)),
                    grids.estimate(a)._replace(href=board.cell_page(rows[two.first])),
                    grids.estimate(b)._replace(href=board.cell_page(rows[two.second])),
                    Item(difference, float(difference)),
                    Item("", difference, bar=Markup(pair_bar(two.first, a, two.second, b))),
                    grids.text(board.families[organism]),
                ]
            )
        )
    title = f"{two.first} against {two.second}"
    told = {
        "two": two,
        "score": board.table.key,
        "grid": Grid(f"{title}, organism by organism", _heads(two), lines),
        "links": [(m, links.method(m)) for m in (two.first, two.second)],
    }
    return Page(links.pair(two.first, two.second), "pair.html", title, told, [TOP], "compare.html")
