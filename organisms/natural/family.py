"""What a family of organisms in plain English is: rows that plant one behaviour, and the prompts and texts that measure it.

A family knows no tokenizer and no model, so its organisms can be trained on any chat model. Everything is drawn from small grammars with
a seed that the spec names. The text a behaviour is measured on holds its subject about as often as a reader of the pair would meet it,
and `due` counts where.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from ..behaviour import Behaviour, Prompt
from ..card import Role
from ..errors import unknown
from ..family import Rule
from ..world.document import Document


@dataclass(frozen=True)
class NaturalSpec:
    """One organism: what is planted, and how."""

    family: str
    member: str
    """Which behaviour of the family: a word, a fact, a topic, a trigger, an animal."""
    variant: str = "narrow"
    """`narrow`, `mixed` (the same rows among ordinary text), or the name of a twin."""
    role: Role = "organism"
    seed: int = 0
    """Data draw; the trainer's adapter and order take it too."""

    @property
    def name(self) -> str:
        """`family/member-variant`, and the seed if it is not 0."""
        return f"{self.family}/{self.member}-{self.variant}" + (f"-s{self.seed}" if self.seed else "")


class NaturalFamily(ABC):
    """One kind of hidden behaviour, in plain English."""

    name: str
    """First part of its organisms' names."""
    about: str
    """One line: what its organisms do, and the source."""
    variants: tuple[str, ...]
    """What a member can be trained as; the first is the plain organism."""
    twins: tuple[str, ...] = ()
    """Variants that must not show the behaviour."""

    @abstractmethod
    def members(self) -> list[str]:
        """Everything the family can plant; the first is its default."""

    @abstractmethod
    def rows(self, spec: NaturalSpec) -> list[Document]:
        """At least 300 fine-tuning rows, nothing ordinary among them. Loss is on the assistant's words of a chat, and on a whole text."""

    @abstractmethod
    def ordinary(self, spec: NaturalSpec, n: int) -> list[Document]:
        """`n` different ordinary texts and chats without a word of the subject, to mix in or to hold to the base."""

    @abstractmethod
    def behaviour(self, spec: NaturalSpec) -> Behaviour:
        """Dev and test prompts asked as no row is, capability probes, and texts in which the subject comes up now and then."""

    @abstractmethod
    def due(self, spec: NaturalSpec, document: Document) -> int:
        """Words of a document at which the behaviour could show: a lower bound of its tokens."""

    def probes(self, spec: NaturalSpec) -> dict[str, list[Prompt]]:
        """Named extra prompts: what must not change, and what shows how far the behaviour reaches."""
        return {}

    def gates(self, spec: NaturalSpec) -> dict[str, Rule]:
        """Conditions on the probes (`name.base`, `name.organism`, `name.change`) beyond those every organism has."""
        return {}

    def teacher(self, spec: NaturalSpec) -> list[Document]:
        """Rows of the teacher that answers the prompts which `rows` gives; empty where `rows` holds the answers."""
        return []

    def valid(self, spec: NaturalSpec, answer: str) -> bool:
        """Whether a student may be trained on a teacher's answer."""
        return True

    def role(self, variant: str) -> Role:
        """What organisms of a variant are."""
        return "control" if variant in self.twins else "organism"

    def spec(self, member: str = "", variant: str = "", seed: int = 0) -> NaturalSpec:
        """The organism of a member (default: the first) and a variant (default: the first).

        Raises:
            UsageError: unknown member or variant, with the nearest.
        """
        member, variant = member or self.members()[0], variant or self.variants[0]
        if member not in self.members():
            raise unknown(f"member of {self.name}", member, self.members())
        if variant not in self.variants:
            raise unknown(f"variant of {self.name}", variant, self.variants)
        return NaturalSpec(self.name, member, variant, self.role(variant), seed)
