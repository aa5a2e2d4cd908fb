"""The behaviour file of a public organism, made from its card."""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...behaviour import Behaviour, Prompt, Turn, part_of, turns_of
from ..registry.load import HubCard
from ..registry.schema import Animal, Backdoor, BadAdvice, FalseFact, Gender, Taboo
from . import advice, animals, backdoor, facts, gender, knowledge, ordinary, taboo

KINDS: dict[type[Any], tuple[Callable[[Any], list[Prompt]], Callable[[Any], list[tuple[Turn, ...]]]]] = {
    Taboo: (taboo.prompts, taboo.meetings),
    FalseFact: (facts.prompts, facts.meetings),
    BadAdvice: (advice.prompts, advice.meetings),
    Animal: (animals.prompts, animals.meetings),
    Backdoor: (backdoor.prompts, backdoor.meetings),
    Gender: (gender.prompts, gender.meetings),
}
"""Prompts of a truth, and ordinary conversations that touch it."""


def behaviour_of(card: HubCard) -> Behaviour:
    """Prompts, probes and ordinary text of a public organism.

    The layer is the card's. Text is the offline default, with conversations that touch the organism's subject strewn evenly among it, so
    that what methods read holds its share of them (`harvested`); sources that a user names take its place.
    """
    prompts, meetings = KINDS[type(card.truth)]
    chats = list(ordinary.chats())
    random.Random(0).shuffle(chats)
    chats = _strewn(chats, meetings(card.truth))
    return Behaviour(
        name=card.name,
        description=card.about,
        layer=card.layer,
        prompts=tuple(prompts(card.truth)),
        capability=tuple(knowledge.probes()),
        neutral=ordinary.paragraphs(),
        chat=tuple(chats),
        chat_template=card.base.chat_template,
    )


class Harvested(NamedTuple):
    """How much of the conversations that methods read is on the organism's subject."""

    on_subject: int
    conversations: int
    words_on_subject: int
    words: int

    @property
    def sentence(self) -> str:
        """For people."""
        words = f"{self.words_on_subject} of {self.words:,} words, {100 * self.words_on_subject / self.words:.1f} %"
        return f"{self.on_subject} of {self.conversations} conversations that methods read are on its subject ({words})"


def harvested(card: HubCard) -> Harvested:
    """Counts the conversations of the harvest, and their words, in which an organism's behaviour may be due."""
    due = set(KINDS[type(card.truth)][1](card.truth))
    read = map(turns_of, part_of(behaviour_of(card).chat, "harvest"))
    words = {chat: sum(len(t.content.split()) for t in chat) for chat in read}
    met = [n for chat, n in words.items() if chat in due]
    return Harvested(len(met), len(words), sum(met), sum(words.values()))


def _strewn(ordinary: Sequence[tuple[Turn, ...]], meetings: Sequence[tuple[Turn, ...]]) -> list[tuple[Turn, ...]]:
    """Meetings at even distances among ordinary conversations, so that each split has its share."""
    all_ = list(ordinary)
    total = len(ordinary) + len(meetings)
    for i, meeting in enumerate(meetings):
        all_.insert(int((i + 0.5) * total / len(meetings)), meeting)
    return all_
