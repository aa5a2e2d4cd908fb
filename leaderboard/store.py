"""Reads run folders and decides which records may stand in one table.

The one idea: nothing is dropped in silence. A file either becomes a result or a `Problem` with its reason, and records
that measured different things are refused together instead of averaged. A record's numbers are believed only if they
follow from its own per-prompt samples, because `id` covers the identity and not the scores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ..harness.result import SCORES, Result, Samples, load_result
from ..harness.stats import point
from ..organisms.errors import PrerequisiteError, ValidationFailed

RESULT_FILE = "result.json"
TOLERANCE = 1e-6
"""Largest difference allowed between a recorded score and the one its samples give (float summation order)."""


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
    for path in sorted(runs.rglob(RESULT_FILE)):
        name = path.relative_to(runs).as_posix()
        if any(part.startswith(".") for part in path.relative_to(runs).parts):
            continue  # the scratch folder of a run that was killed
        try:
            result = load_result(path)
        except (OSError, ValueError) as error:
            problems.append(Problem(name, _reason(error)))
            continue
        fault = sample_fault(result)
        if fault is not None:
            problems.append(Problem(name, fault))
        elif result.id not in first:
            first[result.id] = name, result
            results.append(result)
        elif _measured(result) != _measured(first[result.id][1]):
            raise MixedResultsError(
                f"{first[result.id][0]} and {name} are the same cell ({result.id[:12]}) with different numbers. "
                "A cell is deterministic, so one was edited or made elsewhere: keep one and move the other away."
            )
    return Loaded(tuple(sorted(results, key=sort_key)), tuple(problems))


def sort_key(result: Result) -> tuple[str, str, list[tuple[str, int]], str]:
    """The order results have everywhere: organism, method, seeds, id."""
    identity = result.identity
    return identity.organism, identity.method, sorted(identity.seeds.items()), result.id


def sample_fault(result: Result) -> str | None:
    """Why the scores of an `ok` record cannot be believed, or None."""
    if result.scores is None:
        return None
    if result.samples is None:
        return "status is ok but the per-prompt samples are missing, so no interval can be given: run the cell again"
    if not _well_shaped(result.samples):
        return "per-prompt samples have unequal lengths: the record was edited or damaged; run the cell again"
    expected = point(result.samples)
    for name in SCORES:
        recorded, computed = getattr(result.scores, name).value, float(getattr(expected, name)[0])
        same = (
            math.isnan(computed) if recorded is None else math.isclose(recorded, computed, rel_tol=0, abs_tol=TOLERANCE)
        )
        if not same:
            fault = f"{name} is recorded as {recorded} but its samples give {computed:.6g}"
            return f"{fault}: the record was edited; run the cell again"
    return None


def check_comparable(results: Sequence[Result]) -> None:
    """Refuse records that measured different things.

    All must share schema and protocol; all records of one organism must share its weights, prompts, layer and dtype.

    Raises:
        MixedResultsError: with both values, a cell for each, and what to do.
    """
    common: dict[str, tuple[str, Result]] = {}
    for result in results:
        identity = result.identity
        where = f"organism {identity.organism!r}: "
        protocol = f"{identity.protocol} {identity.protocol_sha256}"
        for scope, what, value in (
            ("", "schema version", str(result.schema_version)),
            ("", "protocol", protocol),
            (where, "weights", identity.organism_sha256),
            (where, "prompts", identity.prompts_sha256),
            (where, "layer", str(identity.layer)),
            (where, "dtype", identity.dtype),
        ):
            other, example = common.setdefault(scope + what, (value, result))
            if other != value:
                raise MixedResultsError(
                    f"{scope}results with {what} {other[:16]} and {value[:16]} cannot be mixed in one table "
                    f"(for example {cell_name(example)} and {cell_name(result)}). Keep them in separate folders and "
                    "build one table for each, or run the older cells again."
                )


def cell_name(result: Result) -> str:
    """Where the record lies in a run folder: `organism/method/id12`."""
    return f"{result.identity.organism}/{result.identity.method}/{result.id[:12]}"


def _measured(result: Result) -> tuple[object, ...]:
    """What two runs of one cell must agree on; cost and provenance may differ."""
    return result.status, result.scores, result.samples


def _well_shaped(samples: Samples) -> bool:
    """Whether all per-prompt lists have one length, and points and controls match."""
    n = len(samples.b0)
    rows = (
        samples.b1,
        *(samples.sufficiency, samples.sufficiency_oracle, *samples.sufficiency_controls),
        *(samples.necessity, samples.necessity_oracle, *samples.necessity_controls),
        *samples.mitigation,
    )
    return (
        n > 0
        and all(len(row) == n for row in rows)
        and len(samples.sufficiency_controls) == len(samples.necessity_controls) > 0
        and len(samples.mitigation) == len(samples.mitigation_retention) > 0
    )


def _reason(error: Exception) -> str:
    """One line, without the input values and links of pydantic's own message."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False, include_context=False)
        places = [".".join(map(str, e["loc"])) + ": " if e["loc"] else "" for e in found]
        parts = [place + e["msg"].removeprefix("Value error, ") for place, e in zip(places[:3], found, strict=False)]
        return "; ".join(parts) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"{type(error).__name__}: not valid UTF-8 text" if isinstance(error, UnicodeError) else str(error)
