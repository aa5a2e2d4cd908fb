"""Scores are exact where they can be worked out by hand, and a draw means what it says."""

from typing import Any

import numpy as np
import pytest
from diffbench.harness.protocol.intervals import (
    LEAST_SCALE,
    bootstrap,
    harmonic,
    hypervolume,
    interval,
    mitigation_worth,
    normalised,
    point,
    score_draws,
    summarise,
    template_weights,
    upper_end,
)
from diffbench.harness.records.result import BySide, Column, Samples, SideSamples
from hypothesis import given
from hypothesis import strategies as st

CONTROLS = 4


def by_hand(**changes: Any) -> Samples:
    """Three scored prompts with gaps .8, .4, .4 and one that is not scored; half of every gap is closed, by controls a tenth."""
    gap = [0.8, 0.4, 0.4, 0.02]
    half, tenth = [g / 2 for g in gap[:3]] + [-0.3], [g / 10 for g in gap]
    side = SideSamples(effect=half, null=tenth, null_controls=[0.0, 0.1, 0.1, 0.2])
    other = SideSamples(effect=[0.0, 0.4, 0.0, 0.0], null=[0.0] * 4, null_controls=[-0.1, 0.0, 0.0, 0.1])
    fields: dict[str, Any] = {
        "templates": [0, 1, 1, 2],
        "scored": [True, True, True, False],
        "gap": gap,
        "b0": [0.1] * 4,
        "b1": [0.9, 0.5, 0.5, 0.12],
        "oracle": BySide(sufficiency=gap, necessity=[0.4, 0.2, 0.2, 0.0]),
        "constant": Column(sufficiency=side, necessity=other),
        "gated": None,
        "mixture": BySide(sufficiency=[0.2] * CONTROLS, necessity=[0.1] * CONTROLS),
        "mitigation": [[0.0] * 4, [0.8, 0.4, 0.4, 0.0]],
        "mitigation_retention": [1.0, 0.9],
        "mitigation_controls": [0.0] * CONTROLS,
        "retention_off": 1.0,
    }
    return Samples(**(fields | changes))


def test_the_scores_of_a_pair_that_is_worked_out_by_hand() -> None:
    got = summarise(by_hand(), 200, 0)
    s, n, m = got.sufficiency, got.necessity, got.mitigation
    assert (s.raw, s.anchors.null, s.anchors.oracle, s.anchors.mixture) == pytest.approx((0.5, 0.1, 1.0, 0.2))
    assert s.value == pytest.approx((0.5 - 0.1) / (1 - 0.1)) and s.p_random == 1 / (1 + CONTROLS)
    assert (n.raw, n.anchors.oracle, n.value) == pytest.approx((0.25, 0.5, 0.5))
    assert got.isolation.value == pytest.approx(2 / (1 / s.value + 1 / n.value))
    assert m.value == pytest.approx((0.9 - 0.8) / (1 - 0.8))
    assert s.n == 3 and s.spill == pytest.approx(0.3) and n.spill == 0


def test_a_prompt_that_is_not_scored_counts_as_spill_alone() -> None:
    """Whatever happens there, and however often a draw takes it."""
    one, two = by_hand(), by_hand()
    two.constant.sufficiency.effect[3] = 0.02
    for found, other in zip(bootstrap(one, 300, 0), bootstrap(two, 300, 0), strict=True):
        assert np.array_equal(found, other, equal_nan=True)
    assert summarise(two, 9, 0).sufficiency.spill == -0.02


def test_gated_scores_lead_and_constant_ones_stand_beside() -> None:
    nothing = SideSamples(effect=[0.0] * 4, null=[0.0] * 4, null_controls=[0.0] * CONTROLS)
    gated = by_hand().constant
    got = point(by_hand(constant=Column(sufficiency=nothing, necessity=nothing), gated=gated))
    assert got.isolation[0] > 0.4 and got.isolation_constant[0] == 0
    assert got.sufficiency[0] == pytest.approx(point(by_hand()).sufficiency[0])


def test_a_value_beyond_the_oracle_is_shown_as_one_and_kept_as_it_is() -> None:
    """Nothing is clipped in a draw: an interval may pass 1."""
    samples = by_hand()
    samples.constant.necessity.effect[:3] = [0.8, 0.4, 0.4]
    got = summarise(samples, 200, 0).necessity
    assert got.value == 1 and got.unclipped == pytest.approx(2) and (got.ci_high or 0) >= 2


def test_controls_are_drawn_apart_from_prompts() -> None:
    """Of two draws of the same prompts, the one with the better controls has the higher zero."""
    one = np.full((1, 4), 1 / 4)
    worst, best = np.eye(CONTROLS)[[0]], np.eye(CONTROLS)[[3]]
    low, high = (score_draws(by_hand(), one, {CONTROLS: c}).sufficiency[0] for c in (best, worst))
    assert (low, high) == pytest.approx(((0.5 - 0.2) / 0.8, 0.5))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 99))
def test_weights_of_a_draw_sum_to_one_and_what_was_not_drawn_has_none(templates: list[int], seed: int) -> None:
    got = template_weights(templates, 20, np.random.default_rng(seed))
    assert got.shape == (20, len(templates)) and got.min() >= 0
    assert np.allclose(got.sum(1), 1)


def test_prompts_of_one_template_leave_a_draw_together() -> None:
    """Two templates of 50 prompts: in half of the draws one of them is missing as a whole."""
    got = template_weights([0] * 50 + [1] * 50, 4000, np.random.default_rng(0))
    share = np.round(got[:, :50].sum(1), 9)
    assert set(share) == {0.0, 0.5, 1.0}
    assert np.mean(share == 0.5) == pytest.approx(0.5, abs=0.03)


def test_with_a_prompt_a_template_it_is_the_plain_bootstrap() -> None:
    x = np.linspace(0, 1, 40)
    got = template_weights(range(40), 4000, np.random.default_rng(0)) @ x
    assert got.std() == pytest.approx(x.std() / np.sqrt(40), rel=0.05)


def test_clusters_that_agree_within_widen_an_interval() -> None:
    """Four templates of ten equal prompts say no more than four prompts."""
    x = np.repeat([0.1, 0.3, 0.6, 0.9], 10)
    clustered, plain = (
        interval(template_weights(t, 4000, np.random.default_rng(0)) @ x) for t in (np.repeat(range(4), 10), range(40))
    )
    assert clustered[1] - clustered[0] > 2 * (plain[1] - plain[0])


def test_the_upper_end_of_a_cost_draws_texts_and_not_tokens() -> None:
    rows = np.repeat(np.arange(8), 25)
    assert upper_end(np.full(200, 0.03), rows) == pytest.approx(0.03)
    one_text = np.where(rows == 0, 0.8, 0.0)  # mean .1
    spread = np.zeros(200)
    spread[::8] = 0.8
    assert upper_end(one_text, rows) > 0.25 > 0.12 > upper_end(spread, rows) > 0.1


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6))
def test_hypervolume_is_the_area_of_the_union(points: list[tuple[float, float]]) -> None:
    x, y = np.array(points).T
    grid = (np.arange(200) + 0.5) / 200
    height = np.array([max([0.0, *(b - 0.8 for a, b in points if a >= g)]) for g in grid])
    assert float(hypervolume(x, y)) == pytest.approx(height.mean(), abs=0.2 / 200 * len(points) + 1e-9)
    assert float(hypervolume(x, y)) <= float(hypervolume(np.append(x, 1.0), np.append(y, 1.0))) == pytest.approx(0.2)


def test_normalised_and_harmonic_do_not_invent() -> None:
    a = np.array
    assert normalised(a([0.5]), a([0.1]), a([0.9]))[0] == pytest.approx(0.5)
    assert normalised(a([0.5]), a([-0.4]), a([1.0]))[0] == 0.5  # controls that do harm give nobody a start
    assert normalised(a([0.96]), a([0.87]), a([1.0]))[0] == pytest.approx(0.09 / LEAST_SCALE)  # and not .69
    assert normalised(a([0.9, 0.8]), a([0.9, 0.9]), a([0.9, 0.7])) == pytest.approx([0.0, -0.1 / LEAST_SCALE])
    assert np.isnan(normalised(a([0.5]), a([np.nan]), a([0.9]))[0])
    assert list(harmonic(a([0.5, -0.1, 0.5]), a([0.5, 0.9, 0.0]))) == [0.5, 0.0, 0.0]
    assert np.isnan(harmonic(a([np.nan]), a([0.5]))[0])


@pytest.mark.parametrize("off", [0.5, 0.8, 0.805, 0.89])
def test_a_mitigation_without_a_scale_is_none(off: float) -> None:
    """A base that keeps little capability is no one to be measured by: nearly any point would be worth 1."""
    summary = summarise(by_hand(retention_off=off), 50, 0)
    assert summary.mitigation.value is None and summary.mitigation.ci_low is None
    assert summary.isolation.value is not None


def test_random_directions_mitigate_nothing() -> None:
    """A control's own area is the zero."""
    assert summarise(by_hand(mitigation_controls=[0.5] * CONTROLS), 50, 0).mitigation.value == pytest.approx(0)


def test_the_oracle_has_no_controls_and_no_p() -> None:
    got = summarise(by_hand(), 50, 0, controls_ran=False)
    assert got.sufficiency.p_random is None and got.mitigation.p_random is None


@pytest.mark.parametrize("others", [[0.21, 0.33, 0.4, 0.14, 0.07, 0.16], [0.28, 0.13, 0.07, 0.27, 0.15, 0.13]])
def test_a_mitigation_as_good_as_a_control_is_no_better_whatever_rounding_does(others: list[float]) -> None:
    """On the scale and back these .65 become a little more: a tie must not hang on it."""
    retention = {"mitigation_retention": [1.0, 0.93]}
    worth = float(mitigation_worth(by_hand(**retention), np.full((1, 4), 0.25) * [1, 1, 1, 0])[0])
    found = summarise(by_hand(mitigation_controls=[worth, *others], **retention), 200, 0).mitigation
    assert found.p_random == 2 / 8
