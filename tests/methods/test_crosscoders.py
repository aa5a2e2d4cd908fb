import json
from typing import Any

import pytest
import torch
from diffbench.methods.catalogue import PUBLISHED
from diffbench.methods.coder.dictionary import RawCoder
from diffbench.methods.contract import Budget, DiffProblem, DiffResult, Finding, Method, check_findings
from diffbench.methods.crosscoders import (
    BatchTopKConfig,
    BatchTopKCrosscoder,
    DeltaConfig,
    DeltaCrosscoder,
    L1Config,
    L1Crosscoder,
)
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import normalize

from .fakes import FakeProblem, Planted, planted, problem_of

TRAIN: dict[str, Any] = {"steps": 600, "batch": 256, "expansion": 4, "lr": 4e-3}
METHODS = {
    "l1": L1Crosscoder(L1Config(**TRAIN)),
    "batch_topk": BatchTopKCrosscoder(BatchTopKConfig(**TRAIN, k=6)),
    "delta": DeltaCrosscoder(DeltaConfig(**TRAIN, k=3)),
    "delta@published": DeltaCrosscoder(DeltaConfig(**TRAIN, k=3, **PUBLISHED["delta"])),
}


@pytest.fixture(scope="module")
def truth() -> Planted:
    return planted(tokens=12_288)


@pytest.fixture(scope="module")
def results(truth: Planted) -> dict[str, DiffResult]:
    return {name: method.diff(problem_of(truth.residuals_T2d)) for name, method in METHODS.items()}


def stack(found: list[Finding]) -> torch.Tensor:
    """Directions [findings, d_model]."""
    return torch.stack([f.direction for f in found])


def alignment(result: DiffResult, truth: Planted) -> float:
    return float(normalize(result.findings[0].direction, dim=0) @ truth.exclusive_Ed[0])


@pytest.mark.parametrize("name", METHODS)
def test_planted_exclusive_direction_is_the_top_finding(
    results: dict[str, DiffResult], truth: Planted, name: str
) -> None:
    result = results[name]
    assert alignment(result, truth) > 0.9  # with its sign: from base to fine-tuned
    assert result.findings[0].evidence["rdn"] > 0.7
    # raw units: the atom enters the fine-tuned model with 1.5 × a coefficient of mean 1.25
    assert 0.8 < result.findings[0].direction.norm() < 2.5


@pytest.mark.parametrize("name", METHODS)
def test_result_meets_the_contract_and_is_json(results: dict[str, DiffResult], name: str) -> None:
    result = check_findings(results[name], 32)
    facts = json.loads(json.dumps(result.diagnostics, allow_nan=False))
    assert len(result.findings) == 16
    assert facts["explained_variance"]["base"] > 0.5
    assert sum(facts["rdn_histogram"]) <= facts["n_latents"] == 128
    json.dumps([finding.evidence for finding in result.findings], allow_nan=False)
    assert {t for t, n in facts["harvest_tokens"].items() if n} == {"neutral", "chat"} | (
        {"contrastive"} if name == "delta@published" else set()
    )


@pytest.mark.parametrize("name", METHODS)
def test_saved_dictionary_rebuilds_the_coder(results: dict[str, DiffResult], truth: Planted, name: str) -> None:
    raw = RawCoder(**(results[name].dictionary or {}))
    h = truth.residuals_T2d[:4096]
    left = (h - raw.decode(raw.encode(h))).square().sum((0, 2))
    explained = 1 - left / (h - h.mean(0)).square().sum((0, 2))
    ours = results[name].diagnostics["explained_variance"]
    assert explained.tolist() == pytest.approx([ours["base"], ours["ft"]], abs=0.03)


def test_methods_and_fake_meet_their_protocols(truth: Planted) -> None:
    assert all(isinstance(method, Method) for method in METHODS.values())
    assert isinstance(problem_of(truth.residuals_T2d), DiffProblem)
    assert [(m.name, m.access) for m in METHODS.values()] == [
        ("l1", "activations"),
        ("batch_topk", "activations"),
        *[("delta", "+generations")] * 2,
    ]


@pytest.mark.parametrize("name", ["batch_topk", "delta"])
def test_rescaled_and_shifted_residuals_give_rescaled_directions(truth: Planted, name: str) -> None:
    method = type(METHODS[name])(METHODS[name].config.model_copy(update={"steps": 40}))
    h = truth.residuals_T2d
    plain, scaled = (stack(method.diff(problem_of(x)).findings) for x in (h, 8 * h))
    torch.testing.assert_close(scaled, 8 * plain, rtol=1e-4, atol=1e-5)
    shifted = stack(method.diff(problem_of(h + 0.5)).findings)
    torch.testing.assert_close(shifted[0], plain[0], rtol=0.02, atol=0.02)


def test_diff_is_deterministic_and_seeded(truth: Planted) -> None:
    method = DeltaCrosscoder(METHODS["delta"].config.model_copy(update={"steps": 40}))
    first, again, other = (
        stack(method.diff(problem_of(truth.residuals_T2d, seed=seed)).findings) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_identical_models_give_no_direction(truth: Planted) -> None:
    base = truth.residuals_T2d[:, :1].expand(-1, 2, -1)
    result = METHODS["batch_topk"].diff(problem_of(base))
    assert stack(result.findings).norm(dim=1).max() < 1e-2
    assert result.diagnostics["explained_variance"]["delta"] is None
    assert max(f.score for f in result.findings) < 0.51


@pytest.mark.parametrize(
    ("options", "groups", "n_shared"),
    [
        ({}, [(205, 32.0), (819, 16.0)], 205),
        ({"dual_k": False}, [(1024, 48.0)], 205),
        ({"mask_shared": False}, [(205, 32.0), (819, 16.0)], 205),
        ({"dual_k": False, "mask_shared": False}, [(1024, 48.0)], 0),
    ],
)
def test_delta_layout(options: dict[str, bool], groups: list[tuple[int, float]], n_shared: int) -> None:
    layout, shared = DeltaConfig(**options).layout(1024)  # pyright: ignore[reportArgumentType]
    assert [tuple(g) for g in layout] == groups and shared == n_shared


@pytest.mark.parametrize("off", ["dual_k", "mask_shared", "delta", "aux", "contrastive_share"])
def test_each_ingredient_of_delta_switches_off_alone(truth: Planted, results: dict[str, DiffResult], off: str) -> None:
    config = METHODS["delta@published"].config.model_copy(
        update={off: False if off in ("dual_k", "mask_shared") else 0.0}
    )
    config = config.model_copy(update={"steps": 60})
    problem = problem_of(truth.residuals_T2d)
    result = DeltaCrosscoder(config).diff(problem)
    assert (result.diagnostics["loss"]["delta"] == 0) == (off == "delta")
    assert ("contrastive" not in [text for text, _ in problem.asked]) == (off == "contrastive_share")
    assert result.diagnostics["n_shared"] == 26
    assert all(f.evidence["latent"] >= 26 for f in result.findings)


def test_harvest_keeps_to_the_token_budget_and_the_shares(truth: Planted) -> None:
    for method, expected in (
        (METHODS["batch_topk"], (1500, 1500)),
        (METHODS["delta@published"], (1350, 1350, 300)),
        (METHODS["delta"], (1500, 1500, 0)),
    ):
        problem = problem_of(truth.residuals_T2d, budget=Budget(tokens=3000))
        result = type(method)(method.config.model_copy(update={"steps": 20})).diff(problem)
        assert tuple(result.diagnostics["harvest_tokens"].values()) == expected


def test_exhausted_time_is_said_and_still_gives_findings(truth: Planted) -> None:
    result = METHODS["batch_topk"].diff(problem_of(truth.residuals_T2d, budget=Budget(seconds=0.0)))
    assert result.diagnostics["budget_exhausted"] and result.diagnostics["steps"] == 20
    check_findings(result, 32)


@pytest.mark.parametrize("config", [L1Config, BatchTopKConfig, DeltaConfig])
def test_every_option_has_help_and_unknown_ones_are_refused(config: Any) -> None:
    assert all(field.description for field in config.model_fields.values())
    with pytest.raises(ValidationError):
        config(kk=3)


def test_contrastive_text_is_not_asked_for_by_activation_methods(truth: Planted) -> None:
    problem = FakeProblem({"neutral": truth.residuals_T2d, "chat": truth.residuals_T2d})
    result = BatchTopKCrosscoder(BatchTopKConfig(**{**TRAIN, "steps": 20}, k=6)).diff(problem)
    assert {text for text, _ in problem.asked} == {"neutral", "chat"}
    assert isinstance(result.findings[0].direction, Tensor)
