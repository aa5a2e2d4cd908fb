"""Reads run folders and packs into cells, from several places at once.

The one idea: nothing is dropped in silence. A record becomes a cell, or a `Problem` with its reason, or is set aside for another record of
the same cell (`resolve`). Its numbers are believed only if they follow from its own per-prompt samples, because `id` covers the identity
and not the scores, and if the findings that lie beside it are the ones it counts. That is asked once: what was found is kept under the
hash of the bytes (`keep`).
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from ...harness.holders import holders
from ...harness.records.loading import MOST_RECORD, load_result
from ...harness.records.result import Result
from ...harness.runs.packs import MOST_PACKED, PACKED, findings_path, lines, outcome
from ...harness.runs.records import FINDINGS_FILE, RESULT_FILE, Record, findings_faults, record_files, records
from ...methods.registry import is_given
from ...organisms.errors import PrerequisiteError
from ...organisms.hub.files import read_bytes
from ..statistics.rows import Problem, SetAside
from .cell import Cell
from .keep import Keep
from .resolve import MixedResultsError, cell_name, resolve, sort_key

__all__ = ["Loaded", "MixedResultsError", "Problem", "load", "load_results"]


@dataclass(frozen=True)
class Loaded:
    """What some places hold."""

    cells: tuple[Cell, ...]
    """Sorted by organism, method, seeds, id; each id once."""
    problems: tuple[Problem, ...]
    """In the order of the places, then by path."""
    set_aside: tuple[SetAside, ...] = ()
    whole: tuple[Cell, ...] = ()
    """What there was before some were chosen; empty: none were."""

    @property
    def every(self) -> tuple[Cell, ...]:
        """The cells of the places, whichever a table is to stand on."""
        return self.whole or self.cells

    @property
    def results(self) -> tuple[Result, ...]:
        """The whole records."""
        return tuple(c.result for c in self.cells)


class Read(NamedTuple):
    """One record that was read: a cell, or why there is none."""

    cell: Cell | None
    problems: tuple[Problem, ...]


def load_results(runs: Path, keep: Keep | None = None) -> Loaded:
    """Every record of one place, several of one cell among them; see `load`, which is for tables."""
    return _collected([runs], keep or Keep(on=False))


def load(sources: Sequence[Path], keep: Keep | None = None) -> Loaded:
    """The cells that a table of these places stands on.

    Raises:
        PrerequisiteError: a place that is not there.
        MixedResultsError: one place holds two files with the same id and different numbers.
    """
    loaded = _collected(sources, keep or Keep(on=False))
    cells, taken = _one_name(loaded.cells)
    cells, aside, foreign = resolve(cells)
    return Loaded(tuple(cells), (*loaded.problems, *taken, *foreign), (*loaded.set_aside, *aside))


def _collected(sources: Sequence[Path], keep: Keep) -> Loaded:
    """Every usable cell, each id once: of two outcomes that of the place named first."""
    first: dict[str, tuple[Path, Cell]] = {}
    problems, aside = list[Problem](), list[SetAside]()
    for source in dict.fromkeys(sources):
        if not source.exists():
            raise PrerequisiteError(f"there is no folder {source}; give the folder that `bench run --out` wrote to")
        for cell, wrong in _read(source, keep, len(sources) > 1):
            problems += wrong
            if cell is None:
                continue
            place, known = first.setdefault(cell.id, (source, cell))
            if known is cell or known.sha256 == cell.sha256 or outcome(known.result) == outcome(cell.result):
                continue
            if place == source:
                raise MixedResultsError(
                    f"{known.where} and {cell.where} are the same cell ({cell.id[:12]}) with different numbers. "
                    "On one machine a cell is deterministic, so one was edited or made on another: keep one and move the other away "
                    "(`bench verify` says which one its findings support)."
                )
            aside.append(SetAside(cell.where, cell_name(cell), f"{known.where}, named before it, has other numbers"))
    cells = sorted((cell for _, cell in first.values()), key=sort_key)
    return Loaded(tuple(cells), tuple(problems), tuple(aside))


def _one_name(cells: Sequence[Cell]) -> tuple[list[Cell], list[Problem]]:
    """Cells of methods whose name another kind of method has not; the most numerous kind keeps the name."""
    kinds: dict[str, dict[tuple[str, bool], int]] = {}
    for c in cells:
        of = kinds.setdefault(c.identity.method, {})
        of[_kind(c)] = of.get(_kind(c), 0) + 1
    owner = {name: max(of, key=lambda k: (of[k], k)) for name, of in kinds.items()}
    kept, problems = list[Cell](), list[Problem]()
    for c in cells:
        access, given = owner[c.identity.method]
        if _kind(c) == (access, given):
            kept.append(c)
            continue
        other = f"{'findings' if given else 'a method'} with access {access}"
        problems.append(
            Problem(
                c.where,
                f"identity.method {c.identity.method!r} is taken by {other}; give this one another name and run it again",
            )
        )
    return kept, problems


def _kind(cell: Cell) -> tuple[str, bool]:
    return cell.identity.access, is_given(cell.identity.method_version)


def _read(source: Path, keep: Keep, named: bool) -> Iterator[Read]:
    """Every record of one place in path order; `named`: paths lead with the place."""
    units: dict[Path, list[Path]] = {}
    for file in record_files(source):
        if file.name.endswith(tuple(holders)):
            said = "is a bundle, which a table takes no records from: `bench verify` scores it again, `bench leaderboard add` adds it"
            yield Read(None, (Problem(file.as_posix(), said),))
            continue
        units.setdefault(file if file.name.endswith(PACKED) else file.parent.parent, []).append(file)
    for files in units.values():
        digest = [_digest(f) for f in files]
        kept = keep.get("cells", digest) if None not in digest else None
        if kept is None:
            kept = [_asked(i, n, record) for i, f in enumerate(files) for n, record in enumerate(records(f))]
            if None not in digest:
                keep.put(kept, "cells", digest)
        places = [(f if named or f == source else f.relative_to(source)).as_posix() for f in files]
        for each in kept:
            file, where = files[each["file"]], places[each["file"]]
            problems = tuple(Problem(where, p) for p in each["problems"])
            data = each["cell"]
            yield Read(Cell.kept(data, where, _loader(file, each["line"])) if data else None, problems)


def _asked(file: int, line: int, record: Record) -> dict[str, Any]:
    """A record as it is kept: where in its unit, what is wrong, and its cell if nothing is."""
    result, wrong = record.result, list(record.problems)
    if result is not None and record.path.name == RESULT_FILE and (record.path.parent / FINDINGS_FILE).exists():
        wrong += findings_faults(record.path.parent, result)
    if result is not None and not wrong and (why := result.unpublished):
        wrong.append(why)
    cell = None if result is None or wrong else Cell.of(result).data()
    return {"file": file, "line": line, "problems": wrong, "cell": cell}


def _digest(file: Path) -> list[str] | None:
    """Name and hashes of what is read of a record's file; None where it cannot be."""
    try:
        own = hashlib.sha256(read_bytes(file, max(MOST_PACKED, MOST_RECORD))).hexdigest()
        beside = findings_path(file) if file.name.endswith(PACKED) else file.parent / FINDINGS_FILE
        found = (file.name == RESULT_FILE or file.name.endswith(PACKED)) and beside.is_file()
        return [
            file.parent.name,
            file.name,
            own,
            hashlib.sha256(read_bytes(beside, MOST_PACKED)).hexdigest() if found else "",
        ]
    except (OSError, ValueError):
        return None


def _loader(file: Path, line: int) -> Callable[[], Result]:
    if not file.name.endswith(PACKED):
        return functools.partial(load_result, file)
    return functools.partial(_line, file, line)


def _line(file: Path, line: int) -> Result:
    return Result.model_validate_json(_lines(file, file.stat().st_mtime_ns)[line])


@functools.lru_cache(maxsize=2)
def _lines(file: Path, _: int) -> list[str]:
    """Of the packs asked for last: a table asks for the records of one organism together."""
    return lines(file)


def narrowed(loaded: Loaded, keep: Callable[[Cell], bool]) -> Loaded:
    """Some of the cells."""
    return replace(loaded, cells=tuple(c for c in loaded.cells if keep(c)), whole=loaded.every)
