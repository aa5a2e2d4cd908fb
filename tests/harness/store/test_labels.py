"""Which records share a row, and what a row's name says: one configuration, or the paper's where ours departs from it."""

from typing import Any

import pytest
from diffbench.harness.records.result import Result
from diffbench.harness.store import labels as rows
from diffbench.harness.store.labels import as_published, row_labels
from diffbench.leaderboard.board.resolve import MixedResultsError, check_comparable
from diffbench.methods import catalogue
from diffbench.methods.catalogue import PUBLISHED
from diffbench.methods.registry import BUILTIN, load_method

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


AS_OURS: dict[str, dict[str, Any]] = {"random_difference": {"mix": 1}}
"""What docs/methods.md says that papers ran of methods whose defaults are the papers'."""


def test_what_departs_from_a_paper_is_declared_and_nothing_else() -> None:
    """A default that is tuned away from its paper's has to be entered, or the claim would be tested of another method."""
    departs = {
        method: any(getattr(load_method(method).configure({}), k) != v for k, v in paper.items())
        for method, paper in {**PUBLISHED, **AS_OURS}.items()
    }
    assert departs == {**dict.fromkeys(PUBLISHED, True), **dict.fromkeys(AS_OURS, False)}


def test_published_settings_name_their_row_by_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rows, catalogue):
        monkeypatch.setattr(module, "PUBLISHED", {"delta": {"rank": "rdn"}})
    ours, paper = ({"rank": rank, "steps": 900} for rank in ("contribution", "rdn"))
    cells = [make_result("delta", config=config) for config in (ours, paper)]
    assert labels(*cells) == {"delta", "delta@published"} and labels(cells[1]) == {"delta@published"}
    longer = make_result("delta", config=paper | {"steps": 3600})
    assert labels(*cells, longer) == {"delta", "delta@published[steps=900]", "delta@published[steps=3600]"}
    assert labels(make_result("dsf", config=paper)) == {"dsf"}
    assert (rows.as_published("delta"), rows.as_published("dsf")) == ("delta@published", "dsf")


def test_a_record_cannot_call_itself_published() -> None:
    """The name of a method has no @, so no record's own name reads like one."""
    with pytest.raises(ValueError, match="method"):
        make_result("delta@published")


def test_every_published_row_is_of_a_method_that_exists() -> None:
    assert set(PUBLISHED) <= set(BUILTIN) and as_published("logit_diff") == "logit_diff@published"
