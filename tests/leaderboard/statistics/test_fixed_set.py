"""On a fixed set of organisms only repetitions count: their error must be neither the family's nor half of the seeds'."""

import numpy as np
import pytest
from diffbench.harness.protocol.intervals import Array, weights
from diffbench.harness.records.result import Result
from diffbench.leaderboard.board.build import settled
from diffbench.leaderboard.statistics.compare import paired
from diffbench.leaderboard.statistics.fixed_set import Noise, noise, on_this_set
from diffbench.leaderboard.statistics.resample import Spread
from diffbench.leaderboard.statistics.tables import build_table

from ...factories import make_result

DRAWS = 200
FAMILIES = [f"family{i}/a-narrow" for i in range(6)]


def spread(values: Array, drawn: Array) -> Spread:
    """Of one score: [seeds] values that prompts do not change, under [draws, seeds] weights."""
    return Spread((drawn @ values)[None], np.full((1, len(drawn)), values.mean()))


def test_two_seeds_have_the_variance_of_their_mean() -> None:
    """Seeds 0 and 1 have variance .5 and their mean .25; drawn with replacement it would be .125."""
    drawn = weights(2, 20_000, np.random.default_rng(0))
    spreads = {"a": spread(np.array([0.0, 1.0]), drawn), "b": spread(np.array([0.4]), np.ones((20_000, 1)))}
    found = noise(spreads, {"a": 2, "b": 1}, 38, 0)
    assert found.covariance["a", "a"] == pytest.approx(0.25, rel=0.03)
    assert found.covariance["b", "b"] == pytest.approx(0, abs=1e-12) == found.covariance["a", "b"]


def test_error_and_degrees_of_freedom_by_hand() -> None:
    """Variances .04 − 2·.01 + .04 = .06 on each of four organisms: error √.24 / 4; one degree of freedom each makes 4."""
    one = Noise({("a", "a"): 0.04, ("b", "b"): 0.04, ("a", "b"): 0.01}, templates=20)
    four = [0.25] * 4
    assert on_this_set([one] * 4, {"a": 2, "b": 2}, four)("a", "b") == pytest.approx((0.24**0.5 / 4, 4))
    assert on_this_set([one] * 4, {"a": 3, "b": 1}, four)("a", "b")[1] == pytest.approx(8)
    assert on_this_set([one] * 4, {"a": 1, "b": 1}, four)("a", "b")[1] == pytest.approx(4 * 19)
    assert on_this_set([one] * 2, {"a": 2, "b": 2}, [0.8, 0.2])("a", "b")[0] == pytest.approx((0.06 * 0.68) ** 0.5)
    still = Noise(dict.fromkeys(one.covariance, 0.0), templates=20)
    assert on_this_set([one, still], {"a": 2, "b": 2}, [0.5, 0.5])("a", "b") == pytest.approx((0.06**0.5 / 2, 1))
    assert on_this_set([still], {"a": 2, "b": 2}, [1.0])("a", "b") == (0, np.inf)


@pytest.mark.parametrize(("kind", "seeds"), [("alike", 2), ("all or nothing", 2), ("uneven", 3)])
def test_equal_methods_are_seldom_called_different(kind: str, seeds: int) -> None:
    """200 pairs of equal methods on 31 organisms whose seeds scatter alike, very unevenly, or between 0 and 1."""
    rng = np.random.default_rng(0)
    drawn = weights(seeds, DRAWS, rng)
    found: list[float] = []
    for _ in range(200):
        scatter = {"alike": np.full(31, 0.2), "uneven": 0.5 * rng.random(31) ** 4, "all or nothing": np.full(31, 0.15)}
        noises: list[Noise] = []
        gap = 0.0
        for size in scatter[kind]:
            own = rng.random((2, seeds)) < size if kind == "all or nothing" else rng.normal(0, size, (2, seeds))
            a, b = np.asarray(own, dtype=np.float64)
            noises.append(noise({"a": spread(a, drawn), "b": spread(b, drawn)}, {"a": seeds, "b": seeds}, 38, 0))
            gap += (a.mean() - b.mean()) / 31
        (pair,) = paired({"a": gap, "b": 0.0}, on_this_set(noises, {"a": seeds, "b": seeds}, [1 / 31] * 31))
        found.append(pair.p)
    assert 0.005 <= np.mean(np.array(found) < 0.05) < 0.085
    assert np.mean(np.array(found) < 0.005) < 0.016


def cells(method: str, quality: float, seeds: int) -> list[Result]:
    return [make_result(method, o, s, quality) for o in FAMILIES for s in range(seeds)]


def test_a_method_with_one_seed_is_compared_only_if_it_draws_nothing() -> None:
    results = [*cells("delta", 0.8, 3), *cells("pca", 0.4, 1), *cells("mine", 0.2, 1)]
    table = build_table(results, draws=DRAWS, settled={"pca"})
    assert [(p.better, p.worse) for p in table.here] == [("delta", "pca")] and len(table.pairs) == 3
    assert table.unknown_here == ("mine",) and (table.here[0].difference.low or 0) > 0
    assert build_table(cells("mine", 0.2, 1) + cells("l1", 0.4, 1), draws=DRAWS).here == ()


def test_families_that_disagree_count_only_beyond_the_set() -> None:
    """a leads on average by what one family gives it: certain on this set, nothing for other families."""
    results = [make_result("b", o, s, 0.5, draw="x") for o in FAMILIES for s in range(2)]
    results += [make_result("a", o, s, 0.9 if o == FAMILIES[0] else 0.5, draw="x") for o in FAMILIES for s in range(2)]
    table = build_table(results, draws=DRAWS)
    (like_these,), (here,) = table.pairs, table.here
    assert like_these.difference.value == here.difference.value
    assert (like_these.difference.low or 0) < 0 < (here.difference.low or 0)


def test_who_draws_nothing_is_what_the_catalogue_or_the_records_say() -> None:
    def said(method: str, answer: bool | None) -> Result:
        cell = make_result(method)
        return cell.model_copy(update={"provenance": cell.provenance.model_copy(update={"stochastic": answer})})

    assert settled([make_result("pca"), make_result("delta"), make_result("mine")]) == {"pca"}
    assert settled([said("mine", False), said("pca", True), said("delta", False)]) == {"mine", "pca"}
    assert settled([said("mine", False), said("mine", True)]) == frozenset()


def test_an_organism_without_a_defined_draw_leaves_nothing_separated() -> None:
    nowhere = Spread(np.full((1, 50), np.nan), np.full((1, 50), np.nan))
    found = noise({"a": nowhere, "b": nowhere}, {"a": 2, "b": 2}, 38, 0)
    (pair,) = paired({"a": 0.9, "b": 0.1}, on_this_set([found], {"a": 2, "b": 2}, [1.0]))
    assert pair.p == 1 and pair.difference.low is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["alike", "uneven", "all or nothing", "few"])
@pytest.mark.parametrize("seeds", [2, 3])
def test_false_positives_of_4000_pairs(kind: str, seeds: int) -> None:
    """The figures of decision 42: as above with the exact variances, and with all the scatter on a quarter of the organisms."""
    rng = np.random.default_rng(0)
    found: list[float] = []
    for _ in range(4000):
        if kind in ("alike", "uneven"):
            size = np.full(31, 0.18) if kind == "alike" else 0.3 * rng.random(31) ** 4
            scores = rng.normal(0, size[:, None, None], (31, seeds, 2))
        else:
            rate = np.full(31, 0.1) if kind == "all or nothing" else np.where(rng.random(31) < 0.25, 0.5, 0.0)
            scores = 0.9 * (rng.random((31, seeds, 2)) < rate[:, None, None])
        gaps = scores[..., 0] - scores[..., 1] + rng.normal(0, 0.03, (31, 1))  # prompts: the same for all seeds
        variances = gaps.var(1, ddof=1) / seeds + 0.03**2
        noises = [Noise({("a", "a"): float(v), ("b", "b"): 0.0, ("a", "b"): 0.0}, 38) for v in variances]
        (pair,) = paired(
            {"a": float(gaps.mean()), "b": 0.0}, on_this_set(noises, {"a": seeds, "b": seeds}, [1 / 31] * 31)
        )
        found.append(pair.p)
    below = [float(np.mean(np.array(found) < level)) for level in (0.05, 0.01, 0.001)]
    assert below[0] < 0.055 and below[1] < 0.011 and below[2] < (0.005 if (kind, seeds) == ("few", 2) else 0.0015)
