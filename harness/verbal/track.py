"""Cells of the track: methods run on organisms, claims of runs that are there, and files of both.

A method runs as in `bench run`, in a process of its own and within its access; but nothing of its directions is scored here, and nothing
of its words anywhere else, so that neither track is read as the other.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ...methods.catalogue import VERBAL
from ...methods.contract import Budget, check_findings
from ...methods.entry import MethodEntry
from ...methods.registry import load_method
from ...organisms.errors import DiffbenchError, PrerequisiteError, UsageError, ValidationFailed
from ...organisms.organism import Organism
from ...organisms.registry import load_organism
from ..devices import trouble
from ..records.identity import Identity
from ..records.result import FINISHED, Result
from ..runs.cell import Cell as RunCell
from ..runs.problem import Problem
from ..runs.records import records
from ..runs.stage import Stage
from ..store.labels import row_labels
from ..worker.foreign import load
from ..worker.host import Usage, run_method
from .scoring import Cell, Failed, Track, Verdicts, read
from .truth import truths_of

Say = Callable[[str], None]
R = TypeVar("R")
T = TypeVar("T", bound=BaseModel)


def methods_of(names: Sequence[str]) -> list[MethodEntry]:
    """Methods by name or file, each once; all built-in verbal ones without a name."""
    return [load_method(n) if n in VERBAL else load(n) for n in dict.fromkeys(names or VERBAL)]


def run(
    methods: Sequence[MethodEntry],
    organisms: Sequence[str],
    seeds: Sequence[int],
    budget: Budget,
    say: Say = lambda line: None,
    done: Callable[[Track], None] = lambda track: None,
    known: Sequence[Cell] = (),
) -> Track:
    """Every method on every organism with every seed. A cell that fails is kept with its reason and does not stop the others.

    Args:
        done: given all that there is after every cell.
        known: cells of an earlier call that need not run again.

    Raises:
        UsageError: no organism with structured truth, two methods of one name, or known cells that are none of these, before anything
            runs.
    """
    if twice := sorted(n for n, times in Counter(m.row for m in methods).items() if times > 1):
        raise UsageError(
            f"two methods are called {twice[0]!r} and would be averaged; run them one at a time, or rename one"
        )
    asked, without = truths_of(map(load_organism, organisms))
    wanted = [(m, s) for m in methods for s in (seeds if m.stochastic else seeds[:1])]
    ids = {(o.name, m.row, s): _id(o, m, s, budget) for o, _ in asked for m, s in wanted}
    if foreign := {c.id for c in known} - {*ids.values()}:
        other = next(c for c in known if c.id in foreign)
        raise UsageError(
            f"{len(foreign)} of the {len(known)} cells that are there are not among these (the first: {other.organism}, {other.method}, "
            f"seed {other.seed}, made with other organisms, methods, settings or code); name another file, or add --overwrite"
        )
    there, track = {c.id: c for c in known}, Track(cells=[], left_out=without)
    for organism, truth in asked:
        stage = None
        for method, seed in wanted:
            if (id_ := ids[organism.name, method.row, seed]) in there:
                track.cells.append(there.pop(id_))
                continue
            stage = stage or _tried(partial(Stage.load, organism))
            what, start = f"{organism.name}, {method.row}, seed {seed}", time.perf_counter()
            said = stage
            if not isinstance(stage, DiffbenchError):
                said = _tried(partial(_said, stage, organism, method, seed, budget))
            if isinstance(said, tuple):
                cell = read(truth, organism.name, method.row, seed, *said)
                took = round(time.perf_counter() - start, 2)
                track.cells.append(cell.model_copy(update={"seconds": took, "id": id_}))
                say(f"{what}: {len(cell.claims)} claim{'s' * (len(cell.claims) != 1)}")
            else:
                lost = Failed(organism=organism.name, method=method.row, seed=seed, reason=str(said))
                track.failed.append(lost)
                say(f"{what}: failed: {said}")
            done(track.model_copy(update={"cells": [*track.cells, *there.values()]}))
    return track


def _id(organism: Organism, method: MethodEntry, seed: int, budget: Budget) -> str:
    """Names a cell by everything that its claims follow from, as the record of `bench run` is named."""
    cell = RunCell(organism, method, method.configure({}), seed, budget=budget)
    return cell.identity(organism.layer or 0).id()


def _tried(call: Callable[[], R]) -> R | DiffbenchError:
    """What a call gives, or what a user can do about its failure; a bug is raised."""
    try:
        return call()
    except (DiffbenchError, MemoryError, RuntimeError) as error:
        if (found := trouble(error, "cpu")) is None:
            raise
        return found


def _said(stage: Stage, o: Organism, method: MethodEntry, seed: int, budget: Budget) -> tuple[list[str], list[float]]:
    problem = Problem(stage.pair, stage.texts, o.behaviour.of("dev"), method.access, seed, budget, memory=stage.memory)
    found = check_findings(run_method(method, method.configure({}), problem, Usage()), stage.pair.d_model)
    return found.claims, found.confidences


def of_runs(folders: Sequence[Path]) -> Track:
    """Claims that records carry; a run whose method says nothing in words was silent.

    A method that ran with several settings is one method for each of them.

    Raises:
        PrerequisiteError: no sound record there. UsageError: no organism with structured truth, or two records of one cell that differ
            in what no label tells, e.g. the layer.
    """
    found = dict[str, Result]()
    for folder in folders:
        for record in records(folder):
            if (r := record.result) is None or record.problems or r.status not in FINISHED:
                continue
            found[r.id] = r
    if not found:
        raise PrerequisiteError(
            f"there is no finished run in {', '.join(map(str, folders))}; give what bench run wrote"
        )
    labels, cells = row_labels([*found.values()]), dict[tuple[str, str, int], Identity]()
    asked, without = truths_of(map(load_organism, dict.fromkeys(r.identity.organism for r in found.values())))
    truths, track = {o.name: truth for o, truth in asked}, Track(cells=[], left_out=without)
    for id_, r in found.items():
        who, label = r.identity, labels[id_]
        if who.organism in without:
            continue
        other = cells.setdefault((who.organism, label, who.seeds["method"]), who)
        if other is not who:
            a, b = other.model_dump(), who.model_dump()
            raise UsageError(
                f"there are two records of {label} on {who.organism} with seed {who.seeds['method']}, which differ in "
                f"{', '.join(k for k in a if a[k] != b[k])}; their mean would be of neither: give the folders of one"
            )
        track.cells.append(read(truths[who.organism], who.organism, label, who.seeds["method"], r.claims, []))
    return track


def together(tracks: Sequence[Track]) -> Track:
    """Several tracks as one; a cell that stands in two of them counts once, and one that failed not at all if it went well elsewhere.

    Raises:
        UsageError: it says something else in each.
    """
    cells = dict[tuple[str, str, int], Cell]()
    for cell in (c for t in tracks for c in t.cells):
        known = cells.setdefault((cell.organism, cell.method, cell.seed), cell)
        if known.model_copy(update={"seconds": cell.seconds, "id": cell.id}) != cell:
            raise UsageError(
                f"{cell.method} on {cell.organism} with seed {cell.seed} stands there twice with other claims, and their mean would be of "
                "neither: give the file or folder of one"
            )
    lost = {(f.organism, f.method, f.seed): f for t in tracks for f in t.failed}
    return Track(
        cells=list(cells.values()),
        failed=[f for where, f in lost.items() if where not in cells],
        left_out=list(dict.fromkeys(name for t in tracks for name in t.left_out)),
    )


def load_track(path: Path) -> Track:
    """A file that `bench verbal run` wrote."""
    return _file(path, Track, "write it with bench verbal run --out")


def load_verdicts(path: Path) -> Verdicts:
    """A file of recorded verdicts.

    Raises:
        PrerequisiteError, ValidationFailed: as `load_track`; UsageError: two verdicts on one claim that differ.
    """
    found = _file(path, Verdicts, "docs/verbal-findings.md shows one")
    known: dict[tuple[str, str], str] = {}
    for v in found.verdicts:
        if known.setdefault((v.organism, v.claim), v.verdict) != v.verdict:
            raise UsageError(
                f"{path} calls {v.claim!r} on {v.organism} both {known[v.organism, v.claim]} and {v.verdict}; keep one"
            )
    return found


def _file(path: Path, kind: type[T], fix: str) -> T:
    if not path.is_file():
        raise PrerequisiteError(f"there is no file {path}; {fix}")
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        said = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise ValidationFailed(f"{path} is no such file ({said}); {fix}") from error
