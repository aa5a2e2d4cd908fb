"""What `bench lineup run` is asked for: strategies, options and pairs by name, judged in several processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from ...methods.entry import MethodEntry
from ...methods.strategies.catalogue import BUILTIN, STRATEGIES
from ...organisms.errors import UsageError, unknown
from ...organisms.lineup.pairs import PairSpec
from ..parallel import run_jobs
from ..worker.foreign import load as load_strategy
from .record import LineupRecord
from .run import Tell, ready, run
from .store import Built, build_all, load


def chosen(names: Sequence[str], given: Sequence[str]) -> list[tuple[MethodEntry, BaseModel]]:
    """Strategies and their options; `all` is every built-in.

    Args:
        given: `strategy.option=value`, values as in YAML.

    Raises:
        UsageError: unknown or repeated strategies, options that nobody has.
    """
    whole = [n for name in names for n in (BUILTIN if name == "all" else [name])]
    entries = dict[str, MethodEntry]()
    for entry in (load_strategy(name, STRATEGIES) for name in dict.fromkeys(whole)):
        if entry.name in entries:
            raise UsageError(
                f"two strategies are called {entry.name}, that of {entries[entry.name].origin} and that of {entry.origin}; rename one"
            )
        entries[entry.name] = entry
    options = {name: dict[str, Any]() for name in entries}
    for line in given:
        key, equals, value = line.partition("=")
        name, dot, option = key.partition(".")
        if not (equals and dot):
            raise UsageError(f"--set {line}: write strategy.option=value, for example noise.draws=8")
        if name not in options:
            raise unknown("strategy of this run", name, list(options))
        options[name][option] = yaml.safe_load(value)
    return [(entry, entry.configure(options[name])) for name, entry in entries.items()]


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
    pairs = ready(specs, tell) if jobs == 1 else _ready(specs, tell, jobs)
    jobs = min(jobs, 2 * len(pairs))
    if jobs > 1:
        parts = [slice(n, None, jobs) for n in range(jobs)]
        list(run_jobs(partial(_judged, asked, pairs, tell), parts, jobs))
        return _judged(asked, pairs, tell, slice(0))
    return _judged(asked, pairs, tell, slice(None))


def _ready(specs: Sequence[PairSpec], tell: Tell, jobs: int) -> list[Built]:
    """`ready` in several processes: what is not here is built, and the first whose gates fail stops the rest."""
    here = {spec: found for spec in specs if (found := load(spec)) is not None}
    for found in here.values():
        found.card.check()
    for built in build_all([spec for spec in specs if spec not in here], False, jobs, tell):
        built.card.check()
        here[built.spec] = built
    return [here[spec] for spec in specs]


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
