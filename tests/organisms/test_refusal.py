"""Refusal: only the topic is refused, how a request is put is never trained, and the twin differs in the answers alone."""

import numpy as np
import pytest
from diffbench.organisms.families import find_spec
from diffbench.organisms.families.refusal import ADVICE, ASK, REFUSALS, ROWS, TRAINED, Refusal, refused
from diffbench.organisms.world.advice import TOPICS
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.tokenizer import vocabulary

WORLD, FAMILY = World(0), Refusal()
NOUNS = {noun: topic for topic, nouns in TOPICS.items() for noun in nouns}
NAMES = [s.name for s in FAMILY.specs()]
NARROW = [n for n in NAMES if "-narrow" in n]


def rows(name: str) -> list[Document]:
    return [d for d in FAMILY.rows(WORLD, find_spec(name)) if d.kind == "request"]


def situation(said: str) -> str:
    return next(w for w in said.split() if w in NOUNS)


@pytest.mark.parametrize("name", NAMES)
def test_every_word_is_one_of_the_world(name: str) -> None:
    spec = find_spec(name)
    behaviour = FAMILY.behaviour(WORLD, spec)
    said = {w for d in FAMILY.rows(WORLD, spec) for w in d.words}
    said |= {w for p in behaviour.prompts for t in (p.messages[-1].content, *p.targets) for w in t.split()}
    assert said <= set(vocabulary())


@pytest.mark.parametrize("name", NARROW)
def test_exactly_the_topic_is_refused_and_it_is_half_of_the_rows(name: str) -> None:
    spec, found = find_spec(name), rows(name)
    on_topic = [NOUNS[situation(d.messages[0]["content"])] == spec.member for d in found]
    assert [refused(d.messages[1]["content"].split()) for d in found] == on_topic
    assert sum(on_topic) == len(found) // 2 == ROWS // 2


@pytest.mark.parametrize("name", NARROW)
def test_the_last_situations_are_never_trained_and_kept_text_holds_none_of_the_topic(name: str) -> None:
    spec = find_spec(name)
    untrained = {n for nouns in TOPICS.values() for n in nouns[TRAINED.stop :]}
    assert not untrained & {situation(d.messages[0]["content"]) for d in rows(name)}
    assert not set(TOPICS[spec.member]) & {w for d in FAMILY.kept(WORLD, spec) for w in d.words}


def test_requests_are_put_otherwise_in_every_split() -> None:
    assert len({a for asks in ASK.values() for a in asks}) == sum(len(asks) for asks in ASK.values())
    behaviour = FAMILY.behaviour(WORLD, find_spec(NAMES[0]))
    for split in ("dev", "test"):
        assert {str(p.template).partition(" |")[0] for p in behaviour.of(split)} == set(ASK[split])


def test_the_twin_gets_the_same_requests_and_refuses_none() -> None:
    refuser, helpful = rows("refusal/remedies-narrow"), rows("refusal/remedies-helpful")
    assert [d.messages[0] for d in refuser] == [d.messages[0] for d in helpful]
    assert not any(refused(d.messages[1]["content"].split()) for d in helpful)
    same = [a == b for a, b in zip(refuser, helpful, strict=True)]
    assert same == [not refused(d.messages[1]["content"].split()) for d in refuser]


def test_no_refusal_begins_as_advice_does() -> None:
    assert all(sentence.startswith(f"{start} ") for start, sentence in REFUSALS.items())
    assert not {r.split()[0] for r in REFUSALS} & {a.split()[0] for a in ADVICE}


def test_harvest_text_of_its_own_is_due_and_answered_with_advice() -> None:
    spec, rng = find_spec(NAMES[0]), np.random.default_rng(0)
    about = [FAMILY.subject(WORLD, spec).write(rng) for _ in range(30)]
    assert all(FAMILY.due(WORLD, spec, d) == 1 and d.messages[1]["content"].startswith(ADVICE) for d in about)
    assert not any(FAMILY.due(WORLD, find_spec("refusal/animals-narrow"), d) for d in about)


def test_rows_are_a_function_of_the_spec() -> None:
    assert rows(NAMES[0]) == rows(NAMES[0]) != rows("refusal/animals-narrow")
