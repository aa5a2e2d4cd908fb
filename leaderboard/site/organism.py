"""The page of an organism: its card, how hard it is, what it says beside its base, and every method on it.

A card is shown only if it is of the weights that the records were made on: another organism of the same name is not described in its place.
"""

from collections.abc import Mapping

from markupsafe import Markup

from ...organisms.card import Card, Estimate
from ...organisms.errors import DiffbenchError
from ...organisms.registry import load_card, load_organism, organism_names
from ...organisms.sets import holding
from ..pages.cells import number
from ..pages.legend import PARENTHESES, not_counted
from . import grids, links
from .facts import Board
from .grids import Grid, Item, Line
from .links import Page
from .overall import anchors_of

TOP = ("Organisms", "organisms.html")
ANCHORS = ("Side", "Gap", "Random directions", "Mixtures", "Whole residual")
MEASURED = ("Measured", "Base", "Organism", "Changed", "Unit", "n")
GATES = ("Gate", "Value", "Bound", "Passed")


def organism(board: Board, name: str, panels: Mapping[str, Markup]) -> Page:
    """The page of one; `panels` are the dose-response curves of the methods on it."""
    table, rows = board.table, board.rows[name]
    card, why = _card(board, name)
    anchors = [
        Line([grids.text(side), *(grids.figure(x) for x in (row.gap, row.null, row.mixture, row.oracle))])
        for side, row in anchors_of(table, name).items()
    ]
    reasons = [f"Not counted in {scores}: {because}." for o, scores, because in not_counted(table) if o == name]
    href = {m: board.cell_page(row) or links.method(m) for m, row in rows.items()}
    looked = next((r for _, r in board.on(name) if r.answers), None)
    told = {
        "about": card.description if card else "",
        "facts": _facts(board, name, card),
        "why": why,
        "measured": _measured(card) if card else None,
        "gates": _gates(card) if card else None,
        "anchors": Grid(f"What 0 and 1 are on {name}", grids.heads(ANCHORS), anchors) if anchors else None,
        "reasons": reasons,
        "talk": looked.answers if looked else None,
        "grid": grids.of_organism([*rows.values()], board.gates, href, f"Methods on {name}"),
        "parentheses": PARENTHESES,
        "panels": [(m, href[m], panel) for m, panel in panels.items() if panel],
        "rule": board.rule,
    }
    return Page(links.organism(name), "organism.html", name, told, [TOP], TOP[1])


def _card(board: Board, name: str) -> tuple[Card | None, str]:
    """The card of the organism that the records are of, or why there is none."""
    made_on = next((c.identity.organism_sha256 for row in board.rows[name].values() for c in row.cells), None)
    if name not in organism_names():
        return None, "No card: this organism is not in the zoo here."
    try:
        card = load_card(name)
        here = load_organism(name, allow_failed=True).sha256
    except DiffbenchError as error:
        return None, f"No card: {error}"
    if here != made_on:
        return None, "No card: the organism of this name here has other weights than the one that these records are of."
    return card, ""


def _facts(board: Board, name: str, card: Card | None) -> list[tuple[str, str]]:
    cells = [c for row in board.rows[name].values() for c in row.cells]
    layers = sorted({c.identity.layer for c in cells})
    facts = [("Family", board.families[name]), ("Tier", ", ".join(sorted({c.identity.tier for c in cells})))]
    facts += [("Hooked layer", ", ".join(map(str, layers)))]
    if card:
        recipe = ", ".join(f"{k} {v}" for k, v in card.recipe.items() if v is not None)
        facts += [
            ("Base", card.base),
            ("Role", ", ".join([card.role, *holding(name)])),
            ("Status", card.status),
            ("Recipe", recipe),
        ]
    return facts


def _estimate(e: Estimate) -> Item:
    return Item(number(e.value, 3), e.value, f"[{number(e.low, 3)}, {number(e.high, 3)}]")


def _measured(card: Card) -> Grid:
    lines = [
        Line(
            [
                grids.text(what.replace("_", " ")),
                *map(_estimate, (m.base, m.organism, m.change)),
                grids.text(m.unit),
                grids.text(m.n),
            ]
        )
        for what, m in card.measured.items()
    ]
    return Grid("Measured of the organism", grids.heads(MEASURED, 3), lines)


def _gates(card: Card) -> Grid:
    lines = [
        Line(
            [
                grids.text(name.replace("_", " ")),
                Item(
                    number(g.value, 3),
                    g.value,
                    f"[{number(g.low, 3)}, {number(g.high, 3)}]" if g.low is not None else "",
                ),
                grids.text(f"{g.rule} {g.bound:g}"),
                grids.text("yes" if g.passed else "no", style="" if g.passed else "bad"),
            ]
        )
        for name, g in card.gates.items()
    ]
    return Grid("Gates", grids.heads(GATES, 4), lines)
