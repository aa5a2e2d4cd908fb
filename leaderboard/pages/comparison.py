"""What `bench leaderboard compare` prints: the contrasts with their verdicts, then every pair of methods without one."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ...harness.escape import md
from ...organisms.errors import unknown
from ..statistics.contrasts import Contrast, Outcome, Values, outcomes, values_of
from ..statistics.rows import Estimate, Pair, Table
from .cells import Dialect, marked, place_text, score_head
from .text_formats import MARKDOWN, markdown_table, verdicts_markdown
from .verdicts import verdicts, verdicts_data

PAIR_HEADS = ("Higher", "Lower", "Difference", "On this set")


def comparison_markdown(table: Table) -> str:
    """Ranked methods, what was asked beforehand, and every pair."""
    return (
        f"# Comparison\n\n{md(table.header)}\n\n{markdown_table(ranked_heads(table), ranked_rows(table, MARKDOWN))}\n"
        f"## Verdicts\n\n{verdicts_markdown(table)}\n"
        f"## All pairs, without verdicts\n\n{md(pair_note(table))}\n\n{markdown_table(PAIR_HEADS, pair_rows(table, MARKDOWN))}"
    )


def ranked_heads(table: Table) -> tuple[str, ...]:
    """Of `ranked_rows`."""
    return "Method", score_head(table.key), "Rank"


def ranked_rows(table: Table, to: Dialect) -> list[list[str]]:
    """One line a ranked method."""
    ranked = [row for row in table.overall if row.standing == "ranked"]
    return [[to.text(marked(r)), to.score(r.scores[table.key]), to.text(place_text(r.place))] for r in ranked]


def pair_note(table: Table) -> str:
    """What the two columns of the pairs mean, and why they are no verdicts."""
    over = f"Student's over {table.clusters} clusters" if table.clusters else "unknown from one organism"
    unknown = f" Unknown for methods whose one seed says nothing of others: {', '.join(table.unknown_here)}." * bool(
        table.unknown_here
    )
    return (
        f"To be looked at, not judged: of so many pairs some differ by luck, and nothing here is corrected for that. Difference: 95 % "
        f"interval for organisms like these ({over}). On this set: how far the same difference would move if the same organisms were "
        f"run with other method seeds, prompts and controls.{unknown}"
    )


def pair_rows(table: Table, to: Dialect) -> list[list[str]]:
    """One line a pair, in the order of `PAIR_HEADS`."""
    return [
        [to.text(pair.better), to.text(pair.worse), to.score(pair.difference), to.score(here) if here else to.text("–")]
        for pair, here in _pairs(table)
    ]


def comparison_data(table: Table) -> dict[str, Any]:
    """`comparison_markdown` as plain values."""
    return {
        "score": table.key,
        "protocol_sha256": table.protocol_sha256,
        "organisms": [o for o in table.organisms if o not in table.inapplicable],
        "not_applicable": list(table.inapplicable),
        "clusters": table.clusters,
        "draws": table.draws,
        "seed": table.seed,
        "methods": [
            {"method": r.method}
            | dict(zip(("rank", "rank_low", "rank_high"), r.place or (None,) * 3, strict=True))
            | r.scores[table.key]._asdict()
            for r in table.overall
            if r.standing == "ranked"
        ],
        "verdicts": verdicts_data(table),
        "pairs": [
            {"higher": pair.better, "lower": pair.worse, "p_alone": pair.p}
            | pair.difference._asdict()
            | {"on_this_set": here and {"low": here.low, "high": here.high}}
            for pair, here in _pairs(table)
        ],
        "unknown_here": list(table.unknown_here),
    }


def _pairs(table: Table) -> Iterator[tuple[Pair, Estimate | None]]:
    """Each pair with its difference on this very set, where that is known."""
    here = {(pair.better, pair.worse): pair.difference for pair in table.here}
    return ((pair, here.get((pair.better, pair.worse))) for pair in table.pairs)


TWO_HEADS = ("Organism", "Difference")


@dataclass(frozen=True)
class TwoMethods:
    """Two methods on the organisms that both have a score on and that count."""

    first: str
    second: str
    score: str
    organisms: tuple[tuple[str, Estimate, Estimate], ...]
    """Organism and the score of each."""
    outcome: Outcome
    """Of the one contrast between them, which no list corrects."""
    registered: bool
    """Whether this contrast is one that was written down before."""

    @property
    def said(self) -> str:
        """The difference in one sentence, and what may be made of it."""
        asked = (
            "It stands in the verdicts."
            if self.registered
            else "Nobody wrote this comparison down before: it is no verdict."
        )
        above = sum((a.value or 0.0) > (b.value or 0.0) for _, a, b in self.organisms)
        return (
            f"{self.first} less {self.second}, mean over families: {self.outcome.said}. {self.first} is above on {above} of "
            f"{len(self.organisms)} organisms. {asked}"
        )


def two_methods(table: Table, first: str, second: str) -> TwoMethods:
    """Compare two rows of a table by its key.

    Raises:
        UsageError: no such row.
    """
    rows, values, asked = _of_all(table)
    names = [row.method for row in table.overall]
    for name in (first, second):
        if name not in names:
            raise unknown("method", name, names)
    on = [(o, rows[first, o], rows[second, o]) for o in table.counted[table.key]]
    both = tuple((o, a, b) for o, a, b in on if a.value is not None and b.value is not None)
    (outcome,) = outcomes([Contrast(first, second, table.key)], values)
    return TwoMethods(first, second, table.key, both, outcome, bool(asked & {(first, second), (second, first)}))


@lru_cache(maxsize=1)
def _of_all(table: Table) -> tuple[dict[tuple[str, str], Estimate], dict[str, Values], frozenset[tuple[str, str]]]:
    """Of every pair alike: scores by method and organism, what contrasts are asked of, and which pairs were asked for beforehand."""
    rows = {(row.method, row.organism): row.scores[table.key] for row in table.cells}
    asked = [(o.contrast.method, o.contrast.against) for each in verdicts(table).lists for o in each.outcomes]
    return rows, values_of(table), frozenset(asked)


def two_rows(two: TwoMethods, to: Dialect) -> list[list[str]]:
    """One line an organism, largest difference first."""
    lines = sorted(two.organisms, key=lambda x: -abs((x[1].value or 0.0) - (x[2].value or 0.0)))
    return [
        [to.text(o), to.score(a), to.score(b), to.text(f"{(a.value or 0.0) - (b.value or 0.0):+.2f}")]
        for o, a, b in lines
    ]


def two_data(two: TwoMethods) -> dict[str, Any]:
    """As plain values."""
    o = two.outcome
    return {
        "first": two.first,
        "second": two.second,
        "score": two.score,
        "organisms": [{"organism": n, "first": a._asdict(), "second": b._asdict()} for n, a, b in two.organisms],
        "families": o.families,
        "p": o.p,
        "registered": two.registered,
    } | o.difference._asdict()
