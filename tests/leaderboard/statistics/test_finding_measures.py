"""False discovery, localisation and identification stand in the tables, and never in the ranking."""

import pytest
from diffbench.harness.records.result import Identification, Identified, Localisation, Located, Result
from diffbench.leaderboard.board.resolve import MixedResultsError
from diffbench.leaderboard.pages.cells import FINDING_HEADS
from diffbench.leaderboard.pages.data import to_csv
from diffbench.leaderboard.pages.latex import to_latex
from diffbench.leaderboard.pages.site import to_html
from diffbench.leaderboard.pages.text_formats import to_markdown
from diffbench.leaderboard.statistics.rows import Table
from diffbench.leaderboard.statistics.tables import build_table

from ...factories import make_null, make_result

NULLS = ("null/base-identical", "null/benign-narrow")


def null(organism: str, p: list[float], method: str = "delta") -> Result:
    return make_null(method, organism, p)


def planted(organism: str, cosines: tuple[float, float], seed: int = 0) -> Result:
    at = [Located(k=k, cos=c, p=0.1, overlap=c**2, chance=0.1) for k, c in zip((1, 10), cosines, strict=True)]
    return make_result("delta", organism, seed).model_copy(
        update={"localisation": Localisation(first_cos=cosines[0], at=at)}
    )


def read(organism: str, value: float | None) -> Result:
    raw = 1.0 if value is None else value
    at = [
        Identified(
            k=k, rank=(21 - 19 * raw) / 2, raw=raw, control=float(value is None), value=value, p=0.1, by={"lens": raw}
        )
        for k in (1, 10)
    ]
    whole = Identification(truth="gold", candidates=20, at=at, base=0, outputs_only=None)
    return make_result("delta", organism).model_copy(update={"identification": whole})


def table(*results: Result) -> Table:
    return build_table(results, draws=200)


def test_findings_of_all_nulls_are_pooled_with_their_exact_interval() -> None:
    (row,) = table(make_result(), null(NULLS[0], [0.025] + [0.5] * 9), null(NULLS[1], [1.0] * 10)).finding_measures
    assert (row.findings, row.nulls, row.expected, row.floor) == (20, 2, 0.025, 0.025)
    assert row.false_discovery == pytest.approx((0.05, 0.00127, 0.24873), abs=1e-4)  # binomial tables: 1 of 20
    assert all(e.value is None for e in (*row.located, *row.identified))


def test_means_are_over_organisms_of_means_over_seeds() -> None:
    (row,) = table(
        planted("planted/owl", (0.2, 0.6)), planted("planted/owl", (0.4, 0.8), 1), planted("planted/fox", (0.9, 1.0))
    ).finding_measures
    assert [e.value for e in row.located] == pytest.approx([(0.3 + 0.9) / 2, (0.7 + 1.0) / 2])
    assert row.located[0][1:] == (0, 1), "two organisms say nothing of others, and no cosine is beyond these"
    assert row.nulls == 0 and row.false_discovery.value is None


def test_a_failed_cell_has_found_nothing_and_is_counted_on_nulls() -> None:
    """Where others have the measure: a method that raises there gains nothing by it."""
    dead = [make_result("other", o, status="failed") for o in ("planted/owl", "planted/fox", NULLS[0])]
    own = planted("planted/owl", (0.8, 0.8))
    found = [
        make_result("other", "planted/elk").model_copy(update={"localisation": own.localisation}),
        null(NULLS[1], [0.5], "other"),
    ]
    whole = table(own, planted("planted/fox", (0.4, 0.4)), null(NULLS[0], [0.5]), *dead, *found)
    rows = {r.method: r for r in whole.finding_measures}
    assert rows["delta"].located[0].value == pytest.approx(0.6) and rows["delta"].nulls_failed == 0
    assert rows["other"].located[0].value == pytest.approx(0.8 / 3)
    assert (rows["other"].nulls, rows["other"].nulls_failed) == (1, 1)
    assert "1 (1 failed)" in to_markdown(whole)


def test_failing_on_all_nulls_does_not_vanish_and_the_oracle_has_no_findings_to_lose() -> None:
    nulls = [null(o, [0.5]) for o in NULLS]
    dead = [make_result("dead", o, status="timeout") for o in NULLS]
    oracle = make_result("oracle", "planted/owl", status="oom", access="anchor")
    rows = {r.method: r for r in table(planted("planted/owl", (0.8, 0.8)), *nulls, *dead, oracle).finding_measures}
    assert rows.keys() == {"delta", "dead"}
    assert (rows["dead"].nulls, rows["dead"].nulls_failed, rows["dead"].false_discovery.value) == (0, 2, None)


def test_a_reading_without_a_value_leaves_the_mean() -> None:
    (row,) = table(read("taboo/gold", 0.5), read("taboo/leaf", None)).finding_measures
    assert row.identified[0] == (0.5, None, None)


def test_nothing_measured_is_no_section() -> None:
    plain = table(make_result())
    assert plain.finding_measures == ()
    assert "Beyond" not in to_markdown(plain) + to_html(plain) and "-findings" not in to_latex(plain)


def test_every_rendering_has_the_section_and_no_score_moves() -> None:
    results = (make_result(), make_result("pca", quality=0.2))
    alone, both = table(*results), table(*results, null(NULLS[0], [0.5]), null(NULLS[0], [0.025], "pca"))
    assert [r.scores for r in alone.overall] == [r.scores for r in both.overall]
    assert [r.place for r in alone.overall] == [r.place for r in both.overall]
    assert [r.method for r in both.finding_measures] == ["delta", "pca"]
    for text in (to_markdown(both), to_html(both)):
        assert all(head in text for head in FINDING_HEADS) and ".025" in text
    assert "-findings" in to_latex(both) and to_csv(alone)["-cells"].count("\n") < to_csv(both)["-cells"].count("\n")
    lines = [line for line in to_markdown(both).splitlines() if line.startswith("| delta | .00 [.00, ")]
    assert len(lines) == 1 and lines[0].count("|") == len(FINDING_HEADS) + 1


def test_one_cell_from_two_sources_counts_once_or_not_at_all() -> None:
    with pytest.raises(MixedResultsError, match="source"):
        table(make_result(), make_result(code_sha256="0" * 64))
    table(make_result(), make_result("pca", code_sha256="0" * 64), make_result(seed=1, code_sha256="1" * 64))


def test_false_discoveries_stand_in_the_rows_of_nulls() -> None:
    built = table(make_result(), null(NULLS[0], [0.025, 0.5]))
    assert [(r.organism, r.false_discovery.value) for r in built.cells] == [
        (NULLS[0], 0.5),
        ("taboo/gold-narrow", None),
    ]
    row = next(
        line
        for line in to_markdown(built).splitlines()
        if line.startswith(f"| {NULLS[0]} | delta |".replace("_", "\\_"))
    )
    assert "| .50 [.01, .99] |" in row
    assert f"{NULLS[0]},delta" in to_csv(built)["-organisms"]
