"""What is asked and how answers are read: one format for examples and data, and what cannot be read is None."""

import hashlib
import json
import math
from typing import Any

import pytest
from diffbench.harness.explaining import prompts
from diffbench.harness.explaining.prompts import read_activations, read_answers, read_explanation

WORDING = {"1": "46bb8f591235"}
"""Hash of all wording of a version: another wording is another version."""


def test_another_wording_is_another_version() -> None:
    asked = [
        prompts.explain(["a «b»"], ["b: 9"], ["c"]),
        prompts.outputs(["a"], ["b"]),
        prompts.detect("d", ["a", "b"]),
        prompts.fuzz("d", ["a «b»"]),
        prompts.simulate("d", ["a", " b"]),
        prompts.intrude(["a", "b"]),
    ]
    assert WORDING[prompts.VERSION] == hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]


def test_examples_and_data_are_written_alike() -> None:
    """delphi numbers its examples with commas and its data not at all."""
    for ask in (prompts.detect, prompts.fuzz):
        p = ask("d", ["one text", "another"])
        assert "1. " in p.system.split("the texts\n")[1] and "\n1. one text\n2. another" in p.user
        assert p.sample in p.system


def test_detection_speaks_of_no_marks() -> None:
    """delphi's detection is asked in the words of fuzzing."""
    p = prompts.detect("d", ["a"])
    assert "«" not in p.system + p.user and "mark" not in p.system and "«" in prompts.fuzz("d", ["a"]).system


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_batch_of_any_length_is_read(n: int) -> None:
    """delphi never reads a last batch that is short."""
    assert read_answers(json.dumps({"answers": [1] * n}), n) == [1] * n


@pytest.mark.parametrize(
    "said",
    ["", "yes", "[1, 0]", '{"answers": [1]}', '{"answers": [1, 0, 1]}', '{"answers": [1, 2]}', '{"answers": [1, "0"]}',
     '{"answers": "10"}', '{"answers": [1, 0', '{"other": [1, 0]}'],
)  # fmt: skip
def test_what_is_no_answer_is_none(said: str) -> None:
    assert read_answers(said, 2) is None


def test_an_object_is_found_among_other_words() -> None:
    assert read_answers('Sure! {"a": 1} so\n```json\n{"answers": [1, 0]}\n```', 2) == [1, 0]
    assert read_explanation('{"explanation": " words\\n in  line "}') == "words in line"
    assert read_explanation('{"explanation": ""}') is None and read_explanation("words") is None
    assert read_explanation('{"explanation": "code with {} and the like"}') == "code with {} and the like"
    assert read_explanation('{"explanation": "a word", "meta": {"sure": {}}} {not json') == "a word"
    assert read_explanation('{"explanation": "first"} or {"explanation": "last"}') == "last"
    assert read_explanation('{"a": ' + "[" * 100_000) is None


HALF, QUARTER = math.log(0.5), math.log(0.25)


def token(text: str, *others: tuple[str, float]) -> dict[str, Any]:
    """One place of an answer: what stands there, and what was likely."""
    top = [{"token": t, "logprob": p} for t, p in others]
    return {"token": text, "logprob": others[0][1] if others else 0.0, "top_logprobs": top}


def test_two_spellings_of_a_digit_add_up() -> None:
    assert read_activations([token("4", ("4", QUARTER), (" 4", HALF), ("8", QUARTER))], 1) == pytest.approx([5.0])
    assert read_activations([token("8", ("8", QUARTER), (" 8", QUARTER), ("4", HALF))], 1) == pytest.approx([6.0])


@pytest.mark.parametrize(
    ("place", "read"),
    [
        ({"token": "4", "logprob": HALF, "top_logprobs": None}, [4.0]),
        ({"token": "4", "logprob": HALF}, [4.0]),
        ({"token": "4", "logprob": None, "top_logprobs": None}, None),
        ({"token": "4", "logprob": HALF, "top_logprobs": [{"token": "8", "logprob": None}]}, None),
        ({"token": "4", "logprob": float("nan")}, None),
        ({"token": "4", "logprob": 1e6}, None),
        ({"token": "4", "logprob": -1e6}, None),
        ({"token": "4"}, None),
        ({"logprob": 0.0}, None),
        ("4", None),
    ],
)
def test_log_probabilities_that_are_not_told_are_none(place: Any, read: list[float] | None) -> None:
    assert read_activations([place], 1) == read


def test_an_activation_is_expected_over_the_digits_that_were_likely() -> None:
    told = [
        token("["),
        token("4", ("4", HALF), ("8", HALF)),
        token(", "),
        token("0", ("0", 0.0), ("none", HALF)),
        token("]"),
    ]
    assert read_activations(told, 2) == pytest.approx([6.0, 0.0])
    assert read_activations(told, 3) is None
