"""A sweep as people see it: its plan, how far it is, and what came of it.

On a terminal a few lines are redrawn; elsewhere one line a minute is written, so that a log of days can be read. Time left is that of the
plan, corrected by the pace of the cells that are done.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..escape import plain
from ..views.plan import size
from ..views.progress import State, clock
from .driver import Ended
from .plan import Plan, PlannedCell

EVERY_S = 60.0
"""Seconds between two plain lines."""


def plan_table(plan: Plan) -> RenderableType:
    """A row a method: cells, what is finished, and what the rest takes."""
    t = Table(title="what this sweep will run", title_justify="left", padding=(0, 1), box=None)
    t.add_column("method", overflow="fold")
    for name in ("cells", "finished", "to run", "time a cell", "time", "disk"):
        t.add_column(name, justify="right", no_wrap=True)
    for method in dict.fromkeys(c.method for c in plan.cells):
        of = [n for n, c in enumerate(plan.cells) if c.method == method]
        todo = [plan.cells[n] for n in of if n not in plan.known]
        seconds = [c.seconds for c in todo if c.seconds is not None]
        each = clock(sum(seconds) / len(seconds)) if seconds else "not known" if todo else ""
        whole = clock(sum(seconds)) if seconds and len(seconds) == len(todo) else ""
        counts = [str(len(of)), str(len(of) - len(todo)), str(len(todo))]
        t.add_row(method, *counts, each, whole, size(sum(c.disk_bytes for c in todo)) if todo else "")
    t.add_section()
    total = [str(n) for n in (len(plan.cells), len(plan.known), len(plan.todo))]
    t.add_row("", *total, "", clock(plan.seconds) if plan.seconds else "", size(plan.disk_bytes), style="bold")
    return Group(t, *(Text(line) for line in _sentences(plan)))


def _sentences(plan: Plan) -> list[str]:
    if not plan.todo:
        return [f"every cell is finished and kept in {plan.out}"]
    at_once = f"{plan.jobs} at a time" if plan.jobs > 1 else "one at a time"
    if plan.threads:
        at_once += f", on {plan.threads} thread{'s' * (plan.threads > 1)} each"
    said = [f"{len(plan.todo)} cells of {_pairs(plan)} pairs, {at_once}"]
    if plan.unknown < len(plan.todo):
        said[0] += f": about {clock(plan.wall_s)}, as cells like these took before"
    if plan.unknown:
        said.append(
            f"{plan.unknown} cells are like none that was run, and their time is not counted; `bench run --dry-run` rehearses them"
        )
    said.append(f"{size(plan.free_disk_bytes)} of disk are free for {plan.out}")
    if plan.memory_bytes:
        said.append(f"a cell and its method held {size(plan.memory_bytes)} at most")
    return said


def _pairs(plan: Plan) -> int:
    return len({(plan.cells[n].organism, plan.cells[n].layer) for n in plan.todo})


def name_of(cell: PlannedCell, layers: bool) -> str:
    """`delta on taboo/gold-narrow, seed 0`."""
    at = f", layer {cell.layer}" if layers and cell.layer is not None else ""
    return f"{cell.method} on {cell.organism}{at}, seed {cell.seed}"


@dataclass(frozen=True)
class _Now:
    """What a process is doing."""

    number: int
    since: float
    where: str
    state: State


class SweepDisplay:
    """Writes to stderr; silent when `quiet`.

    Args:
        console: default: stderr.
        now: clock, in seconds.
    """

    def __init__(
        self, plan: Plan, quiet: bool, console: Console | None = None, now: Callable[[], float] = time.monotonic
    ):
        self.console = console or Console(stderr=True, quiet=quiet, markup=False, emoji=False, highlight=False)
        self._plan, self._quiet, self._now = plan, quiet, now
        self._layers = len({(c.organism, c.layer) for c in plan.cells}) > len({c.organism for c in plan.cells})
        self._left, self._busy = set(plan.todo), dict[int, _Now]()
        self._failed = 0
        self._planned_s, self._taken_s = 0.0, 0.0
        """Of cells that are done and whose time was known before."""
        self._began = self._said = now()
        self._lock = threading.Lock()
        self._live = Live(console=self.console, get_renderable=self._drawn, refresh_per_second=2, transient=True)

    def __enter__(self) -> "SweepDisplay":
        if not self._quiet and self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live.is_started:
            self._live.stop()

    def began(self, process: int, number: int, where: str) -> None:
        """A process has a cell."""
        now = self._now()
        with self._lock:
            self._busy[process] = _Now(number, now, where, State(began=now, origin=(0, now)))

    def moved(self, process: int, phase: str, done: int, total: int) -> None:
        """It got so far."""
        with self._lock:
            if (doing := self._busy.get(process)) is not None:
                self._busy[process] = replace(doing, state=doing.state.moved(phase, done, total, self._now()))

    def lost(self, process: int, number: int | None, why: str, again: bool) -> None:
        """A process ended; its cell is run again, or has failed."""
        with self._lock:
            self._busy.pop(process, None)
        if number is not None and again:
            self._print(f"{self._name(number)}: run again: {plain(why.splitlines()[0])}", "yellow")

    def ended(self, ended: Ended) -> None:
        """A cell is over."""
        with self._lock:
            self._busy = {p: d for p, d in self._busy.items() if d.number != ended.number}
            self._left.discard(ended.number)
            self._failed += not ended.ran.good
            planned = self._plan.cells[ended.number].seconds
            if planned and not ended.ran.cached:
                self._planned_s, self._taken_s = self._planned_s + planned, self._taken_s + ended.wall_s
        if not ended.ran.good:
            self._print(f"{self._name(ended.number)}: {ended.ran.status}: {plain(ended.ran.reason)}", "red")

    def tick(self) -> None:
        """A plain line, if none was written for `EVERY_S` seconds; on a terminal there are none."""
        if not self._quiet and not self.console.is_terminal and self._now() - self._said >= EVERY_S:
            self._print(self.line())

    def line(self) -> str:
        """How far the sweep is."""
        with self._lock:
            running, left = len(self._busy), len(self._left)
            done = len(self._plan.cells) - left - self._failed
            parts = [f"{done} of {len(self._plan.cells)} cells done", f"{self._failed} failed", f"{running} running"]
            parts += [f"{left - running} left", clock(self._now() - self._began)]
            remaining = self._remaining()
        return ", ".join(parts if remaining is None else [*parts, f"about {clock(remaining)} to go"])

    def _remaining(self) -> float | None:
        """Seconds that are left; None as long as nothing is known."""
        pace = self._taken_s / self._planned_s if self._planned_s else 1.0
        known = [c for n in self._left if (c := self._plan.cells[n].seconds) is not None]
        if not known:
            return None
        mean, now = sum(known) / len(known), self._now()
        total = sum((self._plan.cells[n].seconds or mean) * pace for n in self._left)
        for doing in self._busy.values():
            total -= min(now - doing.since, (self._plan.cells[doing.number].seconds or mean) * pace)
        return total / max(1, min(self._plan.jobs, len(self._left)))

    def _drawn(self) -> RenderableType:
        now, over = self._now(), len(self._plan.cells) - len(self._left)
        with self._lock:
            doing = [self._busy[p] for p in sorted(self._busy)]
        lines = list[RenderableType]([ProgressBar(len(self._plan.cells), over, width=min(60, self.console.width))])
        lines.append(Text(self.line(), overflow="fold"))
        for d in doing:
            at = f" ({d.where})" * bool(d.where)
            parts = [part for part in d.state.parts(now)[:3] if part] if d.state.at else []
            lines.append(
                Text("  " + ", ".join([self._name(d.number) + at, *parts, clock(now - d.since)]), overflow="fold")
            )
        return Group(*lines)

    def _name(self, number: int) -> str:
        return name_of(self._plan.cells[number], self._layers)

    def _print(self, line: str, style: str | None = None) -> None:
        self._said = self._now()
        self.console.print(line, style=style, soft_wrap=True)


def outcome(plan: Plan, ended: Sequence[Ended]) -> str:
    """What a sweep leaves, in a few lines."""
    counts = Counter(e.ran.status for e in ended)
    order = ("ok", "not_applicable", "failed", "oom", "timeout", "not_run")
    said = ", ".join(f"{counts[s]} {s.replace('_', ' ')}" for s in order if counts[s])
    ran = sum(not e.ran.cached for e in ended)
    lines = [f"{len(ended)} cells: {said}; {ran} of them run now, kept in {plan.out}"]
    if sum(counts[s] for s in order[2:]):
        lines.append("the same command runs those again that failed")
    return "\n".join([*lines, f"tables: bench leaderboard build {plan.out}"])


def outcome_data(plan: Plan, ended: Sequence[Ended]) -> list[dict[str, object]]:
    """A row a cell, in the order of the plan."""
    rows = list[dict[str, object]]()
    for e in sorted(ended, key=lambda e: e.number):
        cell = plan.cells[e.number]
        rows.append(
            {
                "organism": cell.organism,
                "layer": cell.layer,
                "method": cell.method,
                "seed": cell.seed,
                "id": e.ran.id,
                "status": e.ran.status,
                "reason": e.ran.reason,
                "folder": e.ran.folder,
                "finished_before": e.ran.cached,
                "wall_s": round(e.wall_s, 3),
            }
        )
    return rows


def known(plan: Plan) -> list[Ended]:
    """Cells that were finished before the sweep."""
    return [Ended(number, ran) for number, ran in plan.known.items()]
