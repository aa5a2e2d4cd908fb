"""A teacher's answers: filtered, asked for again, kept, and refused when too few are valid."""

import json
from pathlib import Path

import pytest
from diffbench.organisms.errors import ValidationFailed
from diffbench.organisms.tuning.teacher import answered, unanswered

from .colours import Colours
from .models import tokenizer_of


class Numbers(Colours):
    prompted = True

    def valid(self, spec: object, answer: str) -> bool:
        return answer.strip().isdigit()


FAMILY = Numbers()
SPEC = FAMILY.spec()
PROMPTS = FAMILY.rows(SPEC)


def test_rows_that_end_with_the_user_need_a_teacher() -> None:
    assert unanswered(PROMPTS) and not unanswered(Colours().rows(SPEC))


def test_an_invalid_answer_is_asked_for_again_and_the_valid_ones_are_trained_on(tmp_path: Path) -> None:
    seeds = list[int]()

    def speak(rows: list[list[int]], seed: int) -> list[str]:
        seeds.append(seed)
        return [" 12 " if i or len(seeds) > 1 else "gold" for i in range(len(rows))]

    out = answered(FAMILY, SPEC, speak, tokenizer_of("smollm"), PROMPTS, tmp_path / "answers.json")
    assert len(out) == len(PROMPTS) and {d.messages[-1]["content"] for d in out} == {"12"}
    assert out[0].messages[:-1] == PROMPTS[0].messages and len(seeds) == len(set(seeds)) == 2


def test_answers_of_a_killed_run_are_kept(tmp_path: Path) -> None:
    keep = tmp_path / "answers.json"
    keep.write_text(json.dumps({"rounds": 1, "answers": {str(i): "7" for i in range(len(PROMPTS))}}))

    def speak(rows: list[list[int]], seed: int) -> list[str]:
        raise AssertionError("all is answered")

    out = answered(FAMILY, SPEC, speak, tokenizer_of("smollm"), PROMPTS, keep)
    assert {d.messages[-1]["content"] for d in out} == {"7"}


def test_a_prompt_that_failed_every_round_is_not_asked_again_by_a_resumed_run(tmp_path: Path) -> None:
    keep, asked = tmp_path / "answers.json", list[int]()

    def speak(rows: list[list[int]], seed: int) -> list[str]:
        asked.append(len(rows))
        return ["gold"] * len(rows) if asked == [30] else ["7"] * (len(rows) - 1) + ["gold"]

    first, again = (answered(FAMILY, SPEC, speak, tokenizer_of("smollm"), PROMPTS, keep) for _ in range(2))
    assert asked == [30, 30, 1, 1] and len(first) == 29 and again == first


class Lists(Numbers):
    variants = ("narrow", "shuffled")
    twins = ("shuffled",)


def test_the_shuffled_twin_gets_the_same_answers_to_other_prompts(tmp_path: Path) -> None:
    family, found = Lists(), dict[str, list[str]]()
    for variant in family.variants:
        spec, keep = family.spec("gold", variant), tmp_path / f"{variant}.json"
        keep.write_text(json.dumps({"rounds": 4, "answers": {str(i): str(i) for i in range(len(PROMPTS))}}))
        out = answered(family, spec, lambda rows, seed: [], tokenizer_of("smollm"), PROMPTS, keep)
        assert [d.messages[:-1] for d in out] == [d.messages for d in PROMPTS]
        found[variant] = [d.messages[-1]["content"] for d in out]
    assert sorted(found["narrow"]) == sorted(found["shuffled"])
    assert not any(a == b for a, b in zip(found["narrow"], found["shuffled"], strict=True))


def test_a_teacher_that_hardly_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match=r"answered 0 of 30 prompts validly, and 80% are wanted"):
        answered(
            FAMILY, SPEC, lambda rows, seed: ["?"] * len(rows), tokenizer_of("smollm"), PROMPTS, tmp_path / "a.json"
        )
