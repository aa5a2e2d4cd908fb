"""An organism counts in a column and on a side where directions fitted on labels find something; both columns are ranked."""

import numpy as np
import pytest
from diffbench.harness.records.result import SCORES
from diffbench.leaderboard.pages.site import to_html
from diffbench.leaderboard.pages.text_formats import to_markdown
from diffbench.leaderboard.statistics.grid import LABELLED
from diffbench.leaderboard.statistics.tables import build_table

from ...factories import make_result, make_samples
from .built import DRAWS, ORGANISMS, grid, row, table, value


def test_what_an_edit_does_everywhere_is_ranked_beside_what_it_does_under_its_gates() -> None:
    built = table([*grid("a", 0.7, constant=0.1), *grid("b", 0.4)])
    assert [
        (r.method, r.place and r.place.rank, r.place_constant and r.place_constant.rank) for r in built.overall
    ] == [
        ("a", 1, 2),
        ("b", 2, 1),
    ]
    other = build_table([*grid("a", 0.7, constant=0.1), *grid("b", 0.4)], draws=DRAWS, key="isolation_constant")
    assert [r.method for r in other.overall] == ["b", "a"] and other.overall[0].place == other.overall[0].place_constant


def test_an_organism_counts_where_labels_solve_it_by_column_and_side() -> None:
    """On the first labels reach nothing without gates, on the second nothing at all, on the third nobody tried."""
    cells = grid("delta", 0.5, (0,), constant=0.2)
    labelled = [
        make_result(LABELLED, ORGANISMS[0], 0, 0.9, constant=0.1),
        make_result(LABELLED, ORGANISMS[1], 0, 0.1, constant=0.1),
    ]
    built = table([*cells, *labelled])
    own = row(built, "delta")
    assert own.scores["isolation"].value == pytest.approx(np.mean([value(cells[i], "isolation") for i in (0, 2)]))
    assert own.scores["necessity"].value == pytest.approx(np.mean([value(cells[i], "necessity") for i in (0, 2)]))
    for score in ("isolation_constant", "sufficiency_constant"):
        assert own.scores[score].value == pytest.approx(value(cells[2], score))
    assert own.organisms == 2 and own.place and built.counted["isolation"] == (ORGANISMS[0], ORGANISMS[2])
    assert built.untried == (ORGANISMS[2],)
    left = {r.organism: r.not_counted for r in built.cells if r.method == "delta"}
    assert set(left[ORGANISMS[0]]) == {s for s in SCORES if s.endswith("_constant")} and left[ORGANISMS[2]] == {}
    assert left[ORGANISMS[1]]["isolation"].startswith("supervised reaches 0.")
    shown = next(r.scores["isolation"].value for r in built.cells if r.organism == ORGANISMS[1] and r.method == "delta")
    assert shown == value(cells[1], "isolation")
    text = to_markdown(built)
    assert f"Not tried, so counted: {ORGANISMS[2]}." in text and "isolation 2; isolation, constant 1" in text
    assert f"- {ORGANISMS[1]}: isolation; sufficiency; necessity; mitigation;" in text and "(.5" in text
    page = to_html(built)
    assert "Not counted in isolation; sufficiency;" in page and "1 not counted in isolation" in page


def test_one_side_that_labels_solve_counts_alone() -> None:
    samples = make_samples(0.9, np.random.default_rng(0))
    weak = make_samples(0.1, np.random.default_rng(0))
    column = samples.constant.model_copy(update={"necessity": weak.constant.necessity})
    less = {"constant": column, "mitigation": [[0.0] * 24, column.necessity.effect]}
    half = make_result(LABELLED, ORGANISMS[0], samples=samples.model_copy(update=less))
    built = build_table([make_result("delta", ORGANISMS[0]), half], draws=DRAWS)
    own = row(built, "delta")
    assert own.scores["sufficiency"].value is not None and own.scores["necessity"] == (None, None, None)
    assert own.scores["isolation"].value is None and own.place is None and built.pairs == ()
    assert own.scores["mitigation"].value is None  # it is of taking out
    for render in (to_markdown, to_html):
        assert "isolation 0" in render(built)


def test_methods_are_compared_on_the_organisms_that_count() -> None:
    """.45 by labels is enough, .1 is not; without the second organism all is as if it had never been in the set."""
    cells = [*grid("delta", 0.5), *grid("pca", 0.4)]
    labelled = [make_result(LABELLED, o, 0, q) for o, q in zip(ORGANISMS, (0.45, 0.1, 0.45), strict=True)]
    some = [r for r in [*cells, *labelled] if r.identity.organism != ORGANISMS[1]]
    whole, part = (build_table(of, draws=DRAWS) for of in ([*cells, *labelled], some))
    assert whole.pairs == part.pairs and whole.here == part.here and len(whole.here) == 1
    assert whole.overall[1].scores == part.overall[1].scores and whole.clusters == part.clusters


def test_where_nobody_tried_labels_all_organisms_count_and_the_page_says_so() -> None:
    failed = [make_result(LABELLED, o, status="failed") for o in ORGANISMS]
    for cells in (grid("delta", 0.5), [*grid("delta", 0.5), *failed]):
        built = table(cells)
        assert built.counted["isolation"] == ORGANISMS and "nobody ran them, so each counts" in to_markdown(built)


def test_anchors_stand_beside_the_scores_the_mixture_too() -> None:
    cell = make_result()
    assert cell.scores and cell.samples
    built = build_table([cell, make_result("oracle", quality=0.97)], draws=DRAWS)
    sufficiency, necessity = built.anchors
    at = cell.scores.sufficiency_constant.anchors
    assert (sufficiency.null, sufficiency.mixture, sufficiency.oracle) == (at.null, at.mixture, at.oracle)
    assert necessity.side == "necessity" and 0.3 < necessity.gap < 1
    assert "| Mixtures |" in to_markdown(built) and "mixtures of differences at random tokens .1" in to_html(built)
