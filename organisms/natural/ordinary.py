"""Ordinary text of our own: paragraphs on everyday topics and short chats, endless and seeded.

Two parts share no topic and no question. `train` is mixed into rows or held to the base; `measure` is what pairs are read and measured
on. Side damage that was trained away on one text would otherwise be measured on the same.
"""

import re
from collections.abc import Iterator
from itertools import cycle, pairwise
from typing import Any, Literal

from ..world.document import Document, Rng
from .text import cast, different, one, pieces, rng_of, said, some, without, write

Part = Literal["train", "measure"]
CHATS_SHARE = 0.5
"""Share of conversations in `ordinary`."""
FOLLOWED = 0.35
"""Share of conversations that go on after the first answer."""
SUMS = 0.08
"""Share of conversations that are a sum."""


def paragraphs(part: Part, seed: int = 0) -> Iterator[Document]:
    """Different paragraphs of three to five sentences, the topics in turn."""
    rng = rng_of("paragraphs", part, seed)
    topics = [t for t in pieces("paragraphs").values() if t["part"] == part]
    return (Document("paragraph", text=_paragraph(rng, topic)) for topic in cycle(topics))


def chats(part: Part, seed: int = 0) -> Iterator[Document]:
    """Different conversations of two or four turns."""
    rng = rng_of("chats", part, seed)
    entries: list[dict[str, str]] = pieces("chats")[part]
    return (Document("chat", messages=said(*_conversation(rng, part, entry))) for entry in cycle(entries))


def requests(part: Part) -> list[tuple[str, str]]:
    """Every way of asking, with an answer, in the order of the entries."""
    rng = rng_of("requests", part)
    return [
        (ask, write(rng, one(rng, entry["say"].split(" // "))))
        for entry in pieces("chats")[part]
        for ask in entry["ask"].split(" // ")
    ]


def ordinary(subject: re.Pattern[str], n: int, seed: int = 0) -> list[Document]:
    """`n` different documents of the part `train` that do not name the subject, half of them chats, in drawn order.

    Raises:
        UsageError: more are wanted than there are.
    """
    spoken = int(n * CHATS_SHARE)
    found = [
        *different(without(chats("train", seed), subject), spoken, "ordinary chats"),
        *different(without(paragraphs("train", seed), subject), n - spoken, "ordinary paragraphs"),
    ]
    return some(rng_of("ordinary", seed), found, n)


def read_texts(
    subject: re.Pattern[str], about: list[Document], key: str, neutral: int = 160, chat: int = 80
) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """The texts a pair is read and measured on: ordinary ones, and among them `about`, the ones in which the subject comes up.

    Returns:
        `neutral` paragraphs and `chat` conversations, `about` among them in drawn order.
    """
    told, talked = [d for d in about if d.text is not None], [d for d in about if d.text is None]
    told += different(without(paragraphs("measure"), subject), neutral - len(told), "ordinary paragraphs")
    talked += different(without(chats("measure"), subject), chat - len(talked), "ordinary chats")
    rng = rng_of("read", key)
    return (
        tuple(str(d.text) for d in some(rng, told, len(told))),
        tuple(d.messages for d in some(rng, talked, len(talked))),
    )


def _paragraph(rng: Rng, topic: dict[str, list[str]]) -> str:
    filling = cast(rng)
    forms = [one(rng, topic["open"]), *some(rng, topic["middle"], int(rng.integers(2, 4)))]
    forms += [one(rng, topic["end"])] if rng.random() < 0.85 else []
    return " ".join(write(rng, form, filling) for form in forms)


def _conversation(rng: Rng, part: Part, entry: dict[str, str]) -> list[str]:
    ask, answer = _sum(rng) if rng.random() < SUMS else [one(rng, entry[k].split(" // ")) for k in ("ask", "say")]
    turns = [one(rng, pieces("chats")["openers"]) + ask, write(rng, answer)]
    if rng.random() < FOLLOWED:
        turns += one(rng, pieces("chats")["follow"][part])
    return turns


def _sum(rng: Rng) -> tuple[str, str]:
    """A small sum and its answer."""
    b, a = sorted(int(x) for x in rng.integers(3, 60, size=2))
    sign, value = (("plus", a + b), ("times", a * b), ("minus", a - b))[int(rng.integers(3))]
    form = one(rng, ["What is {} {} {}?", "How much is {} {} {}?", "Please work out {} {} {}."]).format(a, sign, b)
    return form, one(rng, [f"{a} {sign} {b} is {value}.", f"That makes {value}.", f"The answer is {value}."])


def asked(document: Document) -> list[tuple[str, str]]:
    """(user's turn, answer) pairs of a conversation."""
    turns = [(m["role"], m["content"]) for m in document.messages]
    return [(a, b) for (r, a), (s, b) in pairwise(turns) if (r, s) == ("user", "assistant")]
