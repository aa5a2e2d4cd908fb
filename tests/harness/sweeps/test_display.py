"""What a sweep shows: a plan of 80 columns, a line a minute without a terminal, failures at once, and how long it will take."""

import io
from pathlib import Path

from diffbench.harness.sweeps.display import EVERY_S, SweepDisplay, outcome, outcome_data, plan_table
from diffbench.harness.sweeps.driver import Ended
from diffbench.harness.sweeps.plan import Plan, PlannedCell
from diffbench.harness.sweeps.share import Ran
from rich.console import Console

from ...test_progress import Time

LONG = "a-method-with-a-very-long-name-that-no-column-holds-without-folding-it"


def plan(seconds: float | None = 10.0, n: int = 6, method: str = "delta") -> Plan:
    cells = [PlannedCell("taboo/gold-narrow", 2, method, s, f"id{s}", s == 0, seconds, 1 << 20) for s in range(n)]
    return Plan(cells, {0: ran()}, 2.0, 2, 1, Path("runs"), 10**10, 1 << 30)


def ran(status: str = "ok", reason: str | None = None, cached: bool = False) -> Ran:
    return Ran("id", status, reason, ("taboo/gold-narrow", "0"), True, "runs/x", cached)


def written(plan: Plan, terminal: bool = False) -> tuple[SweepDisplay, Time, io.StringIO]:
    now, out = Time(), io.StringIO()
    console = Console(file=out, width=80, force_terminal=terminal, markup=False, emoji=False, highlight=False)
    return SweepDisplay(plan, False, console, now), now, out


def test_a_line_a_minute_tells_done_left_failed_and_the_time_to_go() -> None:
    shown, now, out = written(plan())
    shown.began(1, 1, "")
    shown.began(2, 2, "")
    now.now += 20
    shown.ended(Ended(1, ran(), 20.0))  # twice as long as planned
    shown.ended(Ended(2, ran("failed", "it is \x1b[31mbroken"), 20.0))
    shown.began(1, 3, "")
    for _ in range(120):
        now.now += 1
        shown.tick()
    failed, first, second = out.getvalue().splitlines()
    assert failed == "delta on taboo/gold-narrow, seed 2: failed: it is \\u001b[31mbroken"
    assert first == "2 of 6 cells done, 1 failed, 1 running, 2 left, 1:20, about 0:20 to go"
    assert second.startswith("2 of 6 cells done, 1 failed, 1 running, 2 left, 2:20") and EVERY_S == 60


def test_a_cell_that_is_run_again_is_told_with_its_reason_and_a_lost_idle_process_is_not() -> None:
    shown, _, out = written(plan())
    shown.began(1, 1, "")
    shown.lost(1, 1, "the process ended (SIGKILL)\nand more", again=True)
    shown.lost(2, None, "the process ended", again=False)
    assert out.getvalue() == "delta on taboo/gold-narrow, seed 1: run again: the process ended (SIGKILL)\n"
    assert "0 running, 5 left" in shown.line()


def test_no_time_is_made_up() -> None:
    shown, _, _ = written(plan(None))
    assert "to go" not in shown.line()
    text = _text(plan(None))
    assert (
        "not known" in text and "5 cells are like none that was run" in text and "as cells like these took" not in text
    )


def test_a_terminal_sees_each_process_and_where_it_is() -> None:
    shown, now, out = written(plan(), terminal=True)
    with shown:
        shown.began(1, 1, "node-7")
        shown.moved(1, "fit", 5, 10)
        now.now += 5
    drawn = io.StringIO()
    Console(file=drawn, width=100).print(shown._drawn())
    assert "delta on taboo/gold-narrow, seed 1 (node-7), running the method, 5/10 steps, 50%, 0:05" in drawn.getvalue()
    shown.tick()
    assert "\n1 of 6" not in out.getvalue()


def test_the_plan_folds_names_and_says_what_is_asked_first() -> None:
    text = _text(plan(method=LONG))
    assert LONG in "".join(line[:30].strip() for line in text.splitlines())
    assert "5 cells of 1 pairs, 2 at a time, on 1 thread each: about 0:26" in text


def test_the_end_counts_what_came_of_the_cells() -> None:
    ended = [Ended(1, ran(), 2.0), Ended(0, ran(cached=True)), Ended(2, ran("oom", "full"))]
    assert outcome(plan(n=3), ended).splitlines() == [
        "3 cells: 2 ok, 1 oom; 2 of them run now, kept in runs",
        "the same command runs those again that failed",
        "tables: bench leaderboard build runs",
    ]
    rows = outcome_data(plan(n=3), ended)
    assert [r["seed"] for r in rows] == [0, 1, 2] and rows[0]["finished_before"] and rows[2]["reason"] == "full"


def _text(plan: Plan) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(plan_table(plan))
    return " ".join(out.getvalue().split("\n")) if plan.cells[0].method != LONG else out.getvalue()
