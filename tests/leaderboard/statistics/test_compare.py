"""Pairs of methods: differences with the interval of their families, and p that holds for one pair alone."""

import numpy as np
import pytest
from diffbench.leaderboard.statistics.compare import across, holm, paired
from diffbench.leaderboard.statistics.resample import headline
from diffbench.leaderboard.statistics.tables import build_table

from ...factories import make_result

FAMILIES = [f"family{i}/a-narrow" for i in range(6)]


def test_holm_by_hand() -> None:
    """Sorted .01, .02, .03, .04 times 4, 3, 2, 1 is .04, .06, .06, .04; no later one may be smaller: .04, .06, .06, .06."""
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.6, 0.001]) == pytest.approx([0.6, 0.002])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert len(holm([])) == 0


def test_one_organism_says_nothing_of_others_and_may_say_something_of_itself() -> None:
    results = [make_result(m, "taboo/a", quality=q) for m, q in (("good", 0.9), ("bad", 0.1))]
    table = build_table(results, draws=200, settled=("good", "bad"))
    (pair,), (here,) = table.pairs, table.here
    assert pair.p == 1 and pair.difference.low is None and pair.difference.value > 0.5
    assert here.difference.low > 0 and here.difference.value == pair.difference.value


def test_a_difference_has_the_interval_of_a_headline() -> None:
    """Families of different size, on which the lead is .1 to .3."""
    a = {"f/x": 0.5, "f/y": 0.7, "g/x": 0.4, "h/x": 0.9}
    b = {"f/x": 0.4, "f/y": 0.6, "g/x": 0.1, "h/x": 0.7}
    (pair,) = paired({"a": 0.633, "b": 0.433}, across({"a": a, "b": b}))
    expected = headline({o: a[o] - b[o] for o in a})
    assert expected.value == pytest.approx(0.2)
    assert pair.difference == pytest.approx(expected)


def test_true_nulls_are_seldom_called_different() -> None:
    """2,000 pairs of equal methods over families of v1's sizes."""
    sizes = [2, 2, 6, 7, 6, 4, 4]
    names = [f"f{i}/o{j}-narrow" for i, n in enumerate(sizes) for j in range(n)]
    rng, found = np.random.default_rng(0), list[float]()
    for _ in range(2000):
        gap = np.repeat(rng.normal(0, 0.1, len(sizes)), sizes) + rng.normal(0, 0.05, len(names))
        own = dict(zip(names, gap.tolist(), strict=True))
        mean = headline(own).value or 0.0
        (pair,) = paired({"a": mean, "b": 0.0}, across({"a": own, "b": dict.fromkeys(names, 0.0)}))
        assert pair.difference.low is not None and pair.difference.high is not None
        assert (pair.p < 0.05) == (not pair.difference.low <= 0 <= pair.difference.high)
        found.append(pair.p)
    assert 0.035 < np.mean(np.array(found) < 0.05) < 0.065


def test_a_clone_is_equal_and_changes_no_other_pair() -> None:
    cells = [make_result(m, o, 0, q) for m, q in (("a", 0.6), ("b", 0.3)) for o in FAMILIES]
    clones = [make_result("c", o, 0, 0.3, draw="b") for o in FAMILIES]
    old, new = (build_table(c, draws=300) for c in (cells, [*cells, *clones]))
    assert {r.method: r.scores for r in old.overall}.items() <= {r.method: r.scores for r in new.overall}.items()
    pairs = {(p.better, p.worse): p for p in new.pairs}
    assert pairs["a", "b"] == old.pairs[0]
    assert (pairs["b", "c"].p, pairs["b", "c"].difference) == (1, (0, 0, 0))
