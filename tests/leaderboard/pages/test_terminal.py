"""A terminal of 80 columns shows whole names and whole columns, and says which columns it left out."""

import io
from dataclasses import replace

import pytest
from diffbench.leaderboard.pages.cells import OVERALL_HEADS, overall_cells
from diffbench.leaderboard.pages.terminal import LEAVE_OUT, TERMINAL, Chosen, Fitting, comparison, leaderboard
from diffbench.leaderboard.statistics.contrasts import CONTROL
from diffbench.leaderboard.statistics.rows import Problem, Table
from diffbench.leaderboard.statistics.tables import build_table
from rich.console import Console, RenderableType

from ...factories import make_null, make_result

LONG = "a_method_with_a_name_that_is_wider_than_any_terminal_" + "x" * 40


@pytest.fixture(scope="module")
def table() -> Table:
    cells = [
        make_result(m, f"family{i}/a", 0, q, constant=0.1, config=config)
        for m, q, config in (
            ("logit_diff", 0.9, {"rank": "rate"}),
            (CONTROL, 0.1, {"k": 3}),
            ("pca", 0.4, {"k": 3}),
        )
        for i in range(4)
    ]
    return build_table([*cells, make_null("pca", "null/a", [0.5]), make_result("late", "family0/a")], draws=100)


def shown(renderable: RenderableType, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(renderable)
    out = console.file
    assert isinstance(out, io.StringIO)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_lines_fit_and_names_are_whole(table: Table, width: int) -> None:
    for page in (
        leaderboard(replace(table, problems=(Problem("a/result.json", "damaged"),)), Chosen(all=True)),
        comparison(table),
    ):
        lines = shown(page, width)
        assert max(map(len, lines)) <= width and not any("…" in line for line in lines)
        assert any(line.startswith("logit_diff@published ") for line in lines)
        assert any(line.startswith(CONTROL) for line in lines)


def test_at_80_columns_both_sides_stand_beside_isolation_and_the_rest_is_named(table: Table) -> None:
    lines = shown(leaderboard(table), 80)
    head = next(line for line in lines if line.startswith("Method"))
    assert head.split()[:3] == ["Method", "Isolation", "Rank"], "score before rank"
    assert "Sufficiency" in head and "Necessity" in head and "Mitigation" not in head
    left = " ".join(lines).partition("For want of width without ")[2].partition(".")[0]
    assert left == "rank, constant; mitigation; adjusted; access; organisms; seeds; cells; wall s"
    assert not any("For want of width" in line for line in shown(leaderboard(table), 200))


def test_columns_leave_in_the_stated_order(table: Table) -> None:
    fitting = Fitting(OVERALL_HEADS, [overall_cells(table, row, TERMINAL) for row in table.overall])
    order = [head.lower() for head in LEAVE_OUT if head in OVERALL_HEADS]
    left = [" ".join(shown(fitting, width)).partition(" without ")[2].rstrip(".") for width in range(160, 40, -4)]
    gone = [set(filter(None, names.split("; "))) for names in left]
    assert all(names == set(order[: len(names)]) for names in gone)
    assert [len(names) for names in gone] == sorted(map(len, gone)) and len(gone[0]) < 3 < 8 < len(gone[-1])


def test_a_name_wider_than_the_terminal_is_folded() -> None:
    lines = shown(leaderboard(build_table([make_result(LONG)], draws=50)), 60)
    start = next(i for i, line in enumerate(lines) if line.startswith(LONG[:20]))
    assert max(map(len, lines)) <= 60
    assert "".join(line.split(" ")[0] for line in lines[start : start + 4]).startswith(LONG)
