"""`python -m benchmarks.centred ORGANISM …`: what `random` scores when every seed has random controls of its own.

In a run all methods and seeds meet the same 16 controls, which makes comparisons paired and the mean over `random`'s seeds as noisy as
those controls are. Here seeds are independent, and Student's interval over them holds: sufficiency and necessity must be 0 where the
null is not negative, isolation cannot be (it is never negative).
"""

from types import SimpleNamespace
from typing import Annotated

import numpy as np
import typer
from diffbench.harness.protocol.intervals import point
from diffbench.harness.records.result import SCORES
from diffbench.harness.records.settings import PROTOCOL_V2
from diffbench.harness.runs.stage import Stage
from diffbench.methods.baselines import RandomDirections
from diffbench.methods.contract import NoConfig
from diffbench.organisms.registry import load_organism
from scipy.stats import ttest_1samp

FIRST = 1000
"""Seed of the first seed's controls: those of runs are not met."""


def main(
    organisms: Annotated[list[str], typer.Argument(help="Behaviour organisms.")],
    seeds: Annotated[int, typer.Option(help="Seeds of `random`.")] = 32,
    controls: Annotated[int, typer.Option(help="Random controls of each.")] = 8,
) -> None:
    """Print a table row an organism: mean and 95 % interval over seeds of every score."""
    typer.echo(f"| organism | {' | '.join(SCORES)} |\n|{'---|' * (len(SCORES) + 1)}")
    for name in organisms:
        values = scores(name, seeds, controls)
        ends = [ttest_1samp(column, 0.0).confidence_interval() for column in values.T]
        cells = (f"{m:.3f} [{e.low:.3f}, {e.high:.3f}]" for m, e in zip(values.mean(0), ends, strict=True))
        typer.echo(f"| {name} | {' | '.join(cells)} |")


def scores(name: str, seeds: int, controls: int) -> np.ndarray:
    """[seeds, scores] of `random`, each seed against controls of its own."""
    stage = Stage.load(load_organism(name), "cpu", PROTOCOL_V2.model_copy(update={"controls": controls}))
    rows: list[np.ndarray] = []
    for seed in range(seeds):
        problem = SimpleNamespace(seed=seed, d_model=stage.pair.d_model)  # all that `random` looks at
        found = RandomDirections(NoConfig()).diff(problem).findings
        scorer = stage.scorer.against(FIRST + seed)
        rows.append(np.concatenate(point(scorer.score(scorer.directions(found)).samples)))
    return np.array(rows)


if __name__ == "__main__":
    typer.run(main)
