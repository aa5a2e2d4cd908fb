"""What a method's process is told to do: the first thing that comes over its channel."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Todo = Literal["describe", "configure", "run"]
Registry = Literal["methods", "strategies"]
"""What is run: a method on a pair, or a strategy on a line-up."""


@dataclass(frozen=True)
class Source:
    """Where a method's process finds the method."""

    kind: Literal["named", "file", "class"]
    name: str
    """Name of a built-in or of an entry point, path of a file, name of a class."""
    version: str = ""
    """What an installed package's method was when it was looked at; another one is refused."""
    code: bytes = b""
    """Of a file what it said when it was looked at, of a class that exists in the harness's process only its pickle."""
    registry: Registry = "methods"


@dataclass(frozen=True)
class Facts:
    """What a problem says without being asked."""

    layer: int
    d_model: int
    seed: int
    device: str
    scratch: str | None
    tokenizer: bytes
    """Pickled; unpickled when it is first asked for."""


@dataclass(frozen=True)
class LineupFacts:
    """What a line-up says without being asked."""

    d_model: int
    blocks: int
    seed: int
    device: str
    seen: list[Any]
    """The inputs, `methods.strategies.contract.Seen`."""
    tokenizer: bytes


@dataclass(frozen=True)
class TorchSettings:
    """Settings of torch that can change a number."""

    threads: int
    dtype: torch.dtype
    precision: str
    deterministic: bool

    @classmethod
    def here(cls) -> "TorchSettings":
        """As they are in this process."""
        return cls(
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
        )

    def set(self) -> None:
        """Make them so in this process."""
        torch.set_num_threads(self.threads)
        torch.set_default_dtype(self.dtype)
        torch.set_float32_matmul_precision(self.precision)
        if self.deterministic != torch.are_deterministic_algorithms_enabled():  # imports a compiler
            torch.use_deterministic_algorithms(self.deterministic)


@dataclass(frozen=True)
class Task:
    """One call of a method, or a question about it."""

    todo: Todo
    source: Source
    path: list[str]
    """Where modules are looked for."""
    folder: str
    """Empty, and gone when the task is done."""
    settings: TorchSettings
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    """Options of the method, as JSON."""
    facts: Facts | LineupFacts | None = None
    recorded: bool = False
    """Whether it is noted what the method does with what it is given."""
