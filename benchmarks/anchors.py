"""`python -m benchmarks.anchors RECORDS`: the gates of the anchors on every behaviour organism, as docs/anchors.md states them.

RECORDS holds what `bench run -m oracle,supervised,random -o core-v2` wrote, as run folders or packs. An organism is scoreable if
exchanging the whole residual recovers at least .8 of the behaviour's gap both ways (oracle), solvable if directions fitted on behaviour
labels reach isolation .3 (supervised, in the best of its forms), and the instrument is centred on it if random directions stay within
±.05 of 0: isolation adjusted for luck, because isolation itself is never negative (mean over the seeds that are there).
"""

from pathlib import Path
from typing import Annotated

import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.store.labels import bare
from diffbench.leaderboard.pages.cells import estimate_text
from diffbench.leaderboard.statistics.rows import CellRow, height
from diffbench.leaderboard.statistics.tables import build_table

from .results import usable
from .table import insert

METHODS = ("oracle", "supervised", "random")
ORACLE, SOLVABLE, CENTRED = 0.8, 0.3, 0.05


def main(
    records: Annotated[Path, typer.Argument(help="Run folders or packs.")] = Path("leaderboard/published"),
    page: Annotated[Path, typer.Option(help="Page whose table is replaced.")] = Path("docs/anchors.md"),
) -> None:
    """Write the table."""
    results = [r for r in usable(records) if r.identity.method in METHODS]
    rows: dict[str, dict[str, CellRow]] = {}
    for name in sorted({r.identity.organism for r in results}):  # each alone: organisms need not have the same seeds
        own = build_table([r for r in results if r.identity.organism == name])
        rows[name] = {bare(row.method): row for row in sorted(own.cells, key=height)}  # of several forms the best
    text = markdown({o: of for o, of in rows.items() if all(m in of and of[m].prompts for m in METHODS)})
    atomic_write_text(page, insert(page.read_text(), text))
    typer.echo(text)


def markdown(rows: dict[str, dict[str, CellRow]]) -> str:
    """One row an organism; a gate that does not hold is bold."""
    head = (
        "organism",
        "gap",
        "oracle S",
        "oracle N",
        "supervised [95 %]",
        "random, adjusted [95 %]",
        "random, isolation",
        "seeds",
    )
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    held = [0, 0, 0]
    for name, of in rows.items():
        oracle = of["oracle"].cells[0].result
        assert oracle.scores and oracle.behaviour
        shares = [oracle.scores.sufficiency.raw, oracle.scores.necessity.raw]
        supervised, random = of["supervised"].scores["isolation"], of["random"].scores["adjusted"]
        gates = (
            min(shares) >= ORACLE,
            supervised.value is not None and supervised.value >= SOLVABLE,
            random.value is not None and abs(random.value) <= CENTRED,
        )
        held = [h + g for h, g in zip(held, gates, strict=True)]
        texts = [*(f"{s:.3f}" for s in shares), estimate_text(supervised), estimate_text(random)]
        marked = [t if g else f"**{t}**" for t, g in zip(texts, (gates[0], gates[0], *gates[1:]), strict=True)]
        gap = oracle.behaviour.b1_test - oracle.behaviour.b0_test
        plain = estimate_text(of["random"].scores["isolation"])
        lines.append(" | ".join([name, f"{gap:.3f}", *marked, plain, str(of["random"].seeds)]))
    n = len(rows)
    names = (f"oracle ≥ {ORACLE} both ways", f"supervised ≥ {SOLVABLE}", f"|random| ≤ {CENTRED}")
    said = "Held: " + "; ".join(f"{name} on {h} of {n}" for name, h in zip(names, held, strict=True)) + "."
    return "\n".join([*(f"| {line} |" for line in lines), "", said, ""])


if __name__ == "__main__":
    typer.run(main)
