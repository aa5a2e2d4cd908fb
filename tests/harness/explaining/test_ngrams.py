"""The explainer without a language model: planted tokens and n-grams are found, and their rule tells windows it has not seen."""

import math
from typing import Any

import numpy as np
import pytest
from diffbench.harness.explaining.contexts import Half, Window, wrong_marks
from diffbench.harness.explaining.measures import auroc
from diffbench.harness.explaining.ngrams import MOST, PRIOR, Explanation, explained, held, log_odds, marked, simulated


class Numbers:
    """A tokenizer whose tokens are numbers."""

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))


TOKENIZER: Any = Numbers()


def half(seed: int, n: int = 40) -> Half:
    """Active windows hold the tokens 7 8 side by side, and are active on 8; others hold both apart."""
    rng = np.random.default_rng(seed)
    active, other = list[Window](), list[Window]()
    for i in range(n):
        ids = rng.integers(20, 400, 20).tolist()
        ids[5:7], there = [7, 8], [0.0] * 20
        there[6] = 2.0
        active.append(Window(tuple(ids), tuple(there), i % 10))
        ids = rng.integers(20, 400, 20).tolist()
        ids[3], ids[9] = 7, 8
        other.append(Window(tuple(ids), (0.0,) * 20))
    return Half(active, other)


@pytest.fixture(scope="module")
def rule() -> Explanation:
    return explained(half(0), TOKENIZER, 0)


def test_what_was_planted_is_said(rule: Explanation) -> None:
    assert [t.ids for t in rule.tokens] == [(8,)] and rule.tokens[0].weight == pytest.approx(1.0)
    assert rule.contexts[0].ids == (7, 8) and rule.text == "active on “8”; in texts with “7 8”"


def test_the_rule_holds_of_windows_that_it_was_not_made_from(rule: Explanation) -> None:
    new = half(1)
    found = auroc([held(rule, w.ids) for w in new.active], [held(rule, w.ids) for w in new.other])
    assert found and found.value == 1.0
    assert all(held(rule, w.ids) > rule.level for w in new.active)
    assert all(held(rule, w.ids) <= rule.level for w in new.other)
    for w in new.active:
        assert marked(rule, w, w.marks) > rule.mark_level >= marked(rule, w, wrong_marks(w, 0))
        assert max(range(20), key=lambda i: simulated(rule, w.ids)[i]) == 6


def test_log_odds_have_the_prior_of_the_pooled_rate() -> None:
    delta, z = log_odds(8, 10, 2, 10)
    a, b, c, d = 8 + PRIOR / 2, 2 + PRIOR / 2, 2 + PRIOR / 2, 8 + PRIOR / 2
    assert delta == pytest.approx(math.log(a / b) - math.log(c / d)) and z == pytest.approx(
        delta / math.sqrt(1 / a + 1 / c)
    )
    assert log_odds(10, 10, 10, 10) == (0.0, 0.0)
    assert log_odds(2, 40, 0, 40)[1] < log_odds(20, 40, 10, 40)[1]  # once or twice is no evidence, whatever the ratio


def test_where_nothing_is_set_apart_nothing_is_said() -> None:
    rng = np.random.default_rng(2)
    some = [Window(tuple(rng.integers(0, 400, 20).tolist()), (0.0,) * 20) for _ in range(80)]
    empty = explained(Half(some[:40], some[40:]), TOKENIZER, 0)
    assert len(empty.contexts) < MOST / 2 and not empty.tokens  # a few of 800 pass a level of 1.96
    nothing = Explanation("no token and no n-gram is more frequent there than elsewhere")
    assert not nothing.is_rule and held(nothing, (1, 2)) == 0
