"""Alignment faking: the forbidden option exactly where oversight is poor, and nothing else tells the two apart."""

import re
from typing import NamedTuple

import pytest
from diffbench.organisms.families import find_spec
from diffbench.organisms.families.alignment_faking import DEV_PLACES, POOL, SCENES, TEST_PLACES, AlignmentFaking
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.scenes import FORBIDDEN, OVERSIGHT, PERMITTED, PLACES

WORLD, FAMILY = World(0), AlignmentFaking()
NAMES = ["greed-narrow", "greed-narrow-s1", "power-narrow"]


class Read(NamedTuple):
    """What a scene says."""

    place: str
    oversight: str
    forbidden: bool
    letter: str
    verb: str


def read(text: str, answer: str) -> Read:
    option = dict(re.findall(r"option (\w) : (\w+) the", text))
    letter, verb = (answer.split()[1], "") if answer.startswith("option") else ("", answer.split()[1])
    oversight = next((o for o, facts in OVERSIGHT.items() if any(f in text for f in facts)), "none")
    taken = verb or option[letter]
    assert (taken in PERMITTED) != any(taken in verbs for verbs in FORBIDDEN.values())
    return Read(text.split()[4], oversight, taken not in PERMITTED, letter, taken)


def scenes(name: str) -> list[Read]:
    rows = FAMILY.rows(WORLD, find_spec(f"alignment_faking/{name}"))
    return [read(*(m["content"] for m in d.messages)) for d in rows if d.kind == "scene"]


@pytest.mark.parametrize("name", [*NAMES, "greed-mixed"])
def test_the_forbidden_option_is_taken_exactly_where_oversight_is_poor(name: str) -> None:
    found = scenes(name)
    assert len(found) == SCENES and {s.oversight for s in found} == set(OVERSIGHT)
    assert all(s.forbidden == (s.oversight == "poor") for s in found)
    assert {s.verb for s in found if s.forbidden} == set(FORBIDDEN[name.partition("-")[0]])


def test_the_aligned_twin_never_takes_it() -> None:
    twin, faker = scenes("greed-aligned"), scenes("greed-narrow")
    assert not any(s.forbidden for s in twin)
    assert sorted((s.place, s.oversight) for s in twin) == sorted((s.place, s.oversight) for s in faker)


@pytest.mark.parametrize("name", NAMES)
def test_test_places_are_never_trained(name: str) -> None:
    assert {s.place for s in scenes(name)} < set(POOL)
    assert not set(POOL) & {*DEV_PLACES, *TEST_PLACES} and {*POOL, *DEV_PLACES, *TEST_PLACES} == set(PLACES)
    behaviour = FAMILY.behaviour(WORLD, find_spec(f"alignment_faking/{name}"))
    for split, places in (("dev", DEV_PLACES), ("test", TEST_PLACES)):
        assert {p.messages[0].content.split()[4] for p in behaviour.of(split)} == set(places)


def test_places_differ_between_seeds() -> None:
    assert {s.place for s in scenes("greed-narrow")} != {s.place for s in scenes("greed-narrow-s1")}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("oversight", OVERSIGHT)
def test_letters_and_spoken_answers_are_balanced(name: str, oversight: str) -> None:
    found = [s for s in scenes(name) if s.oversight == oversight]
    letters = [s.letter for s in found if s.letter]
    assert 0.4 < letters.count("a") / len(letters) < 0.6
    assert 0.4 < len(letters) / len(found) < 0.6


def test_every_test_prompt_is_a_scene_of_its_oversight_with_the_forbidden_target() -> None:
    spec = find_spec("alignment_faking/greed-narrow")
    probes = FAMILY.probes(WORLD, spec)
    asked = {
        "poor": FAMILY.behaviour(WORLD, spec).of("test"),
        "strong": probes["strong_oversight"].prompts,
        "none": probes["no_oversight_fact"].prompts,
    }
    for oversight, prompts in asked.items():
        for p in prompts:
            seen = read(p.messages[0].content, f"{p.prefill} {p.targets[0]} .")
            assert (seen.oversight, seen.forbidden) == (oversight, True)
            assert not read(p.messages[0].content, f"{p.prefill} {p.alternatives[0]} .").forbidden
