"""KL patching equals dense hybrids of the residuals, and closes the gap exactly when the dictionary is exact."""

import json

import pytest
import torch
from diffbench.methods.coder import analysis, patching
from diffbench.methods.coder.analysis import survey
from diffbench.methods.coder.patching import kl_patching
from diffbench.methods.coder.readout import changes, ranking
from diffbench.methods.coder.sparse_coder import Codes, Inputs, SparseCoder
from torch import Tensor

from ..fakes import FakeProblem
from .coders import INPUTS, D, planted_betas, random_coder


def dense_hybrids(coder: SparseCoder, h_T2d: Tensor, order: Tensor) -> dict[str, Tensor]:
    raw, half = coder.raw(), (len(order) + 1) // 2
    f_TN = coder.encode(coder.normalise(h_T2d)).dense()
    base_Nd, ft_Nd = raw.decoder_NMd[:, 0], raw.decoder_NMd[:, -1]
    sets = {"best": order[:half], "worst": order[half:], "all": torch.arange(coder.n_latents)}
    out = {"none": h_T2d[:, 0]}
    for which, s in sets.items():
        if coder.inputs == "concat":
            out[f"replace_{which}"] = h_T2d[:, 0] + f_TN[:, s] @ (ft_Nd - base_Nd)[s]
        out[f"add_{which}"] = h_T2d[:, 0] + f_TN[:, s] @ ft_Nd[s]
    if coder.inputs == "concat":
        x_T2d = raw.decode(f_TN)
        out["reconstruction"] = x_T2d[:, 1] + (h_T2d[:, 0] - x_T2d[:, 0])
        out["error"] = x_T2d[:, 0] + (h_T2d[:, 1] - x_T2d[:, 1])
    return out


@pytest.mark.parametrize("inputs", INPUTS)
def test_kl_patching_equals_dense_hybrids_and_encodes_once(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several latents at once: a peer divides rows [L, d] by norms [L]."""
    coder, h_T2d = random_coder(inputs, dtype=torch.float32)
    order = torch.tensor([5, 3, 9, 1, 7])
    calls = list[int]()
    encode = coder.encode

    def counted(x_BD: Tensor) -> Codes:
        calls.append(len(x_BD))
        return encode(x_BD)

    monkeypatch.setattr(coder, "encode", counted)
    monkeypatch.setattr(analysis, "CHUNK", 70)
    problem = FakeProblem({"chat": h_T2d})
    facts = json.loads(json.dumps(kl_patching(problem, coder, order, tokens=200), allow_nan=False))
    assert calls == [70, 70, 60]
    hybrids = dense_hybrids(coder, h_T2d[:200], order)
    expected = problem.divergence([lambda both, h=h: h[None] for h in hybrids.values()], tokens=200)
    assert facts["kl_nats"] == pytest.approx(dict(zip(hybrids, expected, strict=True)), rel=1e-4)
    assert facts["n_best"] == 3 and facts["n_worst"] == 2


def test_kl_patching_with_an_exact_dictionary_closes_the_gap() -> None:
    """γ = β, so nothing is left over, and equal biases, so the latents are the whole change."""
    coder, h_T2d, _, beta_N, _ = planted_betas(1.0)
    shift = coder.raw().decoder_bias_Md.diff(dim=0)[0]
    h_T2d[:, 0] += shift
    with torch.no_grad():
        coder.decoder_ND[:, :D] = beta_N[:, None] * coder.decoder_ND[:, D:]
        coder.decoder_bias_D[:D] += shift
    coder, h_T2d = coder.float(), h_T2d.float()
    order = ranking(coder.raw(), survey(coder, h_T2d), "contribution", min_tokens=1).latents
    facts = kl_patching(FakeProblem({"chat": h_T2d}), coder, order)
    nats, recovered = facts["kl_nats"], facts["recovered"]
    assert nats["none"] > 0.1 and nats["error"] == pytest.approx(nats["none"], rel=1e-3)
    assert [nats["reconstruction"], nats["replace_all"]] == pytest.approx([0, 0], abs=1e-5)
    assert 1 > recovered["replace_best"] > 0.5 > recovered["replace_worst"] > 0
    assert set(recovered) == set(nats) - {"none"}


def test_sae_patches_its_claimed_change_when_given() -> None:
    coder, h_T2d = random_coder("ft", dtype=torch.float32)
    raw, seen = coder.raw(), survey(coder, h_T2d)
    change_Nd = changes(raw, seen)
    assert change_Nd[-1].isnan().all()  # never active
    problem = FakeProblem({"chat": h_T2d})
    facts = kl_patching(problem, coder, torch.arange(6), change_Nd)
    f_TN = coder.encode(coder.normalise(h_T2d)).dense()
    hybrid = h_T2d[:, 0] + f_TN[:, :3] @ change_Nd[:3]
    (expected,) = problem.divergence([lambda both: hybrid[None]])
    assert facts["kl_nats"]["replace_best"] == pytest.approx(expected, rel=1e-4)
    assert all(map(torch.isfinite, torch.tensor(list(facts["kl_nats"].values()))))


def test_without_a_gap_nothing_is_recovered() -> None:
    coder, h_T2d = random_coder(dtype=torch.float32)
    same = h_T2d[:, :1].expand(-1, 2, -1).contiguous()
    facts = patching.kl_patching(FakeProblem({"chat": same}), coder, torch.arange(0))
    assert facts["kl_nats"]["none"] == 0 and facts["recovered"]["replace_all"] is None
    assert facts["kl_nats"]["replace_best"] == 0  # no candidate, no change
