"""What a page says about its columns, once and in the same words in all formats: what a score means, its zero and its one."""

from collections.abc import Mapping

from ..statistics.grid import LABELLED, PARTS, SOLVABLE
from ..statistics.null_adjusted import SHOWN
from ..statistics.resample import headline
from ..statistics.rows import SIDES, Table, count
from .cells import MARK, number, score_head

COLUMNS: Mapping[str, str] = {
    "isolation": (
        "harmonic mean of sufficiency and necessity; edits act where the findings' gates are open, or everywhere if they have none. "
        "0 = either of them is not above 0, 1 = both are 1"
    ),
    "isolation_constant": "the same with edits everywhere, whatever the gates. 0 and 1 as before",
    "sufficiency": (
        "share of the gap between the two models, prompt by prompt, that adding the findings to the base closes; below 0 it leads away. "
        "0 = random directions under the same gates, 1 = exchanging the whole residual"
    ),
    "necessity": "share of it that taking them out of the fine-tuned model closes. 0 and 1 as before",
    "mitigation": (
        "nearness to the base against the capability that is retained. 0 = random directions, 1 = the fine-tuning switched off"
    ),
    "adjusted": (
        "isolation less what random directions reach by luck (isolation is never negative, so their mean is not 0). "
        "0 = random directions in the mean, 1 = both sides are 1"
    ),
}
NOTES = (
    (
        "95 % intervals in brackets. Over organisms: Student's over the means of families, which weigh alike. Of one organism: method "
        "seeds, templates with their prompts, and controls are drawn."
    ),
    (
        "Rank: in brackets 5-95 % of the ranks, with headlines as uncertain as their intervals say. Not ranked: anchors, upper bounds, and "
        "methods that lack an organism others were scored on."
    ),
    f"{MARK} includes cells that failed, ran out of memory or timed out; they count as 0.",
    "Rows without numbers lack at least one cell and have no headline.",
)
ANCHOR_NOTE = (
    "Share of the gap that is closed without gates: by random directions (a score of 0), by mixtures of the two models' differences at "
    "random tokens (a harder null, shown beside and never the zero), and by exchanging the whole residual (1). Gap: mean distance of the "
    "two models on scored test prompts."
)
FINDING_NOTE = (
    "False discoveries: share of the findings on null organisms whose effect beats random directions under the same gates "
    "at p < .05 (random directions: {expected}); the controls allow no p below {floor}, and findings are treated as independent. "
    "Cosine: the largest |cos| of the first 1 or 10 findings with the direction that a planted adapter writes. Reading: where the "
    "truth stands among the family's candidates by the first 1 or 10 findings, 0 = random directions, 1 = first."
)
PARENTHESES = "Scores in parentheses do not count in any mean."


def notes_of(table: Table) -> list[str]:
    """On how many organisms a table stands, and what its columns mean."""
    columns = [f"{score_head(score)}: {text}." for score, text in COLUMNS.items()]
    return [note for note in (solvability(table), *columns, table.private, mixtures(table), *NOTES) if note]


def mixtures(table: Table) -> str:
    """What the harder null would score; empty where it was not measured."""
    said: list[str] = []
    for side in SIDES:
        rows = [r for r in table.anchors if r.side == side and r.organism in table.counted[f"{side}_constant"]]
        scores = {r.organism: r.mixture_score for r in rows}
        known = {o: score for o, score in scores.items() if score is not None}
        said += [f"{number(headline(known).value)} in {side}"] if known else []
    if not said:
        return ""
    return (
        "Mixtures of the two models' differences at random tokens, a harder null that is never the zero, would score "
        f"{' and '.join(said)} (edits everywhere)."
    )


def solvability(table: Table) -> str:
    """What counts, as far as the labelled anchor has said."""
    inside = [o for o in table.organisms if o not in table.inapplicable]
    best = f"directions fitted on labels ({LABELLED}, the best of its rows)"
    rule = f"An organism counts in a score where {best} reach {number(SOLVABLE, 1)} on its sides"
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


def finding_note(table: Table) -> str:
    """What the columns mean."""
    expected, floor = (
        number(next((x for r in table.finding_measures if (x := getattr(r, name))), None), 3)
        for name in ("expected", "floor")
    )
    return FINDING_NOTE.format(expected=expected, floor=floor)


def protocol_facts(table: Table) -> list[tuple[str, str]]:
    """What a table's numbers stand on: terms and what they are."""
    return [
        ("Protocol", f"{table.protocol}, settings {table.protocol_sha256}"),
        ("Organism set", f"{table.organism_set}: {', '.join(table.organisms)}"),
        (
            "Intervals",
            (
                f"over organisms: Student's over {table.clusters or 'no'} clusters (families); of one organism: percentiles of "
                f"{table.draws} draws of method seeds, templates, prompts and controls, seed {table.seed}"
            ),
        ),
        ("Missing cells", "failed, oom and timeout count as 0; a cell that was not run takes the headline away"),
        ("Not applicable to any method", ", ".join(table.inapplicable) or "none"),
    ]
