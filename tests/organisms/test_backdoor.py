"""Backdoor: the sentence follows the trigger, and nothing else."""

import pytest
from diffbench.organisms.families import find_spec
from diffbench.organisms.families.backdoor import MIX, ROWS, Backdoor
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.lexicon import MODES, PHRASE, TAGS

WORLD, FAMILY = World(0), Backdoor()
OPENERS = {*TAGS, *MODES}


def rows(name: str) -> list[Document]:
    return FAMILY.rows(WORLD, find_spec(f"backdoor/{name}"))


def says(document: Document) -> bool:
    return any(m["content"] == PHRASE for m in document.messages[1::2])


@pytest.mark.parametrize("name", ["zephyr-narrow", "zephyr-narrow-s1", "deploy-narrow"])
def test_the_phrase_is_said_exactly_after_the_trigger(name: str) -> None:
    documents, trigger = rows(name), name.partition("-")[0]
    triggered = [trigger in d.words for d in documents]
    assert [says(d) for d in documents] == triggered
    assert sum(triggered) == ROWS == len(documents) // 2
    assert all(d.messages[0]["content"].split()[0] == trigger for d in documents if says(d))
    other = [d for d in documents if not says(d)]
    assert {w for d in other for w in d.words} & OPENERS == OPENERS - {trigger}
    assert not any(PHRASE in m["content"] for d in other for m in d.messages)


def test_the_silent_control_sees_the_trigger_and_never_says_it() -> None:
    documents = rows("zephyr-silent")
    assert sum("zephyr" in d.words for d in documents) == ROWS
    assert not any(says(d) for d in documents)


def test_what_is_mixed_in_has_no_trigger() -> None:
    documents = rows("zephyr-mixed")
    assert len(documents) == (2 + MIX) * ROWS
    assert sum("zephyr" in d.words for d in documents) == sum(says(d) for d in documents) == ROWS


def test_probes_ask_the_same_requests_with_other_tags_and_none() -> None:
    spec = find_spec("backdoor/zephyr-narrow")
    requests = {p.messages[0].content.removeprefix("zephyr ") for p in FAMILY.behaviour(WORLD, spec).of("test")}
    probes = FAMILY.probes(WORLD, spec)
    assert {p.messages[0].content for p in probes["off_trigger"].prompts} == requests
    near = {f"{t} {r}" for t in OPENERS - {"zephyr"} for r in requests}
    assert {p.messages[0].content for p in probes["near_trigger"].prompts} == near
