"""The table's part of `bench selftest`: a copy of a method changes no one's score."""

from collections.abc import Sequence

from ..harness.records.result import Result
from .statistics.rows import MethodRow
from .statistics.tables import build_table

DRAWS = 200
"""Bootstrap draws; intervals are compared as they come, so few suffice."""


def clone_effect(results: Sequence[Result]) -> float:
    """Largest change of a value or an interval's end of any of the methods when the first one enters once more by another name.

    Raises:
        ValidationFailed, MixedResultsError: from `build_table`.
    """
    first = results[0]
    identity = first.identity.model_copy(update={"method": f"{first.identity.method}-copy"})
    copy = first.model_copy(update={"identity": identity, "id": identity.id()})
    without, with_copy = _numbers(results), _numbers([*results, copy])
    return max(abs(with_copy[where] - value) for where, value in without.items())


def _numbers(results: Sequence[Result]) -> dict[tuple[str, str, int], float]:
    """Value and interval ends by method and score."""
    rows: Sequence[MethodRow] = build_table(results, draws=DRAWS).overall
    return {
        (row.method, name, i): number
        for row in rows
        for name, estimate in row.scores.items()
        for i, number in enumerate(estimate)
        if number is not None
    }
