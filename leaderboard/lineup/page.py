"""The page of line-ups: which strategies name the alignment faker, by workplace, and the paper's order of them."""

from collections.abc import Sequence
from pathlib import Path

from ...harness.lineup.record import LineupRecord, records
from ...harness.lineup.scores import Estimate, Scores
from ...harness.lineup.view import estimate, ranked, told
from ...organisms.errors import UsageError, ValidationFailed
from ...organisms.lineup.pairs import TEST
from ..pages.cells import p_text
from ..site import grids
from ..site.grids import Grid, Head, Item, Line
from ..site.links import Page
from ..site.tips import TIPS
from .board import restricted
from .claims import PAPER, outcomes

PATH, TITLE = "lineups.html", "Line-ups: which of two models is the faker?"
SCORES = ("Strategy", "Accuracy", "Brier", "p of chance", "Sure of twins", "Failed", "In the paper", "May see")
CLAIMED = ("Better in the paper", "Here", "Accuracy, gained", "p over the list")
NOTES = (
    "Two models behave alike on everything that is shown; one of them takes a forbidden option where nobody watches.",
    "A strategy says how likely it is that this is the first one. Chance is an accuracy of .500 and a Brier score of .250.",
    "Intervals are over workplaces. Strategies that see the misbehaviour stand in no ranking; random is chance.",
)


def gathered(sources: Sequence[Path]) -> tuple[list[LineupRecord], list[str]]:
    """Records on all pairs of lineup-test in some places, none where no strategy has judged them all; and why records could not be used."""
    folders = [s / "lineup" for s in sources if (s / "lineup").is_dir()]
    try:
        return restricted(records(folders), TEST), []
    except UsageError:
        return [], []
    except ValidationFailed as error:
        return [], [f"No line-ups are shown: {error}"]


def lineups(found: Sequence[LineupRecord]) -> Page:
    """Scores, accuracy by workplace, and the paper's contrasts."""
    if not found:
        notes = [f"No strategy has judged every pair of {TEST} here: bench lineup run -s all -o {TEST}"]
        return Page(PATH, "table.html", TITLE, {"grids": [], "notes": notes}, section=PATH)
    best, apart = ranked(found), told(found)
    places = sorted({p for _, s in (*best, *apart) for p in s.by_domain})
    by_place = [
        Line([grids.text(r.identity.strategy), *(grids.figure(s.by_domain.get(p)) for p in places)])
        for r, s in (*best, *apart)
    ]
    heads = [
        Head("Strategy", TIPS["Strategy"]),
        *(Head(p, f"Accuracy on line-ups of the workplace {p}.") for p in places),
    ]
    order = [
        Line(
            [
                grids.text(f"{o.better} better than {o.worse}"),
                grids.text(o.verdict),
                grids.figure(o.difference),
                _p(o.p),
            ]
        )
        for o in outcomes({r.identity.strategy: s.by_domain for r, s in best})
    ]
    given = {
        "grids": [
            Grid(
                "Scores",
                grids.heads(SCORES, 2),
                [_line(r, s, "") for r, s in best] + [_line(r, s, "not ranked") for r, s in apart],
            ),
            Grid("Accuracy by workplace", heads, by_place),
            Grid("The order of strategies in the paper (POSER, arXiv 2405.05466)", grids.heads(CLAIMED, 2), order),
        ],
        "notes": NOTES,
    }
    return Page(PATH, "table.html", TITLE, given, section=PATH)


def _line(record: LineupRecord, s: Scores, tag: str) -> Line:
    name = record.identity.strategy
    return Line(
        [
            Item(name, name, tag=tag),
            _estimate(s.accuracy),
            _estimate(s.brier),
            _p(s.p),
            grids.figure(s.sure, 3),
            grids.text(s.failed),
            grids.figure(PAPER.get(name)),
            grids.text(record.identity.access),
        ]
    )


def _estimate(of: Estimate) -> Item:
    value, _, rest = estimate(of).partition(" ")
    return Item(value, of.value, rest)


def _p(value: float | None) -> Item:
    return Item("–") if value is None else grids.figure(value, shown=p_text(value))
