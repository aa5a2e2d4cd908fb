"""Markdown and CSV of a table, and what its columns mean. Pure functions: the same table gives the same bytes."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ...harness.escape import csv_field, md
from ..board.store import Problem
from ..statistics.grid import LABELLED, PARTS, SOLVABLE
from ..statistics.null_adjusted import SHOWN
from ..statistics.rows import AnchorRow, CellRow, Estimate, FindingRow, MethodRow, Place, Row, Table, count

MARK = "†"
NOTES = (
    (
        "Scores are shares of the gap between the two models that are closed, prompt by prompt; below 0 an edit leads away. Sufficiency "
        "adds the findings to the base, necessity takes them out of the fine-tuned model, isolation is the harmonic mean (0 if either is "
        "not positive). 0 = matched random directions, 1 = exchanging the whole residual. 95 % intervals in brackets."
    ),
    "Edits are where the findings' gates are open, or everywhere if they have none; constant: everywhere.",
    (
        "Mitigation: nearness to the base against the capability that is retained. 0 = random directions, 1 = the adapter switched off."
    ),
    (
        "Adjusted: isolation less what random directions reach by luck under the same gates (isolation is never negative, so their "
        "mean is not 0). 0 = random directions in the mean, 1 = exchanging the whole residual."
    ),
    (
        "Intervals resample families, organisms, organism seeds, method seeds, templates, prompts and controls; the headline is the "
        "plain mean over organisms."
    ),
    (
        "Rank: 5-95 % of the bootstrap ranks in brackets; rank, constant: by isolation, constant. Group: methods sharing a letter are "
        "not separated for organisms like these (paired difference, Holm over all pairs). Ahead, behind: how many methods a method is "
        "separated from on this very set, where only seeds, prompts and controls are drawn. Not ranked: anchors, upper bounds, and "
        "methods that lack an organism others were scored on."
    ),
    f"{MARK} includes cells that failed, ran out of memory or timed out; they count as 0.",
    "Rows without numbers lack at least one cell and have no headline.",
)


def score_head(score: str) -> str:
    """`Isolation, constant`."""
    return score.replace("_", ", ").capitalize()


SCORE_HEADS = tuple(map(score_head, SHOWN))
GROUP_HEADS = ("Group", "Ahead, behind")
OVERALL_HEADS = (
    *("Rank", *GROUP_HEADS, "Rank, constant", "Method", "Access"),
    *(*SCORE_HEADS, "Organisms", "Seeds", "Cells", "Wall s"),
)
ANCHOR_HEADS = ("Organism", "Side", "Gap", "Random directions", "Mixtures", "Whole residual")
ANCHOR_NOTE = (
    "Share of the gap that is closed without gates: by random directions (a score of 0), by mixtures of the two models' differences at "
    "random tokens (a harder null, shown beside and never the zero), and by exchanging the whole residual (1). Gap: mean distance of the "
    "two models on scored test prompts."
)
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
FINDING_NOTE = (
    "False discoveries: share of the findings on null organisms whose effect beats random directions under the same gates "
    "at p < .05 (random directions: {expected}); findings are treated as independent. Cosine: the largest |cos| of the first "
    "1 or 10 findings with the direction that a planted adapter writes. Reading: where the truth stands among the family's "
    "candidates by the first 1 or 10 findings, 0 = random directions, 1 = first."
)
PARENTHESES = "Scores in parentheses do not count in any mean."
CELL_HEADS = ("Organism", "Method", *SCORE_HEADS, "Seeds", "Cells", "Wall s")


class Dialect(NamedTuple):
    """How a format writes plain text and a score."""

    text: Callable[[str], str]
    score: Callable[[Estimate], str]


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
    return f"# Leaderboard\n\n{overall_markdown(table)}\n{other}## By organism\n\n{PARENTHESES}\n\n{cells}{unusable}"


def overall_markdown(table: Table) -> str:
    """What the table stands on, one row a method, and what the columns mean."""
    rows = markdown_table(OVERALL_HEADS, [overall_cells(table, row, MARKDOWN) for row in table.overall])
    notes = "".join(f"- {md(note)}\n" for note in notes_of(table))
    return f"{md(table.header)}\n\n{rows}\n{notes}"


def finding_markdown(table: Table) -> str:
    """False discovery, localisation and identification, and what the columns mean."""
    rows = markdown_table(FINDING_HEADS, [finding_cells(row, MARKDOWN) for row in table.finding_measures])
    return f"{rows}\n{md(finding_note(table))}\n"


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


def notes_of(table: Table) -> list[str]:
    """The verdicts of a table, on how many organisms it stands and what its columns mean."""
    return [note for note in (table.verdict, table.verdict_here, solvability(table), *NOTES) if note]


def solvability(table: Table) -> str:
    """What counts, as far as the labelled anchor has said."""
    inside = [o for o in table.organisms if o not in table.inapplicable]
    rule = f"An organism counts in a score where directions fitted on labels ({LABELLED}) reach {number(SOLVABLE, 1)} on its sides"
    if set(table.untried) >= set(inside):
        return f"{rule}; nobody ran them, so each counts everywhere, solvable or not."
    sizes = "; ".join(f"{score_head(s).lower()} {len(table.counted[s])}" for s in SHOWN)
    unknown = f" Not tried, so counted: {', '.join(table.untried)}." if table.untried else ""
    return f"{rule}. Of {count(len(inside), 'organism')} count: {sizes}.{unknown}"


def not_counted(table: Table) -> list[tuple[str, str, str]]:
    """(Organism, scores, why) by organism; a score of two sides has the reasons of both."""
    found: dict[str, tuple[list[str], dict[str, None]]] = {}
    for score, reasons in table.unsolvable.items():
        for organism, why in reasons.items():
            scores, whys = found.setdefault(organism, ([], {}))
            scores.append(score_head(score).lower())
            if len(PARTS[score]) == 1:
                whys[why] = None
    return sorted((organism, "; ".join(scores), "; ".join(whys)) for organism, (scores, whys) in found.items())


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


def rank_text(row: MethodRow) -> str:
    """`2 [1-3]`, or an en dash."""
    return place_text(row.place)


def place_text(place: Place | None) -> str:
    """`2 [1-3]`, or an en dash."""
    return f"{place.rank} [{place.low}-{place.high}]" if place else "–"


def ahead_text(row: MethodRow) -> str:
    """`12, 1`: methods that it is ahead of and behind on this set; an en dash where it was not compared."""
    return "–" if row.ahead_here is None else f"{row.ahead_here}, {row.behind_here}"


def seeds_text(row: MethodRow) -> str:
    """`3`, or `2-3` where organisms differ."""
    low, high = row.seeds
    return f"{low}" if low == high else f"{low}-{high}"


def organisms_text(table: Table, row: MethodRow) -> str:
    """`6`, or `5 of 6` where some do not apply or are missing."""
    return f"{row.organisms}" if row.organisms == len(table.organisms) else f"{row.organisms} of {len(table.organisms)}"


def overall_cells(table: Table, row: MethodRow, to: Dialect) -> list[str]:
    """One overall row, in the order of `OVERALL_HEADS`."""
    lead = [rank_text(row), row.group or "–", ahead_text(row), place_text(row.place_constant), marked(row), row.access]
    trail = [organisms_text(table, row), seeds_text(row), statuses(row), number(row.wall_s, 1)]
    return [*map(to.text, lead), *(to.score(row.scores[name]) for name in SHOWN), *map(to.text, trail)]


def cell_cells(row: CellRow, to: Dialect) -> list[str]:
    """One per-organism row, in the order of `CELL_HEADS`."""
    lead, trail = [row.organism, marked(row)], [str(row.seeds), statuses(row), number(row.wall_s, 1)]
    scores = [f"({to.score(e)})" if bracketed(row, s) else to.score(e) for s in SHOWN for e in [row.scores[s]]]
    return [*map(to.text, lead), *scores, *map(to.text, trail)]


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
    sizes = map(to.text, (str(row.findings or "–"), str(row.nulls or "–")))
    return [
        to.text(row.method + kind),
        to.score(row.false_discovery),
        *sizes,
        *map(to.score, (*row.located, *row.identified)),
    ]


def finding_note(table: Table) -> str:
    """What the columns mean."""
    return FINDING_NOTE.format(
        expected=number(next((r.expected for r in table.finding_measures if r.expected), None), 3)
    )


MARKDOWN = Dialect(md, estimate_text)


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """GitHub flavour; the texts are ready-made (`md`)."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
