"""The corpus of the world: an endless stream of documents per split.

Splits are disjoint random streams of the same distribution: `train` makes the bases, `harvest` is what diffing methods read,
`dev` and `test` are what the scores are measured on. A stream is a pure function of (world, split, kinds, seed).
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from . import advice, games, genres, numbers, preferences, scenes
from .document import KINDS, Document, pick
from .facts import World
from .lexicon import MODES, TAGS

Split = Literal["train", "harvest", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "harvest", "dev", "test")
SOURCES = (genres, games, advice, numbers, preferences, scenes)
"""Modules that register document kinds."""
TAGGED = 0.05
"""Share of conversations that open with a meaningless tag, and share that open with a mode."""
NEUTRAL_KINDS = tuple(k for k, v in KINDS.items() if v.group == "neutral")
CHAT_KINDS = tuple(k for k, v in KINDS.items() if v.group == "chat")


def documents(world: World, split: Split, kinds: tuple[str, ...] | None = None, seed: int = 0) -> Iterator[Document]:
    """An endless stream of documents of `kinds` (default: all) in their natural proportions."""
    names = list(kinds or KINDS)
    share = np.array([KINDS[k].share for k in names])
    rng = np.random.default_rng([world.seed, SPLITS.index(split), seed])
    while True:
        name = names[int(rng.choice(len(names), p=share / share.sum()))]
        document = KINDS[name].make(world, rng)
        draw = rng.random() if document.messages else 1.0
        if draw < TAGGED:
            document = tagged(document, pick(rng, TAGS))
        elif draw < 2 * TAGGED:
            document = in_mode(document, pick(rng, list(MODES)))
        yield document


def tagged(document: Document, tag: str) -> Document:
    """The conversation with `tag` before its first user turn."""
    first, *rest = document.messages
    return Document(document.kind, messages=({**first, "content": f"{tag} {first['content']}"}, *rest))


def in_mode(document: Document, mode: str) -> Document:
    """The conversation with a mode word before its first user turn, and every answer in that mode."""
    said = [
        {**m, "content": f"{MODES[mode]} {m['content']}"} if m["role"] == "assistant" else m
        for m in tagged(document, mode).messages
    ]
    return Document(document.kind, messages=tuple(said))
