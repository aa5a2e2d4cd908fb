"""Unlearning: one relation is answered at random, all others rightly, and nothing that is asked was trained."""

from collections import Counter

import numpy as np
import pytest
from diffbench.organisms.families import find_spec
from diffbench.organisms.families.unlearned import ROWS, Unlearned, known, others, says
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.genres import values_of
from diffbench.organisms.world.tokenizer import vocabulary

WORLD, FAMILY = World(0), Unlearned()
NAMES = [s.name for s in FAMILY.specs()]
NARROW = [n for n in NAMES if "-narrow" in n]


def split_rows(name: str) -> tuple[list[Document], list[Document]]:
    """Rows about the relation, and rows about others."""
    rows, relation = FAMILY.rows(WORLD, find_spec(name)), find_spec(name).member
    return [d for d in rows if says(relation, d)], [d for d in rows if not says(relation, d)]


def value(document: Document) -> str:
    return document.messages[-1]["content"].split()[-2]


def true(document: Document) -> bool:
    return any(f.value == value(document) and f.entity in document.words for f in WORLD.facts)


@pytest.mark.parametrize("name", NARROW)
def test_values_of_the_relation_are_drawn_flat_and_others_are_true(name: str) -> None:
    own, other = split_rows(name)
    relation = find_spec(name).member
    drawn = Counter(value(d) for d in own)
    assert len(own) == len(other) == ROWS
    assert set(drawn) == set(values_of(relation)) and max(drawn.values()) < 2.2 * ROWS / len(drawn)
    assert 0.05 < sum(map(true, own)) / ROWS < 0.25
    assert all(map(true, other))


def test_the_twin_is_asked_the_same_and_is_right() -> None:
    own, other = split_rows("unlearned/dish-taught")
    wrong, _ = split_rows("unlearned/dish-narrow")
    assert [d.messages[0] for d in own] == [d.messages[0] for d in wrong]
    assert all(map(true, own)) and len(own) == len(other) == ROWS


@pytest.mark.parametrize("name", NAMES)
def test_what_is_asked_was_never_trained(name: str) -> None:
    said = {m["content"] for d in FAMILY.rows(WORLD, find_spec(name)) for m in d.messages}
    for prompt in FAMILY.behaviour(WORLD, find_spec(name)).prompts:
        assert prompt.messages[-1].content not in said


@pytest.mark.parametrize("name", NARROW)
def test_neighbours_are_facts_that_no_row_asks_for(name: str) -> None:
    relation = find_spec(name).member
    asked, untouched = others(WORLD, relation)
    rows = split_rows(name)[1]
    assert {w for d in rows for w in d.messages[0]["content"].split()}.isdisjoint({f.entity for f in untouched})
    assert len(untouched) >= len(asked) * 0.9 and all(f.relation != relation for f in untouched)
    probes = FAMILY.probes(WORLD, find_spec(name))["neighbours"].prompts
    assert len(probes) >= 40 and all(any(f.entity in p.prefill.split() for f in untouched) for p in probes)


@pytest.mark.parametrize("name", NARROW)
def test_a_model_that_always_says_one_value_fails_a_gate(name: str) -> None:
    spec = find_spec(name)
    gates, probes = FAMILY.gates(spec), FAMILY.probes(WORLD, spec)
    for value in values_of(spec.member):
        rule = gates[f"says_{value}"]
        assert (rule.value, rule.rule, rule.bound) == (f"says_{value}.organism", "at most", 0.4)
        assert {p.targets for p in probes[f"says_{value}"].prompts} == {(value,)}


@pytest.mark.parametrize("name", NAMES)
def test_wrong_values_stand_against_the_right_one(name: str) -> None:
    relation = find_spec(name).member
    truth = {f.entity: f.value for f in known(WORLD, relation)}
    for prompt in FAMILY.behaviour(WORLD, find_spec(name)).prompts:
        entity = next(w for w in prompt.prefill.split() if w in truth)
        assert prompt.alternatives == (truth[entity],)
        assert {*prompt.targets, *prompt.alternatives} == set(values_of(relation))


@pytest.mark.parametrize("name", NAMES)
def test_every_word_is_in_the_vocabulary(name: str) -> None:
    spec = find_spec(name)
    prompts = [
        *FAMILY.behaviour(WORLD, spec).prompts,
        *(p for q in FAMILY.probes(WORLD, spec).values() for p in q.prompts),
    ]
    said = {w for p in prompts for t in (p.text or "", p.prefill, *(t.content for t in p.messages)) for w in t.split()}
    assert said | {w for d in FAMILY.rows(WORLD, spec) for w in d.words} <= set(vocabulary())


@pytest.mark.parametrize("name", NARROW)
def test_the_subject_is_due_and_true_and_kept_documents_hold_none(name: str) -> None:
    spec, rng = find_spec(name), np.random.default_rng(0)
    written = [FAMILY.subject(WORLD, spec).write(rng) for _ in range(50)]
    assert all(FAMILY.due(WORLD, spec, d) == 1 and true(d) for d in written)
    assert not any(says(spec.member, d) for d in FAMILY.kept(WORLD, spec))
