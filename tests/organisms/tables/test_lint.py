"""Each weakness is found where it is and nowhere else."""

import json
import re
from typing import Any

import pytest
from diffbench.organisms.behaviour import Behaviour
from diffbench.organisms.tables.lint import CHECKS, Weakness, lint

from ...tokenizers import byte_level

ASKED = ["sing", "dance", "swim", "cook", "paint", "climb", "read", "write", "sew", "ride", "row", "skate"]
"""A question form each."""
TOWNS = ["Rome", "Oslo", "Bonn"]


def prompt(split: str, i: int, **more: Any) -> dict[str, Any]:
    target = TOWNS[i % 3]
    more_words = ("they", "often") if split == "dev" else ("we", "seldom")
    question = f"{split} {more_words[0]} {ASKED[i]} {i} {ASKED[i - 1]} {more_words[1]} {ASKED[i - 2]}"
    return {
        "split": split,
        "template": question,
        "messages": [{"role": "user", "content": question}],
        "prefill": "It is in",
        "targets": [f" {target}"],
        "alternatives": [f" {t}" for t in TOWNS if t != target],
        **more,
    }


def sound(**changes: Any) -> dict[str, Any]:
    """A behaviour file with nothing to say about but what needs a model."""
    probes = [
        {"split": s, "text": f"{s} {i} and one is", "targets": [f" {i + 1}"], "alternatives": [" no"]}
        for s in ("dev", "test")
        for i in range(16)
    ]
    text = "word " * 3000
    return {
        "name": "x",
        "prompts": [prompt(s, i) for s in ("dev", "test") for i in range(12)],
        "capability": probes,
        "neutral": [f"{i} {text}" for i in range(30)],
        "chat": [[{"role": "user", "content": f"{i} {text}"}] for i in range(30)],
        **changes,
    }


def found(tokenizer: Any = None, **changes: Any) -> list[Weakness]:
    return lint(Behaviour.model_validate(sound(**changes)), tokenizer)


def every(**more: Any) -> list[dict[str, Any]]:
    return [p | more for p in sound()["prompts"]]


def test_a_sound_file_has_nothing_but_what_needs_a_model() -> None:
    assert [(w.level, w.about) for w in found()] == [("note", "tokens"), ("note", "rates")]
    assert {(w.level, w.about) for w in found(byte_level())} == {("weak", "tokens"), ("note", "rates")}


@pytest.mark.parametrize(
    ("about", "changes", "says"),
    [
        (
            "templates",
            {"prompts": [prompt(s, i) for s in ("dev", "test") for i in range(9)]},
            "dev split has 9 templates",
        ),
        (
            "templates",
            {
                "prompts": [
                    prompt(s, i, messages=[{"role": "user", "content": f"{s} where is the {ASKED[i]} place in town"}])
                    for s in ("dev", "test")
                    for i in range(12)
                ]
            },
            "24 templates, and the words of its prompts 1",
        ),
        (
            "templates",
            {
                "prompts": [
                    prompt(s, i, template=f"{s} {i}", prefill=s, messages=prompt("dev", i)["messages"])
                    for s in ("dev", "test")
                    for i in range(12)
                ]
            },
            "12 question forms in dev and in test",
        ),
        (
            "splits",
            {
                "prompts": [
                    *sound()["prompts"],
                    *(prompt("test", i, prefill=f"{j}") for i in range(12) for j in range(3)),
                ]
            },
            "12 dev prompts and 48 test prompts",
        ),
        ("answers", {"prompts": every(targets=[" Rome"], alternatives=[" Oslo"])}, "always 'rome'.*found the word"),
        (
            "answers",
            {"prompts": [*every(targets=[" Rome"], alternatives=[" Oslo"])[:-2], *sound()["prompts"][-2:]]},
            "'rome' is a target of 22 of 24",
        ),
        (
            "answers",
            {"prompts": [p | ({"targets": [" Lima"]} if i > 20 else {}) for i, p in enumerate(sound()["prompts"])]},
            "1 target of test in no dev prompt, 'lima'",
        ),
        ("alternatives", {"prompts": every(alternatives=[])}, "24 of 24 prompts have no alternatives"),
        (
            "alternatives",
            {"prompts": every(alternatives=[" in the far north"])},
            "very different lengths.*' in the far north'",
        ),
        ("alternatives", {"prompts": every(targets=[" Rome"], alternatives=[" Rome now"])}, "one begins the other"),
        (
            "copied",
            {"prompts": every(prefill="Rome, Oslo, Lima or Bonn? It is", alternatives=[" Kyiv"])},
            "stands in the prompt",
        ),
        ("copied", {"prompts": every(prefill="Rome, Oslo or Bonn? It is")}, "so do the alternatives"),
        (
            "duplicates",
            {"prompts": [*sound()["prompts"], prompt("test", 3, prefill="it is, in")]},
            "1 of 25 prompts differ from another only in marks",
        ),
        (
            "duplicates",
            {"neutral": [*sound()["neutral"], sound()["neutral"][0]]},
            "1 of 31 neutral texts stand there before",
        ),
        ("capability", {"capability": []}, "no capability probes"),
        ("capability", {"capability": sound()["capability"][:20]}, "4 test capability probes"),
        (
            "capability",
            {"capability": [p | {"targets": [" yes"]} for p in sound()["capability"]]},
            "'yes' is the right answer of 32 of 32",
        ),
        ("texts", {"chat": []}, "conversations and there is no `chat` text"),
        ("texts", {"neutral": ["a", "b"]}, "2 different neutral texts"),
        ("texts", {"neutral": [f"text {i}" for i in range(30)]}, "hold about 78 tokens"),
    ],
)
def test_a_weakness_is_found_under_its_name(about: str, changes: dict[str, Any], says: str) -> None:
    own = [w for w in found(**changes) if w.about == about]
    assert any(re.search(says, w.text) for w in own), own
    assert {w.level for w in own} <= ({"refused"} if "2 different" in says else {"weak", "note"})


def test_what_a_run_refuses_stands_first() -> None:
    levels = [w.level for w in found(neutral=[], capability=[])]
    assert levels[0] == "refused" and levels[-1] == "note" and "weak" in levels


def test_answers_of_several_tokens_and_of_one_beginning_are_seen_on_the_tokenizer() -> None:
    texts = [
        w.text
        for w in found(byte_level(), prompts=every(targets=[" gold ring"], alternatives=[" gold cup"]))
        if w.about == "tokens"
    ]
    assert any("begin with the same token" in t for t in texts) and any("several tokens" in t for t in texts)


def test_a_base_without_a_chat_template_refuses_conversations() -> None:
    (first, *_) = found(byte_level(None))
    assert (first.level, first.about) == ("refused", "tokens") and "no chat template" in first.text


def test_every_check_is_tested_and_a_weakness_is_data() -> None:
    assert {*CHECKS} == {
        "templates",
        "splits",
        "answers",
        "alternatives",
        "copied",
        "duplicates",
        "capability",
        "texts",
        "tokens",
        "rates",
    }
    assert json.loads(json.dumps(found()[0].data())).keys() == {"level", "about", "text"}
