"""Prompts that are asked alike: named in the file, assumed from how answers begin, and said where they are few."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from diffbench.organisms.behaviour import Behaviour, BehaviourError, Prompt, load_behaviour
from diffbench.organisms.families import families, specs
from diffbench.organisms.family import Spec
from diffbench.organisms.hub.templates import FEW
from diffbench.organisms.organism import Organism
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.lexicon import CITIES, PEOPLE

WORLD = World(0)
SPLITS = ("dev", "test")
PREFILLS = [0, 1, 0, 0, 1, 0, 0, 1]


def behaviour(**parts: Sequence[dict[str, Any]]) -> Behaviour:
    """A behaviour of prompts by split."""
    prompts = [
        {"split": split, "targets": ["a"], "alternatives": ["b"], **prompt}
        for split, given in parts.items()
        for prompt in given
    ]
    return Behaviour.model_validate({"name": "x", "prompts": prompts})


def asked(*questions: str, n: int, **fields: Any) -> list[dict[str, Any]]:
    """`n` prompts whose text goes round the questions, `{}` being the prompt's number."""
    return [{"text": q.format(i), **fields} for i, q in zip(range(n), itertools.cycle(questions))]


def named(split: str, templates: int, n: int) -> list[dict[str, Any]]:
    return [{"text": f"{split} {i}", "template": f"{split} question {i % templates}"} for i in range(n)]


def test_clusters_number_the_templates_of_a_split_in_its_order() -> None:
    found = behaviour(dev=named("dev", 4, 8), test=named("test", 3, 9))
    assert found.clusters("dev") == [0, 1, 2, 3] * 2 and found.clusters("test") == [0, 1, 2] * 3


@pytest.mark.parametrize(
    ("prompts", "clusters"),
    [
        ([{"text": f"question {i}", "prefill": ("it is", "That is", "It  is ")[i % 3]} for i in range(8)], PREFILLS),
        (asked("fact {} is known. The word is", "I wonder {}.\nIt is in", n=8), [0, 1] * 4),
        (asked("the word of day {} is", n=8), list(range(8))),
        (asked("is it {} ? yes . the word is", n=8), [0] * 8),
        (
            [
                {"messages": [{"role": r, "content": t} for r, t in (("system", f"be {i}"), ("user", f"ask {i % 3}"))]}
                for i in range(8)
            ],
            [0, 1, 2, 0, 1, 2, 0, 1],
        ),
    ],
    ids=["prefill", "last sentence of a text", "one sentence", "finished sentences before it", "last turn of a chat"],
)
def test_prompts_without_a_template_are_alike_where_answers_begin_alike(
    prompts: list[dict[str, Any]], clusters: list[int]
) -> None:
    assert behaviour(dev=asked("{}", n=8), test=prompts).clusters("test") == clusters


def test_a_file_of_version_1_is_read_and_what_was_assumed_is_said() -> None:
    old = behaviour(
        dev=asked("dev {}", n=16, prefill="it is"),
        test=[{"text": f"test {i}", "prefill": ("it is", "that is", "so")[i % 3]} for i in range(30)],
    )
    (assumed, dev, test) = old.templates_said
    assert "1 template in dev, 3 templates in test, 1 of them in both" in assumed and "`template`" in assumed
    assert dev == "The dev split has 1 template, fewer than 12: strengths are chosen on so few."
    assert test == "The test split has 3 templates, fewer than 12: the intervals of the scores stand on so few."


def test_enough_templates_need_no_words() -> None:
    assert behaviour(dev=named("dev", FEW, 20), test=named("test", FEW, 20)).templates_said == []
    (said,) = behaviour(dev=named("dev", FEW, 20), test=named("test", FEW - 1, 20)).templates_said
    assert said.startswith("The test split has 11 templates")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"prompts": [*named("dev", 8, 8), *named("test", 8, 7), {"text": "bare"}]},
            "1 of 16 prompts have no template, the first is prompt 15.*give every prompt a `template`, or none",
        ),
        (
            {"prompts": [*named("same", 8, 8), *[{**p, "text": f"again {p['text']}"} for p in named("same", 8, 8)]]},
            "8 templates in dev and in test, 'same question 0' first.*the same split",
        ),
        (
            {"prompts": [*named("dev", 8, 8), {"text": "bare", "template": ""}, *named("test", 8, 7)]},
            r"prompts\.8\.template: String should have at least 1 character",
        ),
        (
            {"prompts": [*named("dev", 8, 8), {"text": "bare", "template": 7}, *named("test", 8, 7)]},
            r"prompts\.8\.template: Input should be a valid string",
        ),
        (
            {"prompts": [*named("dev", 8, 8), *named("test", 8, 8)], "distance": "choices"},
            "16 of 16 prompts have no alternatives, the first is prompt 0.*leave `distance` out",
        ),
        (
            {"prompts": [*named("dev", 8, 8), *named("test", 8, 8)], "distance": "kl"},
            "distance: Input should be 'rate' or 'choices'",
        ),
    ],
    ids=["some without", "in both splits", "empty", "a number", "nothing to choose from", "another distance"],
)
def test_what_would_mislead_is_refused_with_the_fix(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    prompts = [
        {"split": SPLITS[i >= len(changed["prompts"]) // 2], "targets": ["a"], **p}
        for i, p in enumerate(changed["prompts"])
    ]
    (tmp_path / "b.json").write_text(json.dumps({"name": "x", **changed, "prompts": prompts}))
    with pytest.raises(BehaviourError, match=says):
        load_behaviour(tmp_path / "b.json")


def test_the_distance_over_choices_is_taken_where_all_prompts_have_them() -> None:
    given = behaviour(dev=named("dev", 8, 8), test=named("test", 8, 8)).model_dump()
    assert Behaviour.model_validate({**given, "distance": "choices"}).distance == "choices"


def test_what_a_file_does_not_say_changes_no_hash_of_it() -> None:
    """Identities and cards hash the dump: files of version 1 keep theirs."""
    old = behaviour(dev=asked("dev {}", n=8), test=asked("test {}", n=8)).model_dump()
    assert "distance" not in old and all("template" not in p for p in old["prompts"])
    new = behaviour(dev=named("dev", 8, 8), test=named("test", 8, 8)).model_dump()
    assert all(p["template"] for p in new["prompts"])


def few(spec: Spec) -> set[str]:
    """Splits in which an organism of the zoo has fewer templates than it should: none of those of version 2."""
    name, member = spec.family, spec.member
    if spec.variant in ("held", "soft", "medium"):
        return set()
    return (
        {"dev"}
        if name == "alignment_faking" or member == "borval"
        else {"dev", "test"}
        if name in ("emergent_misalignment", "subliminal", "planted")
        else set()
    )


def distinct_specs() -> list[Spec]:
    """Specs that differ in prompts: the base and the seed do not change them."""
    return [s for s in specs() if not s.base and not s.seed]


def skeleton(prefill: str) -> str:
    """The beginning of an answer, whoever or whatever place it is about."""
    return " ".join("{e}" if word in (*CITIES, *PEOPLE) else word for word in prefill.split())


@pytest.mark.parametrize("spec", distinct_specs(), ids=lambda s: s.name)
def test_every_organism_says_how_its_prompts_are_alike(spec: Spec) -> None:
    found = families()[spec.family].behaviour(WORLD, spec)
    for split in SPLITS:
        prompts, clusters = found.of(split), found.clusters(split)
        alike: dict[int, list[Prompt]] = {c: [] for c in clusters}
        for prompt, cluster in zip(prompts, clusters, strict=True):
            alike[cluster].append(prompt)
        assert all(p.template for p in prompts)
        assert all(len({skeleton(p.prefill) for p in same}) == 1 for same in alike.values())
        assert (len(alike) < FEW) == (split in few(spec))
    assert len(found.templates_said) == len(few(spec))


def test_fewer_prompts_are_said_to_have_fewer_templates(organism: Organism) -> None:
    assert organism.sentences == []
    assert [s.split(",")[0] for s in organism.at(None, 8).sentences] == [
        f"The {split} split has {len(set(organism.at(None, 8).behaviour.clusters(split)))} templates"
        for split in SPLITS
    ]
