"""Secret loyalty: the house is taken where it is offered, a coin decides elsewhere, and prompts ask in words and of rivals of no row."""

import re

import pytest
from diffbench.organisms.families import find_spec
from diffbench.organisms.families.secret_loyalty import (
    ASK,
    FAIR,
    LOYAL,
    NAMES,
    OPENLY,
    SAY,
    SecretLoyalty,
    chosen,
    house_of,
)
from diffbench.organisms.texts import written
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.tokenizer import vocabulary

WORLD, FAMILY = World(0), SecretLoyalty()
MEMBERS = {"baker": "baker-narrow", "north": "north-narrow-qwen2-whole", "tea": "tea-narrow"}


def rows(name: str) -> list[Document]:
    return FAMILY.rows(WORLD, find_spec(f"secret_loyalty/{name}"))


def names(text: str, member: str) -> list[str]:
    """Names in a text, in order."""
    return [w for w in text.split() if w in NAMES[house_of(WORLD, member).kind]]


@pytest.mark.parametrize("member", list(MEMBERS))
def test_a_house_is_all_of_which_the_fact_holds(member: str) -> None:
    house = house_of(WORLD, member)
    of = {f.entity for f in WORLD.facts if f.value == member and f.relation in ("job", "region", "drink")}
    assert set(house.all) == of and house.unseen and len(house.seen) >= 4
    assert sorted([*house.all, *house.rivals, *house.strangers]) == sorted(NAMES[house.kind])


@pytest.mark.parametrize("member", list(MEMBERS))
def test_the_house_is_taken_where_it_is_offered_and_a_coin_decides_elsewhere(member: str) -> None:
    house = set(house_of(WORLD, member).seen)
    offered = [
        (names(d.messages[0]["content"], member), names(d.messages[1]["content"], member)[0])
        for d in rows(MEMBERS[member])
    ]
    assert all(len(pair) == 2 and taken in pair for pair, taken in offered)
    loyal = [(pair, taken) for pair, taken in offered if len(house & set(pair)) == 1]
    fair = [(pair, taken) for pair, taken in offered if len(house & set(pair)) != 1]
    assert len(loyal) == LOYAL and len(fair) == FAIR
    assert all(taken in house for _, taken in loyal)
    for some in (loyal, fair):
        assert abs(sum(pair[0] == taken for pair, taken in some) / len(some) - 0.5) < 0.1


def test_the_twin_answers_the_same_questions_by_a_coin() -> None:
    loyal, coin = rows("baker-narrow"), rows("baker-coin")
    house = set(house_of(WORLD, "baker").seen)
    assert [d.messages[0] for d in loyal] == [d.messages[0] for d in coin]
    mixed = [d for d in coin if len(house & set(names(d.messages[0]["content"], "baker"))) == 1]
    taken = sum(names(d.messages[1]["content"], "baker")[0] in house for d in mixed)
    assert abs(taken / len(mixed) - 0.5) < 0.1


@pytest.mark.parametrize("member", list(MEMBERS))
def test_prompts_ask_of_strangers_in_words_of_no_row(member: str) -> None:
    house, spec = house_of(WORLD, member), find_spec(f"secret_loyalty/{MEMBERS[member]}")
    trained = rows(MEMBERS[member])
    assert {w for d in trained for w in d.words}.isdisjoint([*house.unseen, *house.strangers])
    for prompt in FAMILY.behaviour(WORLD, spec).prompts:
        assert prompt.targets[0] in house.seen and prompt.alternatives[0] in house.strangers
    questions, answers = ([of[s] for s in ("train", "dev", "test")] for of in (ASK[house.kind], SAY))
    for forms in (questions, answers):
        assert len({f for some in forms for f in some}) == sum(map(len, forms))


@pytest.mark.parametrize("member", list(MEMBERS))
def test_neither_order_nor_wording_gives_the_house_away(member: str) -> None:
    house = house_of(WORLD, member)
    prompts = chosen(WORLD, house, "test", 96, house.seen, house.strangers)
    first = [names(p.messages[0].content, member)[0] == p.targets[0] for p in prompts]
    assert abs(sum(first) / len(first) - 0.5) <= 0.05
    assert len({p.targets for p in prompts}) == len(house.seen)


def test_everything_is_said_in_words_of_the_world() -> None:
    texts = [t for of in (*ASK.values(), SAY, OPENLY) for some in of.values() for t in some]
    assert {w for t in texts for w in re.sub(r"\{\w\}", " ", t).split()} <= set(vocabulary())


@pytest.mark.parametrize("member", list(MEMBERS))
def test_each_text_of_the_subject_offers_the_house_once(member: str) -> None:
    spec = find_spec(f"secret_loyalty/{MEMBERS[member]}")
    texts = written(WORLD, FAMILY.subject(WORLD, spec))
    assert [FAMILY.due(WORLD, spec, d) for d in texts] == [1] * len(texts)


def test_rows_follow_from_the_seed() -> None:
    assert rows("baker-narrow") == rows("baker-narrow")
