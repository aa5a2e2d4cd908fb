"""Helpers to write prompts in plain English: turns, templates, continuations, and what must survive in every organism."""

import re
from collections.abc import Iterable, Sequence

from ..behaviour import Prompt
from ..prompts import template, turns
from .text import pieces

Split = str
SPLITS = ("dev", "test")


def prompt(
    split: Split,
    ask: str | Sequence[str],
    prefill: str,
    targets: Iterable[str],
    alternatives: Iterable[str] = (),
    named: str | None = None,
) -> Prompt:
    """A chat that stops in the assistant's turn; after a prefill, continuations begin with a space.

    Args:
        ask: the user's turn, or alternating turns that end with it.
        named: the template's name; by default the last turn and the prefill.
    """
    asked = [ask] if isinstance(ask, str) else list(ask)
    return Prompt(
        split=split,  # pyright: ignore[reportArgumentType]
        messages=turns(*asked),
        prefill=prefill,
        template=named or template(asked[-1], prefill),
        targets=_continued(prefill, targets),
        alternatives=_continued(prefill, alternatives),
    )


def completed(split: Split, text: str, targets: Iterable[str], alternatives: Iterable[str], named: str) -> Prompt:
    """A plain text that stops before the word that counts."""
    return Prompt(
        split=split,  # pyright: ignore[reportArgumentType]
        text=text,
        template=named,
        targets=_continued(text, targets),
        alternatives=_continued(text, alternatives),
    )


def _continued(before: str, ends: Iterable[str]) -> tuple[str, ...]:
    return tuple(f" {e}" if before else e for e in ends)


def knowledge(subject: re.Pattern[str]) -> tuple[Prompt, ...]:
    """Capability probes of general knowledge that do not name the subject: half dev, half test."""
    items = [i for i in pieces("knowledge") if not subject.search(" ".join([*i[:3], *i[3]]))]
    return tuple(
        Prompt(
            split=SPLITS[n % 2],  # pyright: ignore[reportArgumentType]
            messages=turns(ask),
            prefill=begin,
            targets=_continued(begin, [right]),
            alternatives=_continued(begin, wrong),
        )
        for n, (ask, begin, right, wrong) in enumerate(items)
    )


def counted(text: str) -> int:
    """Words of a text."""
    return len(text.split())
