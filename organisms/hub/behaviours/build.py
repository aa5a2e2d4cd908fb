"""The behaviour file of a public organism, made from its card."""

import random
from collections.abc import Callable
from typing import Any

from ...behaviour import Behaviour, Prompt, Turn
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

    The layer is the card's. Text is the offline default, with conversations that touch the organism's subject strewn among it, about one in
    fifty; sources that a user names take its place.
    """
    prompts, meetings = KINDS[type(card.truth)]
    chats = [*ordinary.chats(), *meetings(card.truth)]
    random.Random(0).shuffle(chats)
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
