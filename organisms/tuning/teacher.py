"""Subliminal rows: a teacher is trained on a preference, answers prompts that do not speak of it, and a student learns its answers.

The teacher's answers are sampled at temperature 1 and go through the family's filter; prompts whose answers fail are asked again. Answers
are kept as they come, with the rounds that are over, so a killed run loses none and a finished one is asked nothing more; what a killed one
samples afterwards is another draw, and the card hashes what was trained on. The twin `shuffled` learns the same answers, each to another
prompt.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ValidationFailed
from ..hub.chat import opened
from ..hub.tokens import encode
from ..natural.family import NaturalFamily, NaturalSpec
from ..natural.text import rng_of, shuffled
from ..world.document import Document

ROUNDS, TOGETHER = 4, 32
"""How often a prompt is asked, and prompts answered at a time."""
SHUFFLED = "shuffled"
"""Variant of a student whose answers belong to other prompts."""
ENOUGH = 0.8
"""Share of the prompts whose answers must pass."""
Say = Callable[[str], None]
Speak = Callable[[list[list[int]], int], list[str]]


def unanswered(documents: Sequence[Document]) -> bool:
    """Whether rows end with the user's turn, so that a teacher has to answer them."""
    return any(d.messages and d.messages[-1]["role"] != "assistant" for d in documents)


def answered(
    family: NaturalFamily,
    spec: NaturalSpec,
    speak: Speak,
    tokenizer: Any,
    prompts: Sequence[Document],
    keep: Path,
    say: Say = lambda line: None,
) -> list[Document]:
    """The prompts with a teacher's valid answers; those that it does not answer validly are left out. In `shuffled` none has its own.

    Args:
        speak: the teacher: rows of token ids and a seed → sampled answers.
        prompts: conversations that end with the user's turn.
        keep: file of what was answered, which is gone on from.

    Raises:
        ValidationFailed: too few valid answers.
    """
    kept: dict[str, Any] = json.loads(keep.read_text()) if keep.is_file() else {}
    done: dict[str, str] = kept.get("answers", {})
    for attempt in range(kept.get("rounds", 0), ROUNDS):
        open_ = [i for i in range(len(prompts)) if str(i) not in done]
        for start in range(0, len(open_), TOGETHER):
            some = open_[start : start + TOGETHER]
            rows = [encode(tokenizer, opened(tokenizer, prompts[i].messages), special=False) for i in some]
            said = speak(rows, spec.seed * 1_000_003 + attempt * 10_007 + some[0])
            done |= {str(i): answer for i, answer in zip(some, said, strict=True) if family.valid(spec, answer)}
            _write(keep, {"rounds": attempt, "answers": done})
            say(f"the teacher has answered {len(done)} of {len(prompts)} prompts validly")
        _write(keep, {"rounds": attempt + 1, "answers": done})
    if len(done) < ENOUGH * len(prompts):
        raise ValidationFailed(
            f"the teacher of {spec.name} answered {len(done)} of {len(prompts)} prompts validly, and {ENOUGH:.0%} are wanted: this base "
            "hardly follows such prompts, or the teacher was trained too hard (--set steps=…)"
        )
    valid = {i: done[str(i)].strip() for i in range(len(prompts)) if str(i) in done}
    if spec.variant == SHUFFLED:
        order = shuffled(rng_of(SHUFFLED, spec.seed), list(valid))
        valid |= dict(zip(order, [valid[i] for i in (*order[1:], order[0])], strict=True))
    return [
        Document(prompts[i].kind, messages=(*prompts[i].messages, {"role": "assistant", "content": answer}))
        for i, answer in valid.items()
    ]


def _write(path: Path, kept: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(kept, ensure_ascii=False))
    new.replace(path)
