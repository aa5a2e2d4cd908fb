"""Token topics find what was planted and are silent where nothing is; contrastive words tell two sets of texts apart."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffbench.methods.contract import Batch, Outputs, Text, check_findings
from diffbench.methods.verbal.contrastive import ContrastiveConfig, ContrastiveDecoding, apart, beginnings
from diffbench.methods.verbal.topics import TokenTopics, TopicsConfig, factorise
from torch import Tensor

from ..fakes import FakeProblem
from ..pairs import Words

V, D = 40, 8
SMALL = {"tokens": 400, "steps": 60, "starts": 2, "topics": 2, "words": 3}


class Tokens(Words):
    """Token i reads "t<i>"; none is special."""

    all_special_ids = ()
    bos_token_id = None


class Speaking(FakeProblem):
    """Both models say the same, but for `rises` [tokens, vocab] of the fine-tuned logits."""

    rises: Tensor

    def outputs(self, text: Text = "neutral", tokens: int | None = None) -> Iterator[Outputs]:
        g = torch.Generator().manual_seed(0 if text == "neutral" else 1)
        base = torch.randn(200, V, generator=g)
        for base_T, rise_T in zip(base.split(50), self.rises.split(50), strict=True):
            ids = torch.arange(len(base_T))
            batch = Batch(torch.zeros(len(base_T), 2, D), ids, ids)
            yield Outputs(torch.stack([base_T, base_T + rise_T], 1), batch)


def speaking(rises: Tensor) -> Speaking:
    made = Speaking({"neutral": torch.zeros(200, 2, D)}, tokenizer=Tokens())
    made.rises = rises
    return made


def two_topics() -> Tensor:
    """Tokens 3, 4, 5 rise together at every fourth place, 20, 21, 22 at every other fourth."""
    rises = torch.zeros(200, V)
    rises[::4, 3:6] = 5
    rises[1::4, 20:23] = 4
    return rises


@pytest.mark.parametrize("weight", ["kl", "logit"])
def test_planted_topics_are_claimed_apart(weight: str) -> None:
    found = check_findings(TokenTopics(TopicsConfig(**SMALL, weight=weight)).diff(speaking(two_topics())), D)
    said = [set(c.partition(": ")[2].split(", ")) for c in found.claims]
    assert sorted(map(sorted, said)) == [["t20", "t21", "t22"], ["t3", "t4", "t5"]]
    assert not found.findings[0].direction.any() and all(c > 0.9 for c in found.confidences)


def test_what_only_half_of_the_text_shows_is_not_claimed() -> None:
    rises = torch.zeros(200, V)
    rises[0, 7:10] = 8  # one place
    found = TokenTopics(TopicsConfig(**SMALL)).diff(speaking(rises))
    assert found.claims == [] and any("t7" in t["words"] for t in found.diagnostics["topics"])


def test_equal_models_are_met_with_silence() -> None:
    assert TokenTopics(TopicsConfig(**SMALL)).diff(speaking(torch.zeros(200, V))).claims == []


def test_a_factorisation_never_gets_worse_and_recovers_a_product() -> None:
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(60, 2, generator=g) @ torch.rand(2, 20, generator=g)
    errors = [factorise(truth, 2, steps, torch.Generator().manual_seed(1))[2] for steps in (1, 10, 100, 400)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3 * float(truth.square().sum())


def test_words_apart_are_ranked_by_their_standard_errors() -> None:
    ours, others = Counter({"gold": 30, "the": 40, "rare": 1}), Counter({"the": 40})
    (first, z), *rest = apart(ours, others, 48)
    assert first == "gold" and z > 3 and all(s < 1 for _, s in rest)


class Contrasting(FakeProblem):
    """Amplified rows end in token 9; the base's in token 2."""

    def contrast(
        self, rows: Any, new_tokens: int = 24, amplify: float = 1.0, plausible: float = 0.05
    ) -> list[list[int]]:
        return [[2, 9] if amplify > 0 else [2] for _ in rows]

    def activations(
        self, text: Text = "neutral", batch_tokens: int = 2048, tokens: int | None = None, start: int | None = None
    ) -> Iterator[Batch]:
        at = torch.arange(60).repeat_interleave(3)
        yield Batch(torch.zeros(180, 2, D), at if text == "neutral" else at + 100, torch.tensor([0, 1, 2] * 60))


def test_the_word_that_only_the_amplified_difference_writes_is_the_claim() -> None:
    problem = Contrasting({"neutral": torch.zeros(1, 2, D)}, tokenizer=Tokens())
    rows = beginnings(problem, 20, 2)
    assert len(rows) == 20 and rows[0] == [100, 100] and rows[-1] == [9, 9]
    found = check_findings(ContrastiveDecoding(ContrastiveConfig(prefix_tokens=2)).diff(problem), D)
    assert found.claims == ["The fine-tuned model is more likely to say: t9"] and found.confidences == []
