"""`python -m benchmarks.results`: what the published records say, method by method; the tables of docs/results.md and of the README.

Everything stands on the method seeds that are on every organism of core-v1.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.records.result import ALPHA, COLUMNS, Result
from diffbench.leaderboard.board.build import settled
from diffbench.leaderboard.board.store import load_results
from diffbench.leaderboard.pages.cells import estimate_text, marked, number, place_text, score_head
from diffbench.leaderboard.pages.power_view import power_tables
from diffbench.leaderboard.pages.text_formats import (
    finding_markdown,
    markdown_table,
    overall_markdown,
    verdicts_markdown,
)
from diffbench.leaderboard.pages.verdicts import verdict_sentences
from diffbench.leaderboard.statistics.power import components
from diffbench.leaderboard.statistics.rows import SORT_KEY, Estimate, Table
from diffbench.leaderboard.statistics.tables import build_table
from diffbench.organisms.core import CORE_V1
from diffbench.organisms.registry import load_card, organism_names

from .table import insert

NULL = "null/"
SHORT = ("isolation", "isolation_constant", "sufficiency", "necessity", "mitigation")
FAR = 0.2
"""Seeds of one organism that are farther apart tell two stories."""


def main(
    records: Annotated[Path, typer.Argument(help="Run folders or packs.")] = Path("leaderboard/published"),
    page: Annotated[Path, typer.Option(help="Page whose tables are replaced.")] = Path("docs/results.md"),
    readme: Annotated[Path, typer.Option(help="Page whose short table is replaced.")] = Path("README.md"),
) -> None:
    """Write the tables."""
    results = load_results(records).results
    cells = whole(results, CORE_V1)
    table = build_table(cells, CORE_V1, "core-v1", settled=settled(results))
    parts = {
        "Core-v1": f"{overall_markdown(table)}\n### Beyond isolation\n\n{finding_markdown(table)}",
        "Verdicts": verdicts_markdown(table),
        "False discoveries, null by null": nulls(cells),
        "Seed by seed": seeds(cells),
        "Budgets on test text": budgets(cells),
        f"Where the noise of {SORT_KEY} comes from": power_tables(components(common(cells), CORE_V1, "core-v1")),
    }
    text = "\n".join(f"## {head}\n\n{part}" for head, part in parts.items())
    atomic_write_text(page, insert(page.read_text(), text))
    atomic_write_text(readme, insert(readme.read_text(), short(table)))
    typer.echo(f"{text}\n{short(table)}")


def whole(results: Sequence[Result], organisms: Iterable[str]) -> list[Result]:
    """The cells on these organisms, of the method seeds that their method has on all of them."""
    names = set(organisms)
    on: dict[tuple[str, int], set[str]] = {}
    for r in results:
        on.setdefault(_who(r), set()).add(r.identity.organism)
    return [r for r in results if r.identity.organism in names and on[_who(r)] >= names]


def _who(cell: Result) -> tuple[str, int]:
    return cell.identity.method, cell.identity.seeds["method"]


def common(cells: Sequence[Result]) -> list[Result]:
    """The cells of one seed, and of the seeds that all methods with several have: no method weighs more for having more."""
    of = _seeds(cells)
    several = [found for found in of.values() if len(found) > 1]
    shared = set[int].intersection(*several) if several else set[int]()
    return [r for r in cells if len(of[r.identity.method]) == 1 or r.identity.seeds["method"] in shared]


def _seeds(cells: Sequence[Result]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for r in cells:
        found.setdefault(r.identity.method, set()).add(r.identity.seeds["method"])
    return found


def short(table: Table) -> str:
    """One row a method: what a newcomer looks at."""
    found = {row.method: row.false_discovery for row in table.finding_measures}
    rows = [
        [
            f"`{row.method}`" + marked(row).removeprefix(row.method),
            *(estimate_text(row.scores[s]) for s in SHORT),
            place_text(row.place),
            estimate_text(found[row.method]) if row.method in found else "–",
        ]
        for row in table.overall
    ]
    head = ("method", *(score_head(s).lower() for s in SHORT), "rank", "false discoveries on nulls")
    return f"{table.header}. {' '.join(verdict_sentences(table))}\n\n{markdown_table(head, rows)}"


def nulls(results: Sequence[Result]) -> str:
    """False discoveries by method and null: how many of how many findings, all seeds."""
    cells = [r for r in results if r.false_discovery]
    names = sorted({r.identity.organism for r in cells})
    tested = {m: [r for r in cells if r.identity.method == m] for m in sorted({r.identity.method for r in cells})}

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
    rows: list[list[str]] = []
    for method, found in sorted(_seeds(cells).items()):
        own = {(r.identity.organism, r.identity.seeds["method"]): r for r in cells if r.identity.method == method}
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
