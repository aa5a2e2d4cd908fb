"""Adjusted isolation: 0 for random directions however far their effects scatter, 1 for the oracle, the same order otherwise."""

import numpy as np
import pytest
from diffbench.harness.protocol.intervals import point
from diffbench.harness.records.result import Samples
from diffbench.leaderboard.statistics.null_adjusted import SCORES, chance, table_draws
from diffbench.leaderboard.statistics.tables import build_table

from ...factories import make_result, make_samples

N, CONTROLS = 40, 16
EVERY = np.full((1, N), 1 / N), np.full((1, CONTROLS), 1 / CONTROLS)


def scattered(rng: np.random.Generator, scatter: float = 0.3) -> Samples:
    """A method that finds nothing, where random directions move the behaviour by `scatter` of its gap either way."""
    s = make_samples(0.0, rng, N, CONTROLS)
    gap = np.subtract(s.b1, s.b0)

    def effect() -> list[float]:
        return list(gap * rng.normal(0, scatter))

    return s.model_copy(
        update={
            "sufficiency": effect(),
            "necessity": effect(),
            "sufficiency_controls": [effect() for _ in range(CONTROLS)],
            "necessity_controls": [effect() for _ in range(CONTROLS)],
        }
    )


def test_random_directions_have_0_in_the_mean_where_isolation_has_not() -> None:
    rng = np.random.default_rng(7)
    many = [scattered(rng, 0.5) for _ in range(1500)]
    isolation = np.array([point(s).isolation[0] for s in many])
    adjusted = np.array([table_draws(s, *EVERY)[SCORES.index("adjusted"), 0] for s in many])
    error = adjusted.std() / len(many) ** 0.5
    assert isolation.mean() > 6 * error and abs(adjusted.mean()) < 3 * error


def test_without_scatter_it_is_isolation_and_the_oracle_stays_1() -> None:
    rng = np.random.default_rng(1)
    still = scattered(rng, 0.0).model_copy(update={"sufficiency": [0.2] * N, "necessity": [0.3] * N})
    found = table_draws(still, *EVERY)[:, 0]
    assert found[SCORES.index("adjusted")] == pytest.approx(found[0]) and found[0] > 0.1
    top = scattered(rng)
    best = top.model_copy(update={"sufficiency": top.sufficiency_oracle, "necessity": top.necessity_oracle})
    assert table_draws(best, *EVERY)[SCORES.index("adjusted"), 0] == pytest.approx(1)


def test_a_control_is_scored_against_the_others_as_a_method_would_be() -> None:
    s = scattered(np.random.default_rng(2))
    recomputed = []
    for c in range(CONTROLS):
        others = [i for i in range(CONTROLS) if i != c]
        as_method = s.model_copy(
            update={
                "sufficiency": s.sufficiency_controls[c],
                "necessity": s.necessity_controls[c],
                "sufficiency_controls": [s.sufficiency_controls[i] for i in others],
                "necessity_controls": [s.necessity_controls[i] for i in others],
                "mitigation_controls": [s.mitigation_controls[i] for i in others],
            }
        )
        recomputed.append(point(as_method).isolation[0])
    assert chance(s, *EVERY)[0] == pytest.approx(np.mean(recomputed))
    weights = np.random.default_rng(3).multinomial(CONTROLS, np.full(CONTROLS, 1 / CONTROLS), size=50) / CONTROLS
    assert np.isfinite(chance(s, np.full((50, N), 1 / N), weights)).all()
    one = s.model_copy(update={f"{side}_controls": [[0.1] * N] for side in ("sufficiency", "necessity")})
    assert chance(one, EVERY[0], np.ones((1, 1))) == 0


def test_a_table_can_be_sorted_by_it() -> None:
    table = build_table([make_result(), make_result("pca", quality=0.2)], draws=200, key="adjusted")
    assert [r.method for r in table.overall] == ["delta", "pca"] and "Sorted by adjusted" in table.header
    for row in table.overall:
        value, low, high = row.scores["adjusted"]
        assert low < value < high and value <= row.scores["isolation"].value
