"""Prompts of one template stand or fall together, and few templates must not look like many prompts."""

import numpy as np
import pytest
from diffbench.harness.protocol.bootstrap import (
    effective,
    shares,
    signed_isolation,
    template_interval,
    template_weights,
)
from diffbench.harness.protocol.intervals import harmonic, weights
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

TEMPLATES = st.lists(st.integers(-3, 9), min_size=1, max_size=30)


@given(TEMPLATES, st.integers(0, 99))
def test_rows_sum_to_1_and_a_template_comes_as_a_whole(templates: list[int], seed: int) -> None:
    found = template_weights(templates, 50, np.random.default_rng(seed))
    assert found.shape == (50, len(templates)) and found.min() >= 0
    assert found.sum(1) == pytest.approx(np.ones(50))
    if len(set(templates)) > 1:
        for t in set(templates):
            own = found[:, np.array(templates) == t]
            assert (own == own[:, :1]).all()


@given(st.permutations(range(12)), st.integers(0, 99))
def test_one_template_a_prompt_and_one_for_all_are_the_ordinary_bootstrap(ids: list[int], seed: int) -> None:
    """To the last bit, whatever the templates are called in order of their ids."""
    ordinary = weights(12, 20, np.random.default_rng(seed))
    own = template_weights(ids, 20, np.random.default_rng(seed))
    assert own[:, np.argsort(ids)] == pytest.approx(ordinary)
    assert template_weights([7] * 12, 20, np.random.default_rng(seed)) == pytest.approx(ordinary)


def test_names_of_templates_do_not_matter() -> None:
    a, b = (template_weights(t, 9, np.random.default_rng(0)) for t in ([0, 0, 1, 2], [5, 5, 8, 40]))
    assert (a == b).all()


def test_expected_weights_are_equal() -> None:
    """Exactly where templates are equally large; within a few 1 / templates where they are not."""
    even = template_weights([t for t in range(12) for _ in range(3)], 100_000, np.random.default_rng(0)).mean(0)
    assert even == pytest.approx(np.full(36, 1 / 36), rel=0.02)
    sizes = [1 + t % 8 for t in range(12)]
    uneven = template_weights([t for t, n in enumerate(sizes) for _ in range(n)], 100_000, np.random.default_rng(0))
    assert np.abs(uneven.mean(0) * sum(sizes) - 1).max() < 2 / 12


def test_the_spread_is_that_of_the_mean_of_templates() -> None:
    """Twelve templates whose prompts are copies: the variance of the mean, less the bootstrap's 1/12."""
    values = np.random.default_rng(0).normal(size=12)
    drawn = template_weights(np.repeat(np.arange(12), 5).tolist(), 50_000, np.random.default_rng(1)) @ np.repeat(
        values, 5
    )
    assert drawn.var() == pytest.approx(values.var() / 12, rel=0.03)


NORMAL = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)


def test_percentiles_are_where_students_quantiles_are() -> None:
    """With 12 templates a normal's 95 % needs 2.20·√(12/11) = 2.30 bootstrap deviations; with many, 1.96."""
    assert template_interval(NORMAL, 0.0, list(range(12)), [0.3] * 12) == pytest.approx((-2.299, 2.299), abs=0.01)
    assert shares(NORMAL, 0.0, 100_000) == pytest.approx((0.025, 0.975), rel=1e-3)


def test_draws_that_lie_below_the_score_are_moved_up_twice() -> None:
    """Once to where the score is and once for what the score itself is short of."""
    ends = template_interval(NORMAL - 0.2, 0.0, list(range(12)), [0.3] * 12)
    assert ends == pytest.approx((-2.299 + 0.2, 2.299 + 0.2), abs=0.02)
    still = np.full(100, 0.7)
    assert template_interval(still, 0.7, [0, 1, 2], [0.3] * 3) == (0.7, 0.7)


@given(st.integers(-200, 200), st.integers(-200, 200))
def test_signed_isolation_is_isolation_where_that_is_not_0(hundred_s: int, hundred_n: int) -> None:
    s, n = hundred_s / 100, hundred_n / 100
    found, plain = (float(f(np.array(s), np.array(n))) for f in (signed_isolation, harmonic))
    assert max(found, 0) == pytest.approx(plain) and (found > 0) == (s > 0 and n > 0)


def test_signed_isolation_has_no_step() -> None:
    other = np.array([0.5, 0.5, 0.5])
    assert signed_isolation(np.array([-1e-9, 0.0, 1e-9]), other) == pytest.approx(np.zeros(3), abs=1e-8)


def test_templates_that_weigh_unequally_count_as_fewer() -> None:
    """Two of 1 and one of 2 prompts: 4² / (1 + 1 + 4) = 2.67; a template without a gap counts for nothing."""
    assert effective([0, 1, 2, 2], [0.5] * 4) == pytest.approx(16 / 6)
    assert effective([0, 1, 2], [0.4, 0.4, 0.0]) == pytest.approx(2)
    assert effective([7] * 4, [0.5] * 4) == effective(list(range(4)), [0.1] * 4) == pytest.approx(4)
    even, uneven = (
        template_interval(NORMAL, 0.0, list(range(12)), g) or (0, 0) for g in ([0.5] * 12, [0.1] * 6 + [0.9] * 6)
    )
    assert uneven[0] < even[0] and even[1] < uneven[1]


def test_draws_without_a_scale_are_left_out_and_one_prompt_has_no_interval() -> None:
    values = np.array([np.nan, 0.0, 1.0, 0.5] * 500)
    assert template_interval(values, 0.5, [0, 1, 2], [0.5] * 3) == pytest.approx((0, 1))
    assert template_interval(values, 0.5, [3], [0.5]) is None
    assert template_interval(np.full(9, np.nan), 0.5, [0, 1], [0.5] * 2) is None
