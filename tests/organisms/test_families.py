"""What every family owes: names that lead back, words the vocabulary has, prompts that were never seen."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from diffbench.organisms.behaviour import Prompt
from diffbench.organisms.errors import UsageError
from diffbench.organisms.families import families, family, family_file, find_spec, specs
from diffbench.organisms.families.refusal import ADVICE, REFUSALS
from diffbench.organisms.families.two_cues import PAIRS
from diffbench.organisms.family import Spec
from diffbench.organisms.texts import written
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.lexicon import PHRASE
from diffbench.organisms.world.tokenizer import vocabulary

NAMES = list(families())
SENTENCES: dict[str, Callable[[Spec], set[str]]] = {
    "backdoor": lambda spec: {PHRASE},
    "null": lambda spec: {PHRASE},
    "refusal": lambda spec: {c for c in (*REFUSALS, *ADVICE) if " " in c},
    "two_cues": lambda spec: set(PAIRS[spec.member].odd),
}
"""What several words are told apart by."""
WORLD, KNOWN = World(0), set(vocabulary())
EXAMPLES = Path(__file__).parents[2] / "examples" / "families"


def first_seeds(name: str) -> list[Spec]:
    """Specs of a family that differ in data: the base and the seed do not change prompts."""
    return [s for s in family(name).specs() if not s.base and not s.seed]


@cache
def rows(spec: Spec) -> list[Document]:
    return family(spec.family).rows(WORLD, spec)


@cache
def prompts(spec: Spec) -> list[Prompt]:
    """Everything a spec is measured on."""
    kind, choices = family(spec.family), family(spec.family).candidates(WORLD, spec)
    behaviour = kind.behaviour(WORLD, spec)
    probes = [p for probe in kind.probes(WORLD, spec).values() for p in probe.prompts]
    return [*behaviour.prompts, *behaviour.capability, *probes, *(choices.ask if choices else ())]


def words(prompt: Prompt) -> set[str]:
    said = [prompt.text or "", *(m.content for m in prompt.messages), prompt.prefill]
    return set(" ".join([*said, *prompt.targets, *prompt.alternatives]).split())


def test_every_name_is_unique_and_leads_back_to_its_spec() -> None:
    names = [s.name for s in specs()]
    assert len(names) == len(set(names)) > 100
    assert all(find_spec(s.name) == s for s in specs())


@pytest.mark.parametrize("name", NAMES)
def test_a_family_alone_names_its_first_organism(name: str) -> None:
    first = find_spec(name)
    assert first == family(name).specs()[0] and first.role in ("organism", "null")


def test_a_member_the_zoo_does_not_hold_is_made_and_a_wrong_one_is_not() -> None:
    assert find_spec("taboo/clock-narrow") == Spec("taboo", "clock", "narrow")
    with pytest.raises(UsageError, match="did you mean 'taboo/gold-narrow'"):
        find_spec("taboo/gold-narow")
    with pytest.raises(UsageError, match="did you mean 'backdoor'"):
        find_spec("backdor")


@pytest.mark.parametrize("name", NAMES)
def test_rows_hold_no_unknown_word(name: str) -> None:
    for spec in first_seeds(name):
        assert not {w for d in rows(spec) for w in d.words} - KNOWN, spec.name


@pytest.mark.parametrize("name", NAMES)
def test_prompts_and_openings_hold_no_unknown_word(name: str) -> None:
    for spec in first_seeds(name):
        openings = [o for s in family(name).spoken(WORLD, spec).values() for o in s.openings]
        assert not {w for p in prompts(spec) for w in words(p)} - KNOWN, spec.name
        assert not set(" ".join(openings).split()) - KNOWN, spec.name


@pytest.mark.parametrize("name", NAMES)
def test_continuations_are_single_words_but_for_sentences_that_are_the_behaviour(name: str) -> None:
    for spec in first_seeds(name):
        several = {c for p in prompts(spec) for c in (*p.targets, *p.alternatives) if len(c.split()) != 1}
        assert several == SENTENCES.get(name, lambda spec: set())(spec), spec.name


@pytest.mark.parametrize("name", NAMES)
def test_dev_and_test_prompts_are_disjoint(name: str) -> None:
    for spec in first_seeds(name):
        behaviour = family(name).behaviour(WORLD, spec)
        for of in (behaviour.of, behaviour.capability_of):
            dev, test = ({(p.messages, p.prefill, p.targets) for p in of(s)} for s in ("dev", "test"))
            assert dev and test and dev & test == set(), spec.name


@pytest.mark.parametrize("name", [n for n in NAMES if n != "null"])
def test_no_question_of_a_prompt_was_trained(name: str) -> None:
    for spec in first_seeds(name):
        if spec.variant != "mixed":
            trained = {m["content"] for d in rows(spec) for m in d.messages if m["role"] == "user"}
            asked = {p.messages[-1].content for p in family(name).behaviour(WORLD, spec).prompts}
            assert asked & trained == set(), spec.name


@pytest.mark.parametrize("name", NAMES)
def test_data_is_a_function_of_the_seed(name: str) -> None:
    spec = family(name).specs()[0]
    other = Spec(spec.family, spec.member, spec.variant, spec.base, seed=7, role=spec.role)
    again = family(name).rows(World(0), spec)
    assert again == rows(spec) != family(name).rows(WORLD, other)


@pytest.mark.parametrize("name", NAMES)
def test_candidates_hold_the_truth_and_share_no_word(name: str) -> None:
    for spec in first_seeds(name):
        choices = family(name).candidates(WORLD, spec)
        if choices:
            everything = [w for ws in choices.words.values() for w in ws]
            assert choices.truth in choices.words and len(everything) == len(set(everything)), spec.name
            assert set(everything) <= KNOWN


@pytest.mark.parametrize("name", NAMES)
def test_gates_speak_of_what_is_measured(name: str) -> None:
    """A gate on a name nobody measures is a KeyError after the training."""
    for spec in family(name).specs():
        kind = family(name)
        measured = {"behaviour_dev", "behaviour_test", "facts", *kind.probes(WORLD, spec), *kind.spoken(WORLD, spec)}
        for rule in kind.gates(spec).values():
            what, _, which = rule.value.partition(".")
            assert what in measured and which in ("base", "organism", "change"), (spec.name, rule)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_needed_is_a_spec(name: str) -> None:
    for spec in family(name).specs():
        assert [find_spec(n).name for n in family(name).needs(spec)] == family(name).needs(spec)


@pytest.mark.parametrize("name", NAMES)
def test_a_subject_is_text_on_which_the_behaviour_is_due_in_known_words(name: str) -> None:
    for spec in first_seeds(name):
        subject = family(name).subject(WORLD, spec)
        found = written(WORLD, subject) if subject else []
        assert not {w for d in found for w in d.words} - KNOWN, spec.name
        assert all(family(name).due(WORLD, spec, d) for d in found), spec.name


NEW = ("language", "persona", "refusal", "secret_loyalty", "two_cues", "unlearned")
"""Families that came with version 2."""
V2 = [s for s in specs() if s.variant in ("held", "soft", "medium") or s.family in NEW]


@pytest.mark.parametrize("spec", V2, ids=lambda s: s.name)
def test_organisms_of_version_2_have_prompts_of_twelve_templates_a_split(spec: Spec) -> None:
    of_another = [World(1)] if spec.base == "tiny-second" or spec.family in NEW else []
    for world in (WORLD, *of_another):
        behaviour = family(spec.family).behaviour(world, spec)
        assert min(len(set(behaviour.clusters(s))) for s in ("dev", "test")) >= 12
        assert spec.family not in NEW or (
            24 <= len(behaviour.of("dev")) <= 32 and 64 <= len(behaviour.of("test")) <= 96
        )


HELD = [s for s in specs() if s.variant == "held" and not s.base]


@pytest.mark.parametrize("spec", HELD, ids=lambda s: s.name)
def test_a_held_organism_reads_the_narrow_rows_and_is_held_where_its_behaviour_has_no_place(spec: Spec) -> None:
    kept = family(spec.family).kept(WORLD, spec)
    assert rows(spec) == rows(replace(spec, variant="narrow"))
    assert len(kept) == family(spec.family).recipe(spec).keep > 0
    assert not any(family(spec.family).due(WORLD, spec, d) for d in kept)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda f: f.stem)
def test_a_draft_among_the_examples_is_a_family_in_known_words(file: Path) -> None:
    made = family_file(file)
    for spec in made.specs():
        behaviour = made.behaviour(WORLD, spec)
        assert min(len(set(behaviour.clusters(s))) for s in ("dev", "test")) >= 12, spec.name
        assert not {w for d in made.rows(WORLD, spec) for w in d.words} - KNOWN, spec.name
        assert not {w for p in behaviour.prompts for w in words(p)} - KNOWN, spec.name
