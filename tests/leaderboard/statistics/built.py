"""A table of a few synthetic cells on three organisms."""

from typing import Any

from diffbench.harness.records.result import Result
from diffbench.leaderboard.statistics.rows import MethodRow, Table
from diffbench.leaderboard.statistics.tables import build_table

from ...factories import make_result

ORGANISMS = ("backdoor/zephyr-mixed", "taboo/gold-mixed", "taboo/gold-narrow")
DRAWS = 400


def grid(method: str, quality: float, seeds: tuple[int, ...] = (0, 1), **options: Any) -> list[Result]:
    return [make_result(method, o, s, quality, **options) for o in ORGANISMS for s in seeds]


def table(results: list[Result], draws: int = DRAWS) -> Table:
    return build_table(results, ORGANISMS, "test-set", draws)


def row(built: Table, method: str) -> MethodRow:
    return next(r for r in built.overall if r.method == method)


def rank(built: Table, method: str) -> int | None:
    place = row(built, method).place
    return place.rank if place else None


def value(cell: Result, score: str) -> float:
    assert cell.scores is not None
    number = getattr(cell.scores, score).value
    assert isinstance(number, float)
    return number
