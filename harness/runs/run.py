"""Many cells: plan them, skip the finished ones, run the rest organism by organism, save each as soon as it is done."""

import itertools
import logging
import shutil
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from ...methods.entry import MethodEntry
from ...organisms.errors import DiffbenchError, PrerequisiteError
from ...organisms.organism import Organism
from ..cache import Cache
from ..claims import claimed
from ..devices import DeviceFailed, OutOfMemory, release, trouble
from ..pairs.preflight import check_device
from ..records.loading import finished
from ..records.result import FINISHED, Result
from ..worker.limits import LostDevice
from ..worker.servers import server
from .cell import Cell, Outcome, run_cell, unloaded
from .folder import RESULT, run_folder, tidy, write_run
from .stage import Stage

log = logging.getLogger(__name__)
UNLOADED = (DiffbenchError, MemoryError, RuntimeError)
"""What a pair that does not load raises; a RuntimeError that is no device's trouble is a bug."""


class Watcher(Protocol):
    """What a caller may want to see of a run."""

    def loading(self, organism: str) -> None:
        """A pair is being loaded."""
        ...

    def cell(self, cell: Cell, index: int, total: int) -> None:
        """A cell starts."""
        ...

    def progress(self, phase: str, done: int, total: int) -> None:
        """Work inside the current cell."""
        ...

    def done(self, cell: Cell, result: Result, folder: Path, cached: bool) -> None:
        """A cell is saved, or was found finished."""
        ...


class Quiet:
    """A watcher that shows nothing."""

    def loading(self, organism: str) -> None: ...
    def cell(self, cell: Cell, index: int, total: int) -> None: ...
    def progress(self, phase: str, done: int, total: int) -> None: ...
    def done(self, cell: Cell, result: Result, folder: Path, cached: bool) -> None: ...


@dataclass(frozen=True)
class Plan:
    """Cells to run and where their folders go."""

    cells: Sequence[Cell]
    out: Path
    overwrite: bool = False
    once: Sequence[str] = ()
    """Methods that draw nothing and therefore run with the first of several seeds only."""
    cache: Cache | None = None
    """Where what is measured of pairs is kept between runs; None: nowhere."""

    def work(self, id_: str) -> Path:
        """Where a cell works until its folder is written; the process that runs it holds it."""
        return self.out / ".work" / id_[:12]


def plan(
    organisms: Sequence[Organism],
    methods: Sequence[tuple[MethodEntry, BaseModel]],
    seeds: Sequence[int],
    out: Path,
    overwrite: bool = False,
    cache: Cache | None = None,
    **settings: Any,
) -> Plan:
    """Every pair of the given organisms and methods, for every seed, or for the first one if the method draws nothing.

    Options that were not given have the defaults of an organism's tier. `settings` are the other fields of every `Cell`.
    """
    cells = [
        Cell(o, m, m.on(c, o.tier), s, **settings)
        for o, (m, c) in itertools.product(organisms, methods)
        for s in (seeds if m.stochastic else seeds[:1])
    ]
    once = [m.row for m, _ in methods if len(seeds) > 1 and not m.stochastic]
    return Plan(cells, out, overwrite, once, cache)


def run(
    plan: Plan, watch: Watcher, log_text: Callable[[], str], cells: Iterable[Cell] | None = None
) -> Iterator[Result]:
    """Run a plan, yielding each cell's result once its folder is on disk.

    A failed cell is saved with its reason and does not stop the others, and so are all cells of a pair that does not load.
    A cell that another process is running is waited for, and what that one saved is taken.
    KeyboardInterrupt passes through and says what is kept: finished cells, and what the current one has trained.

    Args:
        cells: those of the plan that are wanted, as they come; a pair stays loaded until one of another pair comes. Default: all.
    """
    for device in {c.machine.device for c in plan.cells}:
        check_device(device)
    index = 0
    failed: dict[str, DeviceFailed] = {}
    # by object, not by name: pairs that share a behaviour file share its name
    for _, group in itertools.groupby(plan.cells if cells is None else cells, key=lambda c: id(c.organism)):
        pair = _Pair(plan, watch, failed)
        for cell in group:
            index += 1
            layer = pair.layer(cell)
            id_ = cell.identity(layer or 0).id()
            folder = run_folder(plan.out, cell.organism.name, cell.method.name, id_)
            scratch = plan.work(id_)
            known = finished_before(plan, cell, id_)

            def waiting(cell: Cell = cell, at: int = index) -> None:
                watch.cell(cell, at, len(plan.cells))
                watch.progress("wait", 0, 1)

            with claimed(scratch, known is None, waiting) as mine:
                if mine:
                    tidy(folder)
                    known = known or finished_before(plan, cell, id_)
                result = known or pair.run(cell, index, layer, folder, scratch, log_text)
            watch.done(cell, result, folder, cached=known is not None)
            yield result


class _Pair:
    """The cells of one organism in a row: it is loaded when one of them first needs it, and once.

    Args:
        failed: devices that this process can run nothing more on; added to.
    """

    def __init__(self, plan: Plan, watch: Watcher, failed: dict[str, DeviceFailed]):
        self._plan, self._watch, self._failed = plan, watch, failed
        self._stage: Stage | None = None
        self._broken: DiffbenchError | None = None
        self._dead: DeviceFailed | None = None
        """Of the device of the cell that is at hand, before it."""

    def layer(self, cell: Cell) -> int | None:
        """Where a cell is diffed; None: the pair does not load, or its device failed, before that was known."""
        self._dead = self._failed.get(cell.machine.device)
        if cell.organism.layer is None and self._dead is None:
            self._load(cell)
        return self._stage.pair.layer if self._stage else cell.organism.layer

    def run(
        self, cell: Cell, index: int, layer: int | None, folder: Path, scratch: Path, log_text: Callable[[], str]
    ) -> Result:
        """A cell's result, saved.

        Args:
            scratch: checkpoints of a killed cell: the next run goes on from them; methods see the path, so it does not name the organism.
        """
        if self._dead is not None:
            return unloaded(cell, layer or 0, self._dead, "not_run").result
        stage = self._load(cell)
        self._watch.cell(cell, index, len(self._plan.cells))
        if stage is None:
            assert self._broken is not None
            log.error("%s does not load", cell.organism.name, exc_info=self._broken)
            result = unloaded(cell, layer or 0, self._broken).result
            if layer is not None:
                write_run(folder, result, None, log_text())
            return result
        log.info("%s on %s, seed %d: started", cell.method.row, cell.organism.name, cell.seed)
        try:
            outcome = run_cell(cell, stage, self._watch.progress, scratch)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(_kept(self._plan, cell, index - 1, scratch)) from interrupt
        _tell(outcome)
        if isinstance(outcome.error, DeviceFailed):
            self._failed[cell.machine.device] = outcome.error
        write_run(folder, outcome.result, outcome.diff, log_text())
        if cell.machine.device not in self._failed and not isinstance(outcome.error, LostDevice):
            shutil.rmtree(scratch, ignore_errors=True)
        return outcome.result

    def _load(self, cell: Cell) -> Stage | None:
        """The loaded pair; None: it does not load."""
        if self._stage is None and self._broken is None:
            try:
                self._stage = _load(cell, self._watch, self._plan.cache)
            except UNLOADED as error:
                self._broken = _broken(error, cell, self._failed)
        return self._stage


def _tell(outcome: Outcome) -> None:
    """What became of a cell, in the log."""
    result = outcome.result
    log.info("%s: %s, %d tokens, seconds %s", result.id[:12], result.status, result.cost.tokens, result.cost.phases)
    if result.left_out is not None:
        log.info("%s", result.left_out.sentence)
    for sentence in result.text.sentences if result.text else []:
        log.warning("%s", sentence)
    if outcome.error is not None:
        log.error("cell failed", exc_info=outcome.error)


def finished_before(plan: Plan, cell: Cell, id_: str) -> Result | None:
    """The result of a cell that was run before; numbers do not depend on the backend, but a second opinion is one only if it is formed."""
    if plan.overwrite or not cell.method.whole:
        return None
    known = finished(run_folder(plan.out, cell.organism.name, cell.method.name, id_) / RESULT, id_)
    return known if known is not None and known.provenance.backend == cell.machine.backend else None


def exit_code(results: Iterable[Result]) -> int:
    """Of a run with these results; see `exit_code_of`."""
    return exit_code_of((r.status, r.identity.pair, "organism" in r.provenance.source) for r in results)


def exit_code_of(cells: Iterable[tuple[str, Hashable, bool]]) -> int:
    """1 if a cell failed, 4 if a pair of the user's own can be scored at no layer, else 0 (a null has no oracle, and that is no fault).

    Args:
        cells: status, pair, and whether the pair is not the user's own.
    """
    found = list(cells)
    if any(status not in FINISHED for status, _, _ in found):
        return 1
    scored = {pair for status, pair, _ in found if status == "ok"}
    return 4 if {pair for _, pair, named in found if not named} - scored else 0


def _broken(
    error: DiffbenchError | MemoryError | RuntimeError, cell: Cell, failed: dict[str, DeviceFailed]
) -> DiffbenchError:
    """Why a pair does not load, as an error with an exit code; a device that failed is noted."""
    known = trouble(error, cell.machine.device)
    if known is None:
        raise error
    if known is not error:
        release(error)
    if isinstance(known, DeviceFailed):
        failed[cell.machine.device] = known
    if isinstance(known, OutOfMemory):
        return PrerequisiteError("the memory does not hold this pair; close other programs or take a smaller one")
    return known


def _kept(plan: Plan, cell: Cell, finished: int, scratch: Path) -> str:
    """What an interrupted run leaves, and how to go on."""
    name = f"{cell.method.row} on {cell.organism.name}, seed {cell.seed}"
    saved = sorted(scratch.rglob("*.safetensors"))
    state = f"what {name} has trained so far is kept as well" if saved else f"of {name} nothing is kept yet"
    of = f"{finished} of {len(plan.cells)} cells are finished and kept in {plan.out}"
    pair = "; what was measured of the pair is in the cache" if plan.cache and not plan.cache.trouble else ""
    return f"{of}; {state}{pair}. The same command goes on from here"


def _load(cell: Cell, watch: Watcher, cache: Cache | None) -> Stage:
    watch.loading(cell.organism.name)
    if not cell.in_process:
        server()  # what methods need is imported there while the pair is loaded here
    return Stage.load(cell.organism, cell.machine, cell.protocol, cell.drops, cache)
