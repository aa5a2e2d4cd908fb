"""What one process of a sweep does: the cells that it is told, one after the other, as `bench run` does them.

The idea: it is told numbers. It works out for itself what a sweep's options mean, as the process did that tells it, so nothing of a cell
has to be sent; the ids of both must agree, or the two have not the same diffbench or the same organisms.
"""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...organisms.errors import DiffbenchError, PrerequisiteError
from ..commands.settings import RunFile, resolve
from ..devices import DeviceFailed
from ..records.result import FINISHED, Result
from ..runs.cell import Cell
from ..runs.run import Quiet, run
from ..terminal import FULL, NO_ROOM


@dataclass(frozen=True)
class Ran:
    """What a sweep keeps of a result: thousands of whole ones do not fit into memory."""

    id: str
    status: str
    reason: str | None
    pair: tuple[str, str]
    """Name and hash of the organism."""
    zoo: bool
    """Whether its pair is of the zoo, not the user's own."""
    folder: str
    cached: bool
    """Whether it was finished before."""
    spent: bool = False
    """Whether the process can run nothing more, because its device failed."""

    @classmethod
    def of(cls, result: Result, folder: Path, cached: bool) -> "Ran":
        """Of a result and its run folder."""
        spent = result.failure is not None and result.failure.type == DeviceFailed.__name__
        zoo = "organism" in result.provenance.source
        return cls(
            result.id,
            result.status,
            result.reason,
            result.identity.pair,
            zoo,
            str(folder),
            cached,
            not cached and spent,
        )

    @classmethod
    def read(cls, data: dict[str, Any]) -> "Ran":
        """From JSON."""
        name, sha256 = data.pop("pair")
        return cls(pair=(name, sha256), **data)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @property
    def good(self) -> bool:
        """Whether it is not to be run again."""
        return self.status in FINISHED


@dataclass(frozen=True)
class Stopped:
    """Why a process ends."""

    message: str
    exit_code: int | None
    """Of the whole sweep, which can go no further; None: a bug that this cell met and others may not."""

    @classmethod
    def by(cls, error: BaseException) -> "Stopped":
        """What an error means."""
        if isinstance(error, DiffbenchError):
            return cls(str(error), error.exit_code)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return cls(FULL, 3)
        return cls("".join(traceback.format_exception(error)), None)


class Share:
    """The cells that one process is told; a pair stays loaded from one to the next.

    Args:
        file: options of the sweep.
        overwrite: run finished cells again.
        log_text: gives what was logged since it was last asked.
        tell: called with (phase, done, total).
        out: where run folders go, if not where the options say.
    """

    def __init__(
        self,
        file: RunFile,
        overwrite: bool,
        log_text: Callable[[], str],
        tell: Callable[[str, int, int], None] = lambda phase, done, total: None,
        out: Path | None = None,
    ):
        plan = resolve(file).plan(overwrite)
        self._plan = plan if out is None else replace(plan, out=out)
        self._told, self._seen = list[Cell](), _Seen(tell)
        self._results = run(self._plan, self._seen, log_text, self._cells())

    def do(self, number: int, id_: str | None) -> Ran:
        """Run a cell of the plan.

        Args:
            id_: what it is in the process that tells; None: not known there before the pair is loaded.

        Raises:
            PrerequisiteError: it is something else here.
        """
        cell = self._plan.cells[number] if number < len(self._plan.cells) else None
        here = cell.identity(cell.organism.layer or 0).id() if cell and id_ else None
        if cell is None or here != id_:
            raise PrerequisiteError(
                f"cell {number} is {(here or 'nothing')[:12]} here and {(id_ or 'something')[:12]} where the sweep was started: diffbench, "
                "the organisms or a method's file differ; bring the same to every machine, and change nothing while a sweep runs"
            )
        self._told.append(cell)
        result = next(self._results)
        return Ran.of(result, self._seen.folder, self._seen.cached)

    def _cells(self) -> Iterator[Cell]:
        while self._told:
            yield self._told.pop()


class _Seen(Quiet):
    """Notes where a result went."""

    def __init__(self, tell: Callable[[str, int, int], None]):
        self._tell, self.folder, self.cached = tell, Path(), False

    def loading(self, organism: str) -> None:
        """A pair is being loaded."""
        self._tell("load", 0, 0)

    def progress(self, phase: str, done: int, total: int) -> None:
        """Work inside the current cell."""
        self._tell(phase, done, total)

    def done(self, cell: Cell, result: Result, folder: Path, cached: bool) -> None:
        """A cell is saved, or was found finished."""
        self.folder, self.cached = folder, cached
