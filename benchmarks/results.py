"""`python -m benchmarks.results`: what the published records say, method by method; the tables of docs/results.md and of the README.

The headline stands on the method seeds that are on every organism of core-v1. Where several seeds were run on some organisms only, these
show how far seeds agree, and their variance components say what core-v1 can separate.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.result import ALPHA, Result
from diffbench.leaderboard.build import settled
from diffbench.leaderboard.grid import status
from diffbench.leaderboard.power import Size, components
from diffbench.leaderboard.power_view import power_markdown
from diffbench.leaderboard.render import estimate_text, markdown_table, marked, number, rank_text, to_markdown
from diffbench.leaderboard.rows import Estimate, Table, count
from diffbench.leaderboard.store import load_results
from diffbench.leaderboard.tables import build_table
from diffbench.organisms.core import CORE_V1
from diffbench.organisms.registry import load_card, organism_names

from .table import insert

NULL = "null/"


def main(
    records: Annotated[Path, typer.Argument(help="Run folders or packs.")] = Path("leaderboard/published"),
    page: Annotated[Path, typer.Option(help="Page whose tables are replaced.")] = Path("docs/results.md"),
    readme: Annotated[Path, typer.Option(help="Page whose short table is replaced.")] = Path("README.md"),
) -> None:
    """Write the tables."""
    results = load_results(records).results
    table = build_table(whole(results, CORE_V1), CORE_V1, "core-v1", settled=settled(results))
    parts = [everything(table), nulls(results), seeds(results), power(results, table)]
    atomic_write_text(page, insert(page.read_text(), "\n".join(p for p in parts if p)))
    atomic_write_text(readme, insert(readme.read_text(), short(table)))
    typer.echo("\n".join([*parts, short(table)]))


def whole(results: Sequence[Result], organisms: Iterable[str]) -> list[Result]:
    """The cells on these organisms, of the method seeds that their method has on all of them."""
    names = set(organisms)
    on: dict[tuple[str, int], set[str]] = {}
    for r in results:
        on.setdefault(_who(r), set()).add(r.identity.organism)
    return [r for r in results if r.identity.organism in names and on[_who(r)] >= names]


def _who(cell: Result) -> tuple[str, int]:
    return cell.identity.method, cell.identity.seeds["method"]


def everything(table: Table) -> str:
    """The leaderboard without its rows by organism."""
    return (
        to_markdown(table)
        .partition("## By organism")[0]
        .replace("# Leaderboard", "## Core-v1", 1)
        .replace("## Beyond", "### Beyond")
    )


def short(table: Table) -> str:
    """One row a method: what a newcomer looks at."""
    found = {row.method: row.false_discovery for row in table.beyond}
    rows = [
        [
            rank_text(row),
            row.group or "–",
            row.group_here or "–",
            f"`{row.method}`" + marked(row).removeprefix(row.method),
            *(estimate_text(row.scores[s]) for s in ("isolation", "mitigation")),
            estimate_text(found[row.method]) if row.method in found else "–",
        ]
        for row in table.overall
    ]
    head = ("rank", "group", "here", "method", "isolation", "mitigation", "false discoveries on nulls")
    return f"{table.header}. {table.verdict} {table.verdict_here}\n\n{markdown_table(head, rows)}"


def nulls(results: Sequence[Result]) -> str:
    """False discoveries by method and null: how many of how many findings, all seeds."""
    cells = [r for r in results if r.false_discovery]
    names = sorted({r.identity.organism for r in cells})
    tested = {m: [r for r in cells if r.identity.method == m] for m in sorted({r.identity.method for r in cells})}

    def share(own: Sequence[Result]) -> str:
        p = [x for r in own if r.false_discovery for x in r.false_discovery.p]
        return f"{sum(x < ALPHA for x in p)} of {len(p)}" if p else "–"

    rows = [
        [m, *(share([r for r in own if r.identity.organism == n]) for n in names), share(own)]
        for m, own in tested.items()
    ]
    head = ("method", *(n.removeprefix(NULL) for n in names), "all")
    return (
        f"## False discoveries, null by null\n\nFindings with p < {ALPHA}, of those tested. First row: what the fine-tune itself "
        "changes of the mean rate on the prompts of its panel, from its card.\n\n"
        + markdown_table(head, [["*the fine-tune*", *map(moved, names), "–"], *rows])
    )


def moved(null: str) -> str:
    """Organism less base on the test prompts, if the null is one of the zoo's."""
    if null not in organism_names():
        return "–"
    change = load_card(null).measured["behaviour_test"].change
    return estimate_text(Estimate(change.value, change.low, change.high))


def several(results: Sequence[Result]) -> tuple[list[str], list[str]]:
    """Methods that have several seeds somewhere (random apart, which has them everywhere), and the organisms where all of these have."""
    run: dict[tuple[str, str], set[int]] = {}
    for r in results:
        if status(r) == "ok" and r.identity.method != "random":
            run.setdefault((r.identity.method, r.identity.organism), set()).add(r.identity.seeds["method"])
    methods = sorted({m for (m, _), found in run.items() if len(found) > 1})
    organisms = sorted({o for _, o in run if methods and all(len(run.get((m, o), ())) > 1 for m in methods)})
    return methods, organisms


def seeds(results: Sequence[Result]) -> str:
    """Isolation seed by seed, where a method has several; results as `load_results` sorts them."""
    methods, organisms = several(results)
    if not methods:
        return ""

    def run(method: str, organism: str) -> str:
        own = (r for r in results if (r.identity.method, r.identity.organism) == (method, organism))
        return " ".join(number(r.scores.isolation.value) for r in own if r.scores)

    rows = [[m, *(run(m, o) for o in organisms)] for m in methods]
    return (
        f"## Seed by seed\n\nIsolation of each method seed, in order.\n\n{markdown_table(('method', *organisms), rows)}"
    )


def power(results: Sequence[Result], table: Table) -> str:
    """What core-v1 can separate, by the components of the organisms on which seeds are told apart."""
    _, organisms = several(results)
    if not organisms:
        return ""
    known = components(whole(results, organisms), organisms, "as given")
    used = tuple(o for o in table.organisms if o not in table.inapplicable)
    there = replace(known, size=Size(used, known.size.seeds, known.size.prompts))
    basis = f"Components from {count(len(organisms), 'organism')} with several seeds ({', '.join(organisms)}); sizes of core-v1."
    text = power_markdown(there).replace("# Where", "## Where", 1)
    head, _, rest = text.partition("\n\n")
    return f"{head}\n\n{basis}\n\n{rest}"


if __name__ == "__main__":
    typer.run(main)
