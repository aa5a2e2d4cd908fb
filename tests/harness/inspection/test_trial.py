"""A prompt of one's own: what is put to use where, and what cannot be asked is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffbench.harness.inspection.subject import Subject, subject
from diffbench.harness.inspection.trial import Trial, a_prompt, planned, trial
from diffbench.harness.pairs.anatomy import PairError
from diffbench.methods.contract import Finding, Gate
from diffbench.methods.formats.findings import pack
from diffbench.organisms.errors import UsageError
from diffbench.organisms.organism import Organism
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def of(organism: Organism, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Two findings that no record scores: the first has a gate."""
    path: Path = tmp_path_factory.mktemp("findings") / "mine.safetensors"
    d = torch.randn(3, 128, generator=torch.Generator().manual_seed(1))
    save_file(pack([Finding(d[0], Gate(d[2], 0.0)), Finding(d[1])]), path)
    return subject(path, organism)


def ask(of: Subject, prompt: str = "one clue for me .", **changed: object) -> Trial:
    how: dict[str, object] = {
        "findings": None,
        "strength": None,
        "where": "both",
        "gated": False,
        "raw": False,
        "tokens": 6,
        "seed": None,
    }
    return trial(of, prompt, **(how | changed))  # pyright: ignore[reportArgumentType]


def test_both_models_answer_with_and_without_and_every_token_is_read(of: Subject) -> None:
    t = ask(of, strength=1000, findings=[1, 2])
    assert t.answer.added is not None and t.answer.removed is not None
    assert t.answer.added != t.answer.base
    assert "".join(x.text for x in t.read[0].tokens) == "<bos> <user> one clue for me . <end> <assistant>"
    assert [(r.number, r.gated) for r in t.read] == [(1, True), (2, False)]
    assert any(x.base != x.organism for x in t.read[0].tokens)


def test_only_the_side_that_was_asked_for_is_changed(of: Subject) -> None:
    t = ask(of, where="base")
    assert (t.added is not None, t.removed, t.answer.removed, t.given) == (True, None, None, ["base"])


def test_plain_text_is_continued_as_it_stands_and_unknown_words_are_named(of: Subject) -> None:
    t = ask(of, "the zzyzx <end>", raw=True)
    assert "<assistant>" not in "".join(x.text for x in t.read[0].tokens)
    assert "'zzyzx'" in t.notes[0]


def test_a_strength_that_was_given_is_used_and_one_that_was_not_is_said(of: Subject) -> None:
    added, removed = planned(of, [2], 0.25, False)
    assert added and removed and (added.strength, removed.op, added.chosen) == (0.25, "subtract", "you")
    added, _ = planned(of, [2], None, False)
    assert added and "default" in added.chosen


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"prompt": " "}, "the prompt is empty"),
        ({"strength": float("nan")}, "--strength nan"),
        ({"strength": -1.0}, "--strength -1"),
        ({"findings": [3]}, "no finding 3"),
        ({"findings": [2], "gated": True}, "no gate belongs to --finding 2"),
    ],
)
def test_what_cannot_be_asked_is_refused(of: Subject, changed: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ask(of, **changed)  # pyright: ignore[reportArgumentType]


def test_a_prompt_longer_than_the_context_is_refused(of: Subject) -> None:
    with pytest.raises(PairError, match="was made to read 512"):
        ask(of, "hello " * 600)


@pytest.mark.parametrize("strength", [1e308, 1001.0, -0.1, float("nan"), float("inf")])
def test_a_strength_that_is_none_is_refused(of: Subject, strength: float) -> None:
    with pytest.raises(UsageError, match="is no strength; give a number from 0 to 1,000"):
        ask(of, strength=strength)


def test_a_prompt_that_is_no_text_is_refused(of: Subject) -> None:
    with pytest.raises(UsageError, match="the prompt is not UTF-8"):
        ask(of, b"a\xff\xfeb".decode(errors="surrogateescape"))


def test_without_a_prompt_one_of_dev_is_asked(of: Subject) -> None:
    test = {p.messages[0].content for p in of.organism.behaviour.of("test")}
    asked = a_prompt(of)
    assert asked == "one clue for me ." and asked not in test
    unasked = replace(
        of, organism=replace(of.organism, behaviour=of.organism.behaviour.model_copy(update={"prompts": []}))
    )
    with pytest.raises(UsageError, match="give one: --prompt"):
        a_prompt(unasked)
