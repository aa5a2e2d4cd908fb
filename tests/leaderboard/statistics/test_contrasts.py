"""Few questions get a verdict, from all sign patterns of the families; nobody's verdict is moved by who else is there."""

from itertools import product

import numpy as np
import pytest
from diffbench.leaderboard.statistics.contrasts import (
    CLAIMS,
    CONTROL,
    FOUND,
    PUBLISHED,
    SIMPLE,
    Claim,
    Contrast,
    Outcome,
    Values,
    against,
    answered,
    families_needed,
    flip_interval,
    outcomes,
    replication,
    sign_flip_p,
    values_of,
)
from diffbench.leaderboard.statistics.tables import build_table
from diffbench.methods.registry import BUILTIN
from diffbench.organisms.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ...factories import make_result

FAMILIES = [f"family{i}" for i in range(12)]
DIFFERENCES = st.lists(st.integers(-5, 5).map(lambda x: x / 10), min_size=1, max_size=9)
"""Tenths, so that sign patterns tie with one another."""


def table(**differences: list[float]) -> Values:
    """Methods that differ so much from `CONTROL`, by family; two organisms a family, .05 below and above."""
    names = [(f, o) for f in FAMILIES for o in "ab"]
    control = {f"{f}/{o}": 0.3 + 0.01 * i for i, (f, o) in enumerate(names)}
    off = {"a": -0.05, "b": 0.05}
    return {CONTROL: control} | {
        method: {
            f"{f}/{o}": control[f"{f}/{o}"] + d + off[o] for f, d in zip(FAMILIES, own, strict=False) for o in "ab"
        }
        for method, own in differences.items()
    }


def answer(values: Values, *methods: str) -> list[Outcome]:
    return outcomes(against(methods or [m for m in values if m != CONTROL], CONTROL), {"isolation": values})


@given(DIFFERENCES)
def test_p_is_the_share_of_all_sign_patterns(differences: list[float]) -> None:
    tenths = [round(10 * d) for d in differences]  # whole numbers tie exactly
    sums = [
        abs(sum(s * t for s, t in zip(signs, tenths, strict=True))) for signs in product((-1, 1), repeat=len(tenths))
    ]
    assert sign_flip_p(np.array(differences)) == pytest.approx(np.mean([s >= abs(sum(tenths)) for s in sums]))


def test_p_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 13)
    theirs = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(values) == pytest.approx(theirs.pvalue)


@given(DIFFERENCES, st.integers(0, 99))
def test_the_order_of_families_and_who_is_called_first_do_not_matter(differences: list[float], seed: int) -> None:
    values = np.array(differences)
    mixed = np.random.default_rng(seed).permutation(values)
    assert sign_flip_p(values) == sign_flip_p(mixed) == sign_flip_p(-values)


def test_the_interval_ends_where_the_test_begins_to_reject() -> None:
    """Hartigan's typical values: the means of all subsets of families cut the line into 2^F parts of equal probability."""
    values = np.random.default_rng(0).normal(0.2, 0.3, 8)
    subsets = np.sort([values[np.array(s, bool)].mean() for s in product((0, 1), repeat=8) if any(s)])
    low, high = flip_interval(values) or (0, 0)
    cut = int(0.05 / 2 * 2**8)  # a p below .05 leaves fewer than 6.4 of 256 patterns on a side
    assert (low, high) == pytest.approx((subsets[cut - 1], subsets[-cut]))
    assert flip_interval(values[:5]) is None, "2 / 2^5 = .0625: nothing can be rejected"


def test_one_family_has_p_1_and_says_that_nothing_could_be_resolved() -> None:
    values = {CONTROL: {"taboo/a": 0.0, "taboo/b": 0.0}, "delta": {"taboo/a": 1.0, "taboo/b": 1.0}}
    (only,) = answer(values)
    assert (only.p, only.floor, only.verdict, only.families, only.organisms) == (1, 1, "not resolved", 1, 2)
    assert only.difference == (1.0, None, None) and only.resolvable is None
    assert "p ≥ 1" in only.said and "no difference would have been resolved" in only.said


def test_the_floor_is_what_a_clear_difference_reaches() -> None:
    clear, level = answer(table(good=[0.3] * 12, even=[0.2, -0.2] * 6))
    assert clear.p == clear.floor == 2 / 2**12 and clear.verdict == "better"
    assert clear.difference == pytest.approx((0.3, 0.3, 0.3)) and clear.organisms == 24
    assert (level.p, level.verdict) == (1, "not resolved") and level.difference.value == pytest.approx(0)
    assert "would have been resolved" in level.said and level.resolvable is not None


def test_a_tie_has_no_sign_and_lowers_no_floor() -> None:
    """Isolation is 0 on many organisms: of 12 families 5 differ, so the smallest p is 2/2^5, however large the difference."""
    (tied,) = answer(table(good=[0.3] * 5 + [0.0] * 7))
    assert tied.p == tied.floor == 2 / 2**5 and tied.verdict == "not resolved"
    assert "families: 12, 7 of them tied, so p ≥ 0.062; a difference of 0." in tied.said
    assert "in every family would have been resolved" in tied.said


def test_what_could_have_been_resolved_would_have_been() -> None:
    """Shift the families' differences to just above and just below `resolvable`: the verdict changes there."""
    scatter = np.random.default_rng(1).normal(0, 0.1, 12)
    scatter -= scatter.mean()
    others = {f"m{i}": [0.0] * 12 for i in range(4)}
    smallest = answer(table(own=scatter.tolist(), **others))[0].resolvable or 0
    verdicts = [answer(table(own=(scatter + smallest * x).tolist(), **others))[0].verdict for x in (0.99, 1.01)]
    assert verdicts == ["not resolved", "better"]
    assert answer(table(own=(scatter - 1.01 * smallest).tolist(), **others))[0].verdict == "worse"


def test_a_clone_changes_nobody_elses_p_but_through_the_length_of_the_list() -> None:
    own = np.random.default_rng(2).normal(0.1, 0.1, 12).tolist()
    alone, beside = answer(table(own=own)), answer(table(own=own, clone=own))
    for a, b in zip(alone, beside, strict=False):
        assert (a.p, a.difference, a.families) == (b.p, b.difference, b.families)
    assert beside[0].p_holm == pytest.approx(2 * alone[0].p) and beside[0].p == beside[1].p
    copy = answer(table(own=[0.0] * 12))[0]  # a copy of the control itself
    assert (copy.p, copy.verdict) == (1, "not resolved")


def test_a_list_is_corrected_for_its_length_whoever_was_run() -> None:
    values = table(own=[0.3] * 12)
    (own, missing), (alone,) = answer(values, "own", "typo"), answer(values, "own")
    assert missing.verdict == "not run" and missing.said.startswith("not run") and missing.p_holm == 1
    assert own.p_holm == pytest.approx(2 * alone.p_holm)
    nowhere = outcomes([Contrast("own", CONTROL, FOUND)], {"isolation": values})
    assert [o.verdict for o in nowhere] == ["not run"]


def test_an_organism_without_a_score_leaves_and_families_weigh_the_same() -> None:
    """Family 0 has one organism left, .1 behind; the others are .3 ahead: the mean over families is not that over organisms."""
    values = {m: dict(own) for m, own in table(own=[-0.1] + [0.3] * 11).items()}
    values["own"]["family0/a"] = None
    del values["own"]["family0/b"]
    (without,) = answer(values)
    assert without.families == 11 and without.organisms == 22
    values["own"]["family0/b"] = values[CONTROL]["family0/b"] - 0.1
    (one,) = answer(values)
    assert one.families == 12 and one.organisms == 23
    assert one.difference.value == pytest.approx((11 * 0.3 - 0.1) / 12)


@pytest.mark.parametrize("n", [1, 2, 16, 136])
def test_families_needed_are_enough_and_fewer_are_not(n: int) -> None:
    needed = families_needed(n)
    assert n * 2 / 2**needed < 0.05 <= n * 2 / 2 ** (needed - 1)
    values = {CONTROL: {f"f{i}/a": 0.0 for i in range(needed)}}
    values |= {f"m{j}": dict.fromkeys(values[CONTROL], 0.1 * (j == 0)) for j in range(n)}
    assert answer(values)[0].verdict == "better"
    fewer = {m: {o: v for o, v in own.items() if o != "f0/a"} for m, own in values.items()}
    assert answer(fewer)[0].verdict == "not resolved" and answer(fewer)[0].resolvable is None


def test_a_true_null_is_seldom_rejected() -> None:
    """Skew families, which is all that could hurt the test: 2,000 means of 10 exponentials around their mean."""
    rng = np.random.default_rng(0)
    p = [sign_flip_p(rng.exponential(1, 10) - rng.exponential(1, 10)) for _ in range(2000)]
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.065


def test_more_families_than_can_be_counted_are_refused_with_what_to_do() -> None:
    assert sign_flip_p(np.ones(24)) == 2 / 2**24
    with pytest.raises(UsageError, match="FAMILY/NAME"):
        sign_flip_p(np.ones(31))


CLAIM = Claim("a beats b and c", "a paper", (Contrast("a", "b"), Contrast("a", "c")))
SAME = Claim("a matches b", "a paper", (Contrast("a", "b"),), "alike")


@pytest.mark.parametrize(
    ("claim", "ahead", "verdict"),
    [
        (CLAIM, {"b": 0.3, "c": 0.3}, "replicates"),
        (CLAIM, {"b": 0.3, "c": 0.0}, "unresolved"),
        (CLAIM, {"b": 0.3, "c": -0.3}, "does not replicate"),
        (CLAIM, {"b": 0.3}, "unresolved"),
        (SAME, {"b": 0.02}, "replicates"),
        (SAME, {"b": 0.5}, "does not replicate"),
        (SAME, {}, "unresolved"),
    ],
)
def test_claims_are_judged_by_their_contrasts(claim: Claim, ahead: dict[str, float], verdict: str) -> None:
    a = {f"{f}/x": 0.5 + 0.001 * (-1) ** i for i, f in enumerate(FAMILIES)}
    values = {"a": a} | {m: dict.fromkeys(a, 0.5 - d) for m, d in ahead.items()}
    assert replication(claim, outcomes(claim.contrasts, {"isolation": values})) == verdict


def test_alike_needs_the_whole_interval_and_no_difference_is_not_enough() -> None:
    wide = {f"{f}/x": 0.5 + 0.4 * (-1) ** i for i, f in enumerate(FAMILIES)}
    found = outcomes(SAME.contrasts, {"isolation": {"a": wide, "b": dict.fromkeys(wide, 0.5)}})
    assert found[0].difference.value == pytest.approx(0) and replication(SAME, found) == "unresolved"


def test_the_lists_name_methods_that_exist() -> None:
    """A typo in a pre-registered list would be answered by `not run` for ever."""
    named = {c.method for claim in CLAIMS for c in claim.contrasts} | {c.against for x in CLAIMS for c in x.contrasts}
    assert {name.partition("@")[0] for name in named} | {CONTROL, SIMPLE} <= set(BUILTIN)
    assert PUBLISHED in named


def test_a_table_is_asked_all_lists_and_a_grid_with_holes_is_not_run() -> None:
    quality = {CONTROL: 0.1, SIMPLE: 0.3, "delta": 0.9}
    cells = [make_result(m, f"{f}/a", 0, q) for m, q in quality.items() for f in FAMILIES]
    holes = [make_result("pca", f"{f}/a", 0, 0.9) for f in FAMILIES[1:]]
    table = build_table([*cells, *holes], draws=200)
    found = answered(table)
    assert list(found) == [f"against {CONTROL}", f"against {SIMPLE}", "claims"]
    assert {o.contrast.method: o.verdict for o in found[f"against {CONTROL}"]} == {"delta": "better", SIMPLE: "better"}
    assert {o.contrast.method: o.verdict for o in found[f"against {SIMPLE}"]} == {"delta": "better", CONTROL: "worse"}
    assert {o.verdict for o in found["claims"]} == {"not run"} and len(found["claims"]) == 8
    values = values_of(table)
    assert "pca" not in values["isolation"] and values[FOUND]["delta"] == dict.fromkeys(values["isolation"]["delta"], 1)
    assert set(values[FOUND][CONTROL].values()) == {0}


def test_an_organism_that_labels_do_not_solve_is_not_asked() -> None:
    """Everybody is near 0 there by nobody's doing: it would only dilute a difference."""
    organisms = [f"{f}/a" for f in FAMILIES]
    cells = [make_result(m, o, 0, q) for m, q in (("delta", 0.9), (CONTROL, 0.1)) for o in organisms]
    cells += [make_result("supervised", o, 0, 0.9 if i else 0.1) for i, o in enumerate(organisms)]
    table = build_table(cells, draws=50)
    (only,) = answered(table)[f"against {CONTROL}"]
    assert (only.families, only.organisms) == (11, 11)
    assert values_of(table)["isolation"]["delta"][organisms[0]] is None
    assert only.difference.value == pytest.approx(table.pairs[0].difference.value)
