"""What a run shows: on a terminal of 80 columns, in a log without one, and when it is stopped."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diffbench.harness.protocol.effects import SPLITS
from diffbench.harness.records.result import COLUMNS
from diffbench.harness.runs.cell import Cell, run_cell
from diffbench.harness.runs.run import Quiet, plan, run
from diffbench.harness.runs.stage import Stage
from diffbench.harness.views.progress import EVERY_S, RunDisplay, State, clock, drawn
from diffbench.methods.contract import Budget
from diffbench.methods.registry import load_method
from diffbench.organisms.organism import Organism
from rich.console import Console

from .conftest import SHORT
from .factories import make_result

NAME = "a-method-with-a-very-long-name on emergent_misalignment/an-organism-with-a-very-long-name-too, seed 12345"


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def display(now: Time, **options: Any) -> tuple[RunDisplay, io.StringIO]:
    """A display without a terminal, and what it writes."""
    out = io.StringIO()
    console = Console(file=out, width=80, markup=False, emoji=False, **options)
    todo: Any = SimpleNamespace(cells=[], once=[], out=Path("runs"))
    return RunDisplay(todo, False, console, now), out


def test_without_a_terminal_there_is_a_line_every_quarter_of_a_minute_and_no_more() -> None:
    now = Time()
    shown, out = display(now)
    shown.loading("taboo/gold-narrow")
    for done in range(241):
        now.now += 0.25
        shown.progress("harvest neutral", 250 * done, 60_000)
        shown.line_if_due()
    lines = out.getvalue().splitlines()
    assert len(lines) == 60 / EVERY_S
    assert lines[1] == "taboo/gold-narrow: reading neutral text, 29,750/60,000 tokens, 50%, 0:30, 0:30 left"


def test_a_phase_that_reports_nothing_is_seen_too() -> None:
    now = Time()
    shown, out = display(now)
    shown.loading("taboo/gold-narrow")
    now.now += 40
    shown.line_if_due()
    assert out.getvalue() == "taboo/gold-narrow: loading the pair, 0:40\n"


def test_time_left_is_counted_from_where_a_checkpoint_went_on() -> None:
    state = State(began=0.0).moved("fit", 0, 1, 0.0).moved("fit", 500, 900, 10.0)
    assert state.left(10.0) is None  # 500 steps in 10 s were not made now
    state = state.moved("fit", 600, 900, 20.0)
    assert [state.left(now) for now in (20.0, 25.0, 60.0)] == pytest.approx([30.0, 25.0, 0.0])


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (7200, "2:00:00")])
def test_a_clock_reads_as_people_read_it(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("width", [80, 40, 200])
@pytest.mark.parametrize(
    "state",
    [
        State(NAME, "load"),
        State(NAME, "measure", 3, 20, 0.0, (0, 0.0), 4000.0),
        State(NAME, "harvest contrastive", 123_456_789, 200_000_000, 0.0, (0, 0.0), 4000.0),
        State(NAME, "a phase of another name", 1, 2, 0.0, (0, 0.0), 4999.0),
    ],
)
def test_nothing_is_cut_on_a_terminal(state: State, width: int) -> None:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=True, color_system=None).print(drawn(state, 5000.0, width))
    lines = out.getvalue().splitlines()
    text = "".join("".join(lines).split())
    assert all(len(line) <= width for line in lines)
    for part in (NAME, *state.parts(5000.0)):
        assert "".join(part.split()) in text
    assert "…" not in text


def test_a_line_of_a_finished_or_failed_cell_is_one_line_however_long() -> None:
    now = Time()
    shown, out = display(now)
    cell: Any = SimpleNamespace(
        method=SimpleNamespace(row="a-method-with-a-very-long-name"),
        organism=SimpleNamespace(
            name="emergent_misalignment/an-organism-with-a-very-long-name-too", layer=2, sha256=""
        ),
        seed=12345,
    )
    shown.done(cell, make_result(), Path(), cached=True)
    shown.done(cell, make_result(), Path(), cached=False)
    shown.done(cell, make_result(status="failed", reason="why " * 50), Path(), cached=False)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3 and all(line.startswith(NAME) for line in lines)
    assert lines[2].count("why") == 50


class Seen(Quiet):
    """A watcher that remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []

    def progress(self, phase: str, done: int, total: int) -> None:
        self.told.append((phase, done, total))


@pytest.mark.slow
def test_every_phase_of_a_cell_reports_what_is_done_and_comes_to_its_end(
    organism: Organism, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffbench.harness.runs.stage.Reader.of", lambda *given: None)  # takes longer than all the rest
    method = load_method("batch_topk")
    config = method.configure({"steps": 40, "expansion": 1, "k": 4, "batch": 256, "patching_tokens": 0})
    fresh = Stage(stage.organism, stage.pair, stage.texts, SHORT, 0.0)
    seen = Seen()
    cell = Cell(organism, method, config, 0, protocol=SHORT, budget=Budget(tokens=2000))
    result = run_cell(cell, fresh, seen.progress).result
    assert result.status == "ok", result.reason
    last = {phase: (done, total) for phase, done, total in seen.told if total > 1}
    assert ("measure", len(SPLITS), len(SPLITS)) in seen.told and last["measure"] == (2 * SHORT.controls,) * 2
    assert last["harvest neutral"] == last["harvest chat"] == (1000, 1000)
    assert last["fit"] == (40, 40)
    assert last["score"] == (len(COLUMNS) + SHORT.controls,) * 2  # gated findings, so edits everywhere stand beside
    order = list(dict.fromkeys(phase for phase, _, _ in seen.told))
    assert order == ["measure", "fit", "harvest neutral", "harvest chat", "score"]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_an_interrupt_says_what_is_kept_and_how_to_go_on(
    tmp_path: Path, organism: Organism, monkeypatch: pytest.MonkeyPatch, checkpoint: bool
) -> None:
    def interrupt(cell: Cell, stage: Stage, progress: Any, scratch: Path) -> None:
        if checkpoint:
            scratch.mkdir(parents=True, exist_ok=True)
            (scratch / "coder.safetensors").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr("diffbench.harness.runs.run.run_cell", interrupt)
    method = load_method("random")
    cells = plan([organism], [(method, method.configure({}))], [0, 1], tmp_path, protocol=SHORT)
    with pytest.raises(KeyboardInterrupt) as stopped:
        next(run(cells, Quiet(), str))
    said = str(stopped.value)
    assert said.startswith(f"0 of 2 cells are finished and kept in {tmp_path}")
    assert ("has trained so far is kept" in said) == checkpoint and "same command goes on" in said
