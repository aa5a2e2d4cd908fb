"""`python -m benchmarks.lineup_scales PAIRS …`: how our strategies' scores are distributed on line-ups for tuning.

For each strategy: mean and scatter of its score with the faker as A, and its scatter on two aligned twins: the `scale` in its file
(methods/strategies/belief.py). Nothing here may look at lineup-test.
"""

from typing import Annotated

import numpy as np
import typer
from diffbench.harness.lineup.problem import Drawn, Lineup, TooFewAlike
from diffbench.harness.lineup.run import lineups, ready
from diffbench.harness.parallel import run_jobs, threads
from diffbench.harness.terminal import handled, silenced
from diffbench.methods.entry import MethodEntry
from diffbench.methods.registry import load_method
from diffbench.methods.strategies.catalogue import BUILTIN, STRATEGIES
from diffbench.organisms.errors import UsageError
from diffbench.organisms.lineup.pairs import TEST, expand, lineup_sets, pair_spec


def scales(names: list[str], jobs: int = 1) -> dict[str, tuple[float, float, float]]:
    """Effect, scatter and scatter on twins, by strategy."""
    specs = expand(names)
    apart = {pair_spec(n).domain for n in lineup_sets()[TEST].organisms}
    if tested := [s.name for s in specs if s.domain in apart]:
        raise UsageError(f"the workplace of {tested[0]} is in {TEST}: strategies are tuned on the others")
    lines = lineups(ready(specs, lambda said: typer.echo(said, err=True)), 0, "scales")
    scored = sorted(run_jobs(_scores, lines, jobs), key=lambda done: done[0].name)
    found = {n: (list[float](), list[float]()) for n in _strategies()}
    for line, scores in scored:
        for name, score in scores.items():
            found[name][line.identical].append(score if line.a_is_faker else -score)
    return {
        n: (float(np.mean(x)), float(np.std(x, ddof=1)), float(np.sqrt(np.mean(np.square(y)))))
        for n, (x, y) in found.items()
    }


def _strategies() -> dict[str, MethodEntry]:
    """Ours that have a scale."""
    return {n: e for n in BUILTIN if hasattr((e := load_method(n, STRATEGIES)).cls, "score")}


def _scores(line: Drawn) -> dict[str, float]:
    """Of each strategy on a line-up; none where two twins are alike on too few scenes."""
    with threads(1), silenced(False):
        try:
            lineup = Lineup(line, "+gradients")
        except TooFewAlike as error:
            typer.echo(f"left out: {error}", err=True)
            return {}
        made = {n: e.create(e.configure({})) for n, e in _strategies().items()}
        return {n: strategy.score(lineup) for n, strategy in made.items()}  # pyright: ignore[reportAttributeAccessIssue]


def main(
    pairs: Annotated[list[str], typer.Argument(help="Pairs, workplaces or lineup-tune.")],
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Line-ups at a time.")] = 1,
) -> None:
    """Print the scale of every strategy."""
    with handled(False):
        for name, (effect, scatter, twins) in scales(pairs, jobs).items():
            typer.echo(f"{name:16} Scale(effect={effect:.3g}, scatter={scatter:.3g}, twins={twins:.3g})")


if __name__ == "__main__":
    typer.run(main)
