"""What a sweep needs of whatever runs its cells: processes that take one cell at a time, and news of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..runs.run import Plan
from .share import Ran


@dataclass(frozen=True)
class Moved:
    """A process says how far its cell is."""

    process: int
    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Done:
    """A cell is over, and in the store."""

    process: int
    ran: Ran


@dataclass(frozen=True)
class Lost:
    """A process is gone; another is started in its place."""

    process: int
    why: str
    bug: bool = False
    """Whether its cell made it end, and would again."""


News = Moved | Done | Lost


class Engine(Protocol):
    """Runs cells. It is entered before and left after a sweep; left by an exception, it stops what runs as Ctrl-C would."""

    def __enter__(self) -> "Engine": ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None: ...

    def idle(self) -> Sequence[int]:
        """Processes that wait for a cell."""
        ...

    def free(self, id_: str) -> bool:
        """Whether no other sweep is running a cell."""
        ...

    def give(self, process: int, number: int, id_: str | None) -> None:
        """A cell for an idle process, by its number in the plan."""
        ...

    def news(self, seconds: float) -> list[News]:
        """What happened; waits for it so long at most.

        Raises:
            DiffbenchError: the sweep can go no further.
        """
        ...

    def where(self, process: int) -> str:
        """The machine a process runs on; empty if it is this one."""
        ...


@dataclass(frozen=True)
class Work:
    """What is to be swept."""

    plan: Plan
    ids: Sequence[str | None]
    """[cells] what each is; None: not known before its pair is loaded."""
