"""A plan before the run: its counts are those of the run, and what cannot fit is refused with what would."""

import json
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffbench.harness.cache import Cache, Kept
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.plans import plan as plan_module
from diffbench.harness.plans.passes import scored_positions
from diffbench.harness.plans.plan import CellPlan, Plan, _cell, forecast
from diffbench.harness.plans.rehearsal import Read, Rehearsal, Rehearsed, _unknown, rehearse, small
from diffbench.harness.protocol.controls import NULLS, Draw, Place
from diffbench.harness.records.control_pack import ControlPack
from diffbench.harness.runs.cell import Cell
from diffbench.harness.runs.problem import Problem, Written
from diffbench.harness.runs.run import Quiet, plan, run
from diffbench.harness.runs.stage import Stage, score_findings
from diffbench.harness.views.plan import table
from diffbench.methods.coder.fitting import rereads
from diffbench.methods.contract import Budget, DiffResult, Finding
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import PrerequisiteError
from diffbench.organisms.organism import Organism
from rich.console import Console

from ...conftest import SHORT
from ..worker.written import method


def work(organism: Organism, out: Path, tokens: int = 3000, seeds: tuple[int, ...] = (0,), **methods: dict[str, Any]):
    entries = [(load_method(name), load_method(name).configure(options)) for name, options in methods.items()]
    return plan([organism], entries, list(seeds), out, protocol=SHORT, budget=Budget(tokens=tokens))


SMALL = {"steps": 40, "expansion": 1, "k": 4, "batch": 256, "patching_tokens": 0}


@pytest.mark.slow
def test_the_tokens_of_a_plan_are_those_of_the_record_and_a_finished_cell_costs_nothing(
    tmp_path: Path, organism: Organism, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffbench.harness.runs.stage.Reader.of", lambda *given: None)  # takes longer than all the rest
    cells = work(organism, tmp_path, sae_diff=SMALL)
    before = forecast(cells, Quiet())
    results = list(run(cells, Quiet(), str))
    assert [c.tokens for c in before.cells] == [r.cost.tokens for r in results]
    assert [c.reason for c in before.cells] == [None] and not any(c.finished for c in before.cells)
    for cell, result in zip(before.cells, results, strict=True):
        assert cell.seconds.keys() == result.cost.phases.keys()
    after = forecast(cells, Quiet())
    assert all(c.finished for c in after.cells) and (after.wall_s, after.disk_bytes, after.to_run) == (0, 0, [])


def test_each_layer_of_a_sweep_is_loaded_and_measured_anew(
    tmp_path: Path, organism: Organism, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[int | None, bool]]()

    def cell(cell: Cell, little: Any, r: Any, read: Any, first: bool, kept: int) -> tuple[CellPlan, float]:
        asked.append((cell.organism.layer, first))
        return plan_module._named(cell), 0.0

    monkeypatch.setattr(Stage, "load", lambda o, *given: SimpleNamespace(pair=o, kept_of_prompts=None))
    monkeypatch.setattr(plan_module, "small", lambda stage: stage)
    monkeypatch.setattr(plan_module, "rehearse", lambda *given: None)
    monkeypatch.setattr(plan_module, "_cell", cell)
    work_ = [work(organism.at(layer, None), tmp_path, random={}, mean_diff={}) for layer in (1, 2)]
    found = forecast(replace(work_[0], cells=[c for w in work_ for c in w.cells]), Quiet())
    assert asked == [(1, True), (1, False), (2, True), (2, False)]
    assert [c.layer for c in found.cells] == [1, 1, 2, 2]
    console = Console(width=100, record=True, file=StringIO())
    console.print(table(found))
    assert "random on taboo/gold-narrow, layer 2, seed 0" in console.export_text()


def test_the_passes_of_a_plan_are_those_of_the_run(
    organism: Organism, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most, and all but what no option was chosen for: here every strength keeps the one budget."""
    protocol = SHORT.model_copy(update={"budgets_nats": (1e9,), "strengths": (0.01,), "controls": 2})
    fresh = Stage(organism, stage.pair, stage.texts, protocol, 0.0)
    ran = [0]
    real = Pair.ends

    def counted(self: Pair, residual: Any, *args: Any, **more: Any) -> Any:
        ran[0] += residual.shape[0] * residual.shape[1]
        return real(self, residual, *args, **more)

    monkeypatch.setattr(Pair, "ends", counted)
    method = load_method("random")
    diff = method.run(method.configure({}), Problem(stage.pair, stage.texts, [], "activations", 0, Budget(tokens=100)))
    _ = fresh.scorer
    measured = ran[0]
    score_findings(diff, fresh.scorer)
    most = scored_positions(fresh, protocol, diff, first=True, controls=True)
    first = most - scored_positions(fresh, protocol, diff, first=False, controls=True)
    assert 0.75 * first <= measured <= first
    assert measured + 0.75 * (most - first) <= ran[0] <= most


def test_a_method_gets_little_text_and_what_it_asked_for_is_remembered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffbench.harness.plans.rehearsal.READ_S", float("inf"))  # however slow the machine is now
    problem = Problem(stage.pair, stage.texts, [], "activations", 0, Budget(tokens=50_000, seconds=600))
    seen = Rehearsed(problem)
    assert seen.budget == problem.budget  # a method that divides its seconds before it reads must not stop early
    kept = list(seen.activations("neutral", tokens=30_000))
    for _ in seen.activations("chat"):
        pass
    reads = seen.reads()
    assert (reads["neutral"].asked, reads["chat"].asked) == (30_000, 20_000)
    assert 0 < sum(len(b.ids) for b in kept) <= reads["neutral"].given < 10_000
    assert seen.kept_bytes == sum(b.residuals.nbytes for b in kept)  # the chat was not held
    assert seen.budget.tokens == 50_000 and seen.budget.seconds < 60


def test_texts_that_are_read_in_turns_are_counted_apart_and_a_second_reading_costs_nothing(stage: Stage) -> None:
    problem = Problem(stage.pair, stage.texts, [], "activations", 0, Budget(tokens=4000, seconds=600))
    seen = Rehearsed(problem)
    readers = {text: seen.activations(text, 500, n, 0) for text, n in (("neutral", 3000), ("chat", 1000))}  # pyright: ignore[reportArgumentType]
    for _ in range(2):
        for reader in readers.values():
            next(reader)
    for reader in readers.values():
        list(reader)
    reads = seen.reads()
    assert (
        (reads["neutral"].given, reads["chat"].given) == (3000, 1000) == (reads["neutral"].asked, reads["chat"].asked)
    )
    took, until = dict(seen.seconds), seen.budget.seconds
    again = list(seen.activations("neutral", 500, 3000, 0))
    assert sum(len(b.ids) for b in again) == 3000 and problem.tokens_used == 4000
    assert (seen.seconds, seen.budget.seconds) == (took, until)  # training may not go on for as long as a stream reads


def test_a_round_of_answers_is_paid_for_as_a_whole() -> None:
    read = Read(asked=30_000, given=8000, seconds=4.0, written=Written(20_000, 10.0))
    assert (read.pace, read.wall_s) == (0.0005, 15.0 + 20.0)


SAYS_STREAM = """
import torch
from diffbench.methods.contract import DiffProblem, DiffResult, Finding, NoConfig


class Mine:
    name, access, Config = "mine", "activations", NoConfig

    def __init__(self, config: NoConfig | None = None) -> None: ...

    def diff(self, problem: DiffProblem) -> DiffResult:
        return DiffResult([Finding(torch.ones(problem.d_model))], {"stream": True})
"""


def test_what_somebody_elses_method_says_of_itself_is_not_read_as_ours(
    tmp_path: Path, organism: Organism, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffbench.harness.runs.stage.Reader.of", lambda *given: None)  # takes longer than all the rest
    (tmp_path / "mine.py").write_text(SAYS_STREAM)
    entry = load_method(str(tmp_path / "mine.py"))
    (cell,) = forecast(plan([organism], [(entry, entry.configure({}))], [0], tmp_path, protocol=SHORT), Quiet()).cells
    assert (cell.reason, cell.tokens) == (None, 0)


def test_what_a_stream_reads_again_is_further_epochs_and_the_read_out() -> None:
    config = load_method("delta").configure({"steps": 100, "batch": 512, "readout_tokens": 20_000})
    assert rereads(config, {"neutral": 30_000, "chat": 10_000}) == 11_200 + 20_000
    assert rereads(config, {"neutral": 100_000}) == 20_000


@pytest.mark.slow
def test_a_stream_is_rehearsed_without_training_to_its_end(tmp_path: Path, organism: Organism) -> None:
    cells = work(organism, tmp_path, tokens=30_000, batch_topk=SMALL | {"stream": True, "steps": 100_000})
    (cell,) = forecast(cells, Quiet()).cells
    assert (cell.reason, cell.tokens) == (None, 30_000)
    assert cell.seconds["fit"] > 60 > sum(cell.seconds[phase] for phase in ("load", "harvest"))


def test_scoring_takes_as_long_as_its_workers_and_no_less_than_the_findings() -> None:
    def scored(own_s: float, each_s: float) -> float:
        fields = {
            "reads": {},
            "setup_s": 0.0,
            "controls_s": 0.0,
            "rest_s": 1.0,
            "workers": 2,
            "fit_s": 0.0,
            "start_s": 0.0,
            "worker_bytes": 0,
        }
        nothing = DiffResult([Finding(torch.ones(4))])
        return Rehearsal(
            **fields, own_s=own_s, each_s=each_s, read_again=0, buffer_tokens=0, diff=nothing, kept_bytes=0, controls=16
        ).score_s  # pyright: ignore[reportArgumentType]

    assert (scored(2.0, 1.0), scored(8.0, 0.0)) == (1.0 + 9.0, 1.0 + 8.0)


@pytest.mark.slow
def test_a_method_of_somebody_elses_is_rehearsed_in_a_process_of_its_own(stage: Stage, tmp_path: Path) -> None:
    body = (
        "held = list(problem.activations('chat', tokens=20_000))\nreturn DiffResult([Finding(held[0].residuals[0, 0])])"
    )
    mine = method(tmp_path, body)
    cell = Cell(stage.organism, mine, mine.configure({}), 0, protocol=SHORT)
    found = rehearse(cell, small(stage), lambda phase, done, total: None)
    read = found.reads["chat"]
    assert read.asked == 20_000 > read.given > 0 and found.start_s > 0
    assert found.worker_bytes > 10**8  # torch alone is more
    assert found.kept_bytes == read.given * 2 * 4 * stage.pair.d_model  # what it holds is not seen: all is assumed


@pytest.mark.slow
def test_the_memory_of_a_plan_has_the_process_of_the_method(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A built-in method is rehearsed here and run there."""
    monkeypatch.setattr("diffbench.harness.runs.stage.Reader.of", lambda *given: None)  # takes longer than all the rest
    entry = load_method("mean_diff")
    cell = Cell(stage.organism, entry, entry.configure({}), 0, protocol=SHORT, budget=Budget(tokens=500))
    little = small(stage)
    apart, here = (rehearse(c, little, lambda phase, done, total: None) for c in (cell, replace(cell, in_process=True)))
    assert here.worker_bytes == 0 and 10**8 < apart.worker_bytes < 4 * GIB
    planned = [_cell(cell, little, r, {}, True, 0)[0].host_bytes for r in (apart, here)]
    assert 0.8 * apart.worker_bytes < planned[0] - planned[1] < 1.2 * apart.worker_bytes


@pytest.mark.slow
def test_controls_that_are_kept_or_came_with_the_organism_are_not_planned(stage: Stage, tmp_path: Path) -> None:
    few = SHORT.model_copy(update={"controls": 2})
    cell_stage = Stage(stage.organism, stage.pair, stage.texts, few, 0.0)
    kept = Kept(Cache(tmp_path), "taboo", {"organism": "a"})
    diff = DiffResult([Finding(torch.ones(stage.pair.d_model))])
    scorer, ks = cell_stage.scorer, cell_stage.scorer.ks(1)
    scorer.controls.shipped = ControlPack({}, {(kind, ks): {} for kind in NULLS})
    assert _unknown(diff, cell_stage, 5, kept) == 0  # they came with it
    scorer.controls.shipped = None
    assert _unknown(diff, cell_stage, 5, kept) == 10 == _unknown(diff, cell_stage, 5, None)
    nothing = Draw({"sufficiency": np.zeros(3), "necessity": np.zeros(3)}, 0.0)
    for null, block in (("isotropic", range(4)), ("mixture", range(8, 12))):  # these are beyond what the run measures
        Place(kept.but(**scorer.read_as), null, block, [ks]).put([[nothing] * 4])
    assert _unknown(diff, cell_stage, 5, kept) == 6
    assert _unknown(DiffResult([], patch=True), cell_stage, 5, kept) == 0


def test_the_pace_of_a_method_is_that_of_its_own_reports(stage: Stage) -> None:
    seen = Rehearsed(Problem(stage.pair, stage.texts, [], "activations", 0, Budget()))
    seen.reports = [(1.0, 0, 0), (1.5, 20, 100), (2.0, 40, 100), (3.0, 10, 50), (9.0, 0, 0)]
    taken, all_ = seen.work()  # 100 steps of which 40 took 1 s, then 50 of which 10 took 1 s
    assert (taken, all_) == pytest.approx((2.0, 2.5 + 5.0))


GIB = 2**30


def made(**fields: Any) -> Plan:
    cell = {"organism": "taboo/gold-narrow", "method": "delta", "seed": 0, "tokens": 60_000, "host_bytes": GIB}
    limits = {"free_host_bytes": 2 * GIB, "free_device_bytes": None, "free_disk_bytes": GIB}
    return Plan(cells=[CellPlan(**(cell | fields))], out="runs", device="cuda", **limits)


def test_a_plan_that_fits_is_no_error() -> None:
    made().check()
    made(host_bytes=3 * GIB, finished=True).check()


@pytest.mark.parametrize(
    ("fields", "free", "said"),
    [
        ({"host_bytes": 3 * GIB}, {}, "needs 3.0 GiB of memory and 2.0 GiB can be had.*--tokens.*expansion.*bfloat16"),
        ({"device_bytes": 9 * GIB}, {"free_device_bytes": 8 * GIB}, "9.0 GiB of memory of cuda and 8.0 GiB"),
        ({"disk_bytes": 2 * GIB}, {}, "needs 2.0 GiB in runs and 1.0 GiB are free; choose another folder with --out"),
        ({"checkpoint_bytes": 2 * GIB}, {}, "needs 2.0 GiB in runs"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_what_would(
    fields: dict[str, Any], free: dict[str, int], said: str
) -> None:
    with pytest.raises(PrerequisiteError, match=said):
        made(**fields).model_copy(update=free).check()


def test_a_dictionary_that_cannot_be_trained_here_is_refused_before_it_is_made(
    tmp_path: Path, organism: Organism, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "free_on_host", lambda: 0)
    monkeypatch.setattr(plan_module, "_resident", lambda: 2**20)
    cells = work(organism, tmp_path, delta={"expansion": 1000})
    began = time.monotonic()
    with pytest.raises(PrerequisiteError, match=r"trains 128,000 latents.*--set delta\.expansion=\S+ fits"):
        forecast(cells, Quiet())
    assert time.monotonic() - began < 60


def test_a_cell_that_will_fail_says_so_in_the_plan(tmp_path: Path, organism: Organism) -> None:
    cells = work(organism, tmp_path, tokens=300, batch_topk=SMALL | {"batch": 4000})
    (cell,) = forecast(cells, Quiet()).cells
    assert cell.reason is not None and "batch takes 4000" in cell.reason


def test_a_plan_is_json_and_a_table_of_80_columns(tmp_path: Path) -> None:
    plan_ = made(passes=1_234_567, seconds={"load": 1.0, "fit": 64.0}, disk_bytes=5 * 2**20)
    data = json.loads(json.dumps(plan_.data(), allow_nan=False))
    assert data["total"]["seconds"] == 65.0 and data["total"]["tokens"] == 60_000
    assert data["cells"][0]["seconds"] == {"load": 1.0, "fit": 64.0}
    with (tmp_path / "out").open("w+") as file:
        Console(file=file, width=80, markup=False).print(table(plan_))
        file.seek(0)
        text = file.read()
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    for part in ("delta on taboo/gold-narrow, seed 0", "60.0k", "1.2M", "1.0 GiB", "5.0 MiB", "1:05"):
        assert part in text
