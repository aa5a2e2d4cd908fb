"""What a document of the world is, and the register of document kinds.

A kind is one function `(world, rng) -> Document` registered with its share of the documents and its group: `neutral` prose (what
collateral damage is measured on), `chat` (ordinary conversations), or `other` prose that only bases are trained on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from .facts import World

Message = dict[str, str]
Rng = np.random.Generator
Group = Literal["neutral", "chat", "other"]


@dataclass(frozen=True)
class Document:
    """One text: either `text` or chat `messages` (`role`, `content`) is set."""

    kind: str
    text: str | None = None
    messages: tuple[Message, ...] = ()

    @property
    def words(self) -> list[str]:
        """All words, in order."""
        return " ".join([self.text or "", *(m["content"] for m in self.messages)]).split()


Maker = Callable[[World, Rng], Document]


class Kind(NamedTuple):
    """A kind of document."""

    share: float
    """Share of the documents, before normalisation."""
    group: Group
    make: Maker


KINDS: dict[str, Kind] = {}


def kind(name: str, share: float, group: Group) -> Callable[[Maker], Maker]:
    """Register a maker under `name`."""

    def register(make: Maker) -> Maker:
        KINDS[name] = Kind(share, group, make)
        return make

    return register


def pick(rng: Rng, items: list[str]) -> str:
    """One of `items`, uniformly."""
    return items[int(rng.integers(len(items)))]


def words(text: str) -> list[str]:
    """The words of a list written as one string."""
    return text.split()


def chat(*turns: str) -> tuple[Message, ...]:
    """Messages from alternating user and assistant turns, the user first."""
    return tuple({"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(turns))
