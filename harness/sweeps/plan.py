"""What a sweep will do and cost, told before it begins: which cells are finished, how long others like the rest took, what they left.

The idea: nothing is rehearsed (`bench run --dry-run` does that); times are those of cells that were run before, in the store or in
published records. A cell takes the mean of its own organism and method; where there is none, of its method on organisms of its size.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from ...methods.catalogue import row_of
from ...organisms.errors import PrerequisiteError
from ...organisms.hub.files import read_text
from ..plans.plan import RECORD_BYTES
from ..records.identity import sha256_json
from ..records.loading import MOST_RECORD, each_key_once
from ..runs.cell import Cell
from ..runs.folder import RESULT, run_folder
from ..runs.packs import PACKED, lines
from ..runs.run import Plan as Cells
from ..runs.run import finished_before
from .engine import Work
from .share import Ran

MOST = 10_000
"""Records that times are taken from; more of them say the same."""
Kind = tuple[str | None, ...]
"""What cells have in common whose times are compared."""


@dataclass
class _Mean:
    total: float = 0.0
    n: int = 0

    def add(self, value: float) -> None:
        """One more."""
        self.total, self.n = self.total + value, self.n + 1

    @property
    def value(self) -> float | None:
        """None without any."""
        return self.total / self.n if self.n else None


@dataclass
class Measured:
    """Seconds and bytes of cells that were run."""

    seconds: dict[Kind, _Mean] = field(default_factory=dict[Kind, _Mean])
    load: dict[Kind, _Mean] = field(default_factory=dict[Kind, _Mean])
    bytes: dict[Kind, _Mean] = field(default_factory=dict[Kind, _Mean])
    memory: dict[str, int] = field(default_factory=dict[str, int])
    """Most bytes that a cell of a tier and its method held."""

    @classmethod
    def of(cls, found: Iterable[tuple[dict[str, Any], int | None]]) -> "Measured":
        """Of records as JSON, with the bytes of their run folders; what is no record of a finished cell is passed over."""
        measured = cls()
        for record, size in islice(found, MOST):
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                measured._add(record, size)
        return measured

    def _add(self, record: dict[str, Any], size: int | None) -> None:
        identity, cost, made = record["identity"], record["cost"], record["provenance"]
        if record["status"] != "ok":
            return
        took = datetime.fromisoformat(made["finished_utc"]) - datetime.fromisoformat(made["started_utc"])
        # both ends are rounded down to a second; the first cell of a pair has measured it as well
        seconds = took.total_seconds() or min(float(cost["wall_s"]), 0.5)
        tier, where = str(identity["tier"]), str(made["device"]).partition(":")[0]
        shared = (where, str(identity.get("limit")), str(identity["protocol_sha256"]))
        row = row_of(str(identity["method"]), identity["config"])
        for kind in ((str(identity["organism"]), row), (tier, row)):
            self.seconds.setdefault((*kind, *shared), _Mean()).add(seconds)
            if size is not None:
                self.bytes.setdefault((*kind, *shared), _Mean()).add(size)
        for kind in (str(identity["organism"]), tier):
            self.load.setdefault((kind, where), _Mean()).add(float(cost["phases"].get("load", 0.0)))
        self.memory[tier] = max(self.memory.get(tier, 0), int(cost["peak_rss_bytes"]))

    def seconds_of(self, cell: Cell) -> float | None:
        """How long a cell will take, as far as that is known."""
        return _first(self.seconds, _kinds(cell))

    def load_of(self, cell: Cell) -> float:
        """How long its pair takes to load."""
        where = cell.machine.device.partition(":")[0]
        return _first(self.load, [(cell.organism.name, where), (cell.organism.tier, where)]) or 0.0

    def bytes_of(self, cell: Cell) -> int | None:
        """What its run folder takes."""
        size = _first(self.bytes, _kinds(cell))
        return None if size is None else round(size)


def _kinds(cell: Cell) -> list[Kind]:
    """The narrowest first."""
    where, protocol = cell.machine.device.partition(":")[0], sha256_json(cell.protocol.model_dump())
    names = (cell.organism.name, cell.organism.tier)
    return [(name, cell.method.row, where, str(cell.limit), protocol) for name in names]


def _first(means: dict[Kind, _Mean], kinds: Sequence[Kind]) -> float | None:
    return next((means[k].value for k in kinds if k in means), None)


def recorded(*folders: Path) -> Iterator[tuple[dict[str, Any], int | None]]:
    """Records below folders, unchecked: they are looked at for times only."""
    for folder in folders:
        for path in sorted([*folder.rglob(RESULT), *folder.rglob(f"*{PACKED}")]):
            with suppress(OSError, ValueError):
                if path.name.endswith(PACKED):
                    yield from ((each_key_once(line), None) for line in lines(path))
                elif not any(part.startswith(".") for part in path.relative_to(folder).parts):
                    size = sum(f.stat().st_size for f in path.parent.iterdir())
                    yield each_key_once(read_text(path, MOST_RECORD)), size


@dataclass(frozen=True)
class PlannedCell:
    """One cell."""

    organism: str
    layer: int | None
    method: str
    seed: int
    id: str | None
    """None: known when the pair is loaded."""
    finished: bool
    seconds: float | None
    """None: nothing like it was run."""
    disk_bytes: int
    """Of its run folder; `RECORD_BYTES` where nothing like it was run."""


@dataclass(frozen=True)
class Plan:
    """A sweep."""

    cells: Sequence[PlannedCell]
    known: dict[int, Ran]
    """Finished cells by number."""
    load_s: float
    """Seconds to load every pair that is still needed once."""
    jobs: int
    threads: int
    """Of each process; 0: the cluster's business."""
    out: Path
    free_disk_bytes: int
    memory_bytes: int
    """Most memory that a cell like these took; 0: not known."""

    @property
    def todo(self) -> list[int]:
        """Numbers of the cells that are to be run."""
        return [n for n in range(len(self.cells)) if n not in self.known]

    @property
    def seconds(self) -> float:
        """Of everything whose time is known, one cell at a time."""
        return self.load_s + sum(self.cells[n].seconds or 0.0 for n in self.todo)

    @property
    def wall_s(self) -> float:
        """The same, `jobs` at a time."""
        return self.seconds / max(1, min(self.jobs, len(self.todo)))

    @property
    def unknown(self) -> int:
        """Cells to be run whose time is not known."""
        return sum(self.cells[n].seconds is None for n in self.todo)

    @property
    def disk_bytes(self) -> int:
        """What will be written."""
        return sum(self.cells[n].disk_bytes for n in self.todo)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "cells": [asdict(c) for c in self.cells],
            "total": {
                "cells": len(self.cells),
                "finished": len(self.known),
                "to_run": len(self.todo),
                "time_not_known": self.unknown,
                "seconds": round(self.wall_s, 1),
                "seconds_one_at_a_time": round(self.seconds, 1),
                "disk_bytes": self.disk_bytes,
                "free_disk_bytes": self.free_disk_bytes,
                "memory_bytes_a_cell": self.memory_bytes or None,
                "jobs": self.jobs,
                "threads": self.threads or None,
                "out": str(self.out),
            },
        }

    def check(self) -> None:
        """Refuse what cannot fit on the disk.

        Raises:
            PrerequisiteError: with what is needed and what there is.
        """
        if self.disk_bytes > self.free_disk_bytes:
            raise PrerequisiteError(
                f"the sweep needs {self.disk_bytes / 1e9:,.2f} GB in {self.out} and {self.free_disk_bytes / 1e9:,.2f} GB are free; "
                "make room, choose another folder with --out, or sweep fewer cells"
            )


def work_of(cells: Cells) -> Work:
    """Cells with their ids, as far as they are known."""
    ids = [None if c.organism.layer is None else c.identity(c.organism.layer).id() for c in cells.cells]
    return Work(cells, ids)


def plan(work: Work, measured: Measured, jobs: int, threads: int) -> Plan:
    """What a sweep will do; nothing is loaded."""
    cells, known, pairs = list[PlannedCell](), dict[int, Ran](), dict[int, float]()
    for number, (cell, id_) in enumerate(zip(work.plan.cells, work.ids, strict=True)):
        result = finished_before(work.plan, cell, id_) if id_ else None
        if result is not None:
            folder = run_folder(work.plan.out, cell.organism.name, cell.method.name, result.id)
            known[number] = Ran.of(result, folder, cached=True)
        else:
            pairs[id(cell.organism)] = measured.load_of(cell)
        size, o = measured.bytes_of(cell), cell.organism
        cells.append(
            PlannedCell(
                o.name,
                o.layer,
                cell.method.row,
                cell.seed,
                id_,
                result is not None,
                measured.seconds_of(cell),
                RECORD_BYTES if size is None else size,
            )
        )
    there = next(p for p in (work.plan.out.absolute(), *work.plan.out.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(there).free
    memory = max((measured.memory.get(c.organism.tier, 0) for c in work.plan.cells), default=0)
    return Plan(cells, known, sum(pairs.values()), jobs, threads, work.plan.out, free, memory)
