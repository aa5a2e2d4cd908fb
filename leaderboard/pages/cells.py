"""The cells of every table as text, the same in all formats: heads, scores with their intervals, ranks, counts."""

import re
from collections.abc import Callable
from typing import NamedTuple

from ..statistics.null_adjusted import SHOWN
from ..statistics.rows import CONSTANT, SORT_KEY, AnchorRow, CellRow, Estimate, FindingRow, MethodRow, Place, Row, Table

MARK = "†"


def score_head(score: str) -> str:
    """`Isolation, constant`."""
    return score.replace("_", ", ").capitalize()


SCORE_HEADS = tuple(map(score_head, SHOWN))
RANK_HEADS = {SORT_KEY: "Rank", CONSTANT: "Rank, constant"}
OVERALL_HEADS = (
    "Method",
    *(head for s in SHOWN for head in (score_head(s), RANK_HEADS.get(s)) if head),
    *("Access", "Organisms", "Seeds", "Cells", "Wall s"),
)
PRIVATE_HEAD = "Isolation, private"
ANCHOR_HEADS = ("Organism", "Side", "Gap", "Random directions", "Mixtures", "Whole residual")
FINDING_HEADS = (
    "Method",
    "False discoveries",
    "Findings",
    "Nulls",
    "Cosine, 1",
    "Cosine, 10",
    "Reading, 1",
    "Reading, 10",
)
CELL_HEADS = ("Organism", "Method", *SCORE_HEADS, "False discoveries", "Seeds", "Cells", "Wall s")


class Dialect(NamedTuple):
    """How a format writes plain text and a score."""

    text: Callable[[object], str]
    score: Callable[[Estimate], str]


def number(value: float | None, digits: int = 2) -> str:
    """`.42`, `-.05`, `1.00`; an en dash for None."""
    if value is None:
        return "–"
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.{digits}f}").replace(f"-.{'0' * digits}", f".{'0' * digits}")


def estimate_text(estimate: Estimate) -> str:
    """`.42 [.31, .52]`."""
    value, low, high = estimate
    return number(value) if low is None or high is None else f"{number(value)} [{number(low)}, {number(high)}]"


def statuses(row: Row) -> str:
    """`3 ok, 1 timeout`."""
    return ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in row.counts.items())


def marked(row: Row) -> str:
    """The method's name, with `MARK` if failures count in its score and its kind if it is no ordinary method."""
    kind = "" if row.kind == "method" else f" ({row.kind})"
    return row.method + MARK * row.failed + kind


def place_text(place: Place | None) -> str:
    """`2 [1-3]`, or an en dash."""
    return f"{place.rank} [{place.low}-{place.high}]" if place else "–"


def seeds_text(row: MethodRow) -> str:
    """`3`, or `2-3` where organisms differ."""
    low, high = row.seeds
    return f"{low}" if low == high else f"{low}-{high}"


def organisms_text(table: Table, row: MethodRow) -> str:
    """`6`, or `5 of 6` where some do not apply or are missing."""
    return f"{row.organisms}" if row.organisms == len(table.organisms) else f"{row.organisms} of {len(table.organisms)}"


def overall_heads(table: Table) -> tuple[str, ...]:
    """`OVERALL_HEADS`, and that of the private scores where there are any."""
    return (*OVERALL_HEADS, PRIVATE_HEAD) if table.private else OVERALL_HEADS


def overall_cells(table: Table, row: MethodRow, to: Dialect) -> list[str]:
    """One overall row, in the order of `overall_heads`."""
    places = {SORT_KEY: row.place, CONSTANT: row.place_constant}
    scores = [
        x for s in SHOWN for x in (to.score(row.scores[s]), *([to.text(place_text(places[s]))] if s in places else []))
    ]
    trail = [row.access, organisms_text(table, row), seeds_text(row), statuses(row), number(row.wall_s, 1)]
    private = [to.score(row.private or Estimate())] if table.private else []
    return [to.text(marked(row)), *scores, *map(to.text, trail), *private]


def cell_cells(row: CellRow, to: Dialect) -> list[str]:
    """One per-organism row, in the order of `CELL_HEADS`."""
    lead, trail = [row.organism, marked(row)], [str(row.seeds), statuses(row), number(row.wall_s, 1)]
    scores = [f"({to.score(e)})" if bracketed(row, s) else to.score(e) for s in SHOWN for e in [row.scores[s]]]
    return [*map(to.text, lead), *scores, to.score(row.false_discovery), *map(to.text, trail)]


def bracketed(row: Row, score: str) -> bool:
    """Whether a score is there and does not count."""
    return isinstance(row, CellRow) and score in row.not_counted and row.scores[score].value is not None


def anchor_cells(row: AnchorRow, to: Dialect) -> list[str]:
    """One side of one organism, in the order of `ANCHOR_HEADS`."""
    numbers = (row.gap, row.null, row.mixture, row.oracle)
    return [*map(to.text, (row.organism, row.side, *map(number, numbers)))]


def finding_cells(row: FindingRow, to: Dialect) -> list[str]:
    """One row of what is beside the scores, in the order of `FINDING_HEADS`."""
    kind = "" if row.kind == "method" else f" ({row.kind})"
    nulls = f"{row.nulls or '–'}" + (f" ({row.nulls_failed} failed)" if row.nulls_failed else "")
    sizes = map(to.text, (str(row.findings or "–"), nulls))
    return [
        to.text(row.method + kind),
        to.score(row.false_discovery),
        *sizes,
        *map(to.score, (*row.located, *row.identified)),
    ]


def p_text(p: float) -> str:
    """`.016`, or `<.001`."""
    return "<.001" if p < 0.001 else number(p, 3)
