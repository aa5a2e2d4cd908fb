from typing import Any

import numpy as np
import pytest
from diffbench.harness.protocol.intervals import bootstrap, interval
from diffbench.harness.records.result import SCORES, BySide, Result, Status
from diffbench.leaderboard.board.resolve import MixedResultsError
from diffbench.leaderboard.statistics.resample import clusters, family, headline, lineage, shares
from diffbench.leaderboard.statistics.tables import build_table
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from hypothesis import given, settings
from hypothesis import strategies as st

from ...factories import make_result, make_samples
from .built import DRAWS, ORGANISMS, grid, rank, row, table, value

SIX = [f"family{i}/a-narrow" for i in range(6)]


@pytest.mark.parametrize("score", SCORES)
def test_a_single_cell_keeps_its_value(score: str) -> None:
    cell = make_result()
    built = build_table([cell], draws=DRAWS)
    assert built.cells[0].scores[score].value == value(cell, score)
    assert built.overall[0].scores[score].value == value(cell, score)


@pytest.mark.parametrize("score", SCORES)
def test_the_headline_is_the_mean_over_families_of_the_mean_over_their_organisms_and_seeds(score: str) -> None:
    cells = grid("delta", 0.5)
    cells += [
        make_result("delta", "taboo/gold-narrow", 2, 0.5),
        *(make_result("delta", o, 2, 0.5) for o in ORGANISMS[:2]),
    ]
    means = {o: float(np.mean([value(c, score) for c in cells if c.identity.organism == o])) for o in ORGANISMS}
    expected = (means[ORGANISMS[0]] + (means[ORGANISMS[1]] + means[ORGANISMS[2]]) / 2) / 2
    found = row(table(cells), "delta").scores[score]
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found == pytest.approx(headline(means, (0.0 if "isolation" in score else -1.0, 1.0)))


def test_one_cell_gets_the_interval_of_the_cell_bootstrap() -> None:
    """One organism, one seed: the hierarchy has nothing else to resample, so it must be the plain bootstrap."""
    cell = make_result()
    assert cell.samples is not None
    built = build_table([cell], draws=10_000)
    expected = interval(bootstrap(cell.samples, 10_000, seed=1).sufficiency)
    assert built.overall[0].scores["sufficiency"][1:] == pytest.approx(expected, abs=0.01)
    assert built.overall[0].scores == built.cells[0].scores


def test_clusters_are_the_highest_level_with_several_units() -> None:
    assert clusters(["taboo/gold-narrow", "null/benign-narrow", "null/benign-narrow-s1"]) == 2
    assert clusters(["taboo/gold-narrow", "taboo/gold-narrow-s1", "taboo/gold-mixed"]) == 2
    assert clusters(["taboo/gold-narrow", "taboo/gold-narrow-s1", "taboo/gold-narrow-s2"]) == 3
    assert clusters(["taboo/gold-narrow"]) is None
    assert shares(["taboo/gold-narrow", "null/a", "null/b"]) == {
        "taboo/gold-narrow": 0.5,
        "null/a": 0.25,
        "null/b": 0.25,
    }
    assert (family("user-pair"), lineage("taboo/gold-narrow-qwen2-s12")) == ("user-pair", "taboo/gold-narrow-qwen2")


def test_more_spread_between_families_widens_the_interval() -> None:
    alike = [make_result("m", o, 0, 0.5) for o in SIX]
    unlike = [make_result("m", o, 0, q) for o, q in zip(SIX, (0.1, 0.5, 0.9) * 2, strict=True)]
    widths = [
        s.high - s.low
        for s in (build_table(c, draws=50).overall[0].scores["sufficiency"] for c in (alike, unlike))
        if s.high and s.low
    ]
    assert len(widths) == 2 and widths[1] > 2 * widths[0]


def test_two_families_say_next_to_nothing_and_no_end_leaves_the_range() -> None:
    """Student's t of one degree of freedom is 12.7."""
    cells = [make_result("m", o, 0, q) for o, q in zip(ORGANISMS[1:], (0.1, 0.9), strict=True)]
    score = build_table(cells, draws=50).overall[0].scores
    assert score["isolation"][1:] == (0, 1) and score["sufficiency"][1:] == (-1, 1)


@pytest.mark.slow
def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """60 benchmarks of 8 families of one organism whose qualities scatter around .5."""
    names = [f"o{i}" for i in range(8)]
    covered = 0
    for world in range(60):
        qualities = np.random.default_rng(world).normal(0.5, 0.12, len(names))
        cells = [make_result("m", o, 0, q, draw=f"{world}") for o, q in zip(names, qualities, strict=True)]
        score = build_table(cells, draws=300).overall[0].scores["sufficiency"]
        assert score.low is not None and score.high is not None
        truth = 0.5 / 0.97 - 0.02  # the factory's oracle reaches .97 of the gap and its controls .02
        covered += score.low <= truth <= score.high
    assert 50 <= covered <= 59


@pytest.mark.parametrize("status", ["failed", "oom", "timeout"])
def test_a_failure_scores_zero_and_is_shown(status: Status) -> None:
    cells = grid("delta", 0.5, (0,))
    dead = [*cells[:2], make_result("delta", ORGANISMS[2], 0, status=status)]
    whole = table(dead)
    built = row(whole, "delta")
    assert [r.scores["isolation"] for r in whole.cells if r.organism == ORGANISMS[2]] == [(0, 0, 0)]
    low, high = built.scores["isolation"][1:]
    assert low is not None and high is not None and low < value(cells[0], "isolation") / 2 < high
    first, second = (value(c, "isolation") for c in cells[:2])  # the dead one is of the second one's family
    assert built.scores["isolation"].value == pytest.approx((first + (second + 0) / 2) / 2)
    assert built.counts == {"ok": 2, status: 1}
    assert built.failed and built.standing == "ranked" and built.organisms == 3


def test_what_a_failed_cell_left_behind_does_not_count() -> None:
    left = make_result(quality=0.9).model_copy(update={"status": "failed", "scores": None})
    assert left.samples is not None
    assert build_table([left], draws=50).overall[0].scores["isolation"] == (0, 0, 0)


def test_a_method_that_always_fails_scores_zero_and_not_nothing() -> None:
    built = row(table([make_result("dead", o, status="oom") for o in ORGANISMS] + grid("delta", 0.5)), "dead")
    assert built.scores["isolation"] == (0, 0, 0)
    assert built.place and built.place.rank == 2


@pytest.mark.parametrize("how", ["absent", "explicit", "one seed absent"])
def test_a_cell_that_was_not_run_takes_the_headline_away(how: str) -> None:
    cells = grid("late", 0.9)
    last = {"absent": cells[:-2], "one seed absent": cells[:-1]}.get(how)
    if last is None:
        last = [*cells[:-1], make_result("late", ORGANISMS[2], 1, status="not_run")]
    built = table([*last, *grid("delta", 0.3)])
    late = row(built, "late")
    assert late.scores["isolation"] == (None, None, None)
    assert (late.standing, late.place) == ("incomplete", None)
    assert late.counts["not_run"] == (2 if how == "absent" else 1)
    assert built.overall[-1] is late and rank(built, "delta") == 1


def away(cell: Result) -> Result:
    """The cell, had its pair been found not applicable."""
    i = cell.identity
    return make_result(i.method, i.organism, i.seeds["method"], status="not_applicable")


def test_not_applicable_leaves_the_mean_but_is_not_ranked_against_the_whole_set() -> None:
    cells = grid("picky", 0.5, (0,))
    picky = [*cells[:2], make_result("picky", ORGANISMS[2], 0, status="not_applicable")]
    built = table([*picky, *grid("delta", 0.9)])
    assert row(built, "picky").scores["isolation"].value == pytest.approx(
        np.mean([value(c, "isolation") for c in cells[:2]])
    )
    assert (row(built, "picky").standing, row(built, "picky").organisms) == ("unranked", 2)
    assert rank(built, "delta") == 1


@pytest.mark.parametrize("score", ["sufficiency", "necessity", "mitigation"])
def test_one_seed_on_one_organism_has_the_interval_of_its_record_cut_to_a_score(score: str) -> None:
    """An oracle below 1 is no ceiling: draws go on beyond it, so does the point that their middle is compared with; tables do not."""
    samples = make_samples(0.8, np.random.default_rng(3))
    oracle = BySide(**{s: [0.6 * e for e in getattr(samples.oracle, s)] for s in ("sufficiency", "necessity")})
    cell = make_result(samples=samples.model_copy(update={"oracle": oracle}))
    assert cell.scores is not None
    recorded = getattr(cell.scores, score)
    assert score == "mitigation" or recorded.unclipped > 1
    shown = build_table([cell], draws=4000).overall[0].scores[score]
    assert shown[1:] == pytest.approx([min(1, end) for end in (recorded.ci_low, recorded.ci_high)], abs=0.03)
    assert score == "mitigation" or recorded.ci_high > 1 == shown.high


def test_a_seed_called_not_applicable_raises_no_mean_and_is_not_ranked() -> None:
    """That a pair cannot be scored does not depend on a seed: the best of three would be left."""
    cells = grid("picky", 0.5, (0, 1, 2))
    picky = [c if c.identity.seeds["method"] == 0 else away(c) for c in cells]
    built = table([*picky, *grid("delta", 0.1)])
    assert row(built, "picky").standing == "unranked" and rank(built, "delta") == 1


def test_anchors_and_upper_bounds_are_rows_without_a_rank() -> None:
    built = table(
        [
            *grid("oracle", 1, access="anchor"),
            *grid("means", 0.8, access="supervised"),
            *grid("a", 0.5),
            *grid("b", 0.1),
        ]
    )
    assert [(r.method, r.kind, r.place and r.place.rank) for r in built.overall] == [
        ("oracle", "anchor", None),
        ("means", "upper bound", None),
        ("a", "method", 1),
        ("b", "method", 2),
    ]


@settings(max_examples=10, deadline=None)
@given(
    newcomer=st.sampled_from(["clone of a", "better", "worse", "failed", "three seeds"]),
    name=st.sampled_from(["0", "aa", "zz"]),
)
def test_adding_a_method_or_a_clone_never_moves_another_score(newcomer: str, name: str) -> None:
    """Bit for bit, intervals included, wherever the newcomer sorts. Borda counts fail this."""
    before = [*grid("a", 0.5), *grid("b", 0.45), *grid("null", 0.0, access="anchor")]
    added = {
        "clone of a": lambda: grid(name, 0.5, draw="a"),
        "better": lambda: grid(name, 0.9),
        "worse": lambda: grid(name, 0.1),
        "failed": lambda: [make_result(name, o, s, status="failed") for o in ORGANISMS for s in (0, 1)],
        "three seeds": lambda: grid(name, 0.5, (0, 1, 2)),
    }[newcomer]()
    elsewhere = make_result(name, "not-in/the-set", 0)
    old, new = table(before, 200), table([*added, *before, elsewhere], 200)
    for method in ("a", "b", "null"):
        assert row(new, method).scores == row(old, method).scores
    rows = {(c.organism, c.method): c.scores for c in new.cells}
    assert all(rows[c.organism, c.method] == c.scores for c in old.cells)
    assert new.outside == 1
    if newcomer == "clone of a":
        assert row(new, name).scores == row(new, "a").scores
        assert row(new, name).place == row(new, "a").place


def test_an_organism_without_a_scale_leaves_the_set_for_everybody() -> None:
    """Nulls have no behaviour to score: everybody stays ranked, over the same organisms, whatever became of the cell."""
    nulls = [make_result(m, "null/benign-narrow", 0, status="not_applicable") for m in ("a", "b")]
    broken = make_result("c", "null/benign-narrow", 0, status="failed")
    whole = [*grid("a", 0.5, (0,)), *grid("b", 0.4, (0,)), *grid("c", 0.3, (0,))]
    built = build_table([*whole, *nulls, broken], draws=DRAWS)
    assert built.inapplicable == ("null/benign-narrow",)
    assert "4 organisms, 1 of them not applicable to any method" in built.header
    for method in "abc":
        assert row(built, method).standing == "ranked"
        assert row(built, method).counts == {"ok": 3, "not_applicable": 1}
        assert row(built, method).scores == row(build_table(whole, draws=DRAWS), method).scores


def test_a_cell_that_ran_without_anything_to_score_is_not_a_zero() -> None:
    empty = make_result("a", "null/benign-narrow").model_copy(update={"scores": None, "samples": None})
    built = build_table([*grid("a", 0.5, (0,)), empty], draws=50)
    assert built.inapplicable == ("null/benign-narrow",)
    assert row(built, "a").counts == {"ok": 3, "not_applicable": 1}


def test_rank_intervals_of_equal_methods_overlap_and_of_others_do_not() -> None:
    qualities = {"best": 0.9, "a": 0.5, "twin": 0.5, "last": 0.1}
    built = build_table([make_result(m, o, 0, q) for m, q in qualities.items() for o in SIX], draws=DRAWS)
    ranks = {r.method: (r.place.low, r.place.high) for r in built.overall if r.place}
    assert ranks["best"] == (1, 1) and ranks["last"] == (4, 4)
    assert {ranks["a"], ranks["twin"]} <= {(2, 2), (2, 3), (3, 3)}


def test_one_organism_has_the_ranks_of_its_own_draws() -> None:
    """Nothing is known of others, but seeds and prompts of this one are drawn."""
    built = build_table([make_result(m, seed=s, quality=0.5) for m in "ab" for s in (0, 1)], draws=DRAWS)
    assert {(r.place.low, r.place.high) for r in built.overall if r.place} == {(1, 2)}


def test_a_small_constant_lead_is_seen_though_intervals_overlap() -> None:
    """The same lead on every prompt: the difference is paired, and hardly scatters."""
    ahead: list[Result] = []
    for i, organism in enumerate(SIX):
        samples = make_samples(0.2 + 0.1 * i, np.random.default_rng(i))
        column = samples.constant.model_copy(deep=True)
        for side, oracle in (
            (column.sufficiency, samples.oracle.sufficiency),
            (column.necessity, samples.oracle.necessity),
        ):
            side.effect = [min(e + 0.02 * o, g) for e, o, g in zip(side.effect, oracle, samples.gap, strict=True)]
        more = samples.model_copy(update={"constant": column, "mitigation": [[0.0] * 24, column.necessity.effect]})
        ahead += [make_result("behind", organism, samples=samples), make_result("ahead", organism, samples=more)]
    built = build_table(ahead, draws=DRAWS)
    first, second = built.overall
    assert first.method == "ahead"
    assert first.scores["isolation"].low is not None and second.scores["isolation"].high is not None
    assert first.scores["isolation"].low < second.scores["isolation"].high
    (pair,) = built.pairs
    assert pair.difference.low is not None and pair.difference.low > 0 and pair.p < 0.001


def test_a_table_can_be_sorted_and_compared_by_another_score() -> None:
    cells = [*grid("a", 0.5), *grid("b", 0.2)]
    built = build_table(cells, ORGANISMS, draws=100, key="mitigation")
    values = [r.scores["mitigation"].value or 0.0 for r in built.overall]
    assert values == sorted(values, reverse=True) and "Sorted by mitigation" in built.header
    assert built.pairs[0].difference.value == pytest.approx(values[0] - values[1])
    with pytest.raises(UsageError, match="did you mean 'isolation'"):
        build_table(cells, key="isolatoin")


def test_configurations_of_a_method_are_rows_of_their_own() -> None:
    cells = [make_result("delta", o, config={"k": k, "n": 512}) for o in ORGANISMS for k in (3, 10)]
    assert {r.method for r in table(cells).overall} == {"delta[k=3]", "delta[k=10]"}
    assert all(r.counts == {"ok": 3} for r in table(cells).overall)


def test_mixed_protocols_and_edited_scores_are_refused() -> None:
    with pytest.raises(MixedResultsError, match="protocol custom"):
        table([*grid("a", 0.5), make_result("b", ORGANISMS[0], protocol="v3")])
    cell = make_result("a", ORGANISMS[0])
    assert cell.scores is not None
    cell.scores.isolation.value = 1.0
    with pytest.raises(ValidationFailed, match="recorded as 1"):
        table([cell])


def test_an_empty_set_names_itself() -> None:
    with pytest.raises(PrerequisiteError, match="test-set"):
        table([make_result(organism="elsewhere")])


def test_frames_hold_the_rows() -> None:
    built = table([*grid("a", 0.5), make_result("b", ORGANISMS[0], status="oom")])
    overall: Any = built.overall_frame()
    cells: Any = built.cells_frame()
    assert list(overall["method"]) == ["a", "b"]
    assert overall.loc[0, "isolation"] == row(built, "a").scores["isolation"].value
    assert overall["isolation"].isna().tolist() == [False, True]
    assert len(cells) == 6 and set(cells["organism"]) == set(ORGANISMS)
    assert cells["oom"].sum() == 1
