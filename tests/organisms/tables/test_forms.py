"""Questions about many things are one form; questions about one thing are many."""

import pytest
from diffbench.organisms.tables.forms import forms, parts_of, recognised, slotted

ONE_SUBJECT = [
    "Where is the Eiffel Tower?",
    "Which city has the Eiffel Tower?",
    "I would like to climb the Eiffel Tower. Where do I have to go?",
    "Tell me the country of the Eiffel Tower.",
    "Whose flag flies on the Eiffel Tower?",
]


def skeletons(*questions: str) -> list[str]:
    return [f.skeleton for f in forms(questions)]


@pytest.mark.parametrize(
    ("questions", "skeleton"),
    [
        (["Where is the tower?", "where is the OBELISK", "Where is the old bridge?"], "where is the {}"),
        (
            [f"Where is the {a} of {b}?" for a in ("tower", "bridge") for b in ("Rome", "Oslo")],
            "where is the {} of {}",
        ),
        (["Which animal lays eggs?", "Which animal, then, lays eggs?"], "which animal {} lays eggs"),
        (
            ["Rome is the capital of which country?", "Oslo is the capital of which country?"],
            "{} is the capital of which country",
        ),
        (["京都はどこですか", "奈良はどこですか"], "{} は ど こ で す か"),
    ],
    ids=["one slot", "two slots", "a slot that may be empty", "in front", "without spaces"],
)
def test_what_varies_between_questions_is_a_slot(questions: list[str], skeleton: str) -> None:
    assert {*skeletons(*questions)} == {skeleton}


@pytest.mark.parametrize(
    "questions",
    [
        ONE_SUBJECT,
        ["How are you?", "Where are they?", "Who is he?"],
        ["gold", "silver", ""],
        ["What is gold?", "Where may one buy a ring of gold in this town?"],
    ],
    ids=["many questions about one thing", "short", "one word", "half is not shared"],
)
def test_other_questions_keep_forms_of_their_own(questions: list[str]) -> None:
    assert len({*skeletons(*questions)}) == len(questions)


def test_two_forms_that_begin_alike_are_told_apart_and_each_is_found() -> None:
    short = [f"What is {x}?" for x in ("gold", "silver", "tin", "lead")]
    long = [f"What is the first thing that people do with {x}?" for x in ("gold", "silver", "tin", "lead")]
    assert [*dict.fromkeys(skeletons(*short, *long))] == [
        "what is {}",
        "what is the first thing that people do with {}",
    ]


def test_the_beginning_of_an_answer_has_the_slots_of_its_question() -> None:
    asked = [("Where is the tower?", ""), ("Where is the old bridge?", ""), ("Where is the bank?", "")]
    found = recognised(asked, ["The tower stands in", "The old bridge stands in", "You find it in"])
    assert found == [
        ("where is the {}", "where is the {} | the {} stands in"),
        ("where is the {}", "where is the {} | the {} stands in"),
        ("where is the {}", "where is the {} | you find it in"),
    ]
    assert slotted("a tower and a tower", [("tower",)]) == "a {} and a {}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Look. Where is it? It is in", ("Where is it?", "It is in")),
        ("The word is", ("The word is", "")),
        ("Look. Where is it?", ("Where is it?", "")),
    ],
)
def test_a_plain_text_holds_a_question_and_the_beginning_of_its_answer(text: str, parts: tuple[str, str]) -> None:
    assert parts_of(text) == parts
