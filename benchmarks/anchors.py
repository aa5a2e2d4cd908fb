"""`python -m benchmarks.anchors RUNS`: the gates of the anchors on every behaviour organism, as docs/anchors.md states them.

RUNS holds what `bench run -m oracle,supervised,random -o core-v1` wrote. An organism is scoreable if exchanging the whole residual
recovers at least .8 of the behaviour's gap both ways (oracle), solvable if a direction fitted on behaviour labels reaches isolation .3
(supervised), and the instrument is centred on it if random directions stay within ±.05 of 0.
"""

from pathlib import Path
from typing import Annotated

import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.folder import RESULT
from diffbench.harness.result import Result, Score, load_result

from .table import insert

METHODS = {"oracle", "supervised", "random"}
ORACLE, SOLVABLE, CENTRED = 0.8, 0.3, 0.05


def main(
    runs: Annotated[Path, typer.Argument(help="Folder of run folders.")],
    page: Annotated[Path, typer.Option(help="Page whose table is replaced.")] = Path("docs/anchors.md"),
) -> None:
    """Write the table."""
    cells: dict[str, dict[str, Result]] = {}
    for path in sorted(runs.rglob(RESULT)):
        result = load_result(path)
        cells.setdefault(result.identity.organism, {})[result.identity.method] = result
    table = markdown({name: of for name, of in cells.items() if of.keys() >= METHODS and of["oracle"].scores})
    atomic_write_text(page, insert(page.read_text(), table))
    typer.echo(table)


def markdown(cells: dict[str, dict[str, Result]]) -> str:
    """One row an organism; a gate that does not hold is bold."""
    head = ("organism", "gap", "oracle S", "oracle N", "supervised [95 %]", "random [95 %]")
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    held = [0, 0, 0]
    for name, of in cells.items():
        oracle, supervised, random = (of[m] for m in ("oracle", "supervised", "random"))
        assert oracle.scores and oracle.behaviour
        shares = [oracle.scores.sufficiency.raw, oracle.scores.necessity.raw]
        isolation = [r.scores.isolation if r.scores else None for r in (supervised, random)]
        gates = (
            min(shares) >= ORACLE,
            (value := isolation[0] and isolation[0].value) is not None and value >= SOLVABLE,
            (value := isolation[1] and isolation[1].value) is not None and abs(value) <= CENTRED,
        )
        held = [h + g for h, g in zip(held, gates, strict=True)]
        texts = [*(f"{s:.3f}" for s in shares), _score(isolation[0], supervised), _score(isolation[1], random)]
        marked = [t if g else f"**{t}**" for t, g in zip(texts, (gates[0], gates[0], *gates[1:]), strict=True)]
        gap = oracle.behaviour.b1_test - oracle.behaviour.b0_test
        lines.append(" | ".join([name, f"{gap:.3f}", *marked]))
    n = len(cells)
    names = (f"oracle ≥ {ORACLE} both ways", f"supervised ≥ {SOLVABLE}", f"|random| ≤ {CENTRED}")
    said = "Held: " + "; ".join(f"{name} on {h} of {n}" for name, h in zip(names, held, strict=True)) + "."
    return "\n".join([*(f"| {line} |" for line in lines), "", said, ""])


def _score(score: Score | None, result: Result) -> str:
    if score is None or score.value is None or score.ci_low is None or score.ci_high is None:
        return result.status
    return f"{score.value:.2f} [{score.ci_low:.2f}, {score.ci_high:.2f}]"


if __name__ == "__main__":
    typer.run(main)
