"""Every built-in method runs on a real organism of the nano base and is scored."""

import pytest
from diffbench.harness.runs.cell import Cell, run_cell
from diffbench.harness.runs.stage import Stage
from diffbench.methods.catalogue import AS_PUBLISHED, PUBLISHED
from diffbench.methods.coder.fitting import DictionaryConfig
from diffbench.methods.contract import Budget
from diffbench.methods.registry import BUILTIN, load_method
from diffbench.organisms.registry import load_organism

from ..conftest import SHORT


@pytest.fixture(scope="module")
def nano() -> Stage:
    return Stage.load(load_organism("subliminal/fox-narrow"), "cpu", SHORT)


ROWS = (*BUILTIN, *(f"{m}{AS_PUBLISHED}" for m in PUBLISHED))
FAST = ("delta@published", "l1", "logit_diff", "sae_pair", "mean_diff", "supervised", "oracle")
"""Built-in methods of each kind; the others run with the long tests."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in ROWS])
def test_every_method_runs_on_the_nano_base(nano: Stage, name: str) -> None:
    entry = load_method(name)
    assert entry.summary and entry.cost
    short = {"steps": 120, "batch": 256} if issubclass(entry.config_class, DictionaryConfig) else {}
    cell = Cell(nano.organism, entry, entry.configure(short), 0, protocol=SHORT, budget=Budget(tokens=8000))
    outcome = run_cell(cell, nano)
    assert outcome.result.status == "ok", outcome.result.reason
    assert outcome.result.scores is not None and outcome.result.scores.isolation.value is not None
    assert outcome.result.cost.tokens <= 8000
    if name == "oracle":
        assert outcome.result.scores.isolation.value == pytest.approx(1.0)
    if name == "random":
        assert outcome.result.scores.isolation.value < 0.1
