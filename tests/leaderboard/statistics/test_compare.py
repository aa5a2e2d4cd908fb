import json
from pathlib import Path

import numpy as np
import pytest
from diffbench.cli import app
from diffbench.leaderboard.statistics.compare import across, comparison_data, comparison_markdown, holm, letters, paired
from diffbench.leaderboard.statistics.resample import clusters, organism_weights
from diffbench.leaderboard.statistics.rows import Estimate, Pair
from diffbench.leaderboard.statistics.tables import build_table
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ...factories import make_result, write_result

FAMILIES = [f"family{i}/a-narrow" for i in range(6)]


def verdict(better: str, worse: str, separated: bool = True) -> Pair:
    return Pair(better, worse, Estimate(0.1), 0.0, 0.01 if separated else 0.5)


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
    assert (pair.p, pair.separated) == (1.0, False) and pair.difference.low is None and pair.difference.value > 0.5
    assert here.separated and here.difference.low > 0
    assert json.loads(json.dumps(comparison_data(table), allow_nan=False))["clusters"] is None


def test_letters_of_differences_that_do_not_chain() -> None:
    """a and c differ, b differs from neither: b shares a letter with both, which one letter a method could not say."""
    assert letters("abc", [verdict("a", "c")]) == {"a": "a", "b": "ab", "c": "b"}
    assert letters("abc", [verdict("a", "b", False)]) == {"a": "a", "b": "a", "c": "a"}
    assert letters("ab", [verdict("a", "b")]) == {"a": "a", "b": "b"}


@given(st.integers(1, 8), st.data())
def test_methods_share_a_letter_exactly_if_they_are_not_separated(n: int, data: st.DataObject) -> None:
    names = [f"m{i}" for i in range(n)]
    apart = {(a, b): data.draw(st.booleans()) for i, a in enumerate(names) for b in names[i + 1 :]}
    found = letters(names, [verdict(a, b, s) for (a, b), s in apart.items()])
    assert all(bool(set(found[a]) & set(found[b])) != s for (a, b), s in apart.items())


def test_true_nulls_are_seldom_called_different() -> None:
    """600 pairs of equal methods over families of core-v1's sizes; p must hold in the tail that Holm's correction uses."""
    sizes = [2, 2, 6, 7, 6, 4, 4]
    names = [f"f{i}/o{j}-narrow" for i, n in enumerate(sizes) for j in range(n)]
    drawn, rng = organism_weights(names, 1000, 0), np.random.default_rng(0)
    found: list[float] = []
    for _ in range(600):
        gap = np.repeat(rng.normal(0, 0.1, len(sizes)), sizes) + rng.normal(0, 0.05, len(names))
        (pair,) = paired(
            {"a": float(gap.mean()), "b": 0.0}, across({"a": drawn @ gap, "b": np.zeros(1000)}, clusters(names))
        )
        assert pair.difference.low is not None and pair.difference.high is not None
        assert (pair.p < 0.05) == (not pair.difference.low <= 0 <= pair.difference.high)
        found.append(pair.p)
    assert 0.015 < np.mean(np.array(found) < 0.05) < 0.085
    assert np.mean(np.array(found) < 0.005) < 0.015


def test_draws_undefined_for_one_method_are_left_out_and_a_clone_is_equal() -> None:
    draws = {
        "a": np.array([0.5, np.nan, 0.7, 0.6]),
        "b": np.array([0.3, 0.1, 0.4, 0.5]),
        "clone": np.array([0.3, 0.1, 0.4, 0.5]),
    }
    pairs = {(p.better, p.worse): p for p in paired({"a": 0.6, "b": 0.3, "clone": 0.3}, across(draws, 6))}
    error = np.std([0.2, 0.3, 0.1])
    assert pairs["a", "b"].difference.low == pytest.approx(0.3 - 2.5706 * error, abs=1e-4)  # t, 5 degrees of freedom
    assert (pairs["b", "clone"].p, pairs["b", "clone"].difference) == (1, (0, 0, 0))


def test_a_clone_changes_comparisons_only_through_their_number() -> None:
    cells = [make_result(m, o, 0, q) for m, q in (("a", 0.6), ("b", 0.3)) for o in FAMILIES]
    clones = [make_result("c", o, 0, 0.3, draw="b") for o in FAMILIES]
    old, new = (build_table(c, draws=300) for c in (cells, [*cells, *clones]))
    assert {r.method: r.scores for r in old.overall}.items() <= {r.method: r.scores for r in new.overall}.items()
    before, after = old.pairs[0], new.pairs[0]
    assert (before.difference, before.p) == (after.difference, after.p)
    assert {r.method: r.group for r in new.overall} == {"a": "a", "b": "b", "c": "b"}


def test_the_command_prints_every_pair_and_json_says_the_same(tmp_path: Path) -> None:
    cells = [make_result(m, o, 0, q) for m, q in (("a_b", 0.6), ("c", 0.3), ("d", 0.3)) for o in FAMILIES]
    for cell in cells:
        write_result(tmp_path, cell)
    command = ["leaderboard", "compare", str(tmp_path)]
    text, data, core, typo = (
        CliRunner().invoke(app, [*command, *more]) for more in ([], ["--json"], ["--core"], ["--score", "isolatoin"])
    )
    table = build_table(cells)
    assert text.exit_code == 0 and text.stdout.strip() == comparison_markdown(table).strip()
    assert text.stdout.count("separated |") == 2 and text.stdout.count("unresolved |") == 1
    assert json.loads(data.stdout) == json.loads(json.dumps(comparison_data(table)))
    assert core.exit_code == 3 and "core-v1" in core.output
    assert typo.exit_code == 2 and "did you mean 'isolation'" in typo.output
