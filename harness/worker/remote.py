"""A diff problem as a method's process has it: every handle is a question to the harness.

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
from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from .channel import MethodEnd
from .task import Facts

RAISED: dict[str, type[Exception]] = {
    e.__name__: e
    for e in (AccessError, UsageError, PrerequisiteError, ValidationFailed, ValueError, TypeError, RuntimeError)
}
"""What a handle may raise."""


class RemoteProblem:
    """`methods.contract.DiffProblem` over a channel."""

    def __init__(self, channel: MethodEnd, facts: Facts):
        self._channel, self._turn = channel, threading.RLock()
        self._left = list[int]()
        """Streams that the method has left: told with the next question, for a generator may be collected in the middle of one."""
        self._pickled = facts.tokenizer
        self.layer, self.d_model, self.seed, self.device = facts.layer, facts.d_model, facts.seed, facts.device
        self.scratch = Path(facts.scratch) if facts.scratch else None

    @property
    def tokenizer(self) -> Any:
        """See `DiffProblem`; a copy."""
        if "_tokenizer" not in self.__dict__:
            self._tokenizer = pickle.loads(self._pickled)
        return self._tokenizer

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
