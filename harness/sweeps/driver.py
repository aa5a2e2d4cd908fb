"""The loop of a sweep: give idle processes cells, take what came of them, and see to it that every cell has an outcome.

The idea: the store of run folders is the only memory. What is finished there is never run again, what another sweep is running is left to
it, and what a lost process had in hand goes back into the order; so a sweep may be killed, or started twice, at any moment.
"""

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

from ...organisms.errors import DiffbenchError
from ..claims import claimed
from ..records.loading import finished
from ..runs.cell import unloaded
from ..runs.folder import RESULT, run_folder, tidy, write_run
from .engine import Done, Engine, Lost, Moved, Work
from .order import Order
from .share import Ran

log = logging.getLogger(__name__)
LOOK_S = 1.0
"""Longest between two looks at the clock."""


class LostCell(DiffbenchError):
    """The process that ran a cell ended, as often as it may."""


@dataclass(frozen=True)
class Ended:
    """A cell and what came of it."""

    number: int
    ran: Ran
    wall_s: float = 0.0
    """Since it was given to a process; 0 for one that was finished before the sweep."""


class Shown(Protocol):
    """What a caller sees of a sweep."""

    def began(self, process: int, number: int, where: str) -> None:
        """A process has a cell."""
        ...

    def moved(self, process: int, phase: str, done: int, total: int) -> None:
        """It got so far."""
        ...

    def lost(self, process: int, number: int | None, why: str, again: bool) -> None:
        """A process ended; its cell is run again, or has failed."""
        ...

    def ended(self, ended: Ended) -> None:
        """A cell is over."""
        ...

    def tick(self) -> None:
        """Time passes."""
        ...


@dataclass
class _Hand:
    """What a process is doing."""

    number: int
    since: float


def sweep(
    work: Work,
    todo: list[int],
    engine: Engine,
    shown: Shown,
    retries: int,
    now: Callable[[], float] = time.monotonic,
) -> Generator[Ended, None, None]:
    """Run cells of a plan, yielding each when it is in the store.

    Args:
        todo: numbers of the cells that are to be run.
        retries: how often a cell is run again whose process or machine was lost.

    Raises:
        DiffbenchError: nothing more can be run or saved; what is finished is kept.
    """
    cells = work.plan.cells
    order = Order({n: id(cells[n].organism) for n in todo})
    hands, tries = dict[int, _Hand](), dict[int, int]()

    def free(number: int) -> bool:
        id_ = work.ids[number]
        return id_ is None or engine.free(id_)

    with engine:
        while order or hands:
            for process in engine.idle():
                if (number := order.next(process, now(), free)) is None:
                    continue
                hands[process] = _Hand(number, now())
                engine.give(process, number, work.ids[number])
                shown.began(process, number, engine.where(process))
            for event in engine.news(LOOK_S):
                if isinstance(event, Moved):
                    shown.moved(event.process, event.phase, event.done, event.total)
                elif isinstance(event, Done):
                    hand = hands.pop(event.process)
                    again = event.ran.spent and _again(hand.number, tries, retries)
                    if again:
                        order.back(hand.number)
                        continue
                    yield _over(Ended(hand.number, event.ran, now() - hand.since), shown)
                else:
                    order.gone(event.process)
                    hand = hands.pop(event.process, None)
                    again = hand is not None and not event.bug and _again(hand.number, tries, retries)
                    shown.lost(event.process, hand.number if hand else None, event.why, again)
                    if again and hand:
                        order.back(hand.number)
                    elif hand:
                        ran = _given_up(work, hand.number, event)
                        yield _over(Ended(hand.number, ran, now() - hand.since), shown)
            shown.tick()


def _over(ended: Ended, shown: Shown) -> Ended:
    shown.ended(ended)
    return ended


def _again(number: int, tries: dict[int, int], retries: int) -> bool:
    """Whether a cell that was lost once more may be run again."""
    tries[number] = tries.get(number, 0) + 1
    return tries[number] <= retries


def _given_up(work: Work, number: int, lost: Lost) -> Ran:
    """The record of a cell that no process could end: failed, and run again by the next sweep."""
    cell = work.plan.cells[number]
    first = lost.why.strip().splitlines()
    why = first[-1] if lost.bug else first[0]
    error = LostCell(
        f"{'a bug in diffbench or in a library: ' * lost.bug}{why}; other cells go on, and the log says more"
    )
    layer = cell.organism.layer
    result = unloaded(cell, layer or 0, error).result
    folder = run_folder(work.plan.out, cell.organism.name, cell.method.name, result.id)
    if layer is not None:
        with claimed(work.plan.work(result.id)):
            tidy(folder)
            known = None if work.plan.overwrite else finished(folder / RESULT, result.id)
            if known is not None:  # another sweep was luckier
                return Ran.of(known, folder, cached=True)
            write_run(folder, result, None, lost.why + "\n")
    return Ran.of(result, folder, cached=False)
