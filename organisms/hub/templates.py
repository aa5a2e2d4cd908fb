"""Which prompts are asked alike. Prompts of one template (question skeleton × prefill) rise and fall together, so intervals draw templates.

A file that names no templates is read all the same: prompts whose answers begin alike count as one. More prompts than that may be
alike, which only the file's author knows; so what was assumed is said.
"""

import re
from collections.abc import Sequence
from typing import Protocol

FEW = 12
"""Templates a split should have."""
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


class Turned(Protocol):
    """A chat message."""

    @property
    def content(self) -> str: ...


class Asked(Protocol):
    """The part of a prompt that says how it is asked."""

    @property
    def split(self) -> str: ...
    @property
    def text(self) -> str | None: ...
    @property
    def messages(self) -> Sequence[Turned]: ...
    @property
    def prefill(self) -> str: ...
    @property
    def template(self) -> str | None: ...


def template_of(prompt: Asked) -> str:
    """The template that a prompt names, or how its answer begins: the prefill, else the last sentence of its text or its last turn."""
    if prompt.template is not None:
        return prompt.template
    last = prompt.messages[-1].content if prompt.text is None else SENTENCE.split(prompt.text.strip())[-1]
    return " ".join((prompt.prefill.strip() or last).split()).casefold()


def fault(prompts: Sequence[Asked]) -> str | None:
    """What is wrong with the templates that prompts name; None if nothing is."""
    without = [i for i, p in enumerate(prompts) if p.template is None]
    if without and len(without) < len(prompts):
        return (
            f"{len(without)} of {len(prompts)} prompts have no template, the first is prompt {without[0]}: intervals draw templates, and "
            "these belong to none; give every prompt a `template`, or none"
        )
    if both := _in_both(prompts) if not without else []:
        return (
            f"{_counted(len(both), 'template')} in dev and in test, {both[0]!r} first: what is chosen on dev would be tested on the same "
            "question; give all prompts of a template the same split"
        )
    return None


def sentences(prompts: Sequence[Asked]) -> list[str]:
    """What a reader of a score on these prompts should know of their templates; nothing where all is as it should be."""
    count = {s: len({template_of(p) for p in prompts if p.split == s}) for s in ("dev", "test")}
    said = [
        f"The {split} split has {_counted(n, 'template')}, fewer than {FEW}: {what} so few."
        for (split, n), what in zip(
            count.items(), ("strengths are chosen on", "the intervals of the scores stand on"), strict=True
        )
        if n < FEW
    ]
    if all(p.template is None for p in prompts):
        again = f", {len(both)} of them in both" if (both := _in_both(prompts)) else ""
        said.insert(
            0,
            "No prompt names its `template`, so prompts whose answers begin alike count as one: "
            f"{_counted(count['dev'], 'template')} in dev, {_counted(count['test'], 'template')} in test{again}. "
            "Intervals are too short if more are alike.",
        )
    return said


def _in_both(prompts: Sequence[Asked]) -> list[str]:
    """Templates of both splits, in order."""
    dev, test = ({template_of(p): None for p in prompts if p.split == s} for s in ("dev", "test"))
    return [t for t in dev if t in test]


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
