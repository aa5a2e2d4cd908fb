"""Progress of a run on the terminal: one bar for the cells, one for the phase inside the current cell."""

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..escape import plain
from ..protocol.result import Result
from ..terminal import say

if TYPE_CHECKING:
    from ..runs.cell import Cell
    from ..runs.run import Plan

PHASES = {"measure": "measuring the pair", "diff": "running the method", "score": "scoring against random controls"}


def finished_before(results: list[Result]) -> None:
    """A line on stderr for each."""
    for r in results:
        i = r.identity
        say(
            f"{i.method} on {i.organism}, seed {i.seeds['method']}: finished before (--overwrite runs it again)",
            err=True,
        )


class RunDisplay:
    """A `Watcher` that draws on stderr; silent when `quiet`. Without a terminal it prints one line a cell."""

    def __init__(self, plan: "Plan", quiet: bool):
        self.console = Console(stderr=True, quiet=quiet, markup=False, emoji=False)
        self.folders: list[Path] = []
        self._plan = plan
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self._cells: TaskID | None = None
        self._phase: TaskID | None = None
        self._name = ""
        self._start = time.perf_counter()

    def __enter__(self) -> "RunDisplay":
        self._bars.start()
        self._cells = self._bars.add_task("cells", total=len(self._plan.cells))
        if once := self._plan.once:
            first = self._plan.cells[0].seed
            self.console.print(f"{', '.join(once)}: nothing is drawn, so seed {first} only", style="dim")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def loading(self, organism: str) -> None:
        """A pair is being loaded."""
        if self._cells is not None:
            self._bars.update(self._cells, description=f"loading {organism}")

    def cell(self, cell: "Cell", index: int, total: int) -> None:
        """A cell starts."""
        self._name, self._start = f"{cell.method.name} on {cell.organism.name}, seed {cell.seed}", time.perf_counter()
        if self._cells is not None:
            self._bars.update(self._cells, description=f"{self._name} ({index}/{total})")
        self._drop()

    def progress(self, phase: str, done: int, total: int) -> None:
        """Work inside the current cell."""
        text = "  " + PHASES.get(phase, phase)
        if self._phase is None or self._bars.tasks[-1].description != text:
            self._drop()
            self._phase = self._bars.add_task(text, total=max(total, 1))
        self._bars.update(self._phase, completed=done, total=max(total, 1))

    def done(self, cell: "Cell", result: Result, folder: Path, cached: bool) -> None:
        """A cell is saved, or was found finished."""
        self._drop()
        self.folders.append(folder)
        if self._cells is not None:
            self._bars.advance(self._cells)
        name = f"{cell.method.name} on {cell.organism.name}, seed {cell.seed}"
        if cached:
            self.console.print(f"{name}: finished before (--overwrite runs it again)", style="dim")
        elif result.scores and result.scores.isolation.value is not None:
            self.console.print(f"{name}: isolation {result.scores.isolation.value:.3f}  ({result.cost.wall_s:.0f} s)")
        elif found := result.false_discovery:
            share = f"{found.share:.2f} of {len(found.p)} findings are false discoveries"
            self.console.print(f"{name}: {share}  ({result.cost.wall_s:.0f} s)")
        else:
            self.console.print(f"{name}: {result.status}: {plain(result.reason)}", style="red")

    def _drop(self) -> None:
        if self._phase is not None:
            self._bars.remove_task(self._phase)
            self._phase = None
