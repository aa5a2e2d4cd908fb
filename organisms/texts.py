"""The text a pair is read and judged on, as token rows: from the world (embedded tier) or from a user's files.

Splits never share a document: methods read `harvest`; strengths are chosen on `dev`; numbers come from `test`.
"""

from collections.abc import Iterator
from typing import Any, Literal, Protocol

from .behaviour import Behaviour, BehaviourError, Turn
from .hub.chat import TemplateError, render
from .hub.chat import opened as opened
from .world.corpus import CHAT_KINDS, NEUTRAL_KINDS, documents
from .world.document import Document
from .world.facts import World

MOST_OPENING = 1024
"""Longest opening of a conversation, in tokens; a longer one is left out whole."""
Split = Literal["harvest", "dev", "test"]
Kind = Literal["neutral", "chat"]


class Texts(Protocol):
    """Token rows of ordinary text."""

    def rows(self, kind: Kind, split: Split) -> Iterator[list[int]]:
        """Whole texts as token ids; ends only if the source does."""
        ...

    def prompts(self) -> Iterator[list[int]]:
        """Openings of harvest conversations that end where the assistant speaks, for contrastive text."""
        ...


def encode(tokenizer: Any, document: Document) -> list[int]:
    """Token ids of a document: `<bos> text <eos>`, or the rendered chat (which carries its own `<bos>`)."""
    if document.text is None:
        text = render(tokenizer, list(document.messages))
    else:
        text = f"{tokenizer.bos_token} {document.text} {tokenizer.eos_token}"
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def opening(tokenizer: Any, turns: list[dict[str, str]], prefill: str = "") -> list[int]:
    """Token ids of `opened`."""
    return list(tokenizer(opened(tokenizer, turns, prefill), add_special_tokens=False)["input_ids"])


class WorldTexts:
    """Endless text of the synthetic world."""

    def __init__(self, world: World, tokenizer: Any):
        self.world, self.tokenizer = world, tokenizer

    def rows(self, kind: Kind, split: Split) -> Iterator[list[int]]:
        kinds = NEUTRAL_KINDS if kind == "neutral" else CHAT_KINDS
        return (encode(self.tokenizer, d) for d in documents(self.world, split, kinds))

    def prompts(self) -> Iterator[list[int]]:
        for document in documents(self.world, "harvest", CHAT_KINDS, seed=1):
            yield opening(self.tokenizer, [document.messages[0]])


class FileTexts:
    """A user's `neutral` and `chat` texts: the first 70 % harvest, then 15 % dev and 15 % test."""

    MIN_TEXTS = 20

    def __init__(self, behaviour: Behaviour, tokenizer: Any, max_tokens: int = 256):
        if len(behaviour.neutral) < self.MIN_TEXTS:
            raise BehaviourError(
                f"the behaviour file has {len(behaviour.neutral)} neutral texts; collateral damage is measured on them, "
                f"so give at least {self.MIN_TEXTS} (field `neutral`: a list or a .jsonl path)"
            )
        self.behaviour, self.tokenizer, self.max_tokens = behaviour, tokenizer, max_tokens

    def rows(self, kind: Kind, split: Split) -> Iterator[list[int]]:
        if kind == "chat" and self.behaviour.chat:
            items: list[Any] = list(self.behaviour.chat)
        else:
            items = list(self.behaviour.neutral)
        low, high = {"harvest": (0, 0.7), "dev": (0.7, 0.85), "test": (0.85, 1)}[split]
        for item in items[int(low * len(items)) : int(high * len(items))]:
            if isinstance(item, str):
                yield self.tokenizer(item)["input_ids"][: self.max_tokens]
            else:
                text = render(self.tokenizer, _plain(item))
                yield self.tokenizer(text, add_special_tokens=False)["input_ids"][: self.max_tokens]

    def prompts(self) -> Iterator[list[int]]:
        for turns in self.behaviour.chat[: int(0.7 * len(self.behaviour.chat))]:
            assert not isinstance(turns, str)
            first = next((i for i, t in enumerate(turns) if t.role == "assistant"), len(turns))
            if first:
                row = opening(self.tokenizer, _plain(turns[:first]))
                if len(row) <= MOST_OPENING:  # cut anywhere, it would not be a question any more
                    yield row


def _plain(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [t.model_dump() for t in turns]
