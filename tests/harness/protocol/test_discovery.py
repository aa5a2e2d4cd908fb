"""False discovery: random findings are not discoveries, a direction that causes a behaviour is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffbench.harness.protocol.discovery import Panel
from diffbench.harness.records.result import Result
from diffbench.harness.runs.cell import Cell, run_cell
from diffbench.harness.runs.folder import run_folder, write_run
from diffbench.harness.runs.problem import Problem
from diffbench.harness.runs.stage import Stage
from diffbench.harness.runs.verify import verify
from diffbench.methods.anchors import Supervised, SupervisedConfig
from diffbench.methods.contract import Budget, Finding, Gate
from diffbench.methods.registry import load_method
from diffbench.organisms.registry import load_organism
from pydantic import ValidationError

from ...conftest import SHORT


@pytest.fixture(scope="module")
def null() -> Stage:
    return Stage.load(load_organism("null/benign-narrow"), "cpu", SHORT)


@pytest.fixture(scope="module")
def taboo(stage: Stage) -> Panel:
    """The taboo organism's own prompts as a panel: here there is something to discover."""
    return Panel(stage.pair, stage.organism.behaviour, stage.texts, SHORT, controls=24)


def random_findings(n: int, seed: int) -> list[Finding]:
    return [Finding(v) for v in torch.randn(n, 128, generator=torch.Generator().manual_seed(seed))]


@pytest.mark.slow
def test_random_findings_are_no_discoveries(taboo: Panel) -> None:
    """p is valid: P(p <= x) <= x, here with 30 directions; and a finding has no scale."""
    found = [taboo.test(random_findings(10, seed)) for seed in (1, 2, 3)]
    p = np.array([x for f in found for x in f.p])
    assert p.min() >= found[0].p_min == 1 / 25 and 0.3 < p.mean() < 0.85
    assert (p <= 0.1).mean() <= 0.25 and (p <= 0.5).mean() <= 0.8
    again = taboo.test([Finding(f.direction * 100) for f in random_findings(10, 1)])
    assert again.p == found[0].p


def test_the_direction_that_causes_the_behaviour_is_a_discovery(taboo: Panel, stage: Stage) -> None:
    problem = Problem(stage.pair, stage.texts, stage.organism.behaviour.of("dev"), "supervised", 0, Budget(tokens=4000))
    truth = Supervised(SupervisedConfig()).diff(problem).findings[0]
    gated = truth if truth.gate else Finding(truth.direction, Gate(truth.direction, 0.0))
    found = taboo.test([Finding(truth.direction), gated, *random_findings(2, 5)])
    assert found.p[:2] == [found.p_min] * 2 and found.share >= 0.5
    assert found.ci_low < found.share <= found.ci_high and found.expected == 1 / 25


def test_nothing_is_not_a_discovery(taboo: Panel) -> None:
    found = taboo.test([Finding(torch.zeros(128))])
    assert found.p == [1] and found.effects == [0] and found.share == 0 and found.ci_low == 0


@pytest.mark.slow
def test_a_null_cell_is_ok_and_is_verified(null: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffbench.harness.runs.verify.PROTOCOL_V2", SHORT)
    entry = load_method("mean_diff")
    outcome = run_cell(Cell(null.organism, entry, entry.configure({"tokens": 500}), 0, protocol=SHORT), null)
    result = outcome.result
    assert outcome.diff is not None
    assert result.status == "ok" and result.false_discovery and not result.scores and not result.samples
    assert len(result.false_discovery.p) == len(outcome.diff.findings) and result.false_discovery.controls == 39
    folder = run_folder(tmp_path, null.organism.name, "mean_diff", result.id)
    write_run(folder, result, outcome.diff, "")
    assert verify(folder).ok
    forged = result.false_discovery.model_copy(update={"share": 0.5})
    write_run(folder, result.model_copy(update={"false_discovery": forged}), outcome.diff, "")
    assert [where for where, *_ in verify(folder).differences] == ["false_discovery.share"]
    with pytest.raises(ValidationError, match="scores, samples and behaviour"):
        Result.model_validate(result.model_dump() | {"false_discovery": None})
    with pytest.raises(ValidationError, match="status is not 'ok'"):
        Result.model_validate(result.model_dump() | {"status": "failed"})


def test_the_oracle_has_nothing_to_find_on_a_null(null: Stage) -> None:
    entry = load_method("oracle")
    result = run_cell(Cell(null.organism, entry, entry.configure({}), 0, protocol=SHORT), null).result
    assert result.status == "not_applicable" and "nothing is hidden" in (result.reason or "")
