"""Which run folders a specificity matrix is made of: one a organism, all of one method, seed and setting."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...methods.registry import is_given
from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from ..records.result import Result
from ..runs.records import FINDINGS_FILE, difference, file_faults, is_of_zoo, records, zoo_name

OF_THE_ORGANISM = ("organism", "organism_sha256", "prompts_sha256", "controls_sha256", "layer", "tier")
"""Identity fields in which the rows of one matrix differ; `code_sha256` may differ too, and that is said."""


@dataclass(frozen=True)
class Run:
    """A run folder with choices that can be applied again."""

    folder: Path
    result: Result

    @property
    def source(self) -> str:
        """How the organism is loaded."""
        return zoo_name(self.result)


@dataclass(frozen=True)
class Selected:
    """The runs of one matrix, in order of their organisms."""

    method: str
    runs: list[Run]
    notes: list[str]
    """What was left out, and why."""


def select(runs: Path, method: str | None, seed: int) -> Selected:
    """The scored runs below a folder of one method (the only one, if not named) and one method seed.

    Raises:
        PrerequisiteError: none. UsageError: several methods. ValidationFailed: two settings, or damaged findings.
    """
    found, notes = list(records(runs)), list[str]()
    results: list[Run] = []
    for record in found:
        if record.result is None or record.problems:
            notes.append(f"{record.path.parent} left out: {'; '.join(record.problems)}")
        else:
            results.append(Run(record.path.parent, record.result))
    method = _method(runs, method, results)
    of_method = [r for r in results if r.result.identity.row == method]
    seeds = sorted({r.result.identity.seeds["method"] for r in of_method})
    if seed not in seeds:
        raise PrerequisiteError(
            f"{runs} holds {method} with seed {', '.join(map(str, seeds))}, not {seed}; choose one with --seed"
        )
    of_seed = [(r, _unusable(r.result)) for r in of_method if r.result.identity.seeds["method"] == seed]
    left_out = [f"{r.result.identity.organism} left out: {why}" for r, why in of_seed if why]
    chosen = [r for r, why in of_seed if not why]
    if not chosen:
        raise PrerequisiteError(
            f"no run of {method}, seed {seed}, in {runs} can be applied to other behaviours ({'; '.join(left_out[:3])}); "
            "run it on organisms that can be scored, or choose another with --method"
        )
    notes += left_out
    notes += _check(chosen)
    return Selected(method, sorted(chosen, key=lambda r: r.result.identity.organism), notes)


def _method(runs: Path, method: str | None, results: Sequence[Run]) -> str:
    """The method asked for, or the only one there is."""
    there = sorted({r.result.identity.row for r in results})
    if not there:
        raise PrerequisiteError(f"there is no valid result below {runs}; give a folder that `bench run` wrote to")
    if method is None and len(there) > 1:
        raise UsageError(f"{runs} holds runs of {', '.join(there)}; choose one with --method")
    if method is not None and method not in there:
        raise PrerequisiteError(
            f"{runs} holds no run of {method}, only of {', '.join(there)}; choose one with --method, or run it first"
        )
    return method or there[0]


def _unusable(result: Result) -> str | None:
    """Why a result cannot be a row, or None."""
    if result.false_discovery is not None:
        return "a null: nothing is hidden in it, so no intervention was chosen"
    if result.status != "ok":
        return f"status {result.status}: {result.reason}"
    if not result.choices:
        return "it exchanged the whole residual, so no intervention was chosen"
    if not is_of_zoo(result):
        return "not an organism of the zoo, and a record never decides what is loaded"
    if result.identity.dtype != "float32":
        return f"scored in {result.identity.dtype}; only fp32 runs are applied again"
    return None


def _check(chosen: Sequence[Run]) -> list[str]:
    """Refuse rows that cannot stand in one matrix; what may differ is said."""
    notes: list[str] = []
    seen: dict[str, Run] = {}
    first = chosen[0]
    for run in chosen:
        if faults := [f for f in file_faults(run.folder, run.result) if f.startswith(FINDINGS_FILE)]:
            raise ValidationFailed(f"{run.folder}: {'; '.join(faults)}; run the cell again with --overwrite")
        files = all(is_given(r.result.identity.method_version) for r in (first, run))
        each = (
            (*OF_THE_ORGANISM, "method_version") if files else OF_THE_ORGANISM
        )  # a findings file belongs to one organism
        differ = [f for f in difference(first.result, run.result).identity if f not in each]
        if settings := [f for f in differ if f != "code_sha256"]:
            raise ValidationFailed(
                f"{first.folder} and {run.folder} differ in {', '.join(settings)}: rows of one matrix are made with one setting; "
                "give a folder that holds one"
            )
        if twin := seen.get(run.result.identity.organism):
            fields = ", ".join(difference(twin.result, run.result).identity) or "nothing"
            raise ValidationFailed(
                f"{twin.folder} and {run.folder} are runs of one organism and differ in {fields}; keep one of them"
            )
        seen[run.result.identity.organism] = run
        if differ:
            notes.append(
                f"code_sha256 of {run.folder} is not that of {first.folder}: their methods or scores differ in version"
            )
    return notes
