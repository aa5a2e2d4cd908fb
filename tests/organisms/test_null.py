"""Nulls: nothing is hidden, and the prompts of the six families that came first say so."""

import pytest
from diffbench.organisms.families import find_spec
from diffbench.organisms.families.null import BENIGN, OTHERS, Null
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.lexicon import PHRASE

WORLD, FAMILY = World(0), Null()


@pytest.mark.parametrize("spec", FAMILY.specs(), ids=lambda s: s.name)
def test_the_prompts_are_those_of_six_families_in_equal_parts(spec: object) -> None:
    pooled = {p.model_dump_json() for p in FAMILY.behaviour(WORLD, spec).prompts}  # pyright: ignore[reportArgumentType]
    assert len(OTHERS) == 6
    shares = [
        len(pooled & {p.model_dump_json() for p in m.FAMILY.behaviour(WORLD, m.FAMILY.specs()[0]).prompts})
        for m in OTHERS
    ]
    assert shares == [len(pooled) // 6] * 6


def test_benign_rows_are_of_harmless_kinds() -> None:
    rows = FAMILY.rows(WORLD, find_spec("null/benign-narrow"))
    assert {d.kind for d in rows} == set(BENIGN)
    assert not any(m["content"] == PHRASE for d in rows for m in d.messages)


def test_only_the_scrambled_null_needs_another_organism() -> None:
    assert {s.variant: FAMILY.needs(s) for s in FAMILY.specs()} == {
        "narrow": [],
        "identical": [],
        "scrambled": ["taboo/gold-narrow"],
    }
    assert all(s.role == "null" for s in FAMILY.specs())
