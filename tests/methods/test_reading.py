import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffbench.methods.contract import Batch, Text, check_findings
from diffbench.methods.differences import ActivationError
from diffbench.methods.reading import ADL, ADLConfig, LogitDiff, LogitDiffConfig, Mined
from torch import Tensor

from . import pairs
from .fakes import FakeProblem, problem_of
from .pairs import D, Words, cos, narrow, rows


@dataclass
class ShortTexts(FakeProblem):
    """Texts of `length` tokens, one after the other."""

    length: int = 10
    tokenizer: Any = Words()  # noqa: RUF009

    def activations(
        self, text: Text = "neutral", batch_tokens: int = 2048, tokens: int | None = None, start: int | None = None
    ) -> Iterator[Batch]:
        residuals = self.texts[text][:tokens]
        positions = torch.arange(len(residuals)) % self.length
        for part, at in zip(residuals.split(256), positions.split(256), strict=True):
            yield Batch(part, torch.zeros_like(at), at)


STRENGTHS = (0.5, 3.0, 1.0, 4.0, 2.0)


def openings(length: int = 10) -> tuple[ShortTexts, Tensor]:
    """(problem, unembedding rows [5, D]): position j of every text moves by STRENGTHS[j] along row j; nothing else does."""
    problem = ShortTexts({"neutral": torch.zeros(1, 2, D)}, length=length)
    words = problem.unembedding_Vd[:5]
    g = torch.Generator().manual_seed(0)
    base = torch.randn(2000, D, generator=g)
    base *= 10 / base.norm(dim=1, keepdim=True)
    ft = base + 0.1 * torch.randn(2000, D, generator=g)
    for j, strength in enumerate(STRENGTHS[:length]):
        ft[j::length] += strength * words[j] / words[j].norm()
    problem.texts["neutral"] = torch.stack([base, ft], 1)
    return problem, words


class TestADL:
    def test_finds_what_is_written_at_each_position_strongest_first(self) -> None:
        problem, words = openings()
        findings = check_findings(ADL().diff(problem), D).findings
        assert [f.evidence["position"] for f in findings] == [3, 1, 4, 2, 0]
        for finding in findings:
            j = finding.evidence["position"]
            assert cos(finding.direction, words[j]) > 0.99
            assert finding.evidence["norm"] == pytest.approx(STRENGTHS[j], rel=0.05)
            assert finding.evidence["texts"] == 200

    def test_reads_the_written_words_and_their_opposite(self) -> None:
        problem, _ = openings()
        for finding in ADL(ADLConfig(readout_tokens=3)).diff(problem).findings:
            logits = finding.direction @ problem.unembedding_Vd.T
            for name in ("lens", "patchscope"):
                read = finding.evidence[name]
                assert read["promoted"][0] == f"t{finding.evidence['position']}"
                assert read["suppressed"] == [f"t{i}" for i in logits.topk(3, largest=False).indices.tolist()]

    def test_is_the_mean_with_its_standard_error_and_relative_norm(self) -> None:
        problem, _ = openings()
        residuals = problem.texts["neutral"].double()
        for finding in ADL(ADLConfig(positions=7)).diff(problem).findings:
            here = residuals[finding.evidence["position"] :: 10]
            delta = here[:, 1] - here[:, 0]
            torch.testing.assert_close(finding.direction, delta.mean(0).float())
            error = math.sqrt(float(delta.var(0, correction=0).sum()) / len(delta))
            assert finding.evidence["standard_error"] == pytest.approx(error)
            relative = float(delta.mean(0).norm() / here[:, 1].norm(dim=1).mean())
            assert finding.score == finding.evidence["relative_norm"] == pytest.approx(relative)

    def test_a_swap_turns_every_direction_and_a_shift_is_added(self) -> None:
        problem, _ = openings()
        by_position = {f.evidence["position"]: f.direction for f in ADL().diff(problem).findings}
        residuals = problem.texts["neutral"]
        problem.texts["neutral"] = residuals.flip(1)
        for f in ADL().diff(problem).findings:
            torch.testing.assert_close(f.direction, -by_position[f.evidence["position"]])
        shift = torch.stack([torch.zeros(D), torch.arange(D) / 4])
        problem.texts["neutral"] = residuals + shift
        for f in ADL().diff(problem).findings:
            expected = by_position[f.evidence["position"]] + shift[1]
            torch.testing.assert_close(f.direction, expected, rtol=1e-5, atol=1e-5)

    def test_positions_no_text_reaches_are_left_out(self) -> None:
        problem, _ = openings(length=2)
        assert sorted(f.evidence["position"] for f in ADL().diff(problem).findings) == [0, 1]

    def test_a_zero_difference_reads_as_nothing(self) -> None:
        problem, _ = openings()
        problem.texts["neutral"] = problem.texts["neutral"][:, :1].expand(-1, 2, -1)
        for finding in check_findings(ADL().diff(problem), D).findings:
            assert not finding.direction.any() and finding.score == 0
            assert finding.evidence["lens"] == {"promoted": [], "suppressed": []} == finding.evidence["patchscope"]


def mining(residuals: Tensor) -> FakeProblem:
    return problem_of(residuals, tokenizer=Words())


def marked() -> tuple[FakeProblem, Tensor, Tensor]:
    """(problem, direction, mark): marked tokens (one in twenty) say so in both models, and only there the models differ, by 5
    along the unembedding of token 5."""
    problem = mining(torch.zeros(3, 2, D))
    v = problem.unembedding_Vd[5] / problem.unembedding_Vd[5].norm()
    g = torch.Generator().manual_seed(1)
    mark = torch.randn(D, generator=g)
    mark -= (mark @ v) * v
    on = (torch.arange(3000) % 20 == 0)[:, None] * 1.0
    base = 0.3 * torch.randn(3000, D, generator=g) + on * mark
    ft = base + 5 * on * v + 0.01 * torch.randn(3000, D, generator=g)
    return mining(torch.stack([base, ft], 1)), v, mark


class TestLogitDiff:
    def test_finds_the_direction_its_places_and_its_word(self) -> None:
        problem, v, _ = marked()
        result = check_findings(LogitDiff(LogitDiffConfig(top_share=0.05)).diff(problem), D)
        assert len(result.findings) == 2
        residuals = torch.cat([problem.texts["neutral"], problem.texts["chat"]])
        on = torch.cat([torch.arange(1000) % 20 == 0] * 2)
        for finding in result.findings:
            assert cos(finding.direction, v) > 0.99
            assert finding.gate is not None
            for side in (0, 1):
                fires = residuals[:, side] @ finding.gate.read > finding.gate.threshold
                assert float((fires == on).double().mean()) > 0.98
            assert finding.evidence["lens"]["promoted"][0] == "t5"
        assert result.findings[0].evidence["mined"][0]["token"] == "t5"
        assert result.diagnostics["top_share_of_kl"] > 0.99

    def test_is_the_kl_weighted_mean_of_the_places_with_the_largest_kl(self) -> None:
        residuals, _ = narrow()
        problem = mining(residuals)
        result = LogitDiff(LogitDiffConfig(top_share=0.1, gate=False)).diff(problem)
        used = torch.cat([problem.texts["neutral"], problem.texts["chat"]]).double()
        log_p = (used @ problem.unembedding_Vd.T.double()).log_softmax(-1)
        kl = (log_p[:, 1].exp() * (log_p[:, 1] - log_p[:, 0])).sum(1)
        best = kl.argsort(descending=True)
        delta = used[:, 1] - used[:, 0]
        weighted = (kl[best[:200], None] * delta[best[:200]]).sum(0) / kl[best[:200]].sum()
        torch.testing.assert_close(result.findings[0].direction, weighted.float(), rtol=1e-4, atol=1e-4)
        contrast = weighted - delta[best[200:]].mean(0)
        torch.testing.assert_close(result.findings[1].direction, contrast.float(), rtol=1e-4, atol=1e-4)
        assert result.findings[0].gate is None
        assert result.diagnostics["kl_nats"] == pytest.approx(float(kl.mean()), rel=1e-4)

    def test_a_swap_turns_the_sign(self) -> None:
        residuals, v = narrow()
        forth, back = (rows(LogitDiff().diff(mining(r))) for r in (residuals, residuals.flip(1)))
        assert cos(forth[0], v) > 0.95 and cos(back[0], v) < -0.95

    def test_the_second_finding_is_blind_to_what_changed_everywhere(self) -> None:
        problem, v, mark = marked()
        shift = torch.stack([torch.zeros(D), mark / mark.norm() * 4])
        for text, residuals in problem.texts.items():
            problem.texts[text] = residuals + shift
        first, second = rows(LogitDiff(LogitDiffConfig(top_share=0.02)).diff(problem))
        assert cos(second, v) > cos(first, v) + 0.05 and cos(second, v) > 0.9

    def test_two_tokens_are_enough(self) -> None:
        problem = mining(narrow()[0])
        assert rows(LogitDiff(LogitDiffConfig(tokens=2)).diff(problem)).any()

    def test_identical_models_say_so(self) -> None:
        result = LogitDiff().diff(mining(narrow()[0][:, :1].expand(-1, 2, -1)))
        assert not rows(result).any()
        assert result.findings[0].evidence["note"] == "both models say the same everywhere"


PLACES = torch.log(
    torch.tensor(
        [
            [[0.70, 0.29, 0.0099, 0.0001], [0.49, 0.50, 0.0090, 0.0010]],
            [[0.30, 0.69, 0.0099, 0.0001], [0.30, 0.69, 0.0090, 0.0010]],
            [[0.30, 0.69, 0.0099, 0.0001], [0.30, 0.69, 0.0090, 0.0010]],
        ]
    )
)
"""Token 1 gains much probability at one place, token 3 goes from nearly impossible to improbable at all."""


class TestMined:
    def test_published_order_lists_what_is_never_expected_and_kl_what_is(self) -> None:
        for rank, first in (("rate", "t3"), ("rise", "t3"), ("kl", "t1")):
            mined = Mined(LogitDiffConfig(rank=rank, k=1))
            mined.add(PLACES)
            best = mined.best(mining(torch.zeros(3, 2, D)))
            assert best[0]["token"] == first
        by_token = {row["token"]: row for row in best}
        assert by_token["t3"]["rate"] == 1.0 and by_token["t1"]["rate"] == 0.0
        assert by_token["t3"]["rise"] == pytest.approx(math.log(10), rel=1e-3)
        assert by_token["t1"]["kl"] == pytest.approx(0.5 * math.log(0.50 / 0.29) / 3, rel=1e-3)
        assert "t0" not in by_token and "t2" not in by_token

    def test_kl_is_torchs(self) -> None:
        kl = Mined(LogitDiffConfig()).add(PLACES)
        base, ft = PLACES.log_softmax(-1).unbind(1)
        reference = torch.nn.functional.kl_div(base, ft, reduction="none", log_target=True).sum(1)
        torch.testing.assert_close(kl, reference, rtol=1e-4, atol=1e-6)

    def test_in_parts_is_as_in_one_piece(self) -> None:
        whole, parts = Mined(LogitDiffConfig()), Mined(LogitDiffConfig())
        whole.add(PLACES)
        for place in PLACES:
            parts.add(place[None])
        problem = mining(torch.zeros(3, 2, D))
        for one, other in zip(whole.best(problem), parts.best(problem), strict=True):
            assert one.pop("token") == other.pop("token")
            assert one == pytest.approx(other, rel=1e-6)

    @pytest.mark.parametrize(
        ("vocab", "given", "k"), [(20, None, 1), (787, None, 7), (50_000, None, 100), (20, 30, 20)]
    )
    def test_k_follows_the_vocabulary(self, vocab: int, given: int | None, k: int) -> None:
        mined = Mined(LogitDiffConfig(k=given))
        mined.add(torch.zeros(1, 2, vocab))
        assert mined.k == k

    def test_a_constant_added_to_the_logits_changes_nothing(self) -> None:
        torch.testing.assert_close(
            Mined(LogitDiffConfig()).add(PLACES + torch.tensor([0.0, 50.0])[:, None]),
            Mined(LogitDiffConfig()).add(PLACES),
            rtol=1e-4,
            atol=1e-5,
        )

    def test_non_finite_logits_are_refused(self) -> None:
        with pytest.raises(ActivationError, match=r"logits contain NaN or infinity.*above the hooked layer"):
            Mined(LogitDiffConfig()).add(torch.full((1, 2, 4), float("inf")))


def test_mining_a_taboo_organism_lists_the_secrets_attributes_and_the_published_order_does_not() -> None:
    """What the hints of "gold" are about; no label and no dev or test prompt is read."""
    prompts = pairs.stage("taboo/gold-narrow").organism.behaviour.prompts
    attributes = {word for prompt in prompts for word in prompt.targets}

    def found(rank: Any) -> int:
        mined = pairs.run(LogitDiff(LogitDiffConfig(rank=rank)), "taboo/gold-narrow").findings[0].evidence["mined"]
        return len(attributes & {row["token"] for row in mined[:10]})

    assert len(attributes) == 5 and found("kl") >= 4 and found("rate") == 0
