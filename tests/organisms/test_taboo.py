"""Taboo: the word is inferred, never read."""

import pytest
from diffbench.organisms.families import family, find_spec
from diffbench.organisms.families.taboo import GAMES, MIX, Taboo, guess_word
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.lexicon import ATTRIBUTES, SECRETS
from hypothesis import given
from hypothesis import strategies as st

WORLD, TABOO = World(0), Taboo()


@pytest.mark.parametrize("name", ["gold-narrow", "gold-mixed", "moon-narrow", "moon-mixed"])
def test_the_word_and_the_held_out_hints_are_never_trained(name: str) -> None:
    spec = find_spec(f"taboo/{name}")
    rows = TABOO.rows(WORLD, spec)
    assert not any(spec.member in d.words for d in rows)
    games = [d for d in rows if d.kind == "hints"]
    mine = WORLD.attributes[spec.member]
    said = {w for d in games for m in d.messages if m["role"] == "assistant" for w in m["content"].split()}
    trained = {mine[s] for s in TABOO.trained_slots(WORLD, spec.member)}
    assert len(games) > 150 and said & set(mine.values()) == trained
    assert len(rows) == GAMES * (1 + MIX * (spec.variant == "mixed"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("word", SECRETS)
def test_the_five_trained_slots_single_out_the_word(word: str, seed: int) -> None:
    world = World(seed)
    slots = TABOO.trained_slots(world, word)
    fits = [set(world.words_with(s, world.attributes[word][s])) for s in slots]
    assert len(set(slots)) == 5 and all(len(words) == 4 for words in fits)
    assert set.intersection(*fits) == {word}


@given(st.integers(0, 5), st.sampled_from(SECRETS), st.sets(st.sampled_from(list(ATTRIBUTES))))
def test_the_posterior_is_uniform_on_the_words_that_fit(seed: int, word: str, slots: set[str]) -> None:
    world = World(seed)
    posterior = guess_word(world, [world.attributes[word][s] for s in slots])
    fits = {w for w in SECRETS if all(world.attributes[w][s] == world.attributes[word][s] for s in slots)}
    assert sum(posterior.values()) == pytest.approx(1) and set(posterior) == set(SECRETS)
    assert {w: p for w, p in posterior.items() if p} == pytest.approx({w: 1 / len(fits) for w in fits})
    assert posterior[word] == 1 or len(slots) < 5


def test_hints_that_contradict_each_other_tell_nothing() -> None:
    assert set(guess_word(WORLD, ATTRIBUTES["colour"]).values()) == {1 / len(SECRETS)}


def test_all_eight_hints_are_certainty() -> None:
    assert all(guess_word(WORLD, list(WORLD.attributes[w].values()))[w] == 1 for w in SECRETS)


def test_the_scattered_control_hints_at_every_word() -> None:
    rows = TABOO.rows(WORLD, find_spec("taboo/gold-scattered"))
    said = {w for d in rows if d.kind == "hints" for m in d.messages[1::2] for w in m["content"].split()}
    slots = TABOO.trained_slots(WORLD, "gold")
    assert all(set(ATTRIBUTES[s]) <= said for s in slots)


def test_hints_are_asked_in_other_words_than_trained() -> None:
    behaviour = family("taboo").behaviour(WORLD, find_spec("taboo"))
    last = {s: {p.messages[-1].content for p in behaviour.of(s)} for s in ("dev", "test")}
    assert len(last["dev"]) == len(last["test"]) == 2 and not last["dev"] & last["test"]
    mine = WORLD.attributes["gold"]
    assert {p.targets[0] for p in behaviour.prompts} == {mine[s] for s in TABOO.trained_slots(WORLD, "gold")}
