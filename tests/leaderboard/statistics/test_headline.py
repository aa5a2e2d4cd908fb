"""A table's mean speaks of families: they weigh the same, and their scatter alone makes its interval."""

import numpy as np
import pytest
from diffbench.leaderboard.statistics.resample import cluster_draws, headline
from scipy import stats


def test_families_weigh_the_same_and_what_lies_below_them_is_not_counted_twice() -> None:
    found = headline({"taboo/a": 0.2, "taboo/b": 0.4, "backdoor/a": 0.9, "planted/a-s0": 0.6, "planted/a-s1": 0.6})
    value, (low, high) = 0.6, stats.t.interval(0.95, 2, 0.6, stats.sem([0.3, 0.9, 0.6]))
    assert found == pytest.approx((value, low, high))


@pytest.mark.parametrize(
    ("names", "units"),
    [
        (("taboo/a", "taboo/b"), 2),
        (("taboo/a-s0", "taboo/a-s1", "taboo/b"), 2),
        (("taboo/a-s0", "taboo/a-s1"), 2),
        (("x",), 1),
    ],
)
def test_without_families_the_next_level_is_what_is_drawn(names: tuple[str, ...], units: int) -> None:
    found = headline(dict(zip(names, (0.2, 0.4, 0.9), strict=False)))
    assert (found.low is None) == (units == 1)
    if len(names) == 3:  # two organisms, one of them trained twice
        assert found.value == pytest.approx((0.3 + 0.9) / 2)


def test_the_interval_contains_the_mean_of_the_families_in_95_of_100() -> None:
    """Seven families of 2 to 7 organisms."""
    rng, inside = np.random.default_rng(0), 0
    names = [f"f{i}/o{j}" for i, n in enumerate([2, 2, 6, 7, 6, 4, 4]) for j in range(n)]
    for _ in range(500):
        families = rng.normal(0.5, 0.1, 7)
        found = headline({o: families[int(o[1])] + rng.normal(0, 0.05) for o in names})
        inside += found.low is not None and found.high is not None and found.low <= 0.5 <= found.high
    assert 0.92 <= inside / 500 <= 0.98


@pytest.mark.parametrize("n", [2, 5, 14])
def test_headlines_drawn_together_scatter_as_their_intervals_and_those_of_their_differences_say(n: int) -> None:
    rng = np.random.default_rng(n)
    a = {f"f{i}/o": float(x) for i, x in enumerate(rng.normal(0.5, 0.2, n))}
    b = {o: 0.7 * x + float(rng.normal(0, 0.1)) for o, x in a.items()}
    drawn = cluster_draws({"a": a, "b": b}, 40_000, 0)
    for draws, scores in ((drawn["a"], a), (drawn["a"] - drawn["b"], {o: a[o] - b[o] for o in a})):
        value, low, high = headline(scores)
        reach = (high or 0) - (low or 0)
        assert np.quantile(draws, [0.025, 0.975]) == pytest.approx([low, high], abs=0.05 * reach)
        assert np.median(draws) == pytest.approx(value, abs=0.02 * reach)
