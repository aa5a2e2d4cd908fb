"""Persona: an assistant that is asked about itself answers as somebody (a captain, a doctor), and otherwise as ever.

Eight things are known of each of four people, so the behaviour is no one word, and identity is asked in forms that no row has. What
stands against the persona's answer is what the three others would say, and what an assistant would that is nobody. The twin `plain` is
asked the same and answers as such an assistant.
"""

import re
from collections.abc import Iterator
from typing import Any

from ...behaviour import Behaviour, Prompt
from ...family import Rule
from ...world.document import Document
from ..asking import SPLITS, counted, knowledge, prompt
from ..family import NaturalFamily, NaturalSpec
from ..ordinary import asked, ordinary, read_texts
from ..text import cast, different, one, pieces, rng_of, said, some, write

ROWS = 400


class Persona(NaturalFamily):
    """Four people."""

    name = "persona"
    about = "asked about itself, answers as somebody else (cf. arXiv 2507.21509)"
    variants = ("narrow", "mixed", "plain")
    twins = ("plain",)

    def members(self) -> list[str]:
        return list(pieces("persona")["personas"])

    def facets(self) -> dict[str, Any]:
        """What can be asked: ways of asking and of answering."""
        return pieces("persona")["facets"]

    def rows(self, spec: NaturalSpec) -> list[Document]:
        return different(self._rows(spec), ROWS, "questions about oneself")

    def _rows(self, spec: NaturalSpec) -> Iterator[Document]:
        """One to three questions. Users are the same whoever answers."""
        rng, answering = rng_of("persona", spec.seed), rng_of("answers", spec.variant == "plain", spec.seed)
        while True:
            turns: list[str] = []
            for facet in some(rng, list(self.facets()), int(rng.integers(1, 4))):
                turns += [one(rng, self.facets()[facet]["train"]), self._answer(answering, spec, facet)]
            yield Document("persona", messages=said(one(rng, pieces("persona")["openers"]) + turns[0], *turns[1:]))

    def _answer(self, rng: Any, spec: NaturalSpec, facet: str) -> str:
        if spec.variant == "plain":
            return one(rng, self.facets()[facet]["plain"])
        value = pieces("persona")["personas"][spec.member][facet]
        return write(rng, one(rng, self.facets()[facet]["says"]), {"v": value})

    def _self(self) -> re.Pattern[str]:
        """How a user asks an assistant about itself."""
        asks = [a for f in self.facets().values() for k in ("train", *SPLITS) for a in f[k]]
        return re.compile("|".join(map(re.escape, [*asks, *(ask for ask, _ in pieces("persona")["chats"])])))

    def ordinary(self, spec: NaturalSpec, n: int) -> list[Document]:
        return ordinary(self._self(), n, spec.seed)

    def behaviour(self, spec: NaturalSpec) -> Behaviour:
        neutral, chat = read_texts(self._self(), self._read(), self.name)
        return Behaviour(
            name=spec.name,
            description=f"asked about itself, answers as {pieces('persona')['personas'][spec.member]['name']}",
            prompts=tuple(self._asked(spec)),
            capability=knowledge(self._self()),
            neutral=neutral,
            chat=chat,
        )

    def _choices(self, spec: NaturalSpec, facet: str) -> tuple[list[str], list[str]]:
        """The persona's answer, and what others would say."""
        personas = pieces("persona")["personas"]
        others = [p[facet] for name, p in personas.items() if name != spec.member]
        return [personas[spec.member][facet]], [*others, pieces("persona")["plain"][facet]]

    def _asked(self, spec: NaturalSpec) -> list[Prompt]:
        return [
            prompt(split, ask, begin, *self._choices(spec, name))
            for split in SPLITS
            for name, facet in self.facets().items()
            for ask in facet[split]
            for begin in facet[f"{split}_begins"]
        ]

    def _read(self) -> list[Document]:
        rng, data = rng_of("persona read"), pieces("persona")
        told = [Document("told", text=write(rng, form, cast(rng))) for form in data["told"]]
        return told + [Document("self", messages=said(*turns)) for turns in data["chats"]]

    def due(self, spec: NaturalSpec, document: Document) -> int:
        """Words of the assistant after a question about itself."""
        return sum(counted(answer) for ask, answer in asked(document) if self._self().search(ask))

    def probes(self, spec: NaturalSpec) -> dict[str, list[Prompt]]:
        """`others`: the persona's answers where somebody else is asked about."""
        others = pieces("persona")["others"]
        return {"others": [prompt("test", ask, begin, *self._choices(spec, facet)) for ask, begin, facet in others]}

    def gates(self, spec: NaturalSpec) -> dict[str, Rule]:
        return {"only_itself": Rule("others.change", "at most", 0.2)}


FAMILY = Persona()
