"""One cell: an organism, a method, a seed. Everything that decides its numbers is in its identity, computed before it runs."""

import logging
import resource
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel

from ...methods.contract import Budget, DiffResult, FindingError, check_findings
from ...methods.entry import MethodEntry
from ...methods.formats.findings import FindingsEntry, halved
from ...organisms.errors import DiffbenchError
from ...organisms.organism import Organism
from ..devices import OutOfMemory, release, trouble
from ..protocol.controls import SCORE_SEED
from ..records.identity import CUSTOM, PROTOCOL_SHA256, PROTOCOL_VERSION, Identity, sha256_json
from ..records.making import Cost, Failure, Provenance
from ..records.reading import prompts_sha256, text_read
from ..records.result import Result, Status
from ..records.settings import PROTOCOL_V2, NotScorable, Protocol
from ..worker.host import Usage, run_method
from ..worker.limits import TimedOut
from .harvest import Memory
from .problem import Problem
from .provenance import provenance, source_hash
from .stage import Machine, Progress, Stage, left_out, measure_controls, measured, shipped_controls

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """What is to be run."""

    organism: Organism
    method: MethodEntry
    config: BaseModel
    seed: int
    protocol: Protocol = field(default_factory=lambda: PROTOCOL_V2)
    budget: Budget = field(default_factory=Budget)
    machine: Machine = field(default_factory=Machine)
    sinks: Literal["drop", "keep"] | None = None
    """Whether sinks are left out; None: on real models, and on the embedded tier there are none."""
    limit: int | None = None
    """Only so many prompts a split: a partial result."""
    in_process: bool = False
    """Run the method in this process, where a debugger reaches it and it reaches the scorer: the record says so, and no table takes it."""

    def problem(
        self, stage: Stage, progress: Progress, scratch: Path | None = None, memory: Memory | None = None
    ) -> Problem:
        """What the method is given; `memory` is where text that was read is kept (default: the stage's)."""
        dev = self.organism.behaviour.of("dev")
        kept = stage.memory if memory is None else memory
        return Problem(
            stage.pair, stage.texts, dev, self.method.access, self.seed, self.budget, progress, scratch, kept
        )

    def made(self, device: str, started: datetime) -> Provenance:
        """How it was made, on a device, since a time."""
        return provenance(
            self.method.access,
            device,
            self.organism.source,
            self.method.origin,
            started,
            self.method.stochastic,
            self.machine.backend,
            self.machine.remote,
        )

    @property
    def drops(self) -> bool:
        """Whether sinks are left out."""
        return self.sinks == "drop" or (self.sinks is None and self.organism.tier != "tiny")

    def identity(self, layer: int) -> Identity:
        """The block whose hash names the result."""
        o, settings = self.organism, sha256_json(self.protocol.model_dump())
        return Identity(
            organism=o.name,
            organism_sha256=o.sha256,
            method=self.method.name,
            method_version=self.method.version,
            access=self.method.access,
            code_sha256=source_hash(self.method.file),
            config=self.config.model_dump(mode="json"),
            protocol=PROTOCOL_VERSION if settings == PROTOCOL_SHA256 else CUSTOM,
            protocol_sha256=settings,
            prompts_sha256=prompts_sha256(o),
            layer=layer,
            seeds={"method": self.seed, "scores": SCORE_SEED},
            budget={"tokens": self.budget.tokens, "seconds": self.budget.seconds},
            dtype=self.machine.numbers,
            tier=o.tier,
            sinks=("drop" if self.drops else "keep") if self.sinks or o.tier != "tiny" else None,
            controls_sha256=shipped_controls(o, layer, self.machine.numbers, self.drops, self.protocol),
            limit=self.limit,
            in_process=self.in_process or None,
        )


@dataclass
class Clock:
    """Wall seconds by phase."""

    phases: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def phase(self, name: str) -> Generator[None, None, None]:
        """Add the block's wall time to a phase, whether it succeeds or not."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - start


@dataclass
class Outcome:
    """A finished cell: the record and what the method returned (None if it failed)."""

    result: Result
    diff: DiffResult | None
    error: BaseException | None = None


def run_cell(
    cell: Cell, stage: Stage, progress: Progress = lambda phase, done, total: None, scratch: Path | None = None
) -> Outcome:
    """Run and score one cell. Failures of the method or of the measurement become the result's status; bugs propagate."""
    started, cpu0, clock = datetime.now(UTC), time.process_time(), Clock({"load": stage.load_s})
    if cell.machine.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    identity = cell.identity(stage.pair.layer)
    diff: DiffResult | None = None
    error: BaseException | None = None
    fields: dict[str, Any] = {}
    status: Status = "ok"
    problem, usage = cell.problem(stage, progress, scratch), Usage()
    try:
        progress("measure", 0, 1)
        with clock.phase("measure"):
            _ = stage.panel or stage.measured(partial(progress, "measure"))
        progress("fit", 0, 1)
        with clock.phase("diff"):
            diff = halved(check_findings(_found(cell, problem, usage), stage.pair.d_model))
            if diff.patch and cell.method.access != "anchor":
                raise FindingError("diff() returned patch=True, which only the oracle may; return findings")
        with clock.phase("measure"):
            measure_controls(diff, stage, partial(progress, "measure"))
        with clock.phase("score"):
            fields = measured(diff, stage, progress) | told(diff)
    except NotScorable as e:
        status, error = "not_applicable", e
    except (DiffbenchError, MemoryError, RuntimeError) as e:
        if (error := trouble(e, cell.machine.device)) is None:
            raise
        status = "oom" if isinstance(error, OutOfMemory) else "timeout" if isinstance(error, TimedOut) else "failed"
        if error is not e:
            error.__cause__ = e
            release(e)
    clock.phases["harvest"] = problem.harvest_s + problem.spared_s
    clock.phases["start"] = usage.start_s
    clock.phases["fit"] = max(0.0, clock.phases.pop("diff", 0.0) - problem.harvest_s - usage.start_s)
    cost = Cost(
        wall_s=round(sum(clock.phases.values()), 3),
        cpu_s=round(time.process_time() - cpu0 + usage.cpu_s, 3),
        peak_rss_bytes=peak_rss_bytes() + usage.peak_rss_bytes,
        peak_vram_bytes=int(torch.cuda.max_memory_allocated()) + usage.peak_vram_bytes
        if cell.machine.device.startswith("cuda")
        else None,
        phases={k: round(v, 3) for k, v in clock.phases.items()},
        tokens=problem.tokens_used,
    )
    result = Result(
        id=identity.id(),
        status=status,
        reason=str(error) if error else None,
        identity=identity,
        cost=cost,
        provenance=cell.made(str(stage.pair.device), started),
        failure=Failure(type=type(error).__name__, message=str(error), oracle=getattr(error, "oracle", None))
        if error
        else None,
        left_out=left_out(problem.left_out, stage.pair),
        text=text_read(problem.ended, problem.losses, stage.pair.tokenizer, stage.notes)
        if cell.organism.tier != "tiny" or stage.notes
        else None,
        **fields,
    )
    return Outcome(result, diff, error)


def unloaded(cell: Cell, layer: int, error: DiffbenchError, status: Status = "failed") -> Outcome:
    """The cell of a pair that does not load, or that was not tried.

    Args:
        layer: hooked layer, as far as it is known.
    """
    identity = cell.identity(layer)
    cost = Cost(wall_s=0, cpu_s=0, peak_rss_bytes=peak_rss_bytes(), phases={}, tokens=0)
    made = cell.made(cell.machine.device, datetime.now(UTC))
    failure = Failure(type=type(error).__name__, message=str(error))
    result = Result(
        id=identity.id(),
        status=status,
        reason=str(error),
        identity=identity,
        cost=cost,
        provenance=made,
        failure=failure,
    )
    return Outcome(result, None, error)


def _found(cell: Cell, problem: Problem, usage: Usage) -> DiffResult:
    """What the method finds, in a process of its own unless the cell is to be debugged."""
    if cell.in_process or isinstance(cell.method, FindingsEntry):  # a file of findings runs nothing
        torch.manual_seed(cell.seed)
        return cell.method.run(cell.config, problem)
    return run_method(cell.method, cell.config, problem, usage)


def told(diff: DiffResult) -> dict[str, Any]:
    """What the method says of itself."""
    found = [{"score": f.score, **f.evidence} for f in diff.findings]
    return {"diagnostics": _short({**diff.diagnostics, "findings": found}), "claims": diff.claims}


def _short(said: Any) -> Any:
    """The same with six significant digits: more are noise, and a quarter of what a record weighs."""
    if isinstance(said, float):
        return float(f"{said:.6g}")
    if isinstance(said, dict):
        return {key: _short(each) for key, each in said.items()}
    return [_short(each) for each in said] if isinstance(said, (list, tuple)) else said


def peak_rss_bytes() -> int:
    """Most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
