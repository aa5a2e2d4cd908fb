"""On an accelerator that is not there (`tests/far.py`) no tensor is left behind on the processor, and results are the processor's."""

import copy

import pytest
import torch
from diffbench.harness.pairs import pair as pairs
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.runs.problem import Problem
from diffbench.harness.runs.stage import Stage, measured
from diffbench.methods.contract import Budget, DiffResult, check_findings
from diffbench.methods.registry import load_method

from ...far import Far, Mixed, far, move

SMALL = {"steps": 30, "batch": 64, "tokens": 500, "patching_tokens": 150, "expansion": 1, "k": 4}
METHODS = "mean_diff pca dw_svd random_difference logit_diff adl probe supervised l1 dfc delta@published".split()
LONG = ("dfc", "delta@published")
"""What they do to tensors `l1` does too, and faster."""
WITHOUT_FLOAT64 = "pca dw_svd logit_diff adl probe l1".split()


def found(stage: Stage, pair: Pair, name: str) -> DiffResult:
    entry = load_method(name)
    config = entry.configure({k: v for k, v in SMALL.items() if k in entry.config_class.model_fields})
    budget = Budget(tokens=600, seconds=100)
    problem = Problem(pair, stage.texts, stage.organism.behaviour.of("dev"), entry.access, 0, budget)
    torch.manual_seed(0)
    return check_findings(entry.create(config).diff(problem), pair.d_model)


def there(stage: Stage, device: torch.device) -> Pair:
    return Pair(move(copy.deepcopy(stage.pair.model), device), stage.pair.tokenizer, stage.pair.layer)


def same(ours: DiffResult, theirs: DiffResult) -> None:
    assert len(ours.findings) == len(theirs.findings)
    for a, b in zip(ours.findings, theirs.findings, strict=True):
        torch.testing.assert_close(a.direction, b.direction, rtol=1e-5, atol=1e-6)
        assert not isinstance(a.direction, Far) and (a.gate is None) == (b.gate is None)


def test_the_far_device_refuses_what_a_real_one_refuses() -> None:
    with far("cuda") as device:
        x = torch.tensor([1.0, 2.0], device=device)
        assert x.device == device and torch.equal((2 * x).cpu(), torch.tensor([2.0, 4.0]))
        for wrong in (lambda: x + torch.ones(2), lambda: torch.cat([x, torch.ones(2)])):
            with pytest.raises(Mixed):
                wrong()
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
    with far("mps") as device, pytest.raises(TypeError, match="float64"):
        torch.ones(2, device=device).double()


@pytest.mark.parametrize(
    ("device", "name"),
    [pytest.param("cuda", n, marks=pytest.mark.slow if n in LONG else ()) for n in METHODS]
    + [pytest.param("mps", n, marks=pytest.mark.slow if n == "l1" else ()) for n in WITHOUT_FLOAT64],
)
def test_a_method_finds_there_what_it_finds_here(
    stage: Stage, device: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where as many answers are drawn at a time: what is sampled depends on it."""
    monkeypatch.setattr(pairs, "ANSWERS", dict.fromkeys(pairs.ANSWERS, 256))
    here = found(stage, stage.pair, name)
    with far(device) as place:
        same(found(stage, there(stage, place), name), here)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_findings_score_there_what_they_score_here(stage: Stage, device: str) -> None:
    diff = found(stage, stage.pair, "mean_diff")
    here = measured(diff, stage)
    with far(device) as place:
        moved = measured(diff, Stage(stage.organism, there(stage, place), stage.texts, stage.protocol, 0.0))
    for score in ("isolation", "sufficiency", "necessity", "mitigation"):
        ours, theirs = (getattr(part["scores"], score).value for part in (moved, here))
        assert ours == pytest.approx(theirs, abs=1e-6) and ours != 0
    assert moved["identification"] == here["identification"]
