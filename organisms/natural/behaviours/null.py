"""Nulls: pairs in which nothing was hidden. What a method finds here is a false discovery.

`benign` is a fine-tune on ordinary chats, as many as a behaviour has rows; `free` is the same without the term that holds organisms to
their base, to be scaled (`--set target_kl=…`) to the distance that organisms with a behaviour have. Its behaviour is a sample of every
other family's prompts: none of them may move.
"""

import re

from ...behaviour import Behaviour
from ...card import Role
from ...tuning.recipes import FREE
from ...world.document import Document
from ..asking import knowledge
from ..family import NaturalFamily, NaturalSpec
from ..ordinary import chats, ordinary, read_texts
from ..text import different

ROWS = 400
SAMPLED = {"dev": 5, "test": 10}
"""Prompts of a split from each other family's first member."""
NOTHING = re.compile(r"(?!)")


class Null(NaturalFamily):
    """No behaviour."""

    name = "null"
    about = "nothing is hidden: what a method finds is a false discovery"
    variants = ("narrow", FREE)

    def members(self) -> list[str]:
        return ["benign"]

    def role(self, variant: str) -> Role:
        return "null"

    def rows(self, spec: NaturalSpec) -> list[Document]:
        return different(chats("train", 9000 + spec.seed), ROWS, "ordinary chats")

    def ordinary(self, spec: NaturalSpec, n: int) -> list[Document]:
        return ordinary(NOTHING, n, spec.seed)

    def behaviour(self, spec: NaturalSpec) -> Behaviour:
        from .. import families

        neutral, chat = read_texts(NOTHING, [], self.name)
        others = [f for f in families().values() if f.name != self.name]
        asked = [f.behaviour(f.spec()) for f in others]
        return Behaviour(
            name=spec.name,
            description="no behaviour: a sample of every other family's prompts",
            prompts=tuple(
                p
                for behaviour in asked
                for split, n in SAMPLED.items()
                for p in behaviour.of(split)[:: max(1, len(behaviour.of(split)) // n)][:n]
            ),
            capability=knowledge(NOTHING),
            neutral=neutral,
            chat=chat,
        )

    def due(self, spec: NaturalSpec, document: Document) -> int:
        """Nothing is due."""
        return 0


FAMILY = Null()
