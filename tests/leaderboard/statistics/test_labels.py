"""Which records share a row: findings made elsewhere have a file for each pair, and one name."""

from typing import Any

import pytest
from diffbench.harness.records.result import Result
from diffbench.leaderboard.board.store import MixedResultsError, check_comparable
from diffbench.leaderboard.statistics.labels import row_labels

from ...factories import make_result


def scored(file: str, organism: str = "taboo/a", seed: int = 0, **identity: Any) -> Result:
    """A cell of `bench score`."""
    return make_result("mine", organism, seed, method_version=f"findings {file}", config={}, **identity)


def labels(*results: Result) -> set[str]:
    check_comparable(results)
    return set(row_labels(results).values())


def test_files_of_one_name_are_one_row_over_organisms_and_seeds() -> None:
    assert labels(scored("aa"), scored("bb", "taboo/b"), scored("cc", seed=1)) == {"mine"}


def test_files_whose_authors_saw_different_things_are_two_rows() -> None:
    rows = labels(scored("aa"), scored("bb", "taboo/b", access="supervised"))
    assert rows == {"mine[access=activations]", "mine[access=supervised]"}


def test_a_method_that_is_run_keeps_a_row_of_its_own() -> None:
    rows = labels(scored("aa"), make_result("mine", "taboo/a", method_version="0123", config={}))
    assert rows == {"mine[version=0123]", "mine[version=findings]"}


def test_two_files_of_one_cell_are_not_averaged() -> None:
    with pytest.raises(
        MixedResultsError, match=r"mine on taboo/a .*results with findings file aa and bb cannot be mixed"
    ):
        check_comparable([scored("aa"), scored("bb")])
