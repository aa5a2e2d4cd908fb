"""Progress of a run: what is being done now, how much of it is done, and how long the rest will take.

One state, two views of it: on a terminal two lines that are redrawn, elsewhere a plain line every `EVERY_S` seconds, so that a log of a run
that takes hours can be followed. Time left is that of the phase, from its own pace.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..escape import plain
from ..records.result import Result
from ..terminal import say

if TYPE_CHECKING:
    from ..runs.cell import Cell
    from ..runs.run import Plan

PHASES = {
    "wait": ("waiting for another process that runs this cell", ""),
    "load": ("loading the pair", ""),
    "measure": ("measuring the pair", "sets"),
    "harvest neutral": ("reading neutral text", "tokens"),
    "harvest chat": ("reading chat", "tokens"),
    "harvest contrastive": ("reading their answers", "tokens"),
    "fit": ("running the method", "steps"),
    "score": ("scoring with controls", "sets"),
}
"""What a phase is called, and what it counts."""
EVERY_S = 15.0
"""Seconds between two plain lines."""


@dataclass(frozen=True)
class State:
    """What is being done."""

    cell: str = ""
    phase: str = "load"
    done: int = 0
    total: int = 0
    """0: not known."""
    began: float = 0.0
    """When the phase began."""
    origin: tuple[int, float] = (0, 0.0)
    """What was done when the total was first known, and when that was."""
    at: float = 0.0
    """When the last report came."""

    def moved(self, phase: str, done: int, total: int, now: float) -> "State":
        """After a report."""
        began = self.began if phase == self.phase else now
        same = (phase, total) == (self.phase, self.total) and done >= self.done
        return replace(
            self,
            phase=phase,
            done=done,
            total=total,
            began=began,
            at=now,
            origin=self.origin if same else (done, now),
        )

    def left(self, now: float) -> float | None:
        """Seconds that the phase will still take, by its pace at the last report; None as long as there is none."""
        first, since = self.origin
        if self.done <= first or not self.total:
            return None
        return max(0.0, (self.at - since) * (self.total - self.done) / (self.done - first) - (now - self.at))

    def counted(self) -> str:
        """How much is done, in what the phase counts."""
        unit = PHASES.get(self.phase, (self.phase, ""))[1]
        return f"{self.done:,}/{self.total:,} {unit}".rstrip() if self.total > 1 else ""

    def parts(self, now: float) -> list[str]:
        """Phase, count, share, time spent and time left, as far as they are known."""
        left = self.left(now)
        return [
            PHASES.get(self.phase, (self.phase, ""))[0],
            self.counted(),
            f"{min(1.0, self.done / self.total):.0%}" if self.total > 1 else "",
            clock(now - self.began),
            f"{clock(left)} left" if left is not None else "",
        ]


def clock(seconds: float) -> str:
    """`1:05`, `2:00:00`."""
    minutes, s = divmod(round(max(0.0, seconds)), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def drawn(state: State, now: float, width: int) -> Group:
    """Two lines for a terminal: the cell, whose name is folded rather than cut, and the phase with a bar in what room is left."""
    name, count, share, spent, left = state.parts(now)
    beside = [part for part in (count, share, spent, left) if part]
    room = width - len(name) - sum(map(len, beside)) - 2 * (len(beside) + 2)
    cell = Text(state.cell, overflow="fold")
    if room < 0:
        return Group(cell, Text("  " + ", ".join([name, *beside]), overflow="fold"))
    line = Table.grid(padding=(0, 2, 0, 0))
    row: list[Text | ProgressBar] = [Text(f"  {name}")]
    if state.total > 1 and room >= 5:
        row.append(ProgressBar(state.total, min(state.done, state.total), width=min(room, 30)))
    line.add_row(*row, *map(Text, beside))
    return Group(cell, line)


class RunDisplay:
    """A `Watcher` that writes to stderr; silent when `quiet`.

    Args:
        console: default: stderr.
        now: clock, in seconds.
    """

    def __init__(
        self, plan: "Plan", quiet: bool, console: Console | None = None, now: Callable[[], float] = time.monotonic
    ):
        self.console = console or Console(stderr=True, quiet=quiet, markup=False, emoji=False, highlight=False)
        self.folders: list[Path] = []
        self.state = State(began=now())
        self._plan, self._quiet, self._now = plan, quiet, now
        self._swept = _swept(((c.organism.name, c.organism.sha256), c.organism.layer) for c in plan.cells)
        """Pairs at several layers."""
        self._said = now()
        """When the last line was written."""
        self._live = Live(
            console=self.console,
            get_renderable=lambda: drawn(self.state, self._now(), self.console.width),
            refresh_per_second=4,
            transient=True,
        )
        self._over = threading.Event()
        self._lines = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "RunDisplay":
        if self._quiet:
            return self
        if once := self._plan.once:
            self._print(f"{', '.join(once)}: nothing is drawn, so seed {self._plan.cells[0].seed} only", "dim")
        if self.console.is_terminal:
            self._live.start()
        else:
            self._lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._live.is_started:
            self._live.stop()

    def loading(self, organism: str) -> None:
        """A pair is being loaded."""
        now = self._now()
        self.state = State(cell=organism, began=now, origin=(0, now))

    def cell(self, cell: "Cell", index: int, total: int) -> None:
        """A cell starts."""
        of = f" ({index} of {total})" if total > 1 else ""
        self.state = replace(self.state, cell=self._name(cell) + of)

    def progress(self, phase: str, done: int, total: int) -> None:
        """Work inside the current cell."""
        self.state = self.state.moved(phase, done, total, self._now())
        self.line_if_due()

    def done(self, cell: "Cell", result: Result, folder: Path, cached: bool) -> None:
        """A cell is saved, or was found finished."""
        self.folders.append(folder)
        name = self._name(cell)
        if cached:
            self._print(f"{name}: {BEFORE}", "dim")
        elif result.scores and result.scores.isolation.value is not None:
            self._print(f"{name}: isolation {result.scores.isolation.value:.3f}  ({result.cost.wall_s:.0f} s)")
        elif found := result.false_discovery:
            share = f"{found.share:.2f} of {len(found.p)} findings are false discoveries"
            self._print(f"{name}: {share}  ({result.cost.wall_s:.0f} s)")
        else:
            self._print(f"{name}: {result.status}: {plain(result.reason)}", "red")

    def line_if_due(self) -> None:
        """A plain line of the state, if none was written for `EVERY_S` seconds; on a terminal there are none."""
        now = self._now()
        if self._quiet or self.console.is_terminal or now - self._said < EVERY_S:
            return
        self._print(f"{self.state.cell}: {', '.join(part for part in self.state.parts(now) if part)}")

    def _name(self, cell: "Cell") -> str:
        at = f", layer {cell.organism.layer}" * ((cell.organism.name, cell.organism.sha256) in self._swept)
        return f"{cell.method.row} on {cell.organism.name}{at}, seed {cell.seed}"

    def _tick(self) -> None:
        while not self._over.wait(1.0):
            self.line_if_due()

    def _print(self, line: str, style: str | None = None) -> None:
        """A line of any length: names are never cut, and a log is not broken at 80 columns."""
        self._said = self._now()
        self.console.print(line, style=style, soft_wrap=True)


def _swept(cells: Iterable[tuple[tuple[str, str], int | None]]) -> set[tuple[str, str]]:
    """Of (pair, layer), the pairs at several layers."""
    return {pair for pair, n in Counter(pair for pair, _ in set(cells)).items() if n > 1}


BEFORE = "finished before (--overwrite runs it again)"


def finished_before(results: list[Result]) -> None:
    """A line on stderr for each."""
    swept = _swept((r.identity.pair, r.identity.layer) for r in results)
    for r in results:
        i = r.identity
        at = f", layer {i.layer}" * (i.pair in swept)
        say(f"{i.row} on {i.organism}{at}, seed {i.seeds['method']}: {BEFORE}", err=True)
