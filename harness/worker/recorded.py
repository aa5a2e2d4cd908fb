"""A diff problem that remembers what a method did with it: handles called, things it may not have, tensors it changed."""

import os
import random
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import isroutine
from types import GeneratorType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...methods.contract import AccessError, DiffProblem

HANDLES = {name for name in (*DiffProblem.__annotations__, *vars(DiffProblem)) if not name.startswith("_")}
"""Everything a method may touch."""


class RecordedProblem:
    """A `DiffProblem` that passes everything on, and remembers what was asked for and what was handed out.

    Args:
        problem: or one over a channel, whose attributes are properties; or another thing with handles.
        handles: names of all that may be touched.
    """

    def __init__(self, problem: object, handles: set[str] = HANDLES) -> None:
        self._handles = handles
        self.used: set[str] = set()
        """Handles called."""
        self.refused: list[str] = []
        """What the method reached for and may not have: attributes outside the contract, handles beyond its access."""
        self._given: list[tuple[str, Tensor, Tensor]] = []
        for name in handles:
            value = getattr(problem, name)
            setattr(
                self, name, self._watch(name, value) if isroutine(value) else value
            )  # a tokenizer can be called, too

    def __getattr__(self, name: str) -> Any:
        """Only called for what is not there."""
        if not name.startswith("__"):
            self.refused.append(f"problem.{name}")
        raise AttributeError(f"a problem has no {name!r}; a method may use {', '.join(sorted(self._handles))}")

    @property
    def changed(self) -> list[str]:
        """Handles whose tensors are no longer what they were."""
        return sorted({name for name, tensor, copy in self._given if not torch.equal(tensor, copy)})

    def _watch(self, name: str, handle: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(handle)
        def called(*args: Any, **kwargs: Any) -> Any:
            self.used.add(name)
            try:
                found = handle(*args, **kwargs)
            except AccessError as error:
                self.refused.append(str(error))
                raise
            return self._stream(name, found) if isinstance(found, GeneratorType) else self._kept(name, found)

        return called

    def _stream(self, name: str, items: Iterator[Any]) -> Iterator[Any]:
        try:
            for item in items:
                yield self._kept(name, item)
        except AccessError as error:
            self.refused.append(str(error))
            raise

    def _kept(self, name: str, found: Any) -> Any:
        """`found`, with a copy of every tensor in it put aside."""
        if isinstance(found, Tensor):
            self._given.append((name, found, found.clone()))
        elif isinstance(found, dict | list | tuple):
            for part in found.values() if isinstance(found, dict) else found:  # pyright: ignore[reportUnknownVariableType]
                self._kept(name, part)
        return found


@contextmanager
def restored() -> Generator[list[str], None, None]:
    """Settings of the process are put back after the block; the list then says which were changed."""
    before, changes = _state(), list[str]()
    try:
        yield changes
    finally:
        after = _state()
        changes += [f"{name} was {old}, is {after[name]}" for name, old in before.items() if old != after[name]]
        torch.set_default_dtype(before["torch default dtype"])
        torch.set_num_threads(before["torch threads"])
        torch.set_grad_enabled(before["gradient mode"])
        if after["deterministic algorithms"] != before["deterministic algorithms"]:  # imports a compiler
            torch.use_deterministic_algorithms(before["deterministic algorithms"])
        torch.set_float32_matmul_precision(before["matmul precision"])
        os.chdir(before["working folder"])


def generators() -> dict[str, object]:
    """Where the global generators stand that nothing here seeds; torch's own is seeded with the problem's seed."""
    return {"random": random.getstate(), "numpy.random": repr(np.random.get_state(legacy=False))}


def _state() -> dict[str, Any]:
    """Settings of the process that outlive a method; whoever changes one changes what runs after it."""
    return {
        "torch default dtype": torch.get_default_dtype(),
        "torch threads": torch.get_num_threads(),
        "gradient mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "working folder": os.getcwd(),
    }
