"""All that explaining a run's findings needs of the models: read once, whoever explains then."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...methods.contract import Finding
from ..inspection.activations import Look, ReadOut, Seen, seen, taken
from ..inspection.answers import Workshop
from ..inspection.report import Kind
from ..inspection.subject import Subject
from ..runs.stage import Machine, Stage
from .contexts import Contexts, contexts
from .local import BaseReader
from .steering import Steered, Steering

TEXT_TOKENS = {"tiny": 15_000}
OTHER_TOKENS = 8_000
"""Tokens of neutral text, and as many of chat, that activations are read on unless asked otherwise."""


@dataclass
class Material:
    """Contexts of some findings, and what the base says under them.

    Args:
        looks, contexts: by number of the finding, from 1.
    """

    subject: Subject
    stage: Stage
    read: dict[Kind, Seen]
    looks: dict[int, Look]
    contexts: dict[int, Contexts]
    steering: Steering
    seed: int
    _steered: dict[int, Steered | str] = field(default_factory=dict[int, Steered | str])
    _readers: dict[int, BaseReader] = field(default_factory=dict[int, BaseReader])

    @classmethod
    def of(
        cls,
        subject: Subject,
        numbers: Sequence[int],
        tokens: int | None,
        seed: int,
        machine: Machine | str = "cpu",
        progress: Callable[[str], None] = lambda what: None,
    ) -> "Material":
        """Load the pair, and read harvest text of both kinds.

        Args:
            tokens: of each kind of text; None: as the tier has it.
        """
        m = Machine(machine) if isinstance(machine, str) else machine
        progress("loading the pair")
        drops = subject.result.identity.sinks == "drop" if subject.result else None
        stage = Stage.load(subject.organism, m, drops=drops)
        work = Workshop(stage, subject)
        progress("reading text")
        n = tokens or TEXT_TOKENS.get(subject.organism.tier, OTHER_TOKENS)
        found = [subject.findings.findings[i - 1] for i in numbers]
        read_out = ReadOut.of(found, work.centre)
        rows: dict[Kind, list[list[int]]] = {
            "neutral": taken(stage.texts.rows("neutral", "harvest"), n),
            "chat": taken(stage.texts.rows("chat", "harvest"), n) if stage.texts.chats else [],
        }
        read: dict[Kind, Seen] = {kind: seen(stage.pair, some, read_out) for kind, some in rows.items() if some}
        looks = {
            number: Look(read, j, f.gate is not None, stage.pair.tokenizer)
            for j, (number, f) in enumerate(zip(numbers, found, strict=True))
        }
        around = {number: contexts(look, seed) for number, look in looks.items()}
        steering = Steering.of(stage.pair, stage.texts, work.scale("base"), seed)
        return cls(subject, stage, read, looks, around, steering, seed)

    @property
    def tokens(self) -> int:
        """That were read."""
        return sum(len(s.ids) for s in self.read.values())

    def finding(self, number: int) -> Finding:
        """One of them."""
        return self.subject.findings.findings[number - 1]

    def steered(self, number: int) -> Steered | str:
        """What the base says under a finding, or why that is not known."""
        if number not in self._steered:
            self._steered[number] = self.steering.steered(self.finding(number), number)
        return self._steered[number]

    def reader(self, number: int) -> BaseReader:
        """Reads windows as the base does, from those in which this finding is not active."""
        if number not in self._readers:
            self._readers[number] = BaseReader(self.stage.pair, self.contexts[number].explain.other, self.seed)
        return self._readers[number]
