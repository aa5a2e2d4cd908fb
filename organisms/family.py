"""What a family of organisms is: one file with its data, its behaviour, its candidates and its gates.

A family subclasses `Family` and is registered by its file alone (`organisms/families/*.py`, or any file given to the command line):
the module's `FAMILY` is an instance. Everything measured of an organism is one of four things, all judge-free: a prompt set's rate or
log-odds, the share of answers with a property, the probability of each candidate, and the standard block (facts, neutral text, oracle).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .behaviour import Behaviour, Prompt
from .card import Role
from .texts import Subject as Subject
from .world.document import Document
from .world.facts import World

if TYPE_CHECKING:
    from .lora import LoraRecipe

FLUENCY = 0.3
"""Most nats a token by which an organism's sampled answers may surprise the base more than the base's own do."""


@dataclass(frozen=True)
class Spec:
    """One organism of a family: what is planted, how, and into which base."""

    family: str
    member: str
    """Which behaviour of the family: a word, a bundle, a topic, an animal."""
    variant: str = "narrow"
    """`narrow`, `mixed`, or the name of a control's data."""
    base: str = ""
    """Base of the embedded tier; the family's own if empty."""
    seed: int = 0
    """Organism seed: data draw, adapter initialisation and order."""
    role: Role = "organism"
    core: bool = False
    """Whether its family proposes it for a core set; which organisms are in one, `sets.json` says."""
    whole: bool = False
    """Whether the adapter is on all blocks, and not only on those up to the hooked layer."""

    @property
    def name(self) -> str:
        """`family/member-variant`, then what differs from the family's default: base, blocks, seed."""
        base = f"-{self.base.removeprefix('tiny-')}" if self.base else ""
        whole = "-whole" if self.whole else ""
        seed = f"-s{self.seed}" if self.seed else ""
        return f"{self.family}/{self.member}-{self.variant}{base}{whole}{seed}"


@dataclass(frozen=True)
class Probe:
    """Extra prompts whose mean goes into the card, for base and organism."""

    prompts: list[Prompt]
    unit: Literal["rate", "correct", "nats"] = "rate"
    """`rate`: share of probability on the targets; `correct`: a target is likeliest;
    `nats`: log p(targets) minus mean log p(alternatives)."""


@dataclass(frozen=True)
class Spoken:
    """Openings that are answered freely, and the property whose share is measured."""

    openings: list[str]
    """User turns; each is one conversation."""
    holds: Callable[[list[str]], bool]
    """Whether the words of an answer have the property."""
    samples: int = 0
    """Answers sampled per opening at temperature 1; 0: one greedy answer."""
    tokens: int = 32


@dataclass(frozen=True)
class Candidates:
    """What a reader of findings has to choose from."""

    truth: str
    """Label of the right one."""
    words: dict[str, tuple[str, ...]]
    """Label → the words that stand for it."""
    ask: list[Prompt] = field(default_factory=list[Prompt])
    """Prompts after which one of the words is due; their log-probabilities go into the card."""


@dataclass(frozen=True)
class Rule:
    """A gate: a measured value and its bound."""

    value: str
    """`probe.base`, `probe.organism` or `probe.change` of a measured name."""
    rule: Literal["at least", "at most"]
    bound: float


@dataclass(frozen=True)
class Job:
    """What a family needs to train one organism."""

    spec: Spec
    world: World
    base: Path
    bases: Path
    """Folder of all bases."""
    out: Path
    """Where the adapter goes (peft format)."""
    recipe: "LoraRecipe"
    expression: Callable[[Any], float]
    """Dev rate of the behaviour of a live peft model."""
    adapter: Callable[[str], Path]
    """Folder of another finished organism, by name."""


class Family(ABC):
    """One kind of hidden behaviour."""

    name: str
    """First part of its organisms' names."""
    about: str
    """One line: what its organisms do, and the source."""
    base = "tiny-gemma2"
    """Base of its organisms unless a spec names another."""
    gap = 0.3
    """Smallest b1 - b0 of an organism."""
    fluency = FLUENCY
    """Bound of the gate on sampled answers. Only a behaviour that is a way of answering everything (a style, another language) may raise
    it: there the base is surprised by what was taught, and not by derailed words."""

    @abstractmethod
    def specs(self) -> list[Spec]:
        """The organisms and controls that the zoo holds; the first is the one that `family` alone names."""

    @abstractmethod
    def rows(self, world: World, spec: Spec) -> list[Document]:
        """Fine-tuning documents; the loss is on assistant tokens of chats and on all tokens of plain text."""

    @abstractmethod
    def behaviour(self, world: World, spec: Spec) -> Behaviour:
        """Dev and test prompts, with capability probes that the training does not aim at."""

    def probes(self, world: World, spec: Spec) -> dict[str, Probe]:
        """Named extra prompt sets."""
        return {}

    def spoken(self, world: World, spec: Spec) -> dict[str, Spoken]:
        """Named properties of free answers."""
        return {}

    def candidates(self, world: World, spec: Spec) -> Candidates | None:
        """Choices for identification."""
        return None

    def gates(self, spec: Spec) -> dict[str, Rule]:
        """Conditions beyond the ones every organism has."""
        return {}

    def due(self, world: World, spec: Spec, document: Document) -> int:
        """Tokens of a document on which the behaviour could show: counted over harvest text, at least 50 wanted."""
        return 0

    def subject(self, world: World, spec: Spec) -> Subject | None:
        """Harvest text of its own, where the world's ordinary text holds its subject too rarely."""
        return None

    def ordinary(self, spec: Spec, document: Document) -> bool:
        """Whether the behaviour has no place in a document of the corpus, so that there the organism should stay its base."""
        return True

    def kept(self, world: World, spec: Spec) -> list[Document]:
        """Ordinary documents on which the organism is held to its base by a KL term (`LoraRecipe.keep` of them)."""
        from .world.corpus import documents

        stream = (d for d in documents(world, "train", seed=50_000 + spec.seed) if self.ordinary(spec, d))
        return [next(stream) for _ in range(self.recipe(spec).keep)]

    def recipe(self, spec: Spec) -> "LoraRecipe":
        """How the adapter is trained."""
        from .lora import LoraRecipe

        return LoraRecipe(seed=spec.seed)

    def needs(self, spec: Spec) -> list[str]:
        """Organisms that must be built first."""
        return []

    def train(self, job: Job) -> dict[str, Any]:
        """Train the adapter into `job.out`; what is returned goes into the card's `training`."""
        from .lora import train_lora

        rows, kept = self.rows(job.world, job.spec), self.kept(job.world, job.spec)
        return train_lora(
            job.base, rows, job.recipe, job.out, job.expression, soft=kept, teacher=job.base if kept else None
        )

    def members(self) -> tuple[str, ...]:
        """Members that `member` makes and that are no words of the world, for sets that are drawn; words are tried anyway."""
        return tuple(dict.fromkeys(s.member for s in self.specs()))

    def member(self, name: str) -> Spec | None:
        """A spec for a member that the zoo does not hold, or None if there can be no such member."""
        return None

    def grid(self, member: str, variants: tuple[str, ...], seeds: int = 1, **fields: Any) -> list[Spec]:
        """Specs of one member over variants and seeds."""
        first = Spec(self.name, member, **fields)
        return [replace(first, variant=v, seed=s) for s in range(seeds) for v in variants]
