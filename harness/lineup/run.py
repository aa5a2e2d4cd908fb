"""Strategies on line-ups: a strategy at a time in a process of its own, the models loaded once a line-up.

The idea: whatever goes wrong with a strategy costs one line-up; a pair that cannot be used stops the run before anything is judged, because
leaving it out would be another set.
"""

import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ...methods.entry import MethodEntry
from ...organisms.card import sha256_files
from ...organisms.errors import DiffbenchError, UsageError, ValidationFailed
from ...organisms.lineup.pairs import PairSpec
from ..claims import claimed
from ..devices import OutOfMemory
from ..files import atomic_write_text
from ..parallel import threads
from ..records.identity import sha256_json
from ..runs.provenance import provenance, source_hash
from ..terminal import silenced
from ..worker.host import Usage, run_strategy
from ..worker.limits import TimedOut
from . import record
from .problem import Drawn, Lineup, TooFewAlike, drawn
from .record import Identity, LineupRecord, Status, Verdict, same
from .store import Built, build

Tell = Callable[[str], object]
KEY = "order.key"
STATUS: dict[type[DiffbenchError], Status] = {TimedOut: "timeout", OutOfMemory: "oom"}


def ready(specs: Sequence[PairSpec], say: Tell) -> list[Built]:
    """Pairs that a verdict can be given on, built if they are not here.

    Raises:
        ValidationFailed: the first whose gates fail, or whose files are damaged; none after it is built.
    """
    found = list[Built]()
    for spec in specs:
        found.append(build(spec, say=say))
        found[-1].card.check()
    return found


def lineups(pairs: Sequence[Built], seed: int, key: str, identical: bool = True) -> list[Drawn]:
    """A line-up of each pair; and identical ones, of the aligned twins of seeds 2n and 2n + 1 of a domain and a base that are both here."""
    by_spec = {built.spec: built for built in pairs if identical}
    mates = ((b, by_spec.get(replace(b.spec, seed=b.spec.seed + 1))) for b in by_spec.values() if b.spec.seed % 2 == 0)
    two = ((one, other) for one, other in mates if other is not None)
    return [*(drawn(built, seed, key) for built in pairs), *(drawn(one, seed, key, other) for one, other in two)]


def run(
    entries: Sequence[tuple[MethodEntry, BaseModel]],
    pairs: Sequence[Built],
    out: Path,
    sets: Sequence[str] = (),
    seed: int = 0,
    identical: bool = True,
    overwrite: bool = False,
    tell: Tell = lambda line: None,
    part: slice = slice(None),
) -> list[LineupRecord]:
    """Judge line-ups with strategies and keep a record of each; what was judged without a failure is not judged again.

    Two aligned twins that are alike on too few scenes are left out. Another process may judge for the same records: each verdict is given
    by one of them.

    Args:
        entries: strategies with their options.
        out: folder of records, and of the key of their orders.
        sets: what was asked for, for the record.
        seed: of orders and draws.
        identical: judge line-ups of two aligned twins as well.
        overwrite: judge these line-ups again.
        tell: told after each line-up.
        part: of the line-ups, those to judge; none with slice(0).

    Returns:
        The records with the verdicts on these line-ups and no others; the files keep what was judged before.
    """
    if not pairs:
        raise UsageError("there is no pair to judge; name a set such as lineup-test, or pairs")
    made = [_begun(entry, config, out, sets, seed) for entry, config in entries]
    asked = [lineups(pairs, seed, fresh.key, identical) for fresh in made]
    for n, lines in [*enumerate(zip(*asked, strict=True))][part]:
        note = ""
        for (entry, config), fresh, line in zip(entries, made, lines, strict=True):
            try:
                _judged(entry, config, line, out, fresh, overwrite, tell)
            except TooFewAlike as error:
                note = f", left out: {error}"
        tell(f"{n + 1} of {len(asked[0])} line-ups: {lines[0].name}{note}")
    wanted = {(line.name, models_hash(line)) for line in asked[0]}
    found = [_kept(out, fresh) for fresh in made]
    return [r.model_copy(update={"verdicts": [v for v in r.verdicts if same(v) in wanted]}) for r in found]


def _judged(
    entry: MethodEntry, config: BaseModel, line: Drawn, out: Path, fresh: LineupRecord, overwrite: bool, tell: Tell
) -> None:
    """Judge a line-up, unless that is in the record, and write it there; what was said of the same pair built otherwise gives way."""
    this, folder = (line.name, models_hash(line)), _folder(out, fresh)

    def known(found: LineupRecord) -> bool:
        return not overwrite and any(same(v) == this and v.status == "ok" for v in found.verdicts)

    others = partial(tell, f"{line.name}: waiting for another run of {entry.name}")
    with claimed(folder / f".{sha256_json(line.name)[:12]}", waiting=others):
        verdicts = list[Verdict]()
        if not known(_kept(out, fresh)):
            with threads(1), silenced(False):
                verdicts.append(judge(entry, config, line))
        with claimed(folder):
            found = _kept(out, fresh)
            sets = list(dict.fromkeys([*found.sets, *fresh.sets]))
            if verdicts or sets != found.sets:
                rest = [v for v in found.verdicts if v.lineup != line.name or not verdicts]
                found.verdicts[:] = sorted([*rest, *verdicts], key=lambda v: (v.identical, v.lineup))
                found.sets[:] = sets
                found.provenance["finished_utc"] = datetime.now(UTC).isoformat(timespec="seconds")
                found.write(folder)


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


def _begun(entry: MethodEntry, config: BaseModel, out: Path, sets: Sequence[str], seed: int) -> LineupRecord:
    """The record of a strategy before it has said anything, its key that of the file if there is one."""
    identity = Identity(
        strategy=entry.name,
        strategy_version=entry.version,
        access=entry.access,  # pyright: ignore[reportArgumentType]  # a strategy's, which pydantic checks
        config=config.model_dump(mode="json"),
        seed=seed,
        code_sha256=source_hash(entry.file, Path(__file__)),
    )
    made = provenance(entry.access, "cpu", {}, entry.origin, datetime.now(UTC), entry.stochastic)
    fresh = LineupRecord(
        id=identity.id(),
        identity=identity,
        sets=list(sets),
        key=_key(out),
        verdicts=[],
        provenance=made.model_dump(mode="json"),
    )
    return fresh.model_copy(update={"key": _kept(out, fresh).key})


def _kept(out: Path, fresh: LineupRecord) -> LineupRecord:
    """What is in the file of a record; the empty one if there is none."""
    path = _folder(out, fresh) / record.FILE
    return record.read(path) if path.is_file() else fresh.model_copy(deep=True)


def _folder(out: Path, of: LineupRecord) -> Path:
    return out / "lineup" / of.identity.strategy / of.id[:12]


def _key(out: Path) -> str:
    """The key of the orders in a folder of records, drawn when it is first asked for."""
    path = out / "lineup" / KEY
    with claimed(out / "lineup" / f".{KEY}.lock"):
        if not path.is_file():
            atomic_write_text(path, secrets.token_hex(32) + "\n")
        key = path.read_text().strip()
    if re.fullmatch(r"[0-9a-f]{64}", key) is None:
        raise ValidationFailed(f"{path} is no key of orders, 64 hexadecimal digits; delete it, and a new one is drawn")
    return key
