"""The survey and the betas computed from its one pass equal their definitions, and evaluating a coder changes nothing."""

import hashlib
from typing import Any

import pytest
import torch
from diffbench.methods.coder import analysis
from diffbench.methods.coder.analysis import survey
from diffbench.methods.coder.patching import kl_patching
from diffbench.methods.coder.readout import diagnostics, findings
from diffbench.methods.coder.scaling import (
    BASE_ONLY,
    FT_ONLY,
    SHARED,
    LatentScaling,
    latent_scaling,
    relative_decoder_norm,
)
from diffbench.methods.coder.sparse_coder import Inputs, SparseCoder
from torch import Tensor

from ..fakes import FakeProblem
from .coders import F64, INPUTS, SAES, D, planted_betas, random_coder
from .reference_scaling import TARGETS, eight_passes


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_all_eight_planted_betas_are_recovered_whatever_the_normaliser(scale: float) -> None:
    coder, h_T2d, f_TN, beta_N, gamma_N = planted_betas(scale)
    raw = coder.raw()
    found = latent_scaling(raw, survey(coder, h_T2d))
    one = torch.ones(D, dtype=F64)
    offset_2N = f_TN.sum(0) * (raw.decoder_bias_Md @ raw.decoder_NMd[:, 1].T) / f_TN.square().sum(0)
    expected = {
        "unbiased_2N": torch.stack([beta_N, one]),
        "error_2N": torch.stack([beta_N, one]),
        "activation_2N": torch.stack([beta_N, one]) + offset_2N,
        "reconstruction_2N": torch.stack([gamma_N, one]) + offset_2N,
        "nu_error_N": beta_N,
        "nu_decoded_N": gamma_N,
    }
    for name, value in expected.items():
        torch.testing.assert_close(getattr(found, name), value, rtol=1e-6, atol=1e-6)


def test_one_pass_equals_eight_dense_passes() -> None:
    coder, h_T2d = random_coder()
    raw = coder.raw()
    found, expected = latent_scaling(raw, survey(coder, h_T2d)), eight_passes(raw, h_T2d)
    for target in TARGETS:
        torch.testing.assert_close(
            getattr(found, f"{target}_2N"), expected[target], rtol=1e-10, atol=1e-10, equal_nan=True
        )
        assert expected[target][:, -2:].isnan().all() and expected[target][:, :-2].isfinite().all()
    for name, target in {"nu_error_N": "error", "nu_reconstruction_N": "reconstruction"}.items():
        base, ft = expected[target]
        torch.testing.assert_close(getattr(found, name), base / ft, equal_nan=True)
    cheap = eight_passes(raw, h_T2d, literal=False)
    torch.testing.assert_close(cheap["error"], expected["error"], equal_nan=True)


def test_single_precision_betas_are_close_to_those_in_double() -> None:
    coder, h_T2d = random_coder(dtype=torch.float32)
    found = latent_scaling(coder.raw(), survey(coder, h_T2d))
    coder, h_T2d = random_coder()
    for ours, exact in zip(found, latent_scaling(coder.raw(), survey(coder, h_T2d)), strict=True):
        near = exact.abs() < 10  # ratios near a zero of the denominator magnify rounding
        torch.testing.assert_close(ours[near], exact[near], rtol=1e-5, atol=1e-5)


def test_chunks_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    coder, h_T2d = random_coder()
    positions = torch.arange(300) % 37
    whole = survey(coder, [(h_T2d, None, positions)])
    monkeypatch.setattr(analysis, "CHUNK", 41)
    parts = survey(coder, [(h_T2d, None, positions)])
    for name in ("fires_N", "sums_N", "squares_N", "along_2N", "error_MN", "mean_2d", "top_values_NK", "top_tokens_NK"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    assert parts.explained == pytest.approx(whole.explained)


@pytest.mark.parametrize("inputs", SAES)
def test_sae_betas_follow_their_definition(inputs: Inputs) -> None:
    coder, h_T2d = random_coder(inputs)
    raw, seen = coder.raw(), survey(coder, h_T2d)
    found = latent_scaling(raw, seen)
    own_Td = {"base": h_T2d[:, 0], "ft": h_T2d[:, 1], "difference": h_T2d[:, 1] - h_T2d[:, 0]}[inputs]
    f_TN, d_Nd = raw.encode(own_Td[:, None]), raw.decoder_NMd[:, 0]
    rebuilt_Td = raw.decode(f_TN)[:, 0]

    def beta(y_Td: Tensor) -> Tensor:
        return ((f_TN.T @ y_Td) * d_Nd).sum(1) / (f_TN.square().sum(0) * d_Nd.square().sum(1))

    expected = LatentScaling(*(torch.full((2, 24), torch.nan, dtype=F64) for _ in range(5)), *[torch.empty(0)] * 3)
    for m in (0, 1):
        expected.activation_2N[m] = beta(h_T2d[:, m])
        expected.centred_2N[m] = beta(h_T2d[:, m] - h_T2d[:, m].mean(0))
    if inputs != "difference":
        m = ("base", "ft").index(inputs)
        expected.unbiased_2N[m] = beta(own_Td - raw.decoder_bias_Md[0])
        expected.reconstruction_2N[m] = beta(rebuilt_Td)
        expected.error_2N[m] = beta(own_Td - rebuilt_Td) + 1  # the latent's own contribution added back
    for ours, theirs in zip(found[:5], expected[:5], strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)
    assert found.nu_error_N.isnan().all()


@pytest.mark.parametrize(("inputs", "reads"), [("base", 0), ("ft", 1)])
def test_an_sae_reads_its_own_model(inputs: Inputs, reads: int) -> None:
    """A peer encodes the fine-tuned activations whichever model the SAE is of."""
    coder, h_T2d = random_coder(inputs)
    seen = survey(coder, h_T2d)
    other = h_T2d.clone()
    other[:, 1 - reads] = torch.randn(300, D, dtype=F64)
    again = survey(coder, other)
    assert torch.equal(seen.fires_N, again.fires_N) and torch.equal(seen.sums_N, again.sums_N)
    torch.testing.assert_close(seen.along_2N[reads], again.along_2N[reads])
    assert not torch.allclose(seen.along_2N[1 - reads], again.along_2N[1 - reads])
    assert [name for name, value in seen.explained.items() if value is not None] == [inputs]


def test_explained_variance_of_an_exact_and_of_an_empty_dictionary() -> None:
    coder, h_T2d, *_ = planted_betas(1.0)
    assert survey(coder, h_T2d).explained["ft"] == pytest.approx(1)
    with torch.no_grad():
        coder.mean_D.copy_(h_T2d.mean(0).flatten())
        coder.encoder_bias_N.fill_(-1e9)
        coder.decoder_bias_D.zero_()
    nothing = survey(coder, h_T2d)
    assert nothing.explained == {"base": 0, "ft": 0, "delta": 0} and nothing.l0 == 0


def test_relative_decoder_norm_is_0_half_1() -> None:
    one, none = torch.tensor([3.0, 4.0]), torch.zeros(2)
    decoder_NMd = torch.stack([torch.stack(pair) for pair in [(one, none), (one, -one), (none, one), (none, none)]])
    assert relative_decoder_norm(decoder_NMd).tolist() == [0.0, 0.5, 1.0, 0.5]
    mixed = torch.stack([one, 3 * one])[None]
    assert relative_decoder_norm(mixed).tolist() == [0.75]


@pytest.mark.parametrize(("published", "ours"), [(0.9, FT_ONLY), (0.1, BASE_ONLY), (0.4, SHARED[0]), (0.6, SHARED[1])])
def test_published_norm_thresholds_are_translated_exactly(published: float, ours: float) -> None:
    """Δnorm = ½((‖d_ft‖ − ‖d_base‖)/max + 1) at the norms that have our threshold."""
    base, ft = 1 - ours, ours
    assert ((ft - base) / max(ft, base) + 1) / 2 == pytest.approx(published)
    assert float(relative_decoder_norm(torch.tensor([[[base, 0.0], [0.0, ft]]]))) == pytest.approx(ours)


def state_hash(coder: SparseCoder) -> str:
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in coder.state_dict().values())).hexdigest()


@pytest.mark.parametrize("inputs", INPUTS)
def test_evaluation_changes_no_state(inputs: Inputs) -> None:
    """A peer's validation moves thresholds and the clocks of dead latents."""
    coder, h_T2d = random_coder(inputs, dtype=torch.float32)
    before, residuals = state_hash(coder), h_T2d.clone()

    def evaluate() -> tuple[list[Tensor], dict[str, Any], dict[str, Any]]:
        raw, seen = coder.raw(), survey(coder, h_T2d)
        patched = kl_patching(FakeProblem({"chat": h_T2d}), coder, torch.arange(4), tokens=20)
        return [f.direction for f in findings(raw, seen, "contribution", 1)], diagnostics(raw, seen, 1), patched

    first, second = evaluate(), evaluate()
    assert state_hash(coder) == before and torch.equal(h_T2d, residuals)
    assert all(map(torch.equal, first[0], second[0])) and first[1:] == second[1:]


def test_top_activations_are_exact_with_many_pairs_of_one_latent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer's maximum by advanced indexing keeps the last of several activations in a batch."""
    monkeypatch.setattr(analysis, "CHUNK", 64)
    coder, h_T2d = random_coder()
    text_T = torch.arange(300) // 23
    seen = survey(coder, [(h_T2d, None, torch.arange(300) % 23)])
    f_TN = coder.raw().encode(h_T2d)
    for j in range(24):
        per_text = [(float(f_TN[text_T == t, j].max()), t) for t in range(int(text_T.max()) + 1)]
        best = [value for value, _ in sorted(per_text, reverse=True) if value > 0][: analysis.EXAMPLES]
        assert seen.top_values_NK[j, : len(best)].tolist() == pytest.approx(best)
        tokens = seen.top_tokens_NK[j, : len(best)]
        assert f_TN[tokens, j].tolist() == pytest.approx(best)
        assert len(set(text_T[tokens].tolist())) == len(best)
    assert seen.top_values_NK[:, 0].tolist() == pytest.approx(f_TN.amax(0).tolist())
