"""Figures: exact on small cases, at chance where nothing is known, none where nothing can be said."""

import numpy as np
import pytest
from diffbench.harness.explaining.measures import accuracy, auroc, balanced_accuracy, correlation


def test_exact_values() -> None:
    found = auroc([3, 2], [2, 1])
    assert found and found.value == 3.5 / 4 and found.low <= found.value <= found.high
    assert (balanced_accuracy([1, 1, -1], [-1]) or [0])[0] == pytest.approx((2 / 3 + 1) / 2)
    assert (accuracy([True, False, True, True]) or [0])[0] == 0.75


def test_whoever_always_says_yes_is_at_chance_however_many_there_are() -> None:
    assert balanced_accuracy([1.0] * 90, [1.0] * 10) == pytest.approx((0.5, 0.5, 0.5))
    assert auroc([1.0] * 9, [1.0]) == pytest.approx((0.5, 0.5, 0.5))


def test_a_correlation_is_over_the_tokens_of_all_windows() -> None:
    rng = np.random.default_rng(0)
    x = [rng.normal(size=n) for n in (5, 9, 3)]
    y = [v + rng.normal(size=len(v)) for v in x]
    found = correlation([v.tolist() for v in x], [v.tolist() for v in y])
    assert found and found.value == pytest.approx(np.corrcoef(np.concatenate(x), np.concatenate(y))[0, 1])


def test_what_never_varies_has_no_correlation_and_not_a_zero() -> None:
    assert correlation([[0.0, 0.0], [0.0]], [[1.0, 2.0], [3.0]]) is None
    assert correlation([], []) is None and auroc([], [1.0]) is None and accuracy([]) is None


def test_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    found = [auroc(rng.normal(size=40).tolist(), rng.normal(size=40).tolist()) for _ in range(60)]
    assert sum(f.low <= 0.5 <= f.high for f in found if f) >= 52
