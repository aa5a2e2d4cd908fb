"""A table of a page as plain values, and the conversion of a table's rows to it: texts, what they are sorted by, and where they lead.

Texts are not escaped here: templates do that, for all of them. Only drawings (`bar`) are markup, and they come from `pages/svg.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from ..pages.cells import (
    MARK,
    PRIVATE_HEAD,
    bracketed,
    estimate_text,
    number,
    organisms_text,
    place_text,
    score_head,
    seeds_text,
    statuses,
)
from ..pages.svg import interval_bar
from ..statistics.null_adjusted import SHOWN
from ..statistics.rows import CONSTANT, SORT_KEY, CellRow, Estimate, MethodRow, Place, Row, Table
from .tips import TIPS


class Item(NamedTuple):
    """One field."""

    text: str
    order: object = None
    """What the column is sorted by; None stays last, whichever way it is sorted."""
    note: str = ""
    """Smaller, behind the text."""
    bar: Markup = Markup()
    href: str = ""
    """From the root of the site."""
    tag: str = ""
    style: str = ""

    @property
    def key(self) -> str:
        """The sort key as an attribute."""
        return "" if self.order is None else str(self.order)


class Line(NamedTuple):
    """One row; its first item heads it."""

    items: Sequence[Item]
    style: str = ""


class Head(NamedTuple):
    """One column."""

    text: str
    tip: str
    more: bool = False
    """Whether a narrow screen leaves it out until all columns are asked for."""
    choices: bool = False
    """Whether rows can be chosen by its values."""


class Grid(NamedTuple):
    """One table."""

    caption: str
    heads: Sequence[Head]
    lines: Sequence[Line]
    sort: str = ""
    """The column by which it is sorted, highest first."""


def heads(names: Iterable[str], first: int = 3, choices: Sequence[str] = ()) -> list[Head]:
    """Columns with what is known of each; a narrow screen has the `first` ones."""
    return [Head(name, TIPS[name], i >= first, name in choices) for i, name in enumerate(names)]


def text(value: object, order: object = None, style: str = "") -> Item:
    """Plain text, sorted by itself unless something else is given."""
    shown = str(value)
    return Item(shown, shown if order is None else order, style=style)


def figure(value: float | None, digits: int = 2, shown: str | None = None) -> Item:
    """A number; an en dash for None."""
    return Item(number(value, digits) if shown is None else shown, value)


def score(row: Row, name: str) -> Item:
    """A score with its interval and bar; in parentheses where it does not count."""
    value, _, rest = estimate_text(row.scores[name]).partition(" ")
    inside = bracketed(row, name)
    mixture = row.mixture(name) if isinstance(row, CellRow) else None
    bar = Markup(interval_bar(name, row.scores[name], row.kind, mixture))
    value, rest = (f"({value}", f"{rest})") if inside else (value, rest)
    return Item(value, row.scores[name].value, rest, bar)


def estimate(of: Estimate) -> Item:
    """A number with its interval."""
    value, _, rest = estimate_text(of).partition(" ")
    return Item(value, of.value, rest)


def place(of: Place | None) -> Item:
    """A rank with its interval."""
    value, _, rest = place_text(of).partition(" ")
    return Item(value, of and of.rank, rest)


def name(row: Row, href: str) -> Item:
    """A method, marked if failures count in it."""
    tag = "" if row.kind == "method" else row.kind
    return Item(row.method + MARK * row.failed, row.method, href=href, tag=tag)


def status(row: Row) -> Item:
    """Cells by status."""
    return Item(statuses(row), statuses(row), style="bad" if row.failed else "")


OVERALL = (
    "Method",
    *(h for s in SHOWN for h in (score_head(s), {SORT_KEY: "Rank", CONSTANT: "Rank, constant"}.get(s)) if h),
    *("Kind", "Access", "Gates", "Organisms", "Seeds", "Cells", "Wall s"),
)
OF_ORGANISM = ("Method", *map(score_head, SHOWN), "False discoveries", "Access", "Gates", "Seeds", "Cells", "Wall s")
OF_METHOD = (
    "Organism",
    *map(score_head, SHOWN),
    "False discoveries",
    "Family",
    "Seeds",
    "Cells",
    "Wall s",
    "First finding reads",
)
CHOICES = ("Kind", "Access", "Gates", "Family", "Tier", "Status")


def overall(table: Table, gates: Mapping[str, str], href: Mapping[str, str], caption: str) -> Grid:
    """A line a method."""

    def line(row: MethodRow) -> Line:
        places = {SORT_KEY: row.place, CONSTANT: row.place_constant}
        scores = [x for s in SHOWN for x in (score(row, s), *([place(places[s])] if s in places else []))]
        rest = [
            text(row.kind),
            text(row.access),
            text(gates[row.method]),
            text(organisms_text(table, row), row.organisms),
        ]
        rest += [text(seeds_text(row), row.seeds[0]), status(row), figure(row.wall_s, 1)]
        rest += [estimate(row.private or Estimate())] if table.private else []
        return Line([name(row, href[row.method]), *scores, *rest], "incomplete" * (row.standing == "incomplete"))

    names = (*OVERALL, PRIVATE_HEAD) if table.private else OVERALL
    return Grid(caption, heads(names, choices=CHOICES), [line(r) for r in table.overall], score_head(table.key))


def of_organism(rows: Sequence[CellRow], gates: Mapping[str, str], href: Mapping[str, str], caption: str) -> Grid:
    """A line a method on one organism; `href` is the page of each method's cell."""

    def line(row: CellRow) -> Line:
        scores = [*(score(row, s) for s in SHOWN), estimate(row.false_discovery)]
        rest = [text(row.access), text(gates[row.method]), text(row.seeds), status(row), figure(row.wall_s, 1)]
        return Line([name(row, href[row.method]), *scores, *rest])

    return Grid(caption, heads(OF_ORGANISM, 2, CHOICES), [line(r) for r in rows], score_head(SORT_KEY))


def of_method(rows: Sequence[CellRow], family: Mapping[str, str], href: Mapping[str, str], caption: str) -> Grid:
    """A line an organism of one method; `href` is the page of its cell there."""

    def line(row: CellRow) -> Line:
        scores = [*(score(row, s) for s in SHOWN), estimate(row.false_discovery)]
        read = next((c.reads_as for c in row.cells if c.reads_as), "–")
        rest = [
            text(family[row.organism]),
            text(row.seeds),
            status(row),
            figure(row.wall_s, 1),
            text(read, style="wrap"),
        ]
        return Line([Item(row.organism, row.organism, href=href[row.organism]), *scores, *rest])

    return Grid(caption, heads(OF_METHOD, 2, CHOICES), [line(r) for r in rows])
