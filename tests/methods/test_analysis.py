import hashlib
import json
from typing import Any

import pytest
import torch
from diffbench.methods import analysis, patching
from diffbench.methods.analysis import (
    BASE_ONLY,
    FT_ONLY,
    SHARED,
    LatentScaling,
    Survey,
    latent_scaling,
    relative_decoder_norm,
    survey,
    template_tokens,
)
from diffbench.methods.contract import Finding
from diffbench.methods.dictionary import RawCoder
from diffbench.methods.patching import kl_patching
from diffbench.methods.readout import RankError, changes, diagnostics, findings, ranking
from diffbench.methods.sparse_coder import Codes, Group, Inputs, Objective, SparseCoder
from diffbench.methods.training import TrainConfig, train
from diffbench.organisms.tokenizer import build_tokenizer
from torch import Tensor
from torch.nn.functional import normalize

from .fakes import FakeProblem, Planted, planted
from .reference_scaling import TARGETS, eight_passes

D, F64 = 8, torch.float64
INPUTS: tuple[Inputs, ...] = ("concat", "base", "ft", "difference")
SAES: tuple[Inputs, ...] = ("base", "ft", "difference")


def coder_of(
    encoder_NMd: Tensor, decoder_NMd: Tensor, bias_Md: Tensor, inputs: Inputs = "concat", scale: float = 1.0
) -> SparseCoder:
    """A ReLU coder with f = h·encoder and ĥ = f·decoder + bias in raw units, whatever its normaliser."""
    n, m, d = encoder_NMd.shape
    coder = SparseCoder(d, [Group(n)], "l1", inputs=inputs).to(encoder_NMd.dtype)
    mean_D = torch.linspace(-1, 2, m * d, dtype=encoder_NMd.dtype)
    with torch.no_grad():
        coder.mean_D.copy_(mean_D)
        coder.scale.fill_(scale)
        coder.encoder_ND.copy_(encoder_NMd.flatten(1) / scale)
        coder.encoder_bias_N.copy_(encoder_NMd.flatten(1) @ mean_D)
        coder.decoder_ND.copy_(decoder_NMd.flatten(1) * scale)
        coder.decoder_bias_D.copy_((bias_Md.flatten() - mean_D) * scale)
    return coder


def random_coder(inputs: Inputs = "concat", n: int = 24, dtype: torch.dtype = F64) -> tuple[SparseCoder, Tensor]:
    """A coder with random rows, some of them silent, and residuals [300, 2, 8]."""
    g = torch.Generator().manual_seed(0)
    m = 2 if inputs == "concat" else 1
    encoder, decoder = torch.randn(2, n, m, D, generator=g, dtype=F64)
    encoder[-2:] = 0  # never active
    coder = coder_of(encoder, decoder, torch.randn(m, D, generator=g, dtype=F64), inputs, scale=0.3)
    return coder.to(dtype), (1 + torch.randn(300, 2, D, generator=g, dtype=F64)).to(dtype)


def state_hash(coder: SparseCoder) -> str:
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in coder.state_dict().values())).hexdigest()


def planted_betas(scale: float) -> tuple[SparseCoder, Tensor, Tensor, Tensor, Tensor]:
    """Orthonormal latents whose share β_j is in the base and γ_j in the base's decoder.

    The codes are read from the fine-tuned residual: h_ft = b_ft + Σ f_j e_j, h_base = b_base + Σ β_j f_j e_j.
    Returns coder, residuals [200, 2, 8], codes [200, 8], β [8] and γ [8].
    """
    g = torch.Generator().manual_seed(3)
    e_Nd = torch.linalg.qr(torch.randn(D, D, generator=g, dtype=F64))[0]
    beta_N = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.5, -0.05, 1.0, 0.9], dtype=F64)
    gamma_N = torch.tensor([0.0, 0.25, 1.0, 1.2, 0.1, 0.5, 0.15, 0.8], dtype=F64)
    f_TN = torch.rand(200, D, generator=g, dtype=F64) * (torch.rand(200, D, generator=g) < 0.3) + 0.0
    bias_2d = torch.randn(2, D, generator=g, dtype=F64)
    h_T2d = torch.stack([(f_TN * beta_N) @ e_Nd, f_TN @ e_Nd], 1) + bias_2d
    encoder = torch.stack([torch.zeros_like(e_Nd), e_Nd], 1)
    coder = coder_of(encoder, torch.stack([gamma_N[:, None] * e_Nd, e_Nd], 1), bias_2d, scale=scale)
    with torch.no_grad():
        coder.encoder_bias_N.sub_(e_Nd @ bias_2d[1] + 1e-9)  # a zero code is not an active one
    return coder, h_T2d, f_TN, beta_N, gamma_N


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
    whole = survey(coder, h_T2d, positions_T=positions)
    monkeypatch.setattr(analysis, "CHUNK", 41)
    parts = survey(coder, h_T2d, positions_T=positions)
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
    seen = survey(coder, h_T2d, positions_T=torch.arange(300) % 23)
    f_TN = coder.raw().encode(h_T2d)
    for j in range(24):
        per_text = [(float(f_TN[text_T == t, j].max()), t) for t in range(int(text_T.max()) + 1)]
        best = [value for value, _ in sorted(per_text, reverse=True) if value > 0][: analysis.EXAMPLES]
        assert seen.top_values_NK[j, : len(best)].tolist() == pytest.approx(best)
        tokens = seen.top_tokens_NK[j, : len(best)]
        assert f_TN[tokens, j].tolist() == pytest.approx(best)
        assert len(set(text_T[tokens].tolist())) == len(best)
    assert seen.top_values_NK[:, 0].tolist() == pytest.approx(f_TN.amax(0).tolist())


class Stub:
    """A tokenizer whose template writes a system prompt (ids 50–52) and role names (7, 8) as ordinary tokens."""

    all_special_ids = (0, 1)
    chat_template: str | None = "…"

    def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool) -> str:
        turns = "".join(f" 0 {7 if m['role'] == 'user' else 8} {m['content']} 1" for m in messages)
        return f"50 51 52{turns}"

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [int(word) for word in text.split()]}

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))


def test_template_tokens_are_special_ids_and_what_an_empty_exchange_adds() -> None:
    assert template_tokens(Stub()) == {0, 1, 7, 8}
    tokenizer = build_tokenizer()
    names = tokenizer.convert_ids_to_tokens(sorted(template_tokens(tokenizer)))
    assert set(names) == {"<pad>", "<unk>", "<bos>", "<eos>", "<user>", "<assistant>", "<end>"}
    tokenizer.chat_template = None
    assert template_tokens(tokenizer) == set(tokenizer.all_special_ids)


def test_examples_and_template_share_by_hand() -> None:
    """One latent that reads the first coordinate, on two texts of 12 tokens; id 7 is a template token."""
    read = torch.tensor([[[1.0, 0.0]]])
    coder = coder_of(read, read, torch.zeros(1, 2), "ft")
    h_T2d = torch.zeros(24, 2, 2)
    h_T2d[:, 1, 1] = 1.0
    for token, value in {3: 2.0, 4: 5.0, 20: 3.0, 22: 1.0}.items():
        h_T2d[token, 1, 0] = value
    with torch.no_grad():
        coder.encoder_bias_N.sub_(1e-3)  # a rounded zero is not active
    ids_T = torch.arange(100, 124)
    ids_T[20] = 7
    seen = survey(coder, h_T2d, ids_T, torch.arange(24) % 12, Stub())
    (found,) = findings(coder.raw(), seen, "contribution", min_tokens=1)
    first, second = found.evidence["examples"]
    assert first["token"] == "104" and first["activation"] == pytest.approx(5, abs=0.01)
    assert first["before"] == "100 101 102 103" and first["after"] == "105 106 107 108 109 110 111"
    assert second["token"] == "7" and second["before"] == "112 113 114 115 116 117 118 119"
    assert found.evidence["template_share"] == pytest.approx(3 / 11, abs=0.01)
    assert found.evidence["max_activation"] == pytest.approx(5, abs=0.01)
    facts = diagnostics(coder.raw(), seen, 1)
    assert facts["template"] == {"tokens": 1 / 24, "latents": 0.0}
    plain = findings(coder.raw(), survey(coder, h_T2d), "contribution", 1)[0].evidence
    assert "examples" not in plain and "template_share" not in plain


def seen_as(inputs: Inputs, tokens: int, fires: list[int], sums: list[float], d: int = 2) -> Survey:
    """A survey with these counts, whose other sums are what unit activations in place of β = 1 would give."""
    n, m = len(fires), 2 if inputs == "concat" else 1
    return Survey(
        tokens=tokens,
        inputs=inputs,
        fires_N=torch.tensor(fires),
        sums_N=torch.tensor(sums, dtype=F64),
        squares_N=torch.tensor(sums, dtype=F64),
        along_2N=torch.zeros(2, n, dtype=F64),
        error_MN=torch.zeros(m, n, dtype=F64),
        mean_2d=torch.zeros(2, d, dtype=F64),
        explained={},
        top_values_NK=torch.zeros(n, 5),
        top_tokens_NK=torch.full((n, 5), -1),
    )


def raw_of(*rows: Tensor) -> RawCoder:
    decoder_NMd = torch.stack(rows, 1)
    n, m, d = decoder_NMd.shape
    return RawCoder(torch.zeros(n, m, d), torch.zeros(n), decoder_NMd, torch.zeros(m, d), torch.zeros(n))


def hand_made() -> tuple[RawCoder, Survey]:
    """Latents: 0 fine-tune only, nearly dead; 1 fine-tune only; 2 shared; 3 base only, the largest change."""
    base = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 4.0]])
    ft = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 0.5], [0.0, 0.0]])
    return raw_of(base, ft), seen_as("concat", 100, [3, 50, 50, 50], [9.0, 100.0, 100.0, 100.0])


def test_ranking_direction_and_candidates_by_hand() -> None:
    raw, seen = hand_made()
    found = findings(raw, seen, "rdn", min_tokens=10)
    assert [f.evidence["latent"] for f in found] == [1, 2, 3]
    assert found[0].score == 1.0 and found[0].direction.tolist() == [0.0, 4.0]  # (d_ft − d_base) · mean activation 2
    assert found[0].evidence["frequency"] == 0.5 and found[0].evidence["mean_activation"] == 2.0
    by_contribution = findings(raw, seen, "contribution", min_tokens=10)
    assert [(f.evidence["latent"], f.score) for f in by_contribution] == [(3, 4.0), (1, 2.0), (2, 0.5)]
    assert [f.evidence["latent"] for f in findings(raw, seen, "rdn", min_tokens=1, n_shared=2)] == [2, 3]


def test_no_candidate_gives_one_zero_direction() -> None:
    raw, seen = hand_made()
    (nothing,) = findings(raw, seen, "rdn", min_tokens=1000)
    assert nothing.direction.tolist() == [0.0, 0.0] and nothing.gate is None
    assert json.loads(json.dumps(diagnostics(raw, seen, 1000), allow_nan=False))["n_candidates"] == 0


def test_crosscoder_is_ranked_by_the_sum_of_both_ranks() -> None:
    """By |β|: 0 5 1 7 6 4, by γ: 0 4 6 1 5 7. Latents 2 and 3, whose base row is no shorter, cannot be told from it."""
    coder, h_T2d, *_ = planted_betas(1.0)
    ranked = ranking(coder.raw(), survey(coder, h_T2d), "latent_scaling", min_tokens=1)
    assert ranked.latents.tolist() == [0, 1, 5, 4, 6, 7]
    assert ranked.scores.tolist() == [0, -5, -5, -6, -6, -8]


def sae_by_hand(inputs: Inputs) -> tuple[RawCoder, Survey]:
    """Latents of an SAE with (β_base, β_ft) = (1, 1), (.1, 1), (1, .2), (−.5, 1) and one that is never active."""
    seen = seen_as(inputs, 100, [50, 50, 50, 50, 0], [100.0, 100.0, 100.0, 100.0, 0.0])
    betas = torch.tensor([[1.0, 0.1, 1.0, -0.5, 0.0], [1.0, 1.0, 0.2, 1.0, 0.0]], dtype=F64)
    raw = raw_of(torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0], [0.0, 2.0], [1.0, 1.0]]))
    return raw, seen._replace(along_2N=betas * seen.squares_N * raw.decoder_NMd[:, 0].square().sum(1))


@pytest.mark.parametrize(
    ("inputs", "order", "best"),
    [("ft", [1, 3, 0, 2], -0.1), ("difference", [1, 3, 0, 2], -0.1), ("base", [1, 3, 2, 0], 9.0)],
)
def test_sae_is_ranked_by_the_ratio_of_betas(inputs: Inputs, order: list[int], best: float) -> None:
    ranked = ranking(*sae_by_hand(inputs), "latent_scaling", min_tokens=1)
    assert ranked.latents.tolist() == order and float(ranked.scores[0]) == pytest.approx(best)


@pytest.mark.parametrize("inputs", ["base", "ft"])
def test_sae_direction_is_its_row_times_what_changed(inputs: Inputs) -> None:
    raw, seen = sae_by_hand(inputs)
    found = {f.evidence["latent"]: f for f in findings(raw, seen, "contribution", min_tokens=1)}
    expected = {0: [0.0, 0.0], 1: [0.0, 1.8], 2: [-4.8, -6.4], 3: [0.0, 6.0]}  # d · mean activation 2 · (β_ft − β_base)
    for j, direction in expected.items():
        assert found[j].direction.tolist() == pytest.approx(direction) and found[j].gate is not None
    assert list(found) == [2, 3, 1, 0] and found[2].score == pytest.approx(8.0 * 50 / 100)


def test_sae_on_the_difference_has_its_row_and_no_gate() -> None:
    found = findings(*sae_by_hand("difference"), "contribution", min_tokens=1)
    assert [f.evidence["latent"] for f in found] == [2, 3, 0, 1]
    assert found[0].direction.tolist() == [6.0, 8.0] and all(f.gate is None for f in found)


@pytest.mark.parametrize("inputs", SAES)
def test_relative_decoder_norm_of_one_decoder_is_refused(inputs: Inputs) -> None:
    with pytest.raises(RankError, match=r"has no relative decoder norm.*latent_scaling or contribution"):
        findings(*sae_by_hand(inputs), "rdn", min_tokens=1)


@pytest.mark.parametrize("inputs", INPUTS)
def test_latents_with_nothing_to_rank_are_no_candidates(inputs: Inputs) -> None:
    """Latents 22 and 23 are never active and 0 writes nothing: their betas are undefined."""
    coder, h_T2d = random_coder(inputs)
    with torch.no_grad():
        coder.decoder_ND[0] = 0
    seen, raw = survey(coder, h_T2d), coder.raw()
    ranked = ranking(raw, seen, "latent_scaling", min_tokens=0)
    assert not {0, 22, 23} & set(ranked.latents.tolist()) and ranked.scores.isfinite().all()
    assert not {22, 23} & set(ranking(raw, seen, "contribution", min_tokens=0).latents.tolist())
    json.dumps([f.evidence for f in findings(raw, seen, "contribution", 0)], allow_nan=False)
    json.dumps(diagnostics(raw, seen, 0), allow_nan=False)


def test_shrinkage_and_decoupling_are_told_apart() -> None:
    """Three latents that the decoder norms call fine-tuned only; the base has the second's direction and the third's.

    The second is Complete Shrinkage: no latent writes it in the base, so it is in the base's error. The third is Latent
    Decoupling: latent 3 writes it in the base whenever latent 2 fires.
    """
    e_Nd, none = torch.eye(D, dtype=F64)[:3], torch.zeros(D, dtype=F64)
    f_TN = torch.rand(400, 3, generator=torch.Generator().manual_seed(1), dtype=F64) + 0.1
    f_TN[torch.arange(400), torch.arange(400) % 3] = 0
    in_base = torch.tensor([0.0, 1.0, 1.0], dtype=F64)
    h_T2d = torch.stack([(f_TN * in_base) @ e_Nd, f_TN @ e_Nd], 1)
    encoder = torch.stack([torch.stack([none, row]) for row in (*e_Nd, e_Nd[2])])
    decoder = torch.stack([*(torch.stack([none, row]) for row in e_Nd), torch.stack([e_Nd[2], none])])
    coder = coder_of(encoder, decoder, torch.zeros(2, D, dtype=F64))
    with torch.no_grad():
        coder.encoder_bias_N.sub_(1e-9)
    raw, seen = coder.raw(), survey(coder, h_T2d)
    scaling = latent_scaling(raw, seen)
    assert scaling.nu_error_N[:3].tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    assert scaling.nu_reconstruction_N[:3].tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    facts = diagnostics(raw, seen, 1)
    assert facts["decoder_norms"] == {"ft_only": 3, "base_only": 1, "shared": 0}
    for name in ("complete_shrinkage", "latent_decoupling"):
        rate = facts["latent_scaling"][name]
        assert rate["rate"] == pytest.approx(1 / 3) and rate["n"] == 3 and rate["dropped"] == 0
    assert int(ranking(raw, seen, "latent_scaling", 1).latents[0]) == 0
    assert [f.score for f in findings(raw, seen, "rdn", 1)][:3] == [1.0, 1.0, 1.0]  # the norms alone cannot tell


def test_ratios_outside_the_published_range_are_dropped_and_counted() -> None:
    coder, h_T2d, *_ = planted_betas(1.0)
    seen, raw = survey(coder, h_T2d), coder.raw()
    nu = latent_scaling(raw, seen).nu_error_N
    wild = seen._replace(error_MN=seen.error_MN.clone())
    wild.error_MN[0, 0] += 5 * seen.squares_N[0]
    facts, changed = (diagnostics(raw, s, 1)["latent_scaling"]["complete_shrinkage"] for s in (seen, wild))
    assert float(nu[0]) == pytest.approx(0, abs=1e-6) and float(
        latent_scaling(raw, wild).nu_error_N[0]
    ) == pytest.approx(5)
    assert (facts["n"], facts["dropped"]) == (3, 0) and (changed["n"], changed["dropped"]) == (2, 1)  # γ < .2: 0, 4, 6


@pytest.fixture(scope="module")
def truth() -> Planted:
    """Each model has its own mean, further apart than the exclusive atom is long."""
    return planted(tokens=8192)


@pytest.mark.parametrize("rank", ["latent_scaling", "contribution"])
def test_sae_on_the_fine_tuned_model_finds_the_exclusive_atom(truth: Planted, rank: Any) -> None:
    coder = SparseCoder(32, [Group(128, 6)], inputs="ft")
    train(coder, truth.residuals_T2d, TrainConfig(steps=500, batch=256, lr=4e-3), Objective(aux=1 / 32))
    raw, seen = coder.raw(), survey(coder, truth.residuals_T2d)
    first = findings(raw, seen, rank, min_tokens=10)[0]
    assert float(normalize(first.direction, dim=0) @ truth.exclusive_Ed[0]) > 0.95
    latent = first.evidence["latent"]
    shifted = latent_scaling(raw, seen).activation_2N
    assert first.evidence["beta_base"] / first.evidence["beta_ft"] < 0.3
    place = int((shifted[0] / shifted[1]).abs().argsort().tolist().index(latent))
    assert place > 0  # the ratio of raw activations is about the means, and puts others first


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


def test_a_finding_of_a_trained_coder_carries_its_evidence(truth: Planted) -> None:
    coder = SparseCoder(32, [Group(64, 4)])
    train(coder, truth.residuals_T2d, TrainConfig(steps=40, batch=256, lr=4e-3), Objective())
    seen = survey(coder, truth.residuals_T2d, torch.arange(8192) % 20, torch.arange(8192) % 64, build_tokenizer())
    found: list[Finding] = findings(coder.raw(), seen, "latent_scaling", 10)
    evidence = json.loads(json.dumps(found[0].evidence, allow_nan=False))
    assert {"rdn", "decoder_cosine", "nu_error", "nu_reconstruction", "template_share", "examples"} <= set(evidence)
    values = [example["activation"] for example in evidence["examples"]]
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(evidence["max_activation"])
    assert len(values) == analysis.EXAMPLES
