"""Settings are chosen by the rule of docs/tuning.md, and the command that carries it out runs cells as `bench run` does."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.methods.registry import load_method

from benchmarks import tune
from benchmarks.tune import OWN, POOL, SHARED, TUNE, Tuning


def tuned(gains: dict[Any, list[float]]) -> Any:
    """What is chosen where a value gains so much over the default on each of the organisms in turn."""
    work = Tuning(Path(), 1)
    for value, gain in gains.items():
        for i, organism in enumerate(TUNE):
            work.cells["delta", tune._key({"k": value}), organism] = 0.5 + gain[i % len(gain)]
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


@pytest.mark.slow
def test_a_cell_of_the_grid_is_one_of_bench_run(tmp_path: Path) -> None:
    found = tune._organism("subliminal/fox-narrow", [("mean_diff", {})], tmp_path)
    assert found["mean_diff", "{}", "subliminal/fox-narrow"] > 0.3 and list(tmp_path.rglob("result.json"))
