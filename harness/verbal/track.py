"""Cells of the track: methods run on organisms, claims of runs that are there, and files of both.

A method runs as in `bench run`, in a process of its own and within its access; but nothing of its directions is scored here, and nothing
of its words anywhere else, so that neither track is read as the other.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ...methods.catalogue import VERBAL
from ...methods.contract import Budget, check_findings
from ...methods.entry import MethodEntry
from ...methods.registry import load_method
from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from ...organisms.organism import Organism
from ...organisms.registry import load_organism
from ..runs.problem import Problem
from ..runs.records import records
from ..runs.stage import Stage
from ..worker.foreign import load
from ..worker.host import Usage, run_method
from .scoring import Cell, Track, Verdicts, read
from .truth import truth_of

Say = Callable[[str], None]
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
) -> Track:
    """Every method on every organism with every seed.

    Raises:
        UsageError: an organism without structured truth, before anything runs. Whatever a method raises.
    """
    loaded = [load_organism(name) for name in organisms]
    truths = [truth_of(o) for o in loaded]
    cells = list[Cell]()
    for organism, truth in zip(loaded, truths, strict=True):
        stage = Stage.load(organism)
        for method in methods:
            for seed in seeds if method.stochastic else seeds[:1]:
                start = time.perf_counter()
                claims, confidences = _said(stage, organism, method, seed, budget)
                cell = read(truth, organism.name, method.name, seed, claims, confidences)
                cells.append(cell.model_copy(update={"seconds": round(time.perf_counter() - start, 2)}))
                say(f"{organism.name}, {method.name}, seed {seed}: {len(claims)} claim{'s' * (len(claims) != 1)}")
    return Track(cells=cells)


def _said(stage: Stage, o: Organism, method: MethodEntry, seed: int, budget: Budget) -> tuple[list[str], list[float]]:
    problem = Problem(stage.pair, stage.texts, o.behaviour.of("dev"), method.access, seed, budget, memory=stage.memory)
    found = check_findings(run_method(method, method.configure({}), problem, Usage()), stage.pair.d_model)
    return found.claims, found.confidences


def of_runs(folders: Sequence[Path]) -> Track:
    """Claims that records carry; a run whose method says nothing in words was silent.

    Raises:
        PrerequisiteError: no sound record there. UsageError: an organism without structured truth.
    """
    cells = list[Cell]()
    for folder in folders:
        for record in records(folder):
            if (r := record.result) is None or record.problems or r.status not in ("ok", "not_applicable"):
                continue
            truth = truth_of(load_organism(r.identity.organism))
            cells.append(read(truth, r.identity.organism, r.identity.method, r.identity.seeds["method"], r.claims, []))
    if not cells:
        raise PrerequisiteError(
            f"there is no finished run in {', '.join(map(str, folders))}; give what bench run wrote"
        )
    return Track(cells=cells)


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
