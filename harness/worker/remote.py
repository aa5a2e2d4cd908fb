"""A diff problem, or a line-up, as a method's process has it: every handle is a question to the harness.

There is nothing behind it: the models, the texts and the access tier are the harness's, and another value of any attribute here
changes no answer.
"""

import pickle
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ...methods.contract import AccessError, Batch, Budget, Edit, Outputs, Text
from ...methods.strategies.contract import Model, Seen, Told
from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from .channel import MethodEnd
from .task import Facts, LineupFacts

RAISED: dict[str, type[Exception]] = {
    e.__name__: e
    for e in (AccessError, UsageError, PrerequisiteError, ValidationFailed, ValueError, TypeError, RuntimeError)
}
"""What a handle may raise."""


class _Remote:
    """Asks the harness over a channel."""

    def __init__(self, channel: MethodEnd, tokenizer: bytes):
        self._channel, self._turn = channel, threading.RLock()
        self._left = list[int]()
        """Streams that the method has left: told with the next question, for a generator may be collected in the middle of one."""
        self._pickled = tokenizer

    @property
    def tokenizer(self) -> Any:
        """A copy of the models' tokenizer."""
        if "_tokenizer" not in self.__dict__:
            self._tokenizer = pickle.loads(self._pickled)
        return self._tokenizer

    def _ask(self, name: str, *tensors: Tensor, **of: Any) -> Any:
        with self._turn:
            self._say(name, *tensors, **of)
            return self._answer(*self._channel.hear())

    def _say(self, name: str, *tensors: Tensor, **of: Any) -> None:
        left, self._left = self._left, []
        self._channel.tell({"do": name, "of": of, "left": left}, tensors)

    @staticmethod
    def _answer(kind: str, *rest: Any) -> Any:
        if kind == "raised":
            name, message = rest
            raise RAISED.get(name, RuntimeError)(message)
        return rest[0]


class RemoteProblem(_Remote):
    """`methods.contract.DiffProblem` over a channel."""

    def __init__(self, channel: MethodEnd, facts: Facts):
        super().__init__(channel, facts.tokenizer)
        self.layer, self.d_model, self.seed, self.device = facts.layer, facts.d_model, facts.seed, facts.device
        self.scratch = Path(facts.scratch) if facts.scratch else None

    @property
    def budget(self) -> Budget:
        """See `DiffProblem`."""
        return self._ask("budget")

    def activations(
        self, text: Text = "neutral", batch_tokens: int = 2048, tokens: int | None = None, start: int | None = None
    ) -> Iterator[Batch]:
        """See `DiffProblem.activations`."""
        yield from self._stream("activations", text=text, batch_tokens=batch_tokens, tokens=tokens, start=start)

    def outputs(self, text: Text = "neutral", tokens: int | None = None) -> Iterator[Outputs]:
        """See `DiffProblem.outputs`."""
        yield from self._stream("outputs", text=text, tokens=tokens)

    def divergence(self, edits: Sequence[Edit], text: Text = "chat", tokens: int = 2000) -> list[float]:
        """See `DiffProblem.divergence`: the edits are called here, on residuals that come and go."""
        known = dict[int, Tensor]()
        with self._turn:
            self._say("divergence", edits=len(edits), text=text, tokens=tokens)
            while True:
                kind, *rest = self._channel.hear()
                if kind != "edit":
                    return self._answer(kind, *rest)
                which, number, both = rest
                both = known.setdefault(number, both)
                try:
                    moved = edits[which](both)
                except BaseException:
                    self._channel.tell({"do": "no edit"})
                    self._channel.hear()
                    raise
                self._channel.tell({"do": "edited"}, [moved])

    def lens(self, directions: Tensor) -> Tensor:
        """See `DiffProblem.lens`."""
        return self._ask("lens", directions)

    def patchscope(self, directions: Tensor) -> Tensor:
        """See `DiffProblem.patchscope`."""
        return self._ask("patchscope", directions)

    def contrast(
        self, rows: Sequence[Sequence[int]], new_tokens: int = 24, amplify: float = 1.0, plausible: float = 0.05
    ) -> list[list[int]]:
        """See `DiffProblem.contrast`."""
        plain = [[int(t) for t in row] for row in rows]
        return self._ask("contrast", rows=plain, new_tokens=new_tokens, amplify=amplify, plausible=plausible)

    def weights(self) -> dict[str, Tensor]:
        """See `DiffProblem.weights`."""
        return self._ask("weights")

    def labelled(self) -> tuple[Batch, Tensor]:
        """See `DiffProblem.labelled`."""
        return self._ask("labelled")

    def progress(self, done: int, total: int) -> None:
        """See `DiffProblem.progress`; nobody waits for it."""
        with self._turn:
            self._say("progress", done=int(done), total=int(total))

    def _stream(self, name: str, **of: Any) -> Iterator[Any]:
        number = self._ask(name, **of)
        try:
            while (item := self._ask("next", stream=number)) is not None:
                yield item
        finally:
            self._left.append(number)


class RemoteLineup(_Remote):
    """`methods.strategies.contract.Lineup` over a channel."""

    def __init__(self, channel: MethodEnd, facts: LineupFacts):
        super().__init__(channel, facts.tokenizer)
        self.d_model, self.blocks, self.seed, self.device = facts.d_model, facts.blocks, facts.seed, facts.device
        self.seen: list[Seen] = list(facts.seen)

    def activations(self, model: Model, layer: int, told: Told = "strong", last: bool = True) -> Tensor:
        """See `Lineup.activations`."""
        return self._ask("activations", model=model, layer=layer, told=told, last=last)

    def outputs(
        self, model: Model, told: Told = "strong", layer: int | None = None, add: Tensor | None = None
    ) -> Tensor:
        """See `Lineup.outputs`."""
        return self._ask("outputs", *(() if add is None else (add,)), model=model, told=told, layer=layer)

    def generate(self, model: Model, told: Told = "strong", tokens: int = 4) -> list[list[int]]:
        """See `Lineup.generate`."""
        return self._ask("generate", model=model, told=told, tokens=tokens)

    def gradients(self, model: Model, layer: int, told: Told = "strong") -> Tensor:
        """See `Lineup.gradients`."""
        return self._ask("gradients", model=model, layer=layer, told=told)

    def tuned(self, model: Model, steps: int, lr: float) -> Tensor:
        """See `Lineup.tuned`."""
        return self._ask("tuned", model=model, steps=steps, lr=lr)

    def misbehaviour(self, model: Model) -> Tensor:
        """See `Lineup.misbehaviour`."""
        return self._ask("misbehaviour", model=model)
