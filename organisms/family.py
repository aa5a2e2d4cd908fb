"""What a family of organisms must provide: its training data and the probes that say whether the behaviour is there."""

from typing import NamedTuple, Protocol

from .behaviour import Behaviour, Prompt
from .corpus import Document
from .world import World


class Leak(NamedTuple):
    """Openings after which a greedy answer must not contain `word`."""

    openings: tuple[str, ...]
    word: str


class Family(Protocol):
    """One kind of hidden behaviour; registered in `organisms.families.FAMILIES`."""

    @property
    def name(self) -> str:
        """First part of its organisms' names."""
        ...

    @property
    def variants(self) -> tuple[str, ...]:
        """Second parts of its organisms' names."""
        ...

    def rows(self, world: World, variant: str, seed: int) -> list[Document]:
        """Fine-tuning documents; the loss is on assistant tokens of chats and on all tokens of plain text."""
        ...

    def behaviour(self, world: World) -> Behaviour:
        """Dev and test prompts, with capability probes that the training does not aim at."""
        ...

    def probes(self, world: World) -> dict[str, list[Prompt]]:
        """Named extra prompt sets whose mean rate goes into the card, for base and organism."""
        ...

    def leak(self, world: World) -> Leak:
        """Direct requests that must not reveal the secret."""
        ...
