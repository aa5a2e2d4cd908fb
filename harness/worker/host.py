"""Runs a method in a process of its own and takes from it what the contract allows, or an error that says what happened.

The idea: nothing of a method's package or file is imported here. What its process says is data; it is validated, bounded and copied.
"""

import logging
import os
import pickle
import socket
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from ...methods.contract import DiffProblem, DiffResult, Finding, FindingError, Gate
from ...methods.entry import MethodEntry, MethodError
from ...methods.registry import method_source, source_version
from ...methods.strategies.catalogue import KINDS
from ...methods.strategies.contract import Lineup, VerdictError
from ...organisms.errors import DiffbenchError, PrerequisiteError, UsageError, ValidationFailed
from ..devices import OutOfMemory
from .channel import Closed, HarnessEnd, NoMessage, Said
from .limits import Limits, LostDevice, ended, exceeded, place_of
from .servers import Used, server
from .serving import FINISH, LineupServing, Serving
from .task import Facts, LineupFacts, Registry, Source, Task, Todo, TorchSettings
from .watch import Watch

log = logging.getLogger(__name__)

STRATEGY_S = 60.0
"""Budget of a strategy on one line-up."""
MOST_PLACES = 2**16
"""Bytes read of the places that a dying process wrote down."""
LEAVING_S, DYING_S = 5.0, 1.0
"""Time to end after the last message, and after the channel was closed, before a process is killed."""
FAILURES: dict[str, Callable[[str], DiffbenchError]] = {
    e.__name__: e
    for e in (
        MethodError,
        FindingError,
        VerdictError,
        UsageError,
        PrerequisiteError,
        ValidationFailed,
        OutOfMemory,
        LostDevice,
    )
}
"""How a method's process may say that it failed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Failure(_Strict):
    type: str
    message: Annotated[str, Field(max_length=10_000)]


class _Finding(_Strict):
    score: float
    evidence: dict[str, Any]
    threshold: float | None


class _Result(_Strict):
    findings: list[_Finding]
    diagnostics: dict[str, Any]
    claims: list[str] = Field(default_factory=list[str])
    confidences: list[float] = Field(default_factory=list[float])
    patch: bool
    dictionary: list[str]
    vram: Annotated[int, Field(ge=0)] = 0


class Seen(_Strict):
    """What a method did with what it was given, as its own process noted it: for its author, no evidence against a cheat."""

    used: list[str] = Field(default_factory=list[str])
    """Handles called."""
    refused: list[str] = Field(default_factory=list[str])
    """What it reached for and may not have."""
    changed: list[str] = Field(default_factory=list[str])
    """Handles whose tensors it changed in place."""
    state: list[str] = Field(default_factory=list[str])
    """Settings of the process that it changed."""
    drew: list[str] = Field(default_factory=list[str])
    """Global generators that it drew from and no seed decides."""


class Reply(_Strict):
    """The last message of a method's process."""

    do: str
    failed: _Failure | None = None
    result: _Result | None = None
    probability: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """Of a strategy of line-ups."""
    seen: Seen | None = None
    described: dict[str, Any] | None = None
    options: dict[str, Any] | None = None


@dataclass
class Usage:
    """What a method's process took; filled in when it has ended, however it ended."""

    start_s: float = 0.0
    """Wall seconds until it could begin."""
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    peak_vram_bytes: int = 0
    seen: Seen = field(default_factory=Seen)
    """Of a recorded run."""


def run_method(
    entry: MethodEntry,
    config: BaseModel,
    problem: DiffProblem,
    usage: Usage | None = None,
    limits: Limits | None = None,
    recorded: bool = False,
) -> DiffResult:
    """`diff` in a process of its own.

    Args:
        entry: the method; of one that is not built in nothing is imported here.
        config: its options; what JSON does not keep of them does not reach it.
        problem: answers what it asks.
        usage: filled in.
        limits: default: those of the problem's budget on this machine.
        recorded: note in `usage` what it does with what it is given.

    Returns:
        What it said. `check_findings` has still to look at it.

    Raises:
        MethodError, FindingError: it failed. TimedOut, OutOfMemory: it took more than it may. PrerequisiteError: no process starts here.
    """
    used = usage or Usage()
    limits = limits or Limits.of(problem.budget.seconds)
    scratch = problem.scratch / "method" if problem.scratch else None  # beside what the problem itself notes there
    facts = Facts(
        problem.layer,
        problem.d_model,
        problem.seed,
        problem.device,
        str(scratch.resolve()) if scratch else None,
        _pickled(problem.tokenizer),
    )
    options = config.model_dump(mode="json")
    reply, tensors = _call(
        entry, Task("run", source_of(entry), *_place(), options, facts, recorded), limits, used, problem
    )
    if reply.result is None:
        raise MethodError(f"{entry.name} sent something that is no result; it has to leave its channel alone")
    used.peak_vram_bytes = reply.result.vram
    return _taken(entry, reply.result, tensors)


def run_strategy(
    entry: MethodEntry,
    config: BaseModel,
    lineup: Lineup,
    usage: Usage | None = None,
    limits: Limits | None = None,
    recorded: bool = False,
) -> float:
    """`suspect` in a process of its own: the probability that A is the faker; as `run_method`."""
    used = usage or Usage()
    facts = LineupFacts(
        lineup.d_model, lineup.blocks, lineup.seed, lineup.device, list(lineup.seen), _pickled(lineup.tokenizer)
    )
    task = Task("run", source_of(entry), *_place(), config.model_dump(mode="json"), facts, recorded)
    reply, _ = _call(entry, task, limits or Limits.of(STRATEGY_S), used, lineup, LineupServing)
    if reply.probability is None:
        raise MethodError(f"{entry.name} sent something that is no probability; it has to leave its channel alone")
    return reply.probability


def ask(entry: MethodEntry, source: Source, todo: Todo, options: dict[str, Any], limits: Limits) -> Reply:
    """A question about a method that needs no problem."""
    return _call(entry, Task(todo, source, *_place(), options), limits, Usage(), None)[0]


def source_of(entry: MethodEntry) -> Source:
    """Where the process of a method finds it.

    Raises:
        PrerequisiteError: a file that has changed since it was read, a class that cannot be sent.
    """
    if isinstance(given := getattr(entry, "source", None), Source):
        return given
    kind, _, where = entry.origin.partition(" ")
    registry: Registry = next(name for name, each in KINDS.items() if each.call == entry.call)
    if kind in ("built-in", "package"):
        return Source("named", entry.name, entry.version, registry=registry)
    if kind == "file":
        code = method_source(Path(where))
        if source_version(code) != entry.version:
            raise PrerequisiteError(f"{where} has changed since the run began; start the run again")
        return Source("file", str(Path(where).resolve()), entry.version, code, registry)
    import cloudpickle

    try:
        return Source("class", entry.name, entry.version, cloudpickle.dumps(entry.cls))
    except Exception as error:  # pickling runs code of whatever the class holds
        raise PrerequisiteError(
            f"the class {entry.cls.__name__} cannot be sent to a process of its own ({type(error).__name__}: {error}); write it to a file "
            "and give its path, or keep what it holds out of it"
        ) from error


def _call(
    entry: MethodEntry,
    task: Task,
    limits: Limits,
    used: Usage,
    problem: DiffProblem | Lineup | None,
    serves: type[Serving] = Serving,
) -> tuple[Reply, list[Tensor]]:
    """Start a process, serve it to its end, and say what came of it."""
    began = time.perf_counter()
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryDirectory(prefix="diffbench-") as folder, tempfile.TemporaryFile() as places, ours:
        start, (reading, writing) = server(), os.pipe()
        try:
            pid = start.fork(theirs.fileno(), writing, places.fileno())
        except BaseException:
            os.close(reading)
            raise
        finally:
            theirs.close()
            os.close(writing)
        watch = Watch(pid, start.pid, reading, limits, start.kill)
        end, said, patience_s = HarnessEnd(ours), None, 0.0
        serving = serves(problem, end, watch)
        fault: Exception | None = None
        how: Used | None = None
        try:
            end.tell(replace(task, folder=folder))
            used.start_s = time.perf_counter() - began
            said = serving.until(FINISH)
            patience_s = LEAVING_S
        except NoMessage as error:
            fault = error
        except Closed as error:
            fault, patience_s = error, DYING_S
        finally:
            how = start.ended(patience_s)
            written = watch.close()
            if how is not None:
                used.cpu_s, used.peak_rss_bytes = how.cpu_s, how.peak_rss_bytes
            if written.strip():
                log.info("%s wrote:\n%s", entry.name, written.rstrip())
        places.seek(0)
        place = place_of(entry, places.read(MOST_PLACES).decode(errors="replace"))
    if watch.excess is not None:
        raise exceeded(entry, *watch.excess, limits, place)
    if isinstance(fault, NoMessage):
        raise MethodError(f"{entry.name} sent {fault}; it has to return less, and leave its channel alone") from fault
    if said is None:
        raise ended(entry, how, place) from fault
    reply = _reply(entry, said)
    used.seen = reply.seen or Seen()
    if reply.failed is not None:
        raise serving.raised.get(reply.failed.message) or _failed(entry, task.source, reply.failed)
    return reply, said.tensors


def _place() -> tuple[list[str], str, TorchSettings]:
    """Where a task of this process looks for modules, no folder yet, and its settings."""
    return [str(Path(p).resolve()) if p else os.getcwd() for p in sys.path], "", TorchSettings.here()


def _reply(entry: MethodEntry, said: Said) -> Reply:
    try:
        return Reply.model_validate(said.words)
    except (ValidationError, RecursionError) as error:
        raise MethodError(
            f"{entry.name} sent something that is no result; it has to leave its channel alone"
        ) from error


def _failed(entry: MethodEntry, source: Source, failure: _Failure) -> DiffbenchError:
    """A failure in the words of a method's process; its file by the path that was given, not by where it lies."""
    message = failure.message
    if source.kind == "file":
        message = message.replace(source.name, entry.origin.removeprefix("file "))
    return FAILURES.get(failure.type, MethodError)(message)


def _taken(entry: MethodEntry, result: _Result, tensors: list[Tensor]) -> DiffResult:
    """A result as the contract has it, its tensors put where its words say."""
    left = list(tensors)
    if len(left) != sum(1 + (f.threshold is not None) for f in result.findings) + len(result.dictionary):
        raise MethodError(f"{entry.name} sent a result without some of its tensors; it has to leave its channel alone")
    findings = list[Finding]()
    for f in result.findings:
        direction = left.pop(0)
        gate = None if f.threshold is None else Gate(left.pop(0), f.threshold)
        findings.append(Finding(direction, gate, f.score, f.evidence))
    dictionary = dict(zip(result.dictionary, left, strict=True))
    return DiffResult(findings, result.diagnostics, dictionary or None, result.patch, result.claims, result.confidences)


def _pickled(tokenizer: Any) -> bytes:
    """A tokenizer without the paths that it was read from."""
    if (known := _TOKENIZERS.get(id(tokenizer))) is not None and known[0]() is tokenizer:
        return known[1]
    copy = pickle.loads(pickle.dumps(tokenizer))
    for holder in (getattr(copy, "__dict__", {}), getattr(copy, "init_kwargs", {})):
        for name, value in holder.items():
            if name in ("name_or_path", "_name_or_path", "special_tokens_map_file") or name.endswith("_file"):
                holder[name] = None if value is None else ""
    pickled = pickle.dumps(copy)
    with suppress(TypeError):  # what takes no weak reference is pickled again
        _TOKENIZERS[id(tokenizer)] = weakref.ref(tokenizer), pickled
    return pickled


_TOKENIZERS = dict[int, tuple["weakref.ref[Any]", bytes]]()
