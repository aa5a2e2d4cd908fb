"""Settings are chosen by the rule of docs/tuning.md, and the command that carries it out runs cells as `bench run` does."""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.methods.registry import load_method
from diffbench.organisms.errors import UsageError
from diffbench.organisms.registry import load_organism
from diffbench.organisms.sets import members

from benchmarks import tune
from benchmarks.tune import OWN, POOL, SHARED, TUNE, Tuning


def tuned(gains: dict[Any, list[float]]) -> Any:
    """What is chosen where a value gains so much over the default on each of the organisms in turn."""
    work = Tuning(Path(), 1, Path())
    for value, gain in gains.items():
        for i, organism in enumerate(TUNE):
            work.cells["delta", tune._key({"k": value}), organism, 0] = 0.5 + gain[i % len(gain)]
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


def test_the_set_is_of_organisms_that_can_be_scored_and_stands_in_no_headline() -> None:
    assert len(TUNE) == len(set(TUNE)) == 12 and not set(TUNE) & set(members("core-v1"))
    for organism in TUNE:
        load_organism(organism)


def test_the_whole_rule_runs_and_says_what_came_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With cells that are made up: more steps are better, contribution ranks best for delta, and nothing else matters."""

    def measure(self: Tuning, wanted: Sequence[tuple[str, tune.Settings]], seed: int = 0) -> None:
        for method, settings in wanted:
            for i, organism in enumerate(TUNE):
                score = (
                    i / 100
                    + settings.get("steps", 0) / 1e4
                    + 0.2 * (settings.get("rank") == "contribution") * (method == "delta")
                )
                self.cells[method, tune._key(settings), organism, seed] = score if seed == 0 else 1 - score

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
    assert chosen["l1"]["rank"] == "rdn" and chosen["sae_pair"]["steps"] == 900 and "k" not in chosen["l1"]
    assert "| `delta` | -1.00 |" in page.read_text() and "`pca` | -1.00" not in page.read_text()


def test_a_stopped_run_goes_on_from_its_grid_and_takes_no_cell_of_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, asked = tmp_path / "grid.json", list[tuple[str, int]]()

    class Here:
        """A pool of this process."""

        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> "Here":
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, task: Any) -> Future[Any]:
            found: Future[Any] = Future()
            found.set_result(task())
            return found

    def organism(name: str, wanted: list[Any], seed: int, out: Path) -> dict[tune.Cell, float]:
        asked.append((name, len(wanted)))
        return {(m, tune._key(s), name, seed): 0.25 for m, s in wanted}

    monkeypatch.setattr(tune, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(tune, "_organism", organism)
    Tuning(tmp_path, 1, grid).measure([("pca", {"centred": True}), ("pca", {"centred": True})])
    assert asked == [(o, 1) for o in TUNE]
    again = Tuning(tmp_path, 1, grid)
    again.take()
    again.measure([("pca", {"centred": True}), ("pca", {"centred": False})])
    assert asked[len(TUNE) :] == [(o, 1) for o in TUNE] and len(again.cells) == 2 * len(TUNE)
    again.measure([("pca", {"centred": False})])
    assert len(asked) == 2 * len(TUNE), "everything is there"
    grid.write_text(grid.read_text().replace('"of": "', '"of": "0'))
    with pytest.raises(UsageError, match="by other code"):
        again.take()


@pytest.mark.slow
def test_a_cell_of_the_grid_is_one_of_bench_run(tmp_path: Path) -> None:
    found = tune._organism("subliminal/fox-narrow", [("mean_diff", {})], 0, tmp_path)
    assert found["mean_diff", "{}", "subliminal/fox-narrow", 0] > 0.3 and list(tmp_path.rglob("result.json"))
