"""Adjusted isolation: 0 for random directions however far their effects scatter, 1 for the oracle, the same order otherwise."""

import numpy as np
import pytest
from diffbench.harness.protocol.intervals import point, point_weights
from diffbench.harness.records.result import Column, Samples, SideSamples
from diffbench.leaderboard.statistics.null_adjusted import SCORES, chance, table_draws
from diffbench.leaderboard.statistics.tables import build_table

from ...factories import make_result, make_samples

N, CONTROLS = 40, 16


def closed(samples: Samples, effect: list[float]) -> float:
    """Share of the gap over scored prompts."""
    scored = np.asarray(samples.scored)
    return float(np.asarray(effect)[scored].sum() / np.asarray(samples.gap)[scored].sum())


def scattered(rng: np.random.Generator, scatter: float = 0.3) -> tuple[Samples, dict[str, list[list[float]]]]:
    """A method that finds nothing, where random directions move the behaviour by `scatter` of its gap either way; their effects by side."""
    s = make_samples(0.0, rng, N, CONTROLS)

    def effect() -> list[float]:
        return np.clip(np.asarray(s.gap) * rng.normal(0, scatter), -1, 1).tolist()

    each = {side: [effect() for _ in range(CONTROLS)] for side in ("sufficiency", "necessity")}
    return with_sides(s, {side: effect() for side in each}, each), each


def with_sides(s: Samples, effect: dict[str, list[float]], each: dict[str, list[list[float]]]) -> Samples:
    """`s` with other effects [prompts] and controls [controls, prompts]."""
    column = Column(
        **{
            side: SideSamples(
                effect=effect[side],
                null=np.mean(each[side], 0).tolist(),
                null_controls=[closed(s, e) for e in each[side]],
            )
            for side in each
        }
    )
    return s.model_copy(update={"constant": column})


def adjusted(s: Samples) -> float:
    return float(table_draws(s, *point_weights(s))[SCORES.index("adjusted"), 0])


def test_random_directions_have_0_in_the_mean_where_isolation_has_not() -> None:
    rng = np.random.default_rng(7)
    many = [scattered(rng, 0.5)[0] for _ in range(1500)]
    isolation = np.array([point(s).isolation[0] for s in many])
    own = np.array([adjusted(s) for s in many])
    error = own.std() / len(many) ** 0.5
    assert isolation.mean() > 6 * error and abs(own.mean()) < 3 * error


def test_without_scatter_it_is_isolation_and_the_oracle_stays_1() -> None:
    rng = np.random.default_rng(1)
    still, each = scattered(rng, 0.0)
    some = with_sides(still, {"sufficiency": [0.2] * N, "necessity": [0.3] * N}, each)
    assert adjusted(some) == pytest.approx(point(some).isolation[0]) and adjusted(some) > 0.1
    top, each = scattered(rng)
    assert adjusted(with_sides(top, top.oracle.model_dump(), each)) == pytest.approx(1)


def test_a_control_is_scored_against_the_others_as_a_method_would_be() -> None:
    s, each = scattered(np.random.default_rng(2))
    recomputed: list[float] = []
    for c in range(CONTROLS):
        others = {side: [e for i, e in enumerate(of) if i != c] for side, of in each.items()}
        as_method = with_sides(s, {side: of[c] for side, of in each.items()}, others)
        recomputed.append(float(point(as_method).isolation[0]))
    assert chance(s, *point_weights(s))[0] == pytest.approx(np.mean(recomputed))
    weights = np.random.default_rng(3).multinomial(CONTROLS, np.full(CONTROLS, 1 / CONTROLS), size=50) / CONTROLS
    assert np.isfinite(chance(s, np.full((50, N), 1 / N), {CONTROLS: weights})).all()
    one = with_sides(s, {side: of[0] for side, of in each.items()}, {side: of[:1] for side, of in each.items()})
    assert chance(one, *point_weights(one)) == 0


def test_the_headline_is_adjusted_by_the_controls_under_its_gates() -> None:
    wild, calm = (scattered(np.random.default_rng(4), scatter)[0] for scatter in (0.5, 0.0))
    both = wild.model_copy(update={"gated": calm.constant})
    assert chance(both, *point_weights(both))[0] == pytest.approx(0)
    assert chance(wild, *point_weights(wild))[0] > 0.02


def test_a_table_can_be_sorted_by_it() -> None:
    table = build_table([make_result(), make_result("pca", quality=0.2)], draws=200, key="adjusted")
    assert [r.method for r in table.overall] == ["delta", "pca"] and "Sorted by adjusted" in table.header
    for row in table.overall:
        value, low, high = row.scores["adjusted"]
        assert low < value < high and value <= row.scores["isolation"].value
