"""What runs in a method's process: load the method, hand it a problem, tell what came of it.

All of this may be changed by the method that it runs, so the harness believes none of it (`host.py`).
"""

import os
import pickle
import socket
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ...methods.catalogue import BUILTIN
from ...methods.contract import DiffProblem, DiffResult, FindingError, check_findings
from ...methods.entry import MethodEntry
from ...methods.registry import from_source, load_method
from ...methods.strategies.catalogue import KINDS
from ...methods.strategies.contract import HANDLES as LINEUP_HANDLES
from ...methods.strategies.contract import check_probability
from ...organisms.errors import DiffbenchError, PrerequisiteError
from ..devices import DeviceFailed, OutOfMemory, trouble
from .channel import MethodEnd
from .recorded import HANDLES, RecordedProblem, generators, restored
from .remote import RemoteLineup, RemoteProblem
from .task import LineupFacts, Source, Task

MOST_TEXT = 4000
"""Longest message about a failure."""


@cache
def warm() -> None:
    """Once, import the built-in methods, what a tokenizer needs and what the first optimiser imports, before any is known."""
    import torch._dynamo  # noqa: F401  # pyright: ignore[reportUnusedImport]
    from transformers import PreTrainedTokenizerFast  # noqa: F401  # pyright: ignore[reportUnusedImport]

    for name in BUILTIN:
        load_method(name)


def main(end: socket.socket) -> None:
    """Do the one task that comes over a channel, and tell what came of it."""
    channel = MethodEnd(end)
    task = cast(Task, channel.hear())
    os.chdir(task.folder)
    os.environ["TMPDIR"] = task.folder
    tempfile.tempdir = None
    sys.path[:] = task.path
    task.settings.set()
    words, tensors = dict[str, Any](), list[Tensor]()
    entry: MethodEntry | None = None
    try:
        entry = _load(task.source)
        if task.todo == "describe":
            words = _described(entry)
        elif task.todo == "configure":
            words = {"options": entry.configure(task.options).model_dump(mode="json")}
        else:
            words, tensors = _run(entry, task, channel)
    except BaseException as error:
        traceback.print_exc()
        words |= {"failed": _failure(error, entry, task.facts.device if task.facts else "cpu")}
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    channel.tell({"do": "finish", **words}, tensors)


def _load(source: Source) -> MethodEntry:
    kind = KINDS[source.registry]
    if source.kind == "file":
        return from_source(Path(source.name), source.code, kind)
    if source.kind == "class":
        return MethodEntry(source.name, pickle.loads(source.code), f"class {source.name}", source.version)
    entry = load_method(source.name, kind)
    if source.version not in ("", entry.version):
        raise PrerequisiteError(
            f"the source of {source.name} is {entry.version} and was {source.version} when the run began; start the run again"
        )
    return entry


def _described(entry: MethodEntry) -> dict[str, Any]:
    """What an entry says of itself, and its options."""
    words: dict[str, Any] = {
        **{n: getattr(entry, n) for n in ("name", "access", "paper", "cost", "stochastic", "summary", "version")},
        "file": str(entry.file) if entry.file else None,
        "schema": entry.config_class.model_json_schema(),
    }
    try:
        words["defaults"] = entry.configure({}).model_dump(mode="json")
    except DiffbenchError as error:
        words["no_defaults"] = str(error)
    return {"described": words}


def _run(entry: MethodEntry, task: Task, channel: MethodEnd) -> tuple[dict[str, Any], list[Tensor]]:
    """One call of `diff` or `suspect`, and what it gave as words and tensors."""
    assert task.facts is not None
    facts = task.facts
    config = entry.config_class.model_validate(task.options)
    torch.manual_seed(facts.seed)

    def given(problem: object) -> tuple[dict[str, Any], list[Tensor]]:
        if isinstance(facts, LineupFacts):
            return {"probability": check_probability(entry.run(config, cast(Any, problem)))}, []
        return _words(_result(entry, config, problem, facts.d_model))

    lineup = isinstance(facts, LineupFacts)
    problem = RemoteLineup(channel, facts) if lineup else RemoteProblem(channel, facts)
    if not task.recorded:
        return given(problem)
    seen = RecordedProblem(problem, LINEUP_HANDLES if lineup else HANDLES)
    words: dict[str, Any] = {}
    tensors = list[Tensor]()
    before = generators()
    with restored() as changes:
        try:
            words, tensors = given(seen)
        except (DiffbenchError, MemoryError) as error:
            traceback.print_exc()
            words = {"failed": _failure(error, entry, facts.device)}
    words["seen"] = {"used": sorted(seen.used), "refused": seen.refused, "changed": seen.changed, "state": changes}
    words["seen"]["drew"] = [name for name, state in generators().items() if state != before[name]]
    return words, tensors


def _result(entry: MethodEntry, config: Any, problem: object, d_model: int) -> DiffResult:
    result = check_findings(entry.run(config, cast(DiffProblem, problem)), d_model)
    if result.patch and entry.access != "anchor":
        raise FindingError("diff() returned patch=True, which only the oracle may; return findings")
    return result


def _words(result: DiffResult) -> tuple[dict[str, Any], list[Tensor]]:
    found = [
        {"score": f.score, "evidence": f.evidence, "threshold": f.gate.threshold if f.gate else None}
        for f in result.findings
    ]
    dictionary = result.dictionary or {}
    tensors = [t for f in result.findings for t in (f.direction, *([f.gate.read] if f.gate else []))]
    words: dict[str, Any] = {
        "findings": found,
        "diagnostics": result.diagnostics,
        "claims": result.claims,
        "confidences": result.confidences,
        "patch": result.patch,
        "dictionary": list(dictionary),
    }
    if torch.cuda.is_initialized():
        words["vram"] = int(torch.cuda.max_memory_allocated())
    return {"result": words}, [*tensors, *dictionary.values()]


def _failure(error: BaseException, entry: MethodEntry | None, device: str) -> dict[str, str]:
    known = trouble(error, device) if isinstance(error, Exception) else None
    if isinstance(known, OutOfMemory | DeviceFailed):
        kind = "OutOfMemory" if isinstance(known, OutOfMemory) else "LostDevice"  # that of this process alone
        return {"type": kind, "message": str(known)[:MOST_TEXT]}
    if isinstance(error, DiffbenchError):
        return {"type": type(error).__name__, "message": str(error)[:MOST_TEXT]}
    where = f" ({entry.place(error)})" if entry else ""
    return {"type": "MethodError", "message": f"{type(error).__name__}: {error}{where}"[:MOST_TEXT]}
