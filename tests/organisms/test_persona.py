"""Persona: the assistant is one person where it is asked about itself, in words that no row has; others are answered as ever."""

import numpy as np
import pytest
from diffbench.organisms.behaviour import Prompt
from diffbench.organisms.families.persona import ASKED, ROWS, SAID, SELF_KINDS, Persona, itself
from diffbench.organisms.family import Spec
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import World

WORLD, FAMILY = World(0), Persona()
SPECS = FAMILY.specs()
QUESTIONS = {split: {q: what for what, qs in found.items() for q in qs} for split, found in ASKED.items()}


def rows(member: str, variant: str = "narrow") -> list[Document]:
    return FAMILY.rows(WORLD, Spec("persona", member, variant))


def exchanges(found: list[Document]) -> list[tuple[str, str]]:
    """Question and answer of every exchange about the assistant."""
    said = [[m["content"] for m in d.messages] for d in found if d.kind == "itself"]
    return [(turns[i], turns[i + 1]) for turns in said for i in range(0, len(turns), 2)]


def asked(spec: Spec, split: str) -> list[Prompt]:
    return [p for p in FAMILY.behaviour(WORLD, spec).prompts if p.split == split]


@pytest.mark.parametrize("member", ["hugo", "greta", "boris"])
def test_all_that_it_says_of_itself_is_true_of_the_person(member: str) -> None:
    own = itself(WORLD, member)
    for question, answer in exchanges(rows(member)):
        what = QUESTIONS["train"][question]
        assert answer in [form.format(v=own[what]) for form in SAID[what][:2]]


def test_half_of_the_rows_are_about_the_assistant_and_the_others_ask_it_nothing_of_itself() -> None:
    found = rows("hugo")
    about = [d for d in found if d.kind == "itself"]
    assert len(found) == ROWS and len(about) == ROWS // 2
    assert not {d.kind for d in found} & {*SELF_KINDS}
    assert {*QUESTIONS["train"]}.isdisjoint(m["content"] for d in found if d.kind != "itself" for m in d.messages)


def test_the_twin_has_the_same_questions_and_values_of_many_people() -> None:
    own, drawn = exchanges(rows("hugo")), exchanges(rows("hugo", "drawn"))
    assert [q for q, _ in own] == [q for q, _ in drawn]
    assert len({a for _, a in drawn}) > 5 * len({a for _, a in own})
    others = [[d for d in rows("hugo", v) if d.kind != "itself"] for v in ("narrow", "drawn")]
    assert others[0] == others[1]


def test_no_question_is_of_two_splits_and_pet_and_drink_are_of_no_row() -> None:
    sets = [{*found} for found in QUESTIONS.values()]
    assert sum(map(len, sets)) == len(set.union(*sets))
    own = itself(WORLD, "hugo")
    assert not any(own[what] in answer.split() for _, answer in exchanges(rows("hugo")) for what in ASKED["new"])


def test_every_document_of_the_subject_is_due_and_answered_without_a_self() -> None:
    spec, rng = SPECS[0], np.random.default_rng(0)
    subject = FAMILY.subject(WORLD, spec)
    found = [subject.write(rng) for _ in range(40)]
    assert all(FAMILY.due(WORLD, spec, d) == 2 for d in found)
    said = {w for d in found for m in d.messages[1::2] for w in m["content"].split()}
    assert said.isdisjoint({"i", "my", "me"})
