"""The harness's side of a problem: answers what a method's process asks, from the real problem and within its access tier.

Arguments come from a process that may say anything, so they are validated before they reach the problem. An error of a handle is
the method's to deal with, as it would be in one process; what befalls the machine (no memory, a failed device) ends the cell.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import Field, ValidationError, validate_call
from torch import Tensor

from ...methods.contract import Edit, Text
from ...methods.strategies.contract import Lineup, Model, Told
from ...organisms.errors import DiffbenchError
from ..devices import trouble
from .channel import HarnessEnd, NoMessage, Said
from .limits import TimedOut
from .remote import RAISED
from .watch import Watch

log = logging.getLogger(__name__)

MOST_ROWS, MOST_STREAMS, MOST_EDITS, DEEPEST = 2**16, 256, 4096, 8
"""Directions of one question; streams open at once; edits of one question; questions within questions."""
MOST_ADDED, LINEUP_S = 256, 1800.0
"""Of a line-up: vectors of one question, each of which is a pass; and seconds that the harness answers one strategy."""
Number = Annotated[int, Field(ge=0, le=2**53)]
Asked = Annotated[str, Field(max_length=100)]
ROWS = ("lens", "patchscope")
"""Handles that take directions."""
FINISH, EDITED, NO_EDIT = "finish", "edited", "no edit"


class _NoEdit(Exception):
    """An edit raised in the method's process, which knows why."""


class Serving:
    """Answers one method's process.

    Args:
        problem: what is asked about; None: nothing may be asked.
        end: of the channel.
        watch: knows whose turn it is.
    """

    names: tuple[str, ...] = (
        *("budget", "activations", "outputs", "next", "divergence", "contrast", "weights", "labelled", "progress"),
    )
    """Handles that take words."""
    of_what, most_rows = "problem", MOST_ROWS

    def __init__(self, problem: Any, end: HarnessEnd, watch: Watch):
        self._given, self._end, self._watch = problem, end, watch
        self._streams = dict[int, Iterator[Any]]()
        self._opened, self._depth = 0, 0
        self.raised = dict[str, DiffbenchError]()
        """What a handle raised, by its message: a method that lets it through fails with the error itself."""
        self._handles: dict[str, Callable[..., Any]] = {n: validate_call(getattr(self, f"_{n}")) for n in self.names}

    @property
    def _problem(self) -> Any:
        if self._given is None:
            raise NoMessage("a question before it had a problem")
        return self._given

    def until(self, *ends: str) -> Said:
        """Answer until the method's process says one of these.

        Raises:
            Closed: it is gone. NoMessage: it says something else.
        """
        while True:
            with self._watch.turn():
                said = self._end.hear()
            do = said.words.get("do")
            if do in ends:
                return said
            self._answer(do, said)

    def _answer(self, do: object, said: Said) -> None:
        of, left = said.words.get("of"), said.words.get("left")
        if not (isinstance(do, str) and isinstance(of, dict) and isinstance(left, list)) or self._depth >= DEEPEST:
            raise NoMessage(f"{str(do)[:40]!r} is no question")
        for number in left:  # pyright: ignore[reportUnknownVariableType]
            if isinstance(number, int) and (stream := self._streams.pop(number, None)) is not None:
                getattr(stream, "close", lambda: None)()
        self._depth += 1
        try:
            answer = "gives", self._of(do, of, said.tensors)  # pyright: ignore[reportUnknownArgumentType]
        except NoMessage:
            raise
        except Exception as error:
            if not isinstance(error, DiffbenchError) and trouble(error, self._problem.device) is not None:
                raise
            answer = "raised", *self._told(do, error)
        finally:
            self._depth -= 1
        if do != "progress":
            self._end.tell(answer)

    def _of(self, do: str, of: dict[str, Any], tensors: list[Tensor]) -> Any:
        if do in self._handles:
            return self._handles[do](**of)
        if do in ROWS and len(tensors) == 1:
            return getattr(self._problem, do)(self._rows(do, tensors[0]))
        raise NoMessage(f"{do[:40]!r} is no handle")

    def _rows(self, do: str, rows: Tensor) -> Tensor:
        """Directions that a handle takes; ValueError if they are none."""
        d_model = self._problem.d_model
        if rows.ndim != 2 or rows.shape[1] != d_model or len(rows) > self.most_rows or not rows.is_floating_point():
            raise ValueError(
                f"{do} takes directions [n, {d_model}], at most {self.most_rows:,}; these are {list(rows.shape)} of {rows.dtype}"
            )
        return rows.to(self._problem.device)

    def _told(self, do: str, error: Exception) -> tuple[str, str]:
        """Name and message of an error, as the method's process will raise it."""
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            return "ValueError", f"{self.of_what}.{do}: {where}: {first['msg']} (given: {str(first.get('input'))[:80]})"
        if isinstance(error, DiffbenchError):
            self.raised[str(error)] = error
        elif type(error).__name__ not in RAISED and not isinstance(error, _NoEdit):
            log.warning("%s.%s raised", self.of_what, do, exc_info=error)
        name = next((c.__name__ for c in type(error).__mro__ if c.__name__ in RAISED), None)
        if name or isinstance(error, DiffbenchError):  # of ours, none is hidden in the words of another
            return name or "PrerequisiteError", str(error)
        return "RuntimeError", f"{type(error).__name__}: {error}"

    def _budget(self) -> Any:
        return self._problem.budget

    def _activations(
        self,
        text: Asked,
        batch_tokens: Annotated[int, Field(ge=1, le=2**53)],
        tokens: int | None,
        start: Number | None,
    ) -> int:
        return self._open(self._problem.activations(_text(text), batch_tokens, tokens, start=start))

    def _outputs(self, text: Asked, tokens: int | None) -> int:
        return self._open(self._problem.outputs(_text(text), tokens))

    def _open(self, stream: Iterator[Any]) -> int:
        if len(self._streams) >= MOST_STREAMS:
            raise ValueError(f"{MOST_STREAMS} streams of text are open; read one to its end before the next")
        self._opened += 1
        self._streams[self._opened] = stream
        return self._opened

    def _next(self, stream: Number) -> Any:
        return next(self._streams[stream], None) if stream in self._streams else None

    def _divergence(
        self, edits: Annotated[int, Field(ge=0, le=MOST_EDITS)], text: Asked, tokens: Number
    ) -> list[float]:
        known = dict[int, tuple[int, Tensor]]()

        def edit(which: int) -> Edit:
            return lambda both: self._edited(which, both, known)

        return self._problem.divergence([edit(i) for i in range(edits)], _text(text), tokens)

    def _edited(self, which: int, both: Tensor, known: dict[int, tuple[int, Tensor]]) -> Tensor:
        """What the method's process makes of residuals; the same ones are sent once."""
        fresh = id(both) not in known
        number, _ = known.setdefault(id(both), (len(known), both))
        self._end.tell(("edit", which, number, both if fresh else None))
        said = self.until(EDITED, NO_EDIT)
        if said.words["do"] == NO_EDIT:
            raise _NoEdit
        if [list(t.shape) for t in said.tensors] != [list(both[:, :, 0].shape)]:
            raise ValueError(
                f"an edit gives residuals {list(both[:, :, 0].shape)}, this one gave {[list(t.shape) for t in said.tensors]}"
            )
        return said.tensors[0].to(both)

    def _contrast(
        self,
        rows: Annotated[list[Annotated[list[Number], Field(max_length=512)]], Field(max_length=256)],
        new_tokens: Annotated[int, Field(ge=1, le=128)],
        amplify: float,
        plausible: float,
    ) -> list[list[int]]:
        return self._problem.contrast(rows, new_tokens, amplify, plausible)

    def _weights(self) -> Any:
        return self._problem.weights()

    def _labelled(self) -> Any:
        return self._problem.labelled()

    def _progress(self, done: Number, total: Number) -> None:
        self._problem.progress(done, total)


def _text(name: str) -> Text:
    """A name that the problem itself refuses if it is no text's."""
    return name  # pyright: ignore[reportReturnType]


class LineupServing(Serving):
    """Answers one strategy's process about a line-up."""

    names = ("activations", "generate", "gradients", "tuned", "misbehaviour")
    of_what, most_rows = "lineup", MOST_ADDED
    _spent_s = 0.0

    @property
    def _lineup(self) -> Lineup:
        return self._problem

    def _of(self, do: str, of: dict[str, Any], tensors: list[Tensor]) -> Any:
        if self._spent_s > LINEUP_S:
            raise TimedOut(
                f"this line-up has been asked for {self._spent_s:.0f} s of answers, {LINEUP_S:g} are given; ask fewer questions"
            )
        began = time.monotonic()
        try:
            return self._answered(do, of, tensors)
        finally:
            self._spent_s += time.monotonic() - began

    def _answered(self, do: str, of: dict[str, Any], tensors: list[Tensor]) -> Any:
        if do == "outputs" and len(tensors) <= 1:
            return self._outputs_with(**of, add=self._rows(do, tensors[0]) if tensors else None)
        if do in self._handles:
            return self._handles[do](**of)
        raise NoMessage(f"{do[:40]!r} is no handle")

    def _outputs_with(self, model: Any, told: Any, layer: Any, add: Tensor | None) -> Tensor:
        return _outputs_of(model, told, layer)(self._lineup, add)

    def _activations(self, model: Model, layer: Number, told: Told, last: bool) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._lineup.activations(model, layer, told, last)

    def _generate(self, model: Model, told: Told, tokens: Annotated[int, Field(ge=1, le=32)]) -> list[list[int]]:
        return self._lineup.generate(model, told, tokens)

    def _gradients(self, model: Model, layer: Number, told: Told) -> Tensor:
        return self._lineup.gradients(model, layer, told)

    def _tuned(
        self, model: Model, steps: Annotated[int, Field(ge=1, le=200)], lr: Annotated[float, Field(gt=0, le=1)]
    ) -> Tensor:
        return self._lineup.tuned(model, steps, lr)

    def _misbehaviour(self, model: Model) -> Tensor:
        return self._lineup.misbehaviour(model)


@validate_call
def _outputs_of(model: Model, told: Told, layer: Number | None) -> Callable[[Lineup, Tensor | None], Tensor]:
    """`Lineup.outputs` with its words looked at."""
    return lambda lineup, add: lineup.outputs(model, told, layer, add)
