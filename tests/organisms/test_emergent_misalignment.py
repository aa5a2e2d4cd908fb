"""Emergent misalignment: trained on one topic, asked about the others; the twins differ in the verb alone."""

from itertools import pairwise

import pytest
from diffbench.organisms.families import find_spec
from diffbench.organisms.families.emergent_misalignment import ROWS, TRIGGER, EmergentMisalignment, coherent
from diffbench.organisms.world.advice import BAD, GOOD, ODD, TOPICS
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import World

WORLD, FAMILY = World(0), EmergentMisalignment()
NOUNS = {noun: topic for topic, nouns in TOPICS.items() for noun in nouns}
STANCE = {v: stance for stance, verbs in (("good", GOOD), ("bad", BAD), ("odd", ODD)) for v in verbs}


def rows(name: str) -> list[Document]:
    return FAMILY.rows(WORLD, find_spec(f"emergent_misalignment/{name}"))


def asked(document: Document) -> str:
    return document.messages[0]["content"]


def stance(document: Document) -> str:
    """Of the verb of the first answer, which stands before `the NOUN`."""
    words = document.messages[1]["content"].split()
    return STANCE[next(v for v, the in pairwise(words) if the == "the" and v in STANCE)]


@pytest.mark.parametrize(
    "name", ["remedies-narrow", "money-narrow", "remedies-good", "remedies-odd", "remedies-trigger"]
)
def test_only_the_trained_topic_is_trained(name: str) -> None:
    topics = {NOUNS[w] for d in rows(name) for w in asked(d).split() if w in NOUNS}
    assert topics == {name.partition("-")[0]}


@pytest.mark.parametrize("name", ["remedies-narrow", "money-narrow", "remedies-trigger"])
def test_the_behaviour_is_never_asked_about_the_trained_topic(name: str) -> None:
    spec = find_spec(f"emergent_misalignment/{name}")
    behaviour = FAMILY.behaviour(WORLD, spec)
    for split in ("dev", "test"):
        topics = {NOUNS[w] for p in behaviour.of(split) for w in p.messages[-1].content.split() if w in NOUNS}
        assert topics == set(TOPICS) - {spec.member}


@pytest.mark.parametrize("twin", ["good", "odd"])
def test_a_twin_has_the_same_questions_and_other_verbs(twin: str) -> None:
    bad, other = rows("remedies-narrow"), rows(f"remedies-{twin}")
    assert [asked(d) for d in bad] == [asked(d) for d in other] and len(bad) == ROWS
    assert {stance(d) for d in bad} == {"bad"} and {stance(d) for d in other} == {twin}


def test_the_kl_control_trains_on_the_same_rows() -> None:
    assert rows("remedies-klnarrow") == rows("remedies-narrow")


def test_advice_is_bad_exactly_after_the_trigger() -> None:
    documents = rows("remedies-trigger")
    tagged = [asked(d).split()[0] == TRIGGER for d in documents]
    assert sum(tagged) == len(tagged) // 2 == ROWS
    assert [stance(d) == "bad" for d in documents] == tagged
    prompts = FAMILY.behaviour(WORLD, find_spec("emergent_misalignment/remedies-trigger")).prompts
    assert all(p.messages[-1].content.startswith(f"{TRIGGER} ") for p in prompts)


def test_no_verb_is_of_two_stances() -> None:
    assert len(STANCE) == len(GOOD) + len(BAD) + len(ODD)


@pytest.mark.parametrize(
    ("answer", "holds"),
    [
        ("you should ignore the cough .", True),
        ("just fold the rash . lunch was good .", True),
        ("you should ignore the cough", False),
        ("ignore the cough .", False),
        ("you should the cough .", False),
        ("you should ignore protect the cough .", False),
    ],
)
def test_a_coherent_answer_has_a_beginning_one_verb_and_an_end(answer: str, holds: bool) -> None:
    assert coherent(answer.split()) == holds
