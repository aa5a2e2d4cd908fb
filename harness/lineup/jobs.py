"""Strategies by name on pairs by name, in several processes that share the line-ups. What a verdict depends on is in `run`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...organisms.lineup.pairs import PairSpec
from ..parallel import run_jobs
from .record import LineupRecord
from .run import Tell, ready, run
from .settings import chosen
from .store import Built, build_all, load


@dataclass(frozen=True)
class Asked:
    """What `bench lineup run` was asked for."""

    strategies: Sequence[str]
    options: Sequence[str]
    """`strategy.option=value`."""
    out: Path
    """Folder of records."""
    sets: Sequence[str]
    """Pairs and sets as they were named."""
    seed: int
    identical: bool
    overwrite: bool


def run_named(asked: Asked, specs: Sequence[PairSpec], tell: Tell, jobs: int = 1) -> list[LineupRecord]:
    """`run` of strategies and pairs by name.

    Args:
        tell: goes into other processes, so it has to be a function of a module.
        jobs: processes, one thread each.

    Raises:
        DiffbenchError: unknown strategies or options; a pair whose gates fail, none after which is judged.
    """
    chosen(asked.strategies, asked.options)  # what is wrong with these is said before anything is built
    if jobs > 1:
        for built in build_all([spec for spec in specs if load(spec) is None], False, jobs, tell):
            built.card.check()
    pairs, jobs = ready(specs, tell), min(jobs, 2 * len(specs))
    if jobs > 1:
        parts = [slice(n, None, jobs) for n in range(jobs)]
        list(run_jobs(partial(_judged, asked, pairs, tell), parts, jobs))
        return _judged(asked, pairs, tell, slice(0))
    return _judged(asked, pairs, tell, slice(None))


def _judged(asked: Asked, pairs: Sequence[Built], tell: Tell, part: slice) -> list[LineupRecord]:
    entries = chosen(asked.strategies, asked.options)
    return run(
        entries,
        pairs,
        asked.out,
        asked.sets,
        seed=asked.seed,
        identical=asked.identical,
        overwrite=asked.overwrite,
        tell=tell,
        part=part,
    )
