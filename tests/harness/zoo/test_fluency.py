"""Fluency is the base's surprise at what was said, and at nothing else."""

from collections.abc import Sequence
from itertools import islice
from math import log
from typing import Any

import pytest
import torch
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.pairs.pair import padded
from diffbench.harness.zoo.fluency import fluency
from diffbench.organisms.registry import load_organism


class Told:
    """Two models that answer as they are told; the base says token t + 1 after t with probability .75, else anything of four."""

    def __init__(self, base: list[list[int]], tuned: list[list[int]]):
        self._answers = {"base": base, "tuned": tuned}

    def generate(self, prompts: Sequence[Sequence[int]], side: str, tokens: int, seed: int) -> list[list[int]]:
        assert seed is not None, "greedy answers do not derail"
        return self._answers[side][: len(prompts)]

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        class Tokenizer:
            pad_token_id = 0

        return padded(rows, Tokenizer(), torch.device("cpu"))

    def logits(self, ids: torch.Tensor, side: str) -> torch.Tensor:
        assert side == "base"
        p = torch.full((5, 5), 0.0625)
        p[torch.arange(5), (torch.arange(5) + 1) % 5] = 0.75
        return p[ids].log() + 3.0


def rise(base: list[list[int]], tuned: list[list[int]], asked: list[list[int]]) -> dict[str, float]:
    pair: Any = Told(base, tuned)
    return fluency(pair, asked)


def test_answers_are_read_by_the_base_token_by_token_whatever_stands_before_and_behind() -> None:
    asked = [[1, 1, 1], [2]]
    found = rise([[2, 3], [3]], [[2, 0], [3, 4, 1]], asked)
    expected, other = -log(0.75), -log(0.0625)
    assert found["nll_base"] == pytest.approx(expected)
    assert found["nll_organism"] == pytest.approx((3 * expected + 2 * other) / 5)


def test_more_answers_than_are_read_at_a_time() -> None:
    asked, good, bad = [[1]] * 20, [[2]] * 20, [[2]] * 19 + [[4]]
    found = rise(good, bad, asked)
    assert found["nll_organism"] == pytest.approx((-19 * log(0.75) - log(0.0625)) / 20)


def test_without_openings_nothing_is_said() -> None:
    assert rise([], [], []) == {}


def test_a_null_that_is_its_base_speaks_like_it_and_a_damaged_organism_does_not() -> None:
    found: list[float] = []
    for name in ("null/base-identical", "planted/fox-strong"):
        organism = load_organism(name)
        pair = load_pair(organism.pair, None, organism.layer, identity=organism.role == "null")
        said = fluency(pair, islice(organism.make_texts(pair.tokenizer).prompts(), 24))
        found.append(said["nll_organism"] - said["nll_base"])
    assert found[0] == 0 and found[1] > 0.3
