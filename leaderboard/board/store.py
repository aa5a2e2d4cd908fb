"""Reads run folders and decides which records may stand in one table.

The one idea: nothing is dropped in silence. A file either becomes a result or a `Problem` with its reason, and records
that measured different things are refused together instead of averaged. A record's numbers are believed only if they
follow from its own per-prompt samples, because `id` covers the identity and not the scores, and if the findings that lie beside it
are the ones it counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...harness.records.identity import sha256_json
from ...harness.records.result import Result
from ...harness.runs.packs import outcome
from ...harness.runs.records import FINDINGS_FILE, RESULT_FILE, findings_faults, records
from ...methods.registry import GIVEN, is_given
from ...organisms.errors import PrerequisiteError, ValidationFailed


class MixedResultsError(ValidationFailed):
    """Records that cannot stand in one table: the message names the two values, where they are and what to do."""


@dataclass(frozen=True)
class Problem:
    """A file that is not a usable result."""

    path: str
    """Relative to the folder that was read, with forward slashes."""
    reason: str


@dataclass(frozen=True)
class Loaded:
    """What a folder holds."""

    results: tuple[Result, ...]
    """Sorted by organism, method, seeds, id; each id once."""
    problems: tuple[Problem, ...]
    """Sorted by path."""


def load_results(runs: Path) -> Loaded:
    """Read every `result.json` below `runs`, at any depth.

    Raises:
        PrerequisiteError: `runs` is not a folder.
        MixedResultsError: two files have the same id and different numbers.
    """
    if not runs.is_dir():
        raise PrerequisiteError(f"there is no folder {runs}; give the folder that `bench run --out` wrote to")
    results: list[Result] = []
    problems: list[Problem] = []
    first: dict[str, tuple[str, Result]] = {}
    for record in records(runs):
        name, result = record.path.relative_to(runs).as_posix(), record.result
        wrong = list(record.problems)
        if result is not None and record.path.name == RESULT_FILE and (record.path.parent / FINDINGS_FILE).exists():
            wrong += findings_faults(record.path.parent, result)
        if result is None or wrong:
            problems += [Problem(name, problem) for problem in wrong]
        elif why := result.unpublished:
            problems.append(Problem(name, why))
        elif result.id not in first:
            first[result.id] = name, result
            results.append(result)
        elif outcome(result) != outcome(first[result.id][1]):
            raise MixedResultsError(
                f"{first[result.id][0]} and {name} are the same cell ({result.id[:12]}) with different numbers. "
                "On one machine a cell is deterministic, so one was edited or made on another: keep one and move the other away."
            )
    return Loaded(tuple(sorted(results, key=sort_key)), tuple(problems))


def sort_key(result: Result) -> tuple[str, str, list[tuple[str, int]], str]:
    """The order results have everywhere: organism, method, seeds, id."""
    identity = result.identity
    return identity.organism, identity.method, sorted(identity.seeds.items()), result.id


def check_comparable(results: Sequence[Result]) -> None:
    """Refuse records that measured different things.

    All must share a protocol; all records of one organism must share its weights, prompts, random controls, layer, dtype and
    sinks; one cell cannot count twice because the source, or a file of findings, changed between two runs of it.

    Raises:
        MixedResultsError: with both values, a cell for each, and what to do.
    """
    common: dict[str, tuple[str, Result]] = {}
    for result in results:
        identity = result.identity
        where = f"organism {identity.organism!r}: "
        same = sha256_json([identity.config, identity.budget, identity.seeds])[:8]
        cell = f"{identity.method} on {identity.organism} with one set of options and seeds ({same}): "
        given = [identity.method_version.removeprefix(GIVEN)] if is_given(identity.method_version) else []
        protocol = f"{identity.protocol} {identity.protocol_sha256}"
        for scope, what, value in (
            ("", "protocol", protocol),
            (where, "weights", identity.organism_sha256),
            (where, "prompts", identity.prompts_sha256),
            (where, "random controls", str(identity.controls_sha256)),
            (where, "layer", str(identity.layer)),
            (where, "dtype", identity.dtype),
            (where, "sinks", str(identity.sinks)),
            (cell, "source", identity.code_sha256),
            *((cell, "findings file", sha256) for sha256 in given),
        ):
            other, example = common.setdefault(scope + what, (value, result))
            if other != value:
                raise MixedResultsError(
                    f"{scope}results with {what} {other[:20]} and {value[:20]} cannot be mixed in one table "
                    f"(for example {cell_name(example)} and {cell_name(result)}). Keep them in separate folders and "
                    "build one table for each, or run the older cells again."
                )


def cell_name(result: Result) -> str:
    """Where the record lies in a run folder: `organism/method/id12`."""
    return f"{result.identity.organism}/{result.identity.method}/{result.id[:12]}"
