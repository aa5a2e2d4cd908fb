"""A strength that aims at a budget: exact where collateral is a power of strength, never beyond what was measured, and steady."""

import pytest
from diffbench.harness.protocol.procedure import reaching, within
from hypothesis import given
from hypothesis import strategies as st

STRENGTHS = (0.15, 0.5, 1.6)
BUDGETS = (0.01, 0.03, 0.1, 0.3, 1.0)
costs = st.lists(st.floats(1e-9, 50), min_size=3, max_size=3)
targets = st.floats(1e-6, 10)


@given(st.floats(0.01, 100), st.floats(0.5, 4), st.floats(0.15, 1.6))
def test_between_measurements_a_power_law_is_hit_exactly(factor: float, power: float, strength: float) -> None:
    found = reaching(STRENGTHS, [factor * s**power for s in STRENGTHS], factor * strength**power)
    assert found == pytest.approx(strength, rel=1e-5)


@given(st.floats(1, 100), st.floats(0.001, 0.15))
def test_below_the_first_measurement_collateral_is_a_square(factor: float, strength: float) -> None:
    found = reaching(STRENGTHS, [factor * s**2 for s in STRENGTHS], factor * strength**2)
    assert found == pytest.approx(strength, rel=1e-5)


@given(costs, targets, targets)
def test_a_larger_budget_never_means_a_smaller_strength_and_none_is_beyond_the_last_measured(
    kl: list[float], one: float, two: float
) -> None:
    """Of any costs, rising or not."""
    small, large = (reaching(STRENGTHS, kl, t) for t in sorted((one, two)))
    assert 0 <= small <= large <= STRENGTHS[-1]


def test_an_intervention_that_costs_nothing_has_the_largest_strength() -> None:
    assert reaching(STRENGTHS, [0.0, 0.0, 0.0], 0.008) == 1.6


def test_where_collateral_falls_again_the_first_crossing_counts() -> None:
    assert 0.15 < reaching(STRENGTHS, [0.01, 1.0, 0.02], 0.1) < 0.5


@given(costs)
def test_every_budget_has_a_strength_and_none_is_meant_to_cost_more(kl: list[float]) -> None:
    found = within(STRENGTHS, kl, BUDGETS, 0.8)
    assert all(any(nats <= 0.8 * tau + 1e-12 for tau in BUDGETS) for nats in found.values())
    assert {reaching(STRENGTHS, kl, 0.8 * tau) for tau in BUDGETS} <= set(found)


@given(costs)
def test_what_is_free_is_tried_weaker_too_down_to_what_was_measured_first(kl: list[float]) -> None:
    """Under a gate that is closed on ordinary text the largest strength costs nothing, and breaks what it reaches."""
    assert within(STRENGTHS, [0.0, 0.0, 0.0], BUDGETS, 0.8) == {1.6: 0.0, 0.8: 0.0, 0.4: 0.0, 0.2: 0.0}
    found = within(STRENGTHS, kl, BUDGETS, 0.8)
    first = reaching(STRENGTHS, kl, 0.8 * BUDGETS[0])
    halves = {s for s in found if s < first}
    assert all(found[s] == found[first] and STRENGTHS[0] <= s <= first / 2 + 1e-6 for s in halves)
    assert bool(halves) == (first >= 2 * STRENGTHS[0])


@given(st.floats(1e-6, 0.1), st.lists(st.floats(1.5, 30), min_size=2, max_size=2), targets, st.floats(-1e-6, 1e-6))
def test_a_measurement_that_rounds_otherwise_moves_a_strength_no_more_than_itself(
    first: float, grows: list[float], target: float, noise: float
) -> None:
    """Another machine adds in another order."""
    kl = [first, first * grows[0], first * grows[0] * grows[1]]
    a, b = (reaching(STRENGTHS, [x * (1 + n) for x in kl], target) for n in (0.0, noise))
    assert a == pytest.approx(b, rel=1e-5)
