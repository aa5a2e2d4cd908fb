"""A diff problem that remembers what a method did with it: handles called, things it may not have, tensors it changed."""

from collections.abc import Callable, Iterator
from functools import wraps
from inspect import isroutine
from types import GeneratorType
from typing import Any

import torch
from torch import Tensor

from ...methods.contract import DiffProblem
from ..runs.problem import AccessError, Problem

HANDLES = {name for name in (*DiffProblem.__annotations__, *vars(DiffProblem)) if not name.startswith("_")}
"""Everything a method may touch."""


class RecordedProblem:
    """A `DiffProblem` that passes everything on, and remembers what was asked for and what was handed out."""

    def __init__(self, problem: Problem) -> None:
        self.used: set[str] = set()
        """Handles called."""
        self.refused: list[str] = []
        """What the method reached for and may not have: attributes outside the contract, handles beyond its access."""
        self._given: list[tuple[str, Tensor, Tensor]] = []
        for name in HANDLES:
            value = getattr(problem, name)
            setattr(
                self, name, self._watch(name, value) if isroutine(value) else value
            )  # a tokenizer can be called, too

    def __getattr__(self, name: str) -> Any:
        """Only called for what is not there."""
        if not name.startswith("__"):
            self.refused.append(f"problem.{name}")
        raise AttributeError(f"a problem has no {name!r}; a method may use {', '.join(sorted(HANDLES))}")

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
