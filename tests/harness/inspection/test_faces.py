"""The terminal and the page say the same, at 80 columns, without colour, and obey nothing that a text says."""

import re

import pytest
from diffbench.harness.escape import CONTROLS
from diffbench.harness.inspection.faces import terminal, words
from diffbench.harness.inspection.faces.page import page
from diffbench.harness.inspection.report import (
    Active,
    Answer,
    Answers,
    Context,
    Explained,
    Histogram,
    Place,
    Reading,
    Report,
    Shown,
    Token,
    Use,
    Won,
    WordScore,
)
from diffbench.harness.records.result import Curve
from rich.console import Console

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"


def token(text: str, shade: int = 0) -> Token:
    return Token(text=text, base=0.0, organism=shade / 4, shade_base=0, shade_organism=shade)


def shown(number: int, silent: bool = False) -> Shown:
    tokens = [token("<user>"), token(" one"), token(" " + HOSTILE, 4), token(" clue", 1)]
    context = Context(
        kind="chat", rank=1, sample=False, quantile=1, base=0.0, organism=1.0, cut=(True, False), tokens=tokens
    )
    return Shown(
        number=number,
        score=0.5,
        gated=True,
        length=2.0,
        readings=[Reading(name="lens", promotes=["gold", HOSTILE], suppresses=["tin"])],
        facts={"ν^ε": 0.25},
        active=Active(rule="gate open", base=0.0, organism=0.1, strongest_base=-1.0, strongest_organism=1.0),
        silent=silent,
        scale=1.0,
        histogram=Histogram(edges=[-1.0, 0.0, 1.0], base=[4, 0], organism=[3, 1]),
        contexts=[context],
        places=[Place(token="<end>", tokens=12, base=0.0, organism=0.5)],
    )


@pytest.fixture
def report() -> Report:
    use = Use(op="add", findings=[1, 2], gated=True, strength=0.5, chosen="scoring, at .03 nats a token")
    row = Answer(asked=HOSTILE, base="tin", added=HOSTILE, organism="gold", removed=None)
    curve = Curve(
        op="add", k=1, gated=False, strengths=[0.5, 1.0], rate=[0.1, 0.2], gain=[0.1, 0.4], kl_nats=[0.0, 0.1]
    )
    return Report(
        method="m",
        organism=HOSTILE,
        layer=2,
        seed=0,
        status="ok",
        id="0" * 64,
        sentences=["Adding finding 1 to the base brings back 40% of the behaviour."],
        notes=["Prompts of the test split are not shown."],
        claims=[HOSTILE],
        read={"chat": 1000},
        won=[Won(k=1, readings=["lens", "tokens"], by={"lens": 1.0, "tokens": 1.0}, truth="gold")],
        findings=[shown(1), shown(2, silent=True), shown(3)],
        curves=[curve],
        choices=[],
        answers=Answers(seed=0, tokens=24, added=use, removed=None, rows=[row]),
    )


def on_terminal(report: Report, numbers: list[int]) -> str:
    console = Console(width=80, color_system=None, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(terminal.view(report, numbers))
    return captured.get()


def test_the_terminal_says_one_sentence_first_and_marks_strong_tokens_without_colour(report: Report) -> None:
    text = on_terminal(report, [1])
    assert text.split("\n")[1].startswith("Adding finding 1 to the base brings back 40%")
    assert "«<script>" in text and "«one»" not in text and "«clue»" not in text
    assert all(len(line) <= 80 for line in text.split("\n"))
    assert "2 more findings: --finding 2-3" in text and "finding 1, gated" in text and "finding 3, gated" not in text


def test_readings_that_are_level_are_said_to_be(report: Report) -> None:
    said = "reading the first finding for 'gold': lens and tokens do best"
    assert said in " ".join(on_terminal(report, [1]).split())


def test_what_is_taken_out_by_nothing_is_said(report: Report) -> None:
    text = " ".join(on_terminal(report, [1]).split())
    assert "+ findings 1–2 added to the base where gates are open, strength 0.5" in text
    assert "nothing is taken out: scoring found no strength that helps" in text


def test_a_silent_finding_is_said_to_be_silent_on_both_faces(report: Report) -> None:
    assert "never active" in on_terminal(report, [2]) and "never active" not in on_terminal(report, [1])
    assert "never active" in page(report, [2]) and "never active" not in page(report, [1])


def test_explanations_are_shown_with_their_scores_on_both_faces(report: Report) -> None:
    score = WordScore(
        scorer="detection", metric="balanced accuracy", by=HOSTILE, value=0.8, low=0.7, high=0.9, chance=0.5, active=9, other=8,
        failed=2, shuffled=[0.5, 0.6], why=None,
    )  # fmt: skip
    none = score.model_copy(
        update={"scorer": "simulation", "value": None, "why": "the endpoint gives no log-probabilities"}
    )
    e = Explained(
        explainer="m", text=HOSTILE, outputs="it says gold", coverage="active in 20 documents", scores=[score, none]
    )
    f = report.findings[0].model_copy(update={"explanations": [e]})
    with_words = report.model_copy(update={"findings": [f, *report.findings[1:]]})
    text, html = " ".join(on_terminal(with_words, [1]).split()), page(with_words, [1])
    for said in (
        "what it makes the base say: it says gold",
        "detection 0.80 [0.70, 0.90]",
        "others' explanations 0.55",
        "2 answers could",
    ):
        assert said in text and said.replace("'", "&#39;") in html
    assert "simulation: not scored, the endpoint gives no log-probabilities" in text
    assert "<script" not in html and not CONTROLS.search(html) and not CONTROLS.search(text)
    assert "explained by" not in on_terminal(report, [1])


def test_no_control_reaches_a_face_and_no_markup_a_page(report: Report) -> None:
    html = page(report, [1, 2, 3])
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html
    assert not CONTROLS.search(html) and not CONTROLS.search(on_terminal(report, [1, 2, 3]))


def test_a_page_loads_nothing_and_holds_both_sides(report: Report) -> None:
    html = page(report, [1])
    assert not re.search(r"(?:src|href)=[\"'](?!#)|@import|url\(", html)
    assert "prefers-color-scheme:dark" in html and "max-width:640px" in html
    assert 'class="o4 b0"' in html and 'id="f1"' in html and 'id="f2"' not in html
    assert (
        "Findings that are not on this page: 2-3; <code>bench show</code> shows them with <code>--finding 2-3</code>"
        in html
    )


def test_the_faces_hold_the_same_numbers(report: Report) -> None:
    text, html = on_terminal(report, [1, 2, 3]), page(report, [1, 2, 3])
    for value in ("0.25", "50.0%", "40%", "scoring, at .03"):
        assert value in text and value in html


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "0%"), (0.0031, "0.31%"), (0.431, "43%"), (0.994, "99%"), (0.9951, "100%"), (1.0, "100%")]
)
def test_a_share_is_told_in_digits(share: float, said: str) -> None:
    assert words._percent(share) == said  # pyright: ignore[reportPrivateUsage]
