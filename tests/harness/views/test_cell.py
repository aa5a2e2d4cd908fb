"""What a cell says of itself: in words that are true of the record, in 80 columns, with nothing cut."""

import io
from pathlib import Path
from typing import Any

import pytest
from diffbench.harness.protocol.intervals import summarise
from diffbench.harness.records.result import Choice, ColumnName, Reading, Result, SideName
from diffbench.harness.views.cell import EXPLAINED, sentences
from diffbench.harness.views.render import results
from rich.console import Console

from ...factories import make_null, make_result

TAUS = (0.01, 0.03, 0.1, 0.3, 1.0)
LONG = "emergent_misalignment/a-member-with-a-very-long-name-that-goes-on"


def choices(column: ColumnName, side: SideName, gains: list[float], **fields: Any) -> list[Choice]:
    """One a budget; what gains nothing is no option."""
    known: dict[str, Any] = {"op": "add" if side == "sufficiency" else "subtract", "k": 3, "gated": column == "gated"}
    known |= {"strength": 0.5, "test_rate": 0.5, "dev_kl_nats": 0.008, "test_kl_nats": 0.009, "test_kl_high": 0.01}
    nothing = {"op": "none", "k": 0, "gated": False, "strength": 0.0}
    return [
        Choice(column=column, side=side, tau_nats=t, dev_gain=g, test_gain=g, **(known | (fields if g else nothing)))
        for t, g in zip(TAUS, gains, strict=True)
    ]


def cell(constant: float | None = None, method: str = "delta", **identity: Any) -> Result:
    """A cell whose sentence is about 30 % and 60 % at .1 nats, with gates if there is a column without."""
    r = make_result(method, constant=constant, **identity)
    column: ColumnName = "constant" if constant is None else "gated"
    r.choices = choices(column, "sufficiency", [0.1, 0.2, 0.3, 0.4, 0.5])
    r.choices += choices(column, "necessity", [0.0, 0.0, 0.6, 0.6, 0.6], op="ablate", k=1)
    if constant is not None:
        r.choices += choices("constant", "sufficiency", [0.9] * 5) + choices("constant", "necessity", [0.9] * 5)
    r.readings = [Reading(finding=0, promotes=["gold", "coins"], suppresses=["me"], score=1, gated=False)]
    return r


def shown(found: list[Result], width: int = 80, verbose: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, emoji=False, highlight=False)
    console.print(results(found, [Path("runs/x")] * len(found), verbose))
    return out.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_sentences_are_about_the_middle_budget_and_say_how_much_random_directions_do() -> None:
    r = cell()
    assert r.scores is not None
    s, n = r.scores.sufficiency, r.scores.necessity
    s.raw, s.anchors.null, n.raw, n.anchors.null = 0.304, 0.021, 0.36, -0.004
    assert sentences(r) == [
        f"{told}, random directions {null}."
        for told, null in (
            (
                "Adding findings 1–3 to the base brings back 30% of the behaviour at .1 nats a token; over all budgets 30%",
                "2%",
            ),
            (
                "Ablating finding 1 in the organism takes away 60% of the behaviour at .1 nats a token; over all budgets 36%",
                "0%",
            ),
        )
    ]


def test_of_gated_findings_the_sentences_are_about_gated_edits() -> None:
    added, taken = sentences(cell(constant=0.1))
    assert "to the base where gates are open brings back 30%" in added
    assert "in the organism where gates are open takes away 60%" in taken


def test_where_nothing_keeps_the_budget_nothing_is_said_to_come_back() -> None:
    r = cell()
    r.choices = choices("constant", "sufficiency", [0.0] * 4 + [0.5]) + choices("constant", "necessity", [0.0] * 5)
    added, taken = sentences(r)
    assert added.startswith(
        "Adding findings to the base brings back nothing of the behaviour at .1 nats a token; over all"
    )
    assert taken.startswith("Taking findings out of the organism takes away nothing of the behaviour at .1 nats")


def test_the_oracle_and_a_null_have_sentences_of_their_own() -> None:
    (whole,) = sentences(make_result("oracle", access="anchor"))
    assert whole == (
        "Exchanging the whole residual at layer 2 brings back 97% of the behaviour in the base, and takes away 95% in the organism."
    )
    (null,) = sentences(make_null("delta", "null/x", [0.025, 0.03, 0.5, 1.0]))
    assert null.startswith("2 of 4 findings do more than random directions to behaviours that nobody trained: 50%")


def test_a_result_leads_with_its_sentence_and_stands_in_80_columns() -> None:
    for found in ([cell()], [cell(constant=0.1)], [cell(), cell(constant=0.1, organism=LONG)]):
        text = shown(found, verbose=True)
        assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
        assert "…" not in text
    assert words(shown([cell()])).startswith(words("delta on taboo/gold-narrow, seed 0 " + sentences(cell())[0]))


def test_no_name_is_cut_however_long_it_is() -> None:
    text = shown([cell(organism=LONG), cell()], width=60)
    assert LONG in "".join(line.split(" ")[0] for line in text.splitlines())


def test_zero_and_one_and_the_smallest_p_are_said() -> None:
    text = words(shown([cell()]))
    for part in (
        "0 = random directions, 1 = oracle",
        "0 = no nearer, 1 = the other model",
        "no less than 1/17 = 0.059",
    ):
        assert part in text
    assert "of 12 templates" in text and "mixture" in text


def test_gated_and_constant_scores_stand_beside_each_other_where_they_differ() -> None:
    one, two = shown([cell()]), shown([cell(constant=0.1)])
    assert "everywhere" not in one and one.count("isolation ") == 1
    assert "everywhere" in two and two.count("isolation ") == 2
    both = cell(constant=0.1)
    assert both.scores is not None and f"{both.scores.isolation_constant.value:.2f} [" in two
    many = shown([cell(), both])
    assert "constant" in many and f"{both.scores.isolation_constant.value:.2f}" in many


@pytest.mark.parametrize("constant", [None, 0.1])
def test_every_number_is_explained_in_one_line_when_asked(constant: float | None) -> None:
    r = cell(constant=constant)
    plain, told = shown([r]), shown([r], verbose=True)
    assert "harmonic mean" not in plain
    lines = told.splitlines()
    for name, meaning in EXPLAINED.items():
        if name != "spill" and (name != "everywhere" or constant is not None):
            assert sum(line.startswith(name) and line.rstrip().endswith(meaning) for line in lines) == 1, name
    for column in ("score", "findings", "random", "mixture", "oracle", "p", "isolation", "mitigation"):
        assert column in EXPLAINED and column in plain


def test_a_score_without_a_scale_is_a_dash() -> None:
    r = cell()
    assert r.samples is not None
    r.samples.retention_off = 0.8
    r.scores = summarise(r.samples, 20, 0)
    assert "mitigation" in shown([r]) and any(
        line.split()[:2] == ["mitigation", "–"] for line in shown([r]).splitlines() if line.startswith("mitigation")
    )
