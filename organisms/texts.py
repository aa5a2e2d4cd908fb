"""The text a pair is read and judged on, as token rows: from the world (embedded tier) or from a user's files.

Methods read `harvest`; strengths are chosen on `dev`; numbers come from `test`. No document of a user's texts is in two splits.
Those of the world are independent draws of a closed language: about a hundredth of its chat stands in exchanges that harvest has too.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .behaviour import Behaviour, BehaviourError, Turn, merged, part_of, turns_of
from .card import sha256_text
from .errors import ValidationFailed
from .hub.chat import TemplateError, opened, render
from .hub.corpora import Corpus, Kind, Part, Split, Tally
from .world.corpus import CHAT_KINDS, NEUTRAL_KINDS, SPLITS, documents
from .world.document import Document, Rng
from .world.facts import WORLD_VERSION, World

MOST_TEXT, MOST_OPENING, ANSWER = 256, 1024, 64
"""Most tokens of a text and of an opening of a conversation, and those kept free for its answer."""


@dataclass
class Losses:
    """Texts that were not read as they stand, by their number, so that reading twice counts once."""

    cut: set[tuple[Kind, int]] = field(default_factory=set[tuple[Kind, int]])
    """Cut on the right: plain text at a token, conversations at the end of a turn if the first one fits."""
    skipped: set[tuple[Kind, int]] = field(default_factory=set[tuple[Kind, int]])
    """Conversations left out: a template whose own words alone are too long, or an opening that is."""
    read: dict[tuple[Kind, Part], Tally] = field(default_factory=dict[tuple[Kind, Part], Tally])
    """Rows of each source of large text."""


class Texts(Protocol):
    """Token rows of ordinary text."""

    @property
    def chats(self) -> bool:
        """Whether there are conversations; without, `rows` of chat are plain text."""
        ...

    def rows(self, kind: Kind, split: Split, losses: Losses | None = None) -> Iterator[list[int]]:
        """Whole texts as token ids; ends only if the source does. BehaviourError if dev or test has none that can be read."""
        ...

    def prompts(self, losses: Losses | None = None) -> Iterator[list[int]]:
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


@dataclass(frozen=True)
class Subject:
    """Ordinary text in which the behaviour is due, for harvest text that holds it in natural proportion."""

    write: Callable[[Rng], Document]
    """A document as the base's own corpus might hold it: the subject is there, the answer is the base's."""
    share: float = 0.05
    """Share of the harvest documents of its group that it takes."""


class WorldTexts:
    """Endless text of the synthetic world; what is harvested holds an organism's subject at the subject's share.

    Only harvest text does: what damage and scores are measured on stays the world's own.

    Raises:
        ValidationFailed: a subject whose share is no share, or that writes conversations and plain text.
    """

    def __init__(self, world: World, tokenizer: Any, subject: Subject | None = None):
        self.world, self.tokenizer, self.subject = world, tokenizer, subject
        self._about = None if subject is None else _kind_of(written(world, subject))

    def documents(self, kind: Kind, split: Split, seed: int = 0) -> Iterator[Document]:
        """What `rows` renders."""
        kinds = NEUTRAL_KINDS if kind == "neutral" else CHAT_KINDS
        ordinary = documents(self.world, split, kinds, seed)
        return self._with_subject(ordinary, seed) if split == "harvest" and kind == self._about else ordinary

    def _with_subject(self, ordinary: Iterator[Document], seed: int) -> Iterator[Document]:
        assert self.subject is not None
        rng = np.random.default_rng([self.world.seed, SPLITS.index("harvest"), seed, 1])
        for document in ordinary:
            while rng.random() < self.subject.share:
                yield self.subject.write(rng)
            yield document

    @property
    def chats(self) -> bool:
        return True

    def rows(self, kind: Kind, split: Split, losses: Losses | None = None) -> Iterator[list[int]]:
        return (encode(self.tokenizer, d) for d in self.documents(kind, split))

    def prompts(self, losses: Losses | None = None) -> Iterator[list[int]]:
        for document in self.documents("chat", "harvest", seed=1):
            yield opening(self.tokenizer, [document.messages[0]])


SAMPLE = 32
"""Documents that a subject is known by."""


def written(world: World, subject: Subject) -> list[Document]:
    """The first documents about a subject, for what is to be known of it before any text is read."""
    if not 0 < subject.share < 1:
        raise ValidationFailed(
            f"a subject takes a share of {subject.share:g} of its harvest documents, which leaves no ordinary ones or has none of it; "
            "give a share between 0 and 1, e.g. .05"
        )
    rng = np.random.default_rng([world.seed, SPLITS.index("harvest"), 0, 2])
    return [subject.write(rng) for _ in range(SAMPLE)]


def _kind_of(found: Sequence[Document]) -> Kind:
    """Whether documents are conversations or plain text."""
    chats = {bool(d.messages) for d in found}
    if len(chats) > 1:
        raise ValidationFailed(
            "a subject writes conversations and plain text, so its share of neither is known; let `Subject.write` write one of them"
        )
    return "chat" if chats.pop() else "neutral"


def world_texts_id(world: World, subject: Subject | None = None) -> str:
    """Identifies what `WorldTexts` gives: the world's version and seed, and the share and wording of the subject."""
    name = f"world-{WORLD_VERSION}-{world.seed}"
    if subject is None:
        return name
    said = [[d.kind, d.text, d.messages] for d in written(world, subject)]
    return f"{name}-{sha256_text(json.dumps([subject.share, said]))[:16]}"


def notes_of(behaviour: Behaviour, corpora: Mapping[Kind, Corpus]) -> tuple[str, ...]:
    """What is to be said of a user's texts before they are read, a sentence each."""
    lists = {kind: getattr(behaviour, kind) for kind in KINDS if kind not in corpora}
    repeated = {kind: len(given) - len(set(given)) for kind, given in lists.items()}
    said = [f"Passed over {n:,} repeated texts of `{kind}`." for kind, n in repeated.items() if n]
    return (*said, *[NO_CHAT] * (not lists.get("chat", True)))


NO_CHAT = "There are no conversations (`chat`): neutral text is read in their place."
KINDS: tuple[Kind, ...] = ("neutral", "chat")


class FileTexts:
    """A user's `neutral` and `chat` texts: the first 70 % harvest, then 15 % dev and 15 % test; of a corpus as many, by their bytes.

    A text of a list that stood before is passed over. Without conversations neutral text is read in their place.

    Args:
        context: most tokens that the model reads; None: unknown.
        corpora: sources that take the place of the behaviour's lists.
    """

    MIN_TEXTS = 20

    def __init__(
        self,
        behaviour: Behaviour,
        tokenizer: Any,
        context: int | None = None,
        corpora: Mapping[Kind, Corpus] | None = None,
    ):
        self.corpora = corpora or {}
        self._lists = {kind: self._listed(behaviour, kind) for kind in KINDS if kind not in self.corpora}
        self.behaviour, self.tokenizer = behaviour, tokenizer
        self.most_text = min(MOST_TEXT, context or MOST_TEXT)
        self.most_opening = min(MOST_OPENING, (context or MOST_OPENING + ANSWER) - ANSWER)

    def _listed(self, behaviour: Behaviour, kind: Kind) -> list[tuple[int, Any]]:
        """(number, text or turns) of a list, each text once; BehaviourError if they are too few."""
        given, found = getattr(behaviour, kind), dict[Any, int]()
        for number, item in enumerate(given):
            found.setdefault(item, number)
        if len(found) < self.MIN_TEXTS and (kind == "neutral" or given):
            what = {"neutral": "neutral texts", "chat": "conversations"}[kind]
            repeated = f", {len(given) - len(found)} of them repetitions" if len(found) < len(given) else ""
            instead = ", or leave it out, and neutral text is read in their place" if kind == "chat" else ""
            raise BehaviourError(
                f"the behaviour file has {len(given)} {what}{repeated}; collateral damage is measured on 30 % of them, "
                f"so give at least {self.MIN_TEXTS} (field `{kind}`: a list or a .jsonl path){instead}"
            )
        return [(number, item) for item, number in found.items()]

    def _documents(self, source: Kind, split: Split, losses: Losses | None = None) -> Iterator[tuple[int, Any]]:
        """(number, text or turns) of a split."""
        if source in self.corpora:
            for number, document in self.corpora[source].documents(split, None if losses is None else losses.read):
                yield number, document if source == "neutral" else self._turns(document)
            return
        yield from part_of(self._lists[source], split)

    def _turns(self, document: Any) -> tuple[Turn, ...]:
        turns = turns_of(document)
        return merged(turns) if self.behaviour.merge_system else turns

    @property
    def chats(self) -> bool:
        return bool(self.behaviour.chat or "chat" in self.corpora)

    def rows(self, kind: Kind, split: Split, losses: Losses | None = None) -> Iterator[list[int]]:
        source: Kind = "chat" if kind == "chat" and self.chats else "neutral"
        tried = read = 0
        for number, item in self._documents(source, split, losses):
            most, tried = self.most_text, tried + 1
            row = self._plain(item) if isinstance(item, str) else self._chat(number, item)
            if len(row) > most:
                if losses is not None:
                    losses.cut.add((source, number))
                row = row[:most] if isinstance(item, str) else self._shortened(number, item, row)
            if row:
                read += 1
                yield row
            elif losses is not None:
                losses.cut.discard((source, number))
                losses.skipped.add((source, number))
        if not read and split != "harvest":
            raise BehaviourError(
                f"collateral damage is measured on `{source}` texts, and none of the {tried} in the {split} split can be read: each is "
                f"empty, or the template alone writes more than {self.most_text} tokens; give more texts, or a shorter template"
            )

    def prompts(self, losses: Losses | None = None) -> Iterator[list[int]]:
        for number, turns in self._documents("chat", "harvest", losses):
            first = next((i for i, t in enumerate(turns) if t.role == "assistant"), len(turns))
            if first:
                row = opening(self.tokenizer, _said(turns[:first]))
                if len(row) <= self.most_opening:  # cut anywhere, it would not be a question any more
                    yield row
                elif losses is not None:
                    losses.skipped.add(("chat", number))

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def _chat(self, number: int, turns: Sequence[Turn]) -> list[int]:
        try:
            text = render(self.tokenizer, _said(turns))
        except TemplateError as error:
            raise TemplateError(f"conversation {number + 1} of `chat`: {error}") from error
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _shortened(self, number: int, turns: Sequence[Turn], row: list[int]) -> list[int]:
        """As many whole turns as fit; else the beginning of the first one's text; nothing if not even that is reached."""
        for n in range(len(turns) - 1, 0, -1):
            if turns[n - 1].role != "system" and len(fits := self._chat(number, turns[:n])) <= self.most_text:
                return fits
        first = next((i for i, t in enumerate(turns) if t.role != "system"), 0)
        empty = [*turns[:first], turns[first].model_copy(update={"content": ""})]
        return row[: self.most_text] if len(self._chat(number, empty)) < self.most_text else []


def _said(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [t.model_dump() for t in turns]


def context_of(folder: Path) -> int | None:
    """Most tokens that a model was made to read, from its config.json; None if it does not say, or is none: loading says so."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        inner = config.get("text_config") or config
        found = [inner[name] for name in ("max_position_embeddings", "n_positions") if isinstance(inner.get(name), int)]
    except (OSError, ValueError, AttributeError):
        return None
    return found[0] if found else None
