"""Which records are meant: by filters, by an id or its start, by organism, method and seed, or by where they lie.

The one idea: a record is the same thing in a run folder, a pack or the published records, so every command takes them alike.
"""

import difflib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args

from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed, unknown
from ...organisms.sets import members, sets
from ..options import listed, seed_numbers
from ..records.result import Result, Status
from ..runs.records import Record, judged, records

PUBLISHED = Path("leaderboard/published")
SHORTEST = 6
"""Characters of an id that may stand for it."""
TIERS = ("tiny", "small", "hub")


@dataclass(frozen=True)
class Filter:
    """Which records are wanted; empty: all."""

    methods: Sequence[str] = ()
    """Names and patterns (`sae_*`)."""
    organisms: Sequence[str] = ()
    """Names, patterns and sets, which hold the names of their members."""
    seeds: Sequence[int] = ()
    """Method seeds."""
    statuses: Sequence[str] = ()
    tiers: Sequence[str] = ()

    @classmethod
    def of(
        cls, method: str | None, organism: str | None, seed: str | None, status: str | None, tier: str | None
    ) -> "Filter":
        """From comma lists.

        Raises:
            UsageError: a seed that is no whole number, a status or tier that there is not.
        """
        methods, organisms, statuses, tiers = map(listed, (method, organism, status, tier))
        for kind, given, known in (("status", statuses, get_args(Status)), ("tier", tiers, TIERS)):
            for name in given:
                if name not in known:
                    raise unknown(kind, name, known)
        numbers = seed_numbers(seed) if seed else []
        return cls(methods, organisms, numbers, statuses, tiers)

    @functools.cached_property
    def _organisms(self) -> list[str]:
        return [o for name in self.organisms for o in _members(name)]

    def takes(self, result: Result) -> bool:
        """Whether a record is wanted."""
        i = result.identity
        return (
            (not self.methods or _any(i.row, self.methods))
            and (not self.organisms or _any(i.organism, self._organisms))
            and (not self.seeds or i.seeds["method"] in self.seeds)
            and (not self.statuses or result.status in self.statuses)
            and (not self.tiers or i.tier in self.tiers)
        )


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, p) for p in patterns)


def _members(name: str) -> Sequence[str]:
    return members(name) if name in sets() else [name]


def chosen(places: Sequence[Path], wanted: Filter, judge: bool = True) -> Iterator[Record]:
    """The records of some places that are wanted, and whatever is no record.

    Raises:
        UsageError: no record is of a method or an organism that was named. Others as `stored`.
    """
    methods, organisms = set[str](), set[str]()
    for record in stored(places, judge):
        if record.result is not None:
            methods.add(record.result.identity.row)
            organisms.add(record.result.identity.organism)
        if record.result is None or wanted.takes(record.result):
            yield record
    for kind, asked, there in (("method", wanted.methods, methods), ("organism", wanted.organisms, organisms)):
        for name in asked if there else ():
            if not any(_any(found, _members(name) if kind == "organism" else [name]) for found in there):
                raise unknown(kind, name, sorted(there))


def stored(places: Sequence[Path], judge: bool = True) -> Iterator[Record]:
    """Every record in some places, place by place in path order; see `records`.

    Raises:
        PrerequisiteError: a place that is not there.
    """
    for place in dict.fromkeys(places):
        yield from records(place, judge)


def usual(places: Sequence[Path] | None) -> list[Path]:
    """The places given, or those where a selector is looked up: the user's runs and the published records, as far as they are there."""
    if places:
        return list(places)
    found = [p for p in (Path("runs"), PUBLISHED) if p.exists()]
    if not found:
        raise PrerequisiteError("there is no folder runs here; say after the name which folders to look in")
    return found


def find(selector: str, places: Sequence[Path] | None = None) -> Record:
    """The record that a selector means: a run folder or file, the start of an id, or ORGANISM+METHOD[+SEED].

    Raises:
        PrerequisiteError: nothing there, or none that is meant. UsageError: several are meant, or it means nothing.
        ValidationFailed: the record is damaged.
    """
    path = Path(selector)
    if path.exists():
        return _sound(_alone(path, list(records(path, judge=False))))
    if (parts := selector.split("+"))[1:]:
        return _sound(_named(parts, usual(places)))
    pack, _, short = selector.rpartition(":")
    ends = short.lower()
    if len(ends) < SHORTEST or set(ends) - set("0123456789abcdef"):
        raise PrerequisiteError(
            f"there is no {selector}, and it is no id: give a run folder, at least {SHORTEST} characters of an id, or "
            "ORGANISM+METHOD+SEED, e.g. taboo/gold-narrow+delta+0"
        )
    where = [Path(pack)] if pack else usual(places)
    found = {r.result.id: r for r in stored(where, judge=False) if r.result and r.result.id.startswith(ends)}
    return _sound(_one(short, list(found.values()), where))


def _alone(path: Path, found: Sequence[Record]) -> Record:
    if len(found) == 1:
        return found[0]
    if not found:
        raise PrerequisiteError(f"there is no record in {path}; give a run folder (DIR/<organism>/<method>/<id>)")
    raise PrerequisiteError(
        f"{path} holds the records of many runs; give a run folder, the start of an id or ORGANISM+METHOD+SEED and then {path} "
        f"(`bench results list {path}` names them)"
    )


def _named(parts: Sequence[str], places: Sequence[Path]) -> Record:
    organism, method, seed = (*parts, "0")[:3]
    if len(parts) > 3 or not seed.isdigit():
        raise UsageError(f"{'+'.join(parts)!r} is not ORGANISM+METHOD+SEED, e.g. taboo/gold-narrow+delta+0")
    every = [r for r in stored(places, judge=False) if r.result]
    found = {
        r.result.id: r
        for r in every
        if r.result
        and (r.result.identity.organism, r.result.identity.row) == (organism, method)
        and r.result.identity.seeds["method"] == int(seed)
    }
    if not found:
        known = sorted({f"{r.result.identity.organism}+{r.result.identity.row}" for r in every if r.result})
        close = difflib.get_close_matches(f"{organism}+{method}", known, n=1)
        hint = f"; did you mean {close[0]}?" if close and close[0] != f"{organism}+{method}" else ""
        raise PrerequisiteError(f"no record of {method} on {organism} with seed {seed} in {_said(places)}{hint}")
    return _one("+".join(parts), list(found.values()), places)


def _one(selector: str, found: Sequence[Record], places: Sequence[Path]) -> Record:
    if not found:
        raise PrerequisiteError(f"no record in {_said(places)} has an id that begins with {selector}")
    if len(found) > 1:
        several = ", ".join(f"{r.result.id[:12]} ({r.where})" for r in found[:5] if r.result)
        raise UsageError(f"{selector} means {len(found)} records: {several}; give more of the id")
    return found[0]


def _sound(record: Record) -> Record:
    record = judged(record)
    if record.result is None or record.problems:
        raise ValidationFailed(f"{record.path}: {'; '.join(record.problems)}")
    return record


def _said(places: Sequence[Path]) -> str:
    return " and ".join(map(str, places))
