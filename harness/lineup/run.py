"""Strategies on line-ups: a strategy at a time in a process of its own, the models loaded once a line-up.

The idea: whatever goes wrong with a strategy costs one line-up; a pair that cannot be used stops the run before anything is judged, because
leaving it out would be another set.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ...methods.entry import MethodEntry
from ...organisms.card import sha256_files
from ...organisms.errors import DiffbenchError, UsageError
from ...organisms.lineup.pairs import PairSpec
from ..devices import OutOfMemory
from ..parallel import threads
from ..runs.provenance import provenance, source_hash
from ..terminal import silenced
from ..worker.host import Usage, run_strategy
from ..worker.limits import TimedOut
from . import record
from .problem import Drawn, Lineup, drawn
from .record import Identity, LineupRecord, Status, Verdict
from .store import Built, build

Tell = Callable[[str], object]
STATUS: dict[type[DiffbenchError], Status] = {TimedOut: "timeout", OutOfMemory: "oom"}


def ready(specs: Sequence[PairSpec], say: Tell) -> list[Built]:
    """Pairs that a verdict can be given on, built if they are not here.

    Raises:
        ValidationFailed: one whose gates fail, or whose files are damaged.
    """
    found = [build(spec, say=say) for spec in specs]
    for built in found:
        built.card.check()
    return found


def lineups(pairs: Sequence[Built], seed: int, identical: bool = True) -> list[Drawn]:
    """A line-up of each pair, and an identical one of each pair's aligned twin with the next one's of its domain and base."""
    out = [drawn(built, seed) for built in pairs]
    for i, built in enumerate(pairs if identical else ()):
        kin = [
            p
            for p in (*pairs[i + 1 :], *pairs[:i])
            if (p.spec.base, p.spec.domain) == (built.spec.base, built.spec.domain)
        ]
        out += [drawn(built, seed, kin[0])] if kin else []
    return out


def run(
    entries: Sequence[tuple[MethodEntry, BaseModel]],
    pairs: Sequence[Built],
    out: Path,
    sets: Sequence[str] = (),
    seed: int = 0,
    identical: bool = True,
    overwrite: bool = False,
    tell: Tell = lambda line: None,
) -> list[LineupRecord]:
    """Judge line-ups with strategies and keep a record of each; what is in a record already is not judged again.

    Args:
        entries: strategies with their options.
        out: folder of records.
        sets: what was asked for, for the record.
        seed: of orders and draws.
        identical: judge line-ups of two aligned twins as well.
        overwrite: judge everything again.
        tell: told after each line-up.
    """
    if not pairs:
        raise UsageError("there is no pair to judge; name a set such as lineup-test, or pairs")
    kept = [_opened(entry, config, out, sets, seed, overwrite) for entry, config in entries]
    todo = lineups(pairs, seed, identical)
    for n, line in enumerate(todo):
        known = models_hash(line)
        left = [
            (entry, config, folder, found)
            for (entry, config), (folder, found) in zip(entries, kept, strict=True)
            if not any(v.lineup == line.name and v.models_sha256 == known for v in found.verdicts)
        ]
        for entry, config, folder, found in left:
            with threads(1), silenced(False):
                verdict = judge(entry, config, line)
            found.verdicts[:] = [*(v for v in found.verdicts if v.lineup != line.name), verdict]
            found.write(folder)
        tell(f"{n + 1} of {len(todo)} line-ups: {line.name}")
    return [found for _, found in kept]


def judge(entry: MethodEntry, config: BaseModel, line: Drawn) -> Verdict:
    """What a strategy says of one line-up, or how it failed."""
    lineup, usage, began = Lineup(line, entry.access), Usage(), time.perf_counter()
    facts: dict[str, Any] = {
        "lineup": line.name,
        "models_sha256": models_hash(line),
        "domain": line.first.spec.domain,
        "base": line.first.spec.base,
        "identical": line.identical,
        "a_is_faker": line.a_is_faker,
    }
    try:
        facts["probability"] = run_strategy(entry, config, lineup, usage)
    except DiffbenchError as error:
        facts |= {"probability": None, "status": STATUS.get(type(error), "failed"), "error": str(error)[:2000]}
    return Verdict(**facts, cpu_s=round(usage.cpu_s, 3), wall_s=round(time.perf_counter() - began, 3))


def models_hash(line: Drawn) -> str:
    """Hash over the files of both pairs and of their ancestor."""
    cards = (line.first.card, line.other.card)
    return sha256_files(
        {f"{i}/{n}": h for i, c in enumerate(cards) for n, h in {**c.files, "on": c.ancestor_sha256}.items()}
    )


def _opened(
    entry: MethodEntry, config: BaseModel, out: Path, sets: Sequence[str], seed: int, overwrite: bool
) -> tuple[Path, LineupRecord]:
    """The record of a strategy that was begun before, or an empty one, and its folder."""
    identity = Identity(
        strategy=entry.name,
        strategy_version=entry.version,
        access=entry.access,
        config=config.model_dump(mode="json"),
        seed=seed,
        code_sha256=source_hash(entry.file, Path(__file__)),
    )
    folder = out / "lineup" / entry.name / identity.id()[:12]
    if not overwrite and (folder / record.FILE).is_file():
        found = record.read(folder / record.FILE)
        found.sets[:] = list(dict.fromkeys([*found.sets, *sets]))
        return folder, found
    made = provenance(entry.access, "cpu", {}, entry.origin, datetime.now(UTC), entry.stochastic)
    return folder, LineupRecord(
        id=identity.id(), identity=identity, sets=list(sets), verdicts=[], provenance=made.model_dump(mode="json")
    )
