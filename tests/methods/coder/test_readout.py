"""Candidates, their ranking, directions, evidence and diagnostics are what the survey's numbers say they should be."""

import json
from typing import Any, ClassVar

import pytest
import torch
from diffbench.methods.coder import analysis
from diffbench.methods.coder.analysis import Survey, survey, template_tokens
from diffbench.methods.coder.dictionary import RawCoder
from diffbench.methods.coder.readout import RankError, diagnostics, findings, ranking
from diffbench.methods.coder.scaling import latent_scaling
from diffbench.methods.coder.sparse_coder import Group, Inputs, Objective, SparseCoder
from diffbench.methods.coder.training import TrainConfig, train
from diffbench.methods.contract import Finding
from diffbench.organisms.world.tokenizer import build_tokenizer
from torch import Tensor
from torch.nn.functional import normalize

from ..fakes import Planted, planted
from .coders import F64, INPUTS, SAES, D, coder_of, planted_betas, random_coder


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
    assert ranked.scores.tolist() == pytest.approx([1.0, 0.5, 0.5, 0.4, 0.4, 0.2])  # 1 − (sum of both ranks) / 10


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


def test_a_finding_of_a_trained_coder_carries_its_evidence(truth: Planted) -> None:
    coder = SparseCoder(32, [Group(64, 4)])
    train(coder, truth.residuals_T2d, TrainConfig(steps=40, batch=256, lr=4e-3), Objective())
    seen = survey(coder, [(truth.residuals_T2d, torch.arange(8192) % 20, torch.arange(8192) % 64)], build_tokenizer())
    found: list[Finding] = findings(coder.raw(), seen, "latent_scaling", 10)
    evidence = json.loads(json.dumps(found[0].evidence, allow_nan=False))
    assert {"rdn", "decoder_cosine", "nu_error", "nu_reconstruction", "template_share", "examples"} <= set(evidence)
    values = [example["activation"] for example in evidence["examples"]]
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(evidence["max_activation"])
    assert len(values) == analysis.EXAMPLES


class Stub:
    """A tokenizer whose template writes a system prompt (ids 50–52) and role names (7, 8) as ordinary tokens."""

    all_special_ids = (0, 1)
    special_tokens_map: ClassVar[dict[str, str]] = {}
    chat_template = "50 51 52{% for m in messages %} 0 {{ 7 if m.role == 'user' else 8 }} {{ m.content }} 1{% endfor %}"

    def get_chat_template(self) -> str:
        return self.chat_template

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [int(word) for word in text.split()]}

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))


def test_template_tokens_are_special_ids_and_what_an_empty_exchange_adds() -> None:
    assert template_tokens(Stub()) == {0, 1, 7, 8}
    tokenizer = build_tokenizer()
    names = tokenizer.convert_ids_to_tokens(sorted(template_tokens(tokenizer)))
    assert set(names) == {"<pad>", "<unk>", "<bos>", "<eos>", "<user>", "<assistant>", "<end>"}
    for unusable in (None, "{{ raise_exception('say something') if not messages[0].content }}"):
        tokenizer.chat_template = unusable
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
    seen = survey(coder, [(h_T2d, ids_T, torch.arange(24) % 12)], Stub())
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
