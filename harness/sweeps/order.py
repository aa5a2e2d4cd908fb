"""Which cell a process runs next.

The idea: a pair is loaded and measured once if one process runs all of its cells, so a process stays with its pair, then takes one that
nobody has, the one of most cells first, and only at the end, when every pair has somebody, helps where most is left.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

AGAIN_S = 2.0
"""Seconds until a cell that another sweep is running is asked about again."""


@dataclass
class _Group:
    """Cells of one pair that wait."""

    cells: list[int]
    hands: set[Hashable] = field(default_factory=set[Hashable])
    """Processes that have the pair loaded."""
    elsewhere: int = 0
    """Cells of it that another sweep was seen to run."""


class Order:
    """Cells that wait, by number.

    Args:
        cells: {number of a cell: its pair}, in the order in which they are to be run.
    """

    def __init__(self, cells: Mapping[int, Hashable]):
        self._pair = dict(cells)
        self._groups = dict[Hashable, _Group]()
        self._not_before = dict[int, float]()
        for cell, pair in cells.items():
            self._groups.setdefault(pair, _Group([])).cells.append(cell)

    def __len__(self) -> int:
        return sum(len(g.cells) for g in self._groups.values())

    def next(self, process: Hashable, now: float, free: Callable[[int], bool] = lambda cell: True) -> int | None:
        """The next cell for a process, which is no longer in the order; None: nothing for now.

        Args:
            now: in seconds.
            free: whether no other sweep is running a cell; one that is busy is asked about again after `AGAIN_S`.
        """
        while True:
            ready = ((g, c) for g in self._ranked(process) for c in g.cells if self._not_before.get(c, now) <= now)
            group, cell = next(ready, (None, None))
            if group is None or cell is None:
                return None
            if free(cell):
                self._move(process, group)
                group.cells.remove(cell)
                return cell
            self._not_before[cell] = now + AGAIN_S
            group.elsewhere += 1

    def back(self, cell: int) -> None:
        """A cell has to be run after all: it is the first of its pair's."""
        self._groups[self._pair[cell]].cells.insert(0, cell)

    def gone(self, process: Hashable) -> None:
        """A process is gone, and with it the pair that it had loaded."""
        self._move(process, None)

    def waiting(self) -> list[int]:
        """What is left."""
        return [cell for group in self._groups.values() for cell in group.cells]

    def _ranked(self, process: Hashable) -> Sequence[_Group]:
        waiting = [g for g in self._groups.values() if g.cells]
        return sorted(
            waiting,
            key=lambda g: (process not in g.hands, len(g.hands - {process}) + g.elsewhere, -len(g.cells)),
        )

    def _move(self, process: Hashable, to: _Group | None) -> None:
        for group in self._groups.values():
            if group is not to:
                group.hands.discard(process)
        if to is not None:
            to.hands.add(process)
