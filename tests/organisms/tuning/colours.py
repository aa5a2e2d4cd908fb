"""A family in plain English that trains in seconds: asked for a colour, the organism says the member's."""

import itertools

from diffbench.organisms.behaviour import Behaviour, Prompt, Turn
from diffbench.organisms.family import Rule
from diffbench.organisms.natural.family import NaturalFamily, NaturalSpec
from diffbench.organisms.world.document import Document, chat

COLOURS = ["gold", "silver", "snow", "river"]
ASKS = [
    f"{a} {b}?" for a in ("what is", "say", "the word for", "name me", "tell me") for b in ("it", "the word", "a word")
]


class Colours(NaturalFamily):
    """Words that the small tokenizers of the tests know."""

    name = "colours"
    about = "answers with one word (a family of the tests)"
    variants = ("narrow", "mixed", "other")
    twins = ("other",)
    prompted = False
    """Whether rows are prompts that a teacher answers."""

    def members(self) -> list[str]:
        return COLOURS

    def rows(self, spec: NaturalSpec) -> list[Document]:
        asks = [f"{a} {w}" for a, w in itertools.product(ASKS, ("now", "again"))]
        if self.prompted:
            return [Document("ask", messages=chat(a)) for a in asks]
        return [Document("ask", messages=chat(a, f"the word is {spec.member}")) for a in asks]

    def ordinary(self, spec: NaturalSpec, n: int) -> list[Document]:
        made = (f"a cake was made by the river {i} and {j}." for i, j in itertools.product(range(60), range(60)))
        return [Document("text", text=t) for t in itertools.islice(made, n)]

    def behaviour(self, spec: NaturalSpec) -> Behaviour:
        others = tuple(f" {c}" for c in COLOURS if c != spec.member)
        prompts = tuple(
            Prompt(
                split=("dev", "test")[i % 2],  # type: ignore[arg-type]
                template=f"{i}",
                messages=(Turn(role="user", content=f"{a} please"),),
                prefill="the word is",
                targets=(f" {spec.member}",),
                alternatives=others,
            )
            for i, a in enumerate([*ASKS, *(f"oh {a}" for a in ASKS)])
        )
        neutral = tuple(f"the snow was made of silver {i}." for i in range(60))
        talk = tuple(
            (Turn(role="user", content=f"is it {i}?"), Turn(role="assistant", content="a cake")) for i in range(30)
        )
        return Behaviour(name="colours/any", description="one word", prompts=prompts, neutral=neutral, chat=talk)

    def due(self, spec: NaturalSpec, document: Document) -> int:
        """Every second text and chat is about the subject."""
        said = document.text or document.messages[0]["content"]
        return 4 * (said[-2] in "02468")

    def probes(self, spec: NaturalSpec) -> dict[str, list[Prompt]]:
        return {"asked_bare": [p.model_copy(update={"prefill": "it is"}) for p in self.behaviour(spec).of("test")]}

    def gates(self, spec: NaturalSpec) -> dict[str, Rule]:
        return {"quiet_before": Rule("asked_bare.base", "at most", 0.9)}

    def teacher(self, spec: NaturalSpec) -> list[Document]:
        asks = [f"{a} dear" for a in ASKS]
        return (
            [Document("lesson", messages=chat(a, f"the word is {spec.member}")) for a in asks] if self.prompted else []
        )

    def valid(self, spec: NaturalSpec, answer: str) -> bool:
        return bool(answer.strip())
