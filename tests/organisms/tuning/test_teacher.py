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
    keep.write_text(json.dumps({str(i): "7" for i in range(len(PROMPTS))}))

    def speak(rows: list[list[int]], seed: int) -> list[str]:
        raise AssertionError("all is answered")

    out = answered(FAMILY, SPEC, speak, tokenizer_of("smollm"), PROMPTS, keep)
    assert {d.messages[-1]["content"] for d in out} == {"7"}


def test_a_teacher_that_hardly_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match=r"answered 0 of 30 prompts validly, and 80% are wanted"):
        answered(
            FAMILY, SPEC, lambda rows, seed: ["?"] * len(rows), tokenizer_of("smollm"), PROMPTS, tmp_path / "a.json"
        )
