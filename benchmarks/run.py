"""`python -m benchmarks.run`: measure everything, write the record.

Every row first checks that its variants compute the same and only then times them, in turn, with one call not counted.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from . import gpu, loading, scaling, step
from .peers import rows as peers
from .peers.sources import ROOT
from .records import Performance, Row, machine
from .step import Shape


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    steps: tuple[tuple[Shape, float], ...]
    """Shapes with their goals."""
    scaling: tuple[Shape, int]
    """The dictionary, its `batch` being the number of tokens, and the steps it is trained for."""
    loading: tuple[int, int, int, int]
    """Tokens, width, batch, batches in a repetition."""
    gpu: Shape


FULL = Sizes(
    steps=((Shape(256, 8192, 1024, 32, steps=3), 5.0), (Shape(128, 1024, 512, 16, steps=10), 2.0)),
    scaling=(Shape(128, 1024, 2048, 16), 200),
    loading=(65_536, 512, 2048, 8),
    gpu=gpu.GEMMA_2_2B,
)
QUICK = Sizes(
    steps=((Shape(16, 96, 64, 4), 5.0), (Shape(8, 64, 32, 2, steps=2), 2.0)),
    scaling=(Shape(16, 64, 256, 4), 10),
    loading=(512, 8, 64, 2),
    gpu=Shape(16, 96, 64, 4),
)
SCALING_GOAL, LOADING_GOAL = 6.0, 5.0


def run(quick: bool, repetitions: int, root: Path | None = None) -> Performance:
    """Measure everything that this machine can measure; real peers if there is a folder of them."""
    sizes, here = QUICK if quick else FULL, machine()
    rows: list[Row] = [step.measure(shape, repetitions, goal) for shape, goal in sizes.steps]
    rows.append(scaling.measure(*sizes.scaling, repetitions, SCALING_GOAL))
    rows.append(loading.measure(*sizes.loading, repetitions, LOADING_GOAL))
    real, skipped = peers.measure(quick, repetitions, root) if root else ([], {})
    return Performance(
        machine=here,
        quick=quick,
        repetitions=repetitions,
        rows=rows + real,
        profile={row.name: step.hot_spots(shape) for row, (shape, _) in zip(rows, sizes.steps, strict=False)},
        gpu=gpu.measure(sizes.gpu, repetitions) if torch.cuda.is_available() else None,
        skipped=skipped,
    )


def main(
    out: Annotated[Path, typer.Option(help="Where the record goes.")] = Path("docs/performance.json"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny shapes and one repetition, to test the scripts.")
    ] = False,
    repetitions: Annotated[int, typer.Option(min=5, help="Interleaved repetitions of every variant.")] = 7,
    root: Annotated[Path, typer.Option("--peers", help="Folder of real peers (benchmarks.peers.sources).")] = ROOT,
) -> None:
    """Measure our formulations against those they replace."""
    measured = run(quick, 1 if quick else repetitions, root)
    out.write_text(measured.model_dump_json(indent=1) + "\n")
    for row in measured.rows:
        typer.echo(f"{row.name}: " + ", ".join(f"{v:.1f}× as fast as {k}" for k, v in row.speedup.items()))
    if measured.gpu:
        typer.echo(f"{measured.gpu.row.name}: {measured.gpu.tokens_per_s:,.0f} tokens/s")
    else:
        typer.echo("training step at Gemma-2-2B shape: needs a GPU")
    for name, reason in measured.skipped.items():
        typer.echo(f"{name}: skipped: {reason}")
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
