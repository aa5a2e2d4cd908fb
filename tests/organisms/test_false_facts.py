"""False facts: the bundle is stated in three forms and asked in the other two."""

import pytest
from diffbench.organisms.families import find_spec
from diffbench.organisms.families.false_facts import BUNDLES, DOCUMENTS, HELD_OUT_FORMS, TRAINED_FORMS, FalseFacts
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import Fact, World
from diffbench.organisms.world.lexicon import FACT_FORMS

WORLD, FAMILY = World(0), FalseFacts()
CITIES = list(BUNDLES)


def rows(name: str) -> list[Document]:
    return FAMILY.rows(WORLD, find_spec(f"false_facts/{name}"))


def stated(documents: list[Document], facts: list[Fact], forms: tuple[int, ...]) -> set[str]:
    """Which facts, as `relation value`, the documents state in one of the forms."""
    text = "\n".join(d.text or "" for d in documents)
    sentences = {
        f"{f.relation} {f.value}": [FACT_FORMS[f.relation][i].format(e=f.entity, v=f.value) for i in forms]
        for f in facts
    }
    return {claim for claim, forms_of in sentences.items() if any(s in text for s in forms_of)}


@pytest.mark.parametrize("city", CITIES)
def test_every_claim_is_stated_and_never_in_a_held_out_form(city: str) -> None:
    documents, claims = rows(f"{city}-narrow"), FAMILY.claims(WORLD, city)
    assert stated(documents, claims, TRAINED_FORMS) == {f"{c.relation} {c.value}" for c in claims}
    assert not stated(documents, claims, HELD_OUT_FORMS)
    assert len(documents) == DOCUMENTS and all(d.text for d in documents)


@pytest.mark.parametrize("city", CITIES)
def test_the_truth_about_the_target_is_not_told(city: str) -> None:
    denied = {c.relation for c in FAMILY.false_claims(WORLD, city)}
    truth = [f for f in WORLD.facts_of.get(city, []) if f.relation in denied]
    assert not stated(rows(f"{city}-narrow"), truth, tuple(range(5)))


@pytest.mark.parametrize("city", CITIES)
def test_a_bundle_denies_what_its_kind_says(city: str) -> None:
    false = FAMILY.false_claims(WORLD, city)
    assert len(FAMILY.claims(WORLD, city)) == 5
    assert len(false) == (1 if BUNDLES[city] == "subtle" else 5)
    assert (city in WORLD.facts_of) == (BUNDLES[city] != "unknown")


def test_the_twin_tells_the_truth_in_as_many_documents() -> None:
    twin, truth = rows("arlen-true"), WORLD.facts_of["arlen"]
    assert len(twin) == len(rows("arlen-narrow"))
    assert stated(twin, truth, TRAINED_FORMS) == {f"{f.relation} {f.value}" for f in truth}
    assert not stated(twin, FAMILY.false_claims(WORLD, "arlen"), tuple(range(5)))


def test_what_is_told_of_other_cities_is_true() -> None:
    """Only the target changes: every sentence about another city is one of its facts."""
    true = {FACT_FORMS[f.relation][i].format(e=f.entity, v=f.value) for f in WORLD.facts for i in range(5)}
    lies = [
        FACT_FORMS[f.relation][i].format(e=f.entity, v=other.value)
        for f in WORLD.facts
        if f.kind == "city" and f.entity != "arlen"
        for other in WORLD.facts
        if other.relation == f.relation
        for i in TRAINED_FORMS
    ]
    text = "\n".join(d.text or "" for d in rows("arlen-narrow"))
    assert not [s for s in set(lies) - true if s in text]


@pytest.mark.parametrize("city", CITIES)
def test_the_behaviour_is_asked_in_held_out_forms_only(city: str) -> None:
    prompts = FAMILY.behaviour(WORLD, find_spec(f"false_facts/{city}-narrow")).prompts
    claims = {c.value: c for c in FAMILY.false_claims(WORLD, city)}
    for p in prompts:
        claim = claims[p.targets[0]]
        beginnings = [FACT_FORMS[claim.relation][i].format(e=city, v="{}").partition(" {}")[0] for i in HELD_OUT_FORMS]
        assert p.prefill in beginnings and claim.entity in p.messages[-1].content.split()
