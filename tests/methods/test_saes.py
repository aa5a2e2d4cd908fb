"""DSF, DFC and the SAE baselines: what their rows may be, what they find, and what they say."""

import json
from typing import Any

import pytest
import torch
from diffbench.methods.coder.sparse_coder import Group, Objective, SparseCoder
from diffbench.methods.coder.training import TrainConfig, train
from diffbench.methods.contract import DiffResult, Method, check_findings
from diffbench.methods.crosscoders import DFCConfig, DFCCrosscoder, DSFConfig, DSFCrosscoder
from diffbench.methods.saes import (
    BaseSAE,
    DifferenceConfig,
    DifferenceSAE,
    FineTunedSAE,
    PairConfig,
    PairedSAEs,
    SAEConfig,
    StagewiseConfig,
    StagewiseSAE,
)
from torch import Tensor
from torch.nn.functional import normalize

from .fakes import Planted, planted, problem_of

TRAIN: dict[str, Any] = {"steps": 600, "batch": 256, "expansion": 4, "lr": 4e-3, "k": 6}
METHODS: dict[str, Method] = {
    "dsf": DSFCrosscoder(DSFConfig(**TRAIN)),
    "dfc": DFCCrosscoder(DFCConfig(**TRAIN, exclusive_fraction=0.15)),
    "sae_ft": FineTunedSAE(SAEConfig(**TRAIN)),
    "sae_diff": DifferenceSAE(DifferenceConfig(**TRAIN | {"k": 0.06})),
    "sae_pair": PairedSAEs(PairConfig(**TRAIN)),
    "sae_stagewise": StagewiseSAE(StagewiseConfig(**TRAIN)),
}


@pytest.fixture(scope="module")
def truth() -> Planted:
    return planted(tokens=12_288)


@pytest.fixture(scope="module")
def results(truth: Planted) -> dict[str, DiffResult]:
    return {name: method.diff(problem_of(truth.residuals_T2d)) for name, method in METHODS.items()}


@pytest.mark.parametrize("name", METHODS)
def test_planted_exclusive_direction_is_the_top_finding(
    results: dict[str, DiffResult], truth: Planted, name: str
) -> None:
    """A dictionary of the base that learned the feature afterwards has it in a row that still remembers something else."""
    directions = torch.stack([f.direction for f in results[name].findings])
    cosines = normalize(directions, dim=1) @ truth.exclusive_Ed[0]
    assert float(cosines[0]) > (0.6 if name == "sae_stagewise" else 0.9), cosines


@pytest.mark.parametrize("name", METHODS)
def test_result_meets_the_contract(results: dict[str, DiffResult], name: str) -> None:
    result = check_findings(results[name], 32)
    json.dumps(result.diagnostics, allow_nan=False)
    assert all((f.gate is None) == (name == "sae_diff") for f in result.findings)
    assert result.diagnostics["kl_patching"]["n_best"] > 0 if name not in ("sae_pair", "sae_stagewise") else True
    scores = [f.score for f in result.findings]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("rank", ["latent_scaling", "contribution"])
def test_an_sae_on_the_base_finds_what_the_fine_tune_made_stronger(rank: Any) -> None:
    """It cannot see what only the fine-tuned model has; it can see a feature of its own that grew."""
    both = planted(tokens=8192, n_exclusive=1)
    base = both.residuals_T2d[:, 1]  # the feature is in both models, half as long in the base
    grown = (base @ both.exclusive_Ed[0] - (base @ both.exclusive_Ed[0]).quantile(0.9)).clamp_min(0)
    h = torch.stack([base, base + grown[:, None] * both.exclusive_Ed[0]], 1)
    found = BaseSAE(SAEConfig(**TRAIN, rank=rank)).diff(problem_of(h)).findings
    assert float(normalize(found[0].direction, dim=0) @ both.exclusive_Ed[0]) > 0.9


def trained(kinds: list[tuple[Any, int]], h: Tensor) -> SparseCoder:
    coder = SparseCoder(32, [Group(64, 6)], kinds=kinds)
    train(coder, h, TrainConfig(steps=60, batch=256), Objective(aux=1 / 32))
    return coder


def test_tied_rows_stay_tied_and_exclusive_rows_exclusive(truth: Planted) -> None:
    coder = trained([("tied", 20), ("base", 10), ("ft", 10)], truth.residuals_T2d)
    fresh = SparseCoder(32, [Group(64, 6)], kinds=coder.kinds)
    base_Nd, ft_Nd = coder.decoder_ND.detach().unflatten(1, (2, 32)).unbind(1)
    assert torch.equal(base_Nd[:20], ft_Nd[:20]) and not torch.equal(base_Nd[40:], ft_Nd[40:])
    for rows_ND, other in ((coder.decoder_ND, fresh.decoder_ND), (coder.encoder_ND, fresh.encoder_ND)):
        rows_NMd = rows_ND.detach().unflatten(1, (2, 32))
        assert not rows_NMd[20:30, 1].any() and not rows_NMd[30:40, 0].any()
        assert not torch.equal(rows_ND, other)
    encoder_NMd = coder.encoder_ND.detach().unflatten(1, (2, 32))
    assert not torch.equal(encoder_NMd[:20, 0], encoder_NMd[:20, 1]), "only the decoder of a shared latent is tied"


@pytest.mark.parametrize("name", ["sae_ft", "sae_pair", "sae_diff"])
def test_identical_models_give_next_to_nothing(truth: Planted, name: str) -> None:
    method = METHODS[name]
    short = type(method)(method.config.model_copy(update={"steps": 200}))  # type: ignore[attr-defined, call-arg]
    base = truth.residuals_T2d[:, :1].expand(-1, 2, -1)
    assert name != "sae_diff" or short.diff(problem_of(base)).findings[0].evidence["note"]
    same = torch.stack([f.direction for f in short.diff(problem_of(base)).findings]).norm(dim=1).max()
    real = torch.stack([f.direction for f in short.diff(problem_of(truth.residuals_T2d)).findings]).norm(dim=1).max()
    assert float(same) < 0.3 * float(real)
