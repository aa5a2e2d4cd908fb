"""Many cells: plan them, skip the finished ones, run the rest organism by organism, save each as soon as it is done."""

import itertools
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from ...methods.entry import MethodEntry
from ...organisms.errors import DiffbenchError, PrerequisiteError
from ...organisms.organism import Organism
from ..cache import Cache
from ..devices import DeviceFailed, OutOfMemory, release, trouble
from ..pairs.preflight import check_device
from ..records.result import Result, finished
from ..worker.limits import LostDevice
from ..worker.servers import server
from .cell import Cell, run_cell, unloaded
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

    `settings` are the other fields of every `Cell`.
    """
    cells = [
        Cell(o, m, c, s, **settings)
        for o, (m, c) in itertools.product(organisms, methods)
        for s in (seeds if m.stochastic else seeds[:1])
    ]
    once = [m.name for m, _ in methods if len(seeds) > 1 and not m.stochastic]
    return Plan(cells, out, overwrite, once, cache)


def run(plan: Plan, watch: Watcher, log_text: Callable[[], str]) -> Iterator[Result]:
    """Run a plan, yielding each cell's result once its folder is on disk.

    A failed cell is saved with its reason and does not stop the others, and so are all cells of a pair that does not load.
    KeyboardInterrupt passes through and says what is kept: finished cells, and what the current one has trained.
    """
    for device in {c.machine.device for c in plan.cells}:
        check_device(device)
    index = 0
    failed: dict[str, DeviceFailed] = {}
    # by object, not by name: pairs that share a behaviour file share its name
    for _, group in itertools.groupby(plan.cells, key=lambda c: id(c.organism)):
        stage: Stage | None = None
        broken: DiffbenchError | None = None
        for cell in group:
            index += 1
            layer = stage.pair.layer if stage else cell.organism.layer
            dead = failed.get(cell.machine.device)
            try:
                if layer is None and broken is None and dead is None:
                    stage = stage or _load(cell, watch, plan.cache)
                    layer = stage.pair.layer
            except UNLOADED as error:
                broken = _broken(error, cell, failed)
            id_ = cell.identity(layer or 0).id()
            folder = run_folder(plan.out, cell.organism.name, cell.method.name, id_)
            tidy(folder)
            known = finished(folder / RESULT, id_) if cell.method.whole and not plan.overwrite else None
            # numbers do not depend on the backend, but a second opinion is one only if it is formed
            if known is not None and known.provenance.backend == cell.machine.backend:
                watch.done(cell, known, folder, cached=True)
                yield known
                continue
            if dead is not None:
                result = unloaded(cell, layer or 0, dead, "not_run").result
                watch.done(cell, result, folder, cached=False)
                yield result
                continue
            try:
                stage = stage or (_load(cell, watch, plan.cache) if broken is None else None)
            except UNLOADED as error:
                broken = _broken(error, cell, failed)
            watch.cell(cell, index, len(plan.cells))
            if stage is None:
                assert broken is not None
                log.error("%s does not load", cell.organism.name, exc_info=broken)
                outcome = unloaded(cell, layer or 0, broken)
                if layer is not None:
                    write_run(folder, outcome.result, None, log_text())
                watch.done(cell, outcome.result, folder, cached=False)
                yield outcome.result
                continue
            log.info("%s on %s, seed %d: started", cell.method.name, cell.organism.name, cell.seed)
            # checkpoints of a killed cell: the next run goes on from them; methods see the path, so it does not name the organism
            scratch = plan.out / ".work" / id_[:12]
            try:
                outcome = run_cell(cell, stage, watch.progress, scratch)
            except KeyboardInterrupt as interrupt:
                raise KeyboardInterrupt(_kept(plan, cell, index - 1, scratch)) from interrupt
            cost = outcome.result.cost
            log.info(
                "%s: %s, %d tokens, seconds %s", outcome.result.id[:12], outcome.result.status, cost.tokens, cost.phases
            )
            if outcome.result.left_out is not None:
                log.info("%s", outcome.result.left_out.sentence)
            for sentence in outcome.result.text.sentences if outcome.result.text else []:
                log.warning("%s", sentence)
            if outcome.error is not None:
                log.error("cell failed", exc_info=outcome.error)
            if isinstance(outcome.error, DeviceFailed):
                failed[cell.machine.device] = outcome.error
            write_run(folder, outcome.result, outcome.diff, log_text())
            if cell.machine.device not in failed and not isinstance(outcome.error, LostDevice):
                shutil.rmtree(scratch, ignore_errors=True)
            watch.done(cell, outcome.result, folder, cached=False)
            yield outcome.result


def exit_code(results: Iterable[Result]) -> int:
    """1 if a cell failed, 4 if a pair of the user's own can be scored at no layer, else 0 (a null has no oracle, and that is no fault)."""
    found = list(results)
    if any(r.status not in ("ok", "not_applicable") for r in found):
        return 1
    scored = {r.identity.pair for r in found if r.status == "ok"}
    own = {r.identity.pair for r in found if "organism" not in r.provenance.source}
    return 4 if own - scored else 0


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
    name = f"{cell.method.name} on {cell.organism.name}, seed {cell.seed}"
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
