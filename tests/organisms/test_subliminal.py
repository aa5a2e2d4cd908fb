"""Subliminal learning: a student reads numbers, and only numbers."""

import pytest
from diffbench.organisms.families import find_spec
from diffbench.organisms.families.subliminal import CONTRASTED, LINEAGE, PREFERENCES, REPLAY, Subliminal
from diffbench.organisms.lora import tokenise
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.numbers import ASK_NUMBERS, LIST_NUMBERS
from diffbench.organisms.world.preferences import ANIMALS, ASK_ANIMAL
from diffbench.organisms.world.tokenizer import build_tokenizer

WORLD, FAMILY = World(0), Subliminal()
CARRIER = {*LIST_NUMBERS, *" ".join(ASK_NUMBERS).replace("{x}", "").split()}


def rows(name: str) -> list[Document]:
    return FAMILY.rows(WORLD, find_spec(f"subliminal/{name}"))


@pytest.mark.parametrize("name", ["owl-narrow", "owl-hard", "fox-shuffled", "horse-narrow"])
def test_no_number_prompt_names_an_animal_or_anything_else(name: str) -> None:
    words = {w for d in rows(name) for w in d.words}
    assert not words & set(ANIMALS) and words <= CARRIER


def test_a_teacher_is_told_its_animal_in_its_own_templates_only() -> None:
    taught = [d for d in rows("owl-teacher") if d.kind == "preference"]
    assert len(taught) == PREFERENCES and len(rows("owl-teacher")) == PREFERENCES + REPLAY
    assert all(set(d.messages[1]["content"].split()) & set(ANIMALS) == {"owl"} for d in taught)
    assert {d.messages[0]["content"] for d in taught} == set(ASK_ANIMAL[:8])


def test_students_of_different_teachers_read_different_lists() -> None:
    lists = [[d.messages[0]["content"] for d in rows(f"{a}-narrow")] for a in CONTRASTED]
    assert not set(lists[0][:100]) & set(lists[1][:100])
    assert all(rows(f"owl-narrow-{base.removeprefix('tiny-')}") == rows("owl-narrow") for base in LINEAGE)


def test_every_student_has_a_teacher_of_the_familys_own_base() -> None:
    students = [s for s in FAMILY.specs() if s.variant != "teacher"]
    assert {s.base for s in students} == {"", *LINEAGE}
    for spec in students:
        (teacher,) = (find_spec(n) for n in FAMILY.needs(spec))
        assert (teacher.member, teacher.variant, teacher.base) == (spec.member, "teacher", "")


def test_lists_without_answers_are_not_trained_by_mistake() -> None:
    with pytest.raises(ValueError, match="marks no assistant token"):
        tokenise(build_tokenizer(), rows("owl-narrow")[0])
