"""Settings are chosen by the rule of docs/tuning.md, and the command that carries it out runs cells as `bench run` does."""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.harness.records.settings import PROTOCOL_V2, Protocol
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import UsageError

from benchmarks import tune
from benchmarks.tune import OWN, POOL, SHARED, TUNE, Measured, Tuning


def tuned(gains: dict[Any, list[float]]) -> Any:
    """What is chosen where a value gains so much over the default on each of the organisms in turn."""
    work = Tuning(Path(), 1, Path())
    for value, gain in gains.items():
        for i, organism in enumerate(TUNE):
            work.cells["delta", tune._key({"k": value}), organism, 0] = Measured("", 0.5 + gain[i % len(gain)])
    return work.decide("delta", "k", tuple(gains), [("delta", {})]).chosen


def test_a_default_falls_to_a_better_value_and_not_to_a_luckier_one() -> None:
    assert tuned({16: [0.0], 8: [0.05], 32: [0.1]}) == 32
    assert tuned({16: [0.0], 8: [-0.05], 32: [-0.1]}) == 16
    assert tuned({16: [0.0], 8: [0.4, 0, 0, -0.1, -0.1, 0, -0.1, 0, 0, -0.1, 0, 0]}) == 16, "within its standard error"


def test_every_setting_that_is_tried_is_one_that_its_method_takes() -> None:
    default = {factor: values[0] for factor, values in SHARED.items()}
    for method, own in OWN.items():
        entry, shared = load_method(method), tune.shared_of(method, default)
        for factor, values in own.items():
            for value in values:
                assert getattr(entry.configure(shared | {factor: value}), factor) == value
    assert all(set(SHARED) <= set(tune.shared_of(m, default)) for m in POOL)
    assert all(load_method(m).configure({"rank": rank}) for m in tune.CROSSCODERS for rank in tune.RANKS)
    settings = {m: len(SHARED) + sum(len(v) for v in own.values()) + len(tune.RANKS) for m, own in OWN.items()}
    assert max(settings.values()) <= 24


def test_the_whole_rule_runs_and_says_what_came_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With cells that are made up: more steps are better, contribution ranks best for delta, and nothing else matters."""

    def measure(self: Tuning, wanted: Sequence[tuple[str, tune.Settings]], seed: int = 0) -> None:
        for method, settings in wanted:
            for i, organism in enumerate(TUNE):
                score = (
                    i / 100
                    + settings.get("steps", 0) / 1e4
                    + 0.2 * (settings.get("rank") == "contribution") * (method == "delta")
                    + 0.1 * (method == "dw_svd")
                )
                value = score if seed == 0 else 1 - score
                self.cells[method, tune._key(settings), organism, seed] = Measured(f"{len(self.cells)}", value)

    monkeypatch.setattr(Tuning, "measure", measure)
    page, grid = tmp_path / "page.md", tmp_path / "grid.json"
    page.write_text("# Before\n<!-- measured: begin -->\nnothing\n<!-- measured: end -->\n")
    tune.main(tmp_path, 1, page, grid)
    chosen = json.loads(grid.read_text())["chosen"]
    assert chosen["delta"] == {
        "steps": 1800,
        "k": 16,
        "expansion": 8,
        "rank": "contribution",
        "delta": 0.005,
        "contrastive_share": 0.1,
    }
    assert chosen["l1"]["rank"] == "contribution", "crosscoders rank alike"
    assert chosen["sae_pair"]["steps"] == 900 and "k" not in chosen["l1"]
    assert "compared with: `dw_svd`, the best of logit_diff, adl" in page.read_text()
    assert "| `delta` | -1.00 |" in page.read_text() and "`pca` | -1.00" not in page.read_text()


def test_the_small_tier_has_a_round_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More steps help and more active latents help, but not both together."""

    def measure(self: Tuning, wanted: Sequence[tuple[str, tune.Settings]], seed: int = 0) -> None:
        assert self.protocol.controls == 4
        for method, settings in wanted:
            more = settings.get("steps") == 1800, settings.get("k") == 32
            for i, organism in enumerate(self.organisms):
                score = i / 100 + worth[sum(more)]
                self.cells[method, tune._key(settings), organism, seed] = Measured(f"{len(self.cells)}", score)

    monkeypatch.setattr(Tuning, "measure", measure)
    monkeypatch.setattr(
        tune, "members", lambda name: {"tune-small": ["taboo/leaf-narrow", "backdoor/deploy-held"]}[name]
    )
    page, grid, worth = tmp_path / "page.md", tmp_path / "grid.json", [0.2, 0.4, 0.0]
    for worth[2], kept in ((0.1, (900, 16)), (0.5, (1800, 32))):
        page.write_text("# Before\n<!-- small: begin -->\nnothing\n<!-- small: end -->\nafter\n")
        tune.main(tmp_path, 1, page, grid, "small")
        delta = json.loads(grid.read_text())["chosen"]["delta"]
        assert (delta["steps"], delta["k"], delta["rank"]) == (*kept, "latent_scaling"), (
            "the rest as on the embedded tier"
        )
        assert f"Kept: steps {kept[0]}, k {kept[1]}." in page.read_text() and page.read_text().endswith("after\n")


@pytest.mark.parametrize(("status", "ended"), [("ok", True), ("timeout", False), ("ok", False)])
def test_a_cell_that_the_clock_ended_is_run_again_with_more_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, ended: bool
) -> None:
    asked, hurry = list[tuple[int, float]](), ended or status == "timeout"

    def ran(plan: Any, *_: Any) -> Any:
        for cell in plan.cells:
            asked.append((cell.config.steps, cell.budget.seconds))
            slow = cell.config.steps == 1800 and cell.budget.seconds == 600
            yield SimpleNamespace(
                status=status if slow else "ok",
                diagnostics={"budget_exhausted": ended and slow},
                scores=SimpleNamespace(isolation=SimpleNamespace(value=0.1 if slow else 0.5)),
            )

    monkeypatch.setattr("diffbench.harness.runs.run.run", ran)
    monkeypatch.setenv("DIFFBENCH_CACHE", str(tmp_path / "cache"))
    settings = [{"steps": 900}, {"steps": 1800}]
    found = tune._cells("taboo/gold-narrow", "delta", settings, 0, tmp_path, {}, PROTOCOL_V2)
    assert asked == [(900, 600), (1800, 600)] + [(1800, 7200)] * hurry
    assert [c.isolation for c in found.values()] == [0.5, 0.5 if hurry else 0.1]
    assert all(c.finished for c in found.values())


class Here:
    """A pool of this process."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None: ...
    def submit(self, task: Any) -> Future[Any]:
        found: Future[Any] = Future()
        try:
            found.set_result(task())
        except Exception as error:
            found.set_exception(error)
        return found


def test_what_a_stopped_run_measured_is_kept_and_one_bad_organism_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, ran = tmp_path / "grid.json", list[str]()

    def cells(
        organism: str,
        method: str,
        wanted: list[tune.Settings],
        seed: int,
        out: Path,
        known: dict[str, float],
        protocol: Protocol,
    ) -> dict[tune.Cell, Measured]:
        assert protocol is tune.FEW
        if organism == bad:
            raise OSError("no room")
        ids = [f"{organism} {tune._key(s)} {seed}" for s in wanted]
        ran.extend(i for i in ids if i not in known)
        return {
            (method, tune._key(s), organism, seed): Measured(i, known.get(i, 0.25), organism != failing)
            for s, i in zip(wanted, ids, strict=True)
        }

    monkeypatch.setattr(tune, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(tune, "_cells", cells)
    bad, failing, settings = TUNE[1], TUNE[3], {"centred": True}
    with pytest.raises(OSError, match="no room"):
        Tuning(tmp_path, 1, grid, protocol=tune.FEW).measure([("pca", settings), ("pca", settings)])
    assert len(ran) == len(TUNE) - 1, "once each, and all others in spite of one"
    assert len(json.loads(grid.read_text())["cells"]) == len(TUNE) - 2, "a cell that failed will be tried again"

    bad, failing = "", ""
    ran.clear()
    again = Tuning(tmp_path, 1, grid, protocol=tune.FEW)
    again.take()
    again.measure([("pca", settings)])
    assert [i.split()[0] for i in ran] == [TUNE[1], TUNE[3]] and len(again.cells) == len(TUNE)
    assert {c["isolation"] for c in json.loads(grid.read_text())["cells"]} == {0.25}

    grid.write_text('{"cells": [{"isolation": 1}]}')
    with pytest.raises(UsageError, match="is no grid of cells"):
        again.take()


@pytest.mark.slow
def test_a_cell_of_the_grid_is_one_of_bench_run(tmp_path: Path) -> None:
    ask = ("subliminal/fox-narrow", "mean_diff", [{}], 0, tmp_path)
    cell = ("mean_diff", "{}", "subliminal/fox-narrow", 0)
    found = tune._cells(*ask, {}, PROTOCOL_V2)[cell]
    assert found.isolation > 0.3 and list(tmp_path.rglob("result.json"))
    assert tune._cells(*ask, {found.id: 0.125}, PROTOCOL_V2)[cell].isolation == 0.125, "what is known is not run"
