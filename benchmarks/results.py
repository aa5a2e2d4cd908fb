"""`python -m benchmarks.results`: what the published records say, method by method; the tables of docs/results.md and of the README.

Everything stands on the method seeds that are on every organism of the set. Where the set has too few families for any verdict, the
page says so and compares no two methods; else it has the contrasts that were written down before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.protocol.intervals import harmonic, normalised
from diffbench.harness.records.result import ALPHA, COLUMNS, Result
from diffbench.harness.store.labels import bare
from diffbench.leaderboard.board.build import settled
from diffbench.leaderboard.board.store import load_results
from diffbench.leaderboard.pages.cells import (
    ANCHOR_HEADS,
    anchor_cells,
    bracketed,
    estimate_text,
    marked,
    number,
    score_head,
    seeds_text,
)
from diffbench.leaderboard.pages.legend import ANCHOR_NOTE, not_counted, solvability
from diffbench.leaderboard.pages.text_formats import MARKDOWN, markdown_table, verdicts_markdown
from diffbench.leaderboard.statistics.resample import family
from diffbench.leaderboard.statistics.rows import SORT_KEY, Estimate, Table, count
from diffbench.leaderboard.statistics.tables import build_table
from diffbench.methods.catalogue import AS_PUBLISHED
from diffbench.organisms.errors import ValidationFailed
from diffbench.organisms.registry import load_card, organism_names
from diffbench.organisms.sets import HEADLINE, members

from .table import insert

NULL = "null/"
SHORT = ("isolation", "isolation_constant", "sufficiency", "necessity", "mitigation")
MIXTURES = "*mixtures of differences*"
MANY = 8
"""Organisms from which the families have a table of their own, and organisms become rows."""
FAR = 0.2
"""Seeds of one organism that are farther apart tell two stories."""


def main(
    records: Annotated[Path, typer.Argument(help="Run folders or packs.")] = Path("leaderboard/published"),
    page: Annotated[Path, typer.Option(help="Page whose tables are replaced.")] = Path("docs/results.md"),
    readme: Annotated[Path, typer.Option(help="Page whose short table is replaced.")] = Path("README.md"),
) -> None:
    """Write the tables."""
    results = usable(records)
    organisms = members(HEADLINE)
    cells = whole(results, organisms)
    table = build_table(cells, organisms, HEADLINE, settled=settled(results))
    parts = {
        "Method by method": f"{methods(table)}\n{notes(table)}",
        "Verdicts": verdicts_markdown(table) if verdicts_possible(table) else "",
        "Where the spread is": spread(table),
        "Family by family": by_family(table),
        "Organism by organism": by_organism(table),
        "What 0 and 1 are": f"{ANCHOR_NOTE}\n\n"
        + markdown_table(ANCHOR_HEADS, [anchor_cells(row, MARKDOWN) for row in table.anchors]),
        "False discoveries, null by null": nulls(cells),
        "Seed by seed": seeds(cells),
        "Budgets on test text": budgets(cells),
    }
    text = "\n".join(f"## {head}\n\n{part}" for head, part in parts.items() if part)
    atomic_write_text(page, insert(page.read_text(), text))
    atomic_write_text(readme, insert(readme.read_text(), methods(table, papers=False)))
    typer.echo(text)


def usable(records: Path) -> list[Result]:
    """Every record below a folder.

    Raises:
        ValidationFailed: a file cannot be used, such as a record of v1; no page is made from what is left.
    """
    loaded = load_results(records)
    if wrong := loaded.problems:
        raise ValidationFailed(
            f"{wrong[0].path}: {wrong[0].reason} ({count(len(wrong), 'file')} below {records} cannot be used; nothing was written)"
        )
    return list(loaded.results)


def whole(results: Sequence[Result], organisms: Iterable[str]) -> list[Result]:
    """The cells on these organisms, of the method seeds that their method has on all of them."""
    names = set(organisms)
    on: dict[tuple[str, int], set[str]] = {}
    for r in results:
        on.setdefault(_who(r), set()).add(r.identity.organism)
    return [r for r in results if r.identity.organism in names and on[_who(r)] >= names]


def _who(cell: Result) -> tuple[str, int]:
    return cell.identity.row, cell.identity.seeds["method"]


def methods(table: Table, papers: bool = True) -> str:
    """What the table stands on, and one row a method; the harder null last.

    Args:
        papers: with the rows of methods that ran with their paper's settings; without, of a method in several forms the best one.
    """
    best = {bare(row.method): row for row in reversed(table.overall) if not row.method.endswith(AS_PUBLISHED)}
    rows = [
        [
            f"`{row.method}`" + marked(row).removeprefix(row.method),
            *(estimate_text(row.scores[s]) for s in SHORT),
            seeds_text(row),
        ]
        for row in table.overall
        if papers or best.get(bare(row.method)) is row
    ]
    mixed = mixtures(table, table.counted)
    rows += [[MIXTURES, *(estimate_text(mixed[s]) for s in SHORT), "–"]] if mixed else []
    few = (
        f"{count(len(table.organisms), 'organism')} of {len({family(o) for o in table.organisms})} families "
        f"({', '.join(table.organisms)}): too few to say which method is better on others, so nobody is ranked and no two methods are "
        "compared.\n\n"
    )
    head = ("method", *(score_head(s).lower() for s in SHORT), "seeds")
    return f"{'' if verdicts_possible(table) else few}{table.header}.\n\n{markdown_table(head, rows)}"


def verdicts_possible(table: Table) -> bool:
    """Whether an exact test of families can reach a p below .05: the sign patterns of six can, of five not."""
    return 2 / 2 ** len({family(o) for o in table.counted[SORT_KEY]}) < ALPHA


def mixtures(table: Table, organisms: Mapping[str, Sequence[str]]) -> dict[str, Estimate]:
    """Scores of mixtures of the two models' differences at random tokens, edited everywhere; empty if none were measured.

    Args:
        organisms: those that the mean of each score is over.
    """
    at = {
        (a.organism, a.side): normalised(*(np.array([x]) for x in (a.mixture, a.null, a.oracle)))
        for a in table.anchors
        if a.mixture is not None
    }
    if not at:
        return {}

    def side(name: str) -> Callable[[str], float]:
        return lambda organism: float(np.clip(at[organism, name], -1, 1)[0])

    def both(organism: str) -> float:
        return float(np.minimum(harmonic(at[organism, "sufficiency"], at[organism, "necessity"]), 1)[0])

    def mean(score: str, value: Callable[[str], float]) -> Estimate:
        found = [value(o) for o in organisms[score] if (o, "sufficiency") in at]
        return Estimate(float(np.mean(found))) if found else Estimate()

    of = {
        "isolation": both,
        "isolation_constant": both,
        "sufficiency": side("sufficiency"),
        "necessity": side("necessity"),
    }
    return {score: mean(score, value) for score, value in of.items()} | {"mitigation": Estimate()}


def notes(table: Table) -> str:
    """How to read the columns, and what does not count."""
    said = [
        "0 is what random directions do, 1 is exchanging the whole residual (mitigation: switching the adapter off).",
        "A score is the mean over families. Edits are where the findings' gates are open; *constant*: everywhere.",
        "Compare within a column: columns may stand on different organisms, where one cannot be solved in one of them.",
        f"The row {MIXTURES} is no method but a harder null: what differs between the models at random tokens, edited everywhere.",
        "Intervals are 95 %, over families.",
        solvability(table),
        *(f"Not counted: {organism}: {scores}: {why}." for organism, scores, why in not_counted(table)),
    ]
    return "".join(f"- {note}\n" for note in said)


def spread(table: Table) -> str:
    """How much of the squares of isolation about their mean lies between families, organisms of a family, methods, and their meetings.

    Over every ranked method with its defaults and every organism that counts, a method's seeds averaged. Empty where the families have no
    table of their own, or a method lacks a score.
    """
    own = [o for o in table.organisms if o in table.counted[SORT_KEY]]
    ranked = [m.method for m in table.overall if m.kind == "method" and not m.method.endswith(AS_PUBLISHED)]
    found = {(row.method, row.organism): row.scores[SORT_KEY].value for row in table.cells}
    values = [[found.get((m, o)) for o in own] for m in ranked]
    if len(own) <= MANY or len(ranked) < 2 or any(v is None for row in values for v in row) or not np.ptp(values):
        return ""
    parts = squares(np.array(values, dtype=float), np.array([family(o) for o in own]))
    what = (
        f"families ({len({*map(family, own)})})",
        f"organisms of a family ({len(own)})",
        f"methods ({len(ranked)})",
        "methods × families",
        "methods × organisms of a family",
    )
    rows = [[name, f"{part:.0%}"] for name, part in zip(what, parts, strict=True)]
    return (
        "Share of the sum of squares of isolation about its mean, over the methods that are ranked, with their defaults, and the organisms "
        f"that count. It describes these cells; no test stands on it.\n\n{markdown_table(('between', 'share'), rows)}"
    )


def squares(values: np.ndarray, families: np.ndarray) -> list[float]:
    """Shares of the sum of squares about the mean of (methods, organisms) values, which add up to 1: families, organisms within them,
    methods, methods × families, and the rest."""
    mean, of_organism, of_method = values.mean(), values.mean(0), values.mean(1, keepdims=True)
    both = np.empty_like(values)
    for each in {*families}:
        at = families == each
        both[:, at] = values[:, at].mean(1, keepdims=True)
    of_family = both.mean(0)
    parts = (
        of_family - mean,
        of_organism - of_family,
        of_method - mean,
        both - of_family - of_method + mean,
        values - both - of_organism + of_family,
    )
    sums = [float((np.broadcast_to(part, values.shape) ** 2).sum()) for part in parts]
    return [x / sum(sums) for x in sums]


def by_family(table: Table) -> str:
    """Mean isolation of each method on each family, where there are too many organisms to see it one by one; else empty."""
    own = [o for o in table.organisms if o in table.counted[SORT_KEY]]
    if len(own) <= MANY:
        return ""
    found = {(row.method, row.organism): row.scores[SORT_KEY].value for row in table.cells}
    named = sorted({family(o) for o in own})
    rows = [
        [f"`{m.method}`", *(_mean(found[m.method, o] for o in own if family(o) == each) for each in named)]
        for m in table.overall
    ]
    return f"Isolation, mean over the organisms of a family that count, and over seeds.\n\n{markdown_table(('method', *named), rows)}"


def _mean(values: Iterable[float | None]) -> str:
    known = [v for v in values if v is not None]
    return number(float(np.mean(known))) if known else "–"


def by_organism(table: Table) -> str:
    """Isolation of each method on each organism; of many, without intervals and an organism a row."""
    found = {(row.method, row.organism): row for row in table.cells}
    own = [o for o in table.organisms if o not in table.inapplicable]
    many = len(own) > MANY

    def cell(method: str, organism: str) -> str:
        row = found[method, organism]
        text = number(row.scores[SORT_KEY].value) if many else estimate_text(row.scores[SORT_KEY])
        return f"({text})" if bracketed(row, SORT_KEY) else text

    rows = [[f"`{m.method}`", *(cell(m.method, o) for o in own)] for m in table.overall]
    alone = [mixtures(table, dict.fromkeys(SHORT, (o,))) for o in own]
    rows += (
        [[MIXTURES, *(estimate_text(mixed["isolation"]) if mixed else "–" for mixed in alone)]] if any(alone) else []
    )
    head = ["method", *own]
    said = "In parentheses: counts in no mean."
    if many:
        head, *rows = [list(line) for line in zip(head, *rows, strict=True)]
        head[0] = "organism"
        said = f"{said} With intervals: `bench leaderboard build`."
    else:
        said = f"Intervals draw seeds, templates, prompts and controls. {said}"
    return f"Isolation, mean over seeds. {said}\n\n{markdown_table(head, rows)}"


def nulls(results: Sequence[Result]) -> str:
    """False discoveries by method and null: how many of how many findings, all seeds; empty if the set holds no null."""
    cells = [r for r in results if r.false_discovery]
    if not cells:
        return ""
    names = sorted({r.identity.organism for r in cells})
    tested = {m: [r for r in cells if r.identity.row == m] for m in sorted({r.identity.row for r in cells})}

    def share(own: Sequence[Result]) -> str:
        p = [x for r in own if r.false_discovery for x in r.false_discovery.p]
        return f"{sum(x < ALPHA for x in p)} of {len(p)}" if p else "–"

    def still(own: Sequence[Result]) -> str:
        return str(sum(e == 0 for r in own if r.false_discovery for e in r.false_discovery.effects))

    rows = [
        [m, *(share([r for r in own if r.identity.organism == n]) for n in names), share(own), still(own)]
        for m, own in tested.items()
    ]
    head = ("method", *(n.removeprefix(NULL) for n in names), "all", "without any effect")
    return (
        f"Findings with p < {ALPHA}, of those tested. First row: what the fine-tune itself changes of the mean rate on the prompts of "
        "its panel, from its card.\n\n"
        + markdown_table(head, [["*the fine-tune*", *map(moved, names), "–", "–"], *rows])
    )


def budgets(cells: Sequence[Result]) -> str:
    """How often a budget is used, and how much of it the option that counts under it costs on test text."""
    chosen = [c for r in cells for c in r.choices]
    rows: list[list[str]] = []
    for tau in sorted({c.tau_nats for c in chosen}):
        row = [f"{tau:g}"]
        for column in COLUMNS:
            for side in ("sufficiency", "necessity"):
                own = [c for c in chosen if (c.tau_nats, c.column, c.side) == (tau, column, side)]
                cost = [c.test_kl_nats / tau for c in own if c.op != "none"]
                row += [f"{len(cost)} of {len(own)}" + (f", {np.median(cost):.2f}" if cost else "")] if own else ["–"]
        rows.append(row)
    head = ("budget, nats", *(f"{what}, {column}" for column in COLUMNS for what in ("added", "taken out")))
    return (
        "How often an option counts under a budget (otherwise doing nothing does), and the median share of it that this costs on test "
        f"text.\n\n{markdown_table(head, rows)}"
    )


def moved(null: str) -> str:
    """Organism less base on the test prompts, if the null is one of the zoo's."""
    if null not in organism_names():
        return "–"
    change = load_card(null).measured["behaviour_test"].change
    return estimate_text(Estimate(change.value, change.low, change.high))


def seeds(cells: Sequence[Result]) -> str:
    """Isolation seed by seed of the methods that have several, and how far the seeds of one organism are apart."""
    several: dict[str, set[int]] = {}
    for r in cells:
        several.setdefault(r.identity.row, set()).add(r.identity.seeds["method"])
    rows: list[list[str]] = []
    for method, found in sorted(several.items()):
        own = {(r.identity.organism, r.identity.seeds["method"]): r for r in cells if r.identity.row == method}
        organisms = sorted({o for o, _ in own if any(own[o, s].samples for s in found)})
        if len(found) < 2 or not organisms:
            continue
        values = np.array([[_isolation(own[o, s]) for s in sorted(found)] for o in organisms])
        apart = np.ptp(values, axis=1)
        headlines = " ".join(number(float(v)) for v in values.mean(0))
        deviation = number(float(np.sqrt(values.var(axis=1, ddof=1).mean())))
        worst = f"{organisms[int(apart.argmax())]} ({' '.join(number(float(v)) for v in values[apart.argmax()])})"
        rows.append([method, headlines, deviation, f"{(apart > FAR).sum()} of {len(organisms)}", worst])
    if not rows:
        return "Every method has one seed.\n"
    head = ("method", "isolation, seed by seed", "deviation", f"apart by > {number(FAR, 1)}", "farthest apart")
    return (
        "Mean isolation over the organisms for each method seed, in order; the standard deviation of the seeds on one organism (root mean "
        f"square); organisms whose seeds are more than {number(FAR, 1)} apart.\n\n{markdown_table(head, rows)}"
    )


def _isolation(cell: Result) -> float:
    """A cell that failed counts as 0, as in the tables."""
    return (cell.scores.isolation.value or 0.0) if cell.scores else 0.0


if __name__ == "__main__":
    typer.run(main)
