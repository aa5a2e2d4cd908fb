"""Prompts of a chat model: a question, the beginning of the answer, and what may come next."""

from collections.abc import Sequence
from typing import Literal

from ...behaviour import Prompt, Turn

Split = Literal["dev", "test"]


def asked(
    split: Split,
    question: str,
    prefill: str,
    targets: Sequence[str],
    alternatives: Sequence[str],
    template: str | None = None,
) -> Prompt:
    """One prompt.

    Args:
        template: the question without what varies in it; default: the question.
    """
    return Prompt(
        split=split,
        template=f"{template or question} | {prefill}",
        messages=(Turn(role="user", content=question),),
        prefill=prefill,
        targets=tuple(targets),
        alternatives=tuple(alternatives),
    )


def crossed(
    split: Split, questions: Sequence[str], prefills: Sequence[str], targets: Sequence[str], alternatives: Sequence[str]
) -> list[Prompt]:
    """Every question with every beginning of an answer."""
    return [asked(split, q, p, targets, alternatives) for q in questions for p in prefills]


def talk(*said: str) -> tuple[Turn, ...]:
    """A conversation: alternating user and assistant turns, the user first."""
    return tuple(Turn(role="assistant" if i % 2 else "user", content=text) for i, text in enumerate(said))
