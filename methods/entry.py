"""A method class with what it says of itself, its options and how it is run."""

import inspect
import json
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from ..organisms.errors import DiffbenchError, UsageError, unknown
from .catalogue import AS_PUBLISHED, OF_TIER, PUBLISHED
from .contract import Access, DiffProblem, DiffResult, Method, NoConfig


class MethodError(DiffbenchError):
    """A method raised or returned something the contract does not allow: the cell fails, other cells go on."""


@dataclass(frozen=True)
class MethodEntry:
    """A method class and where it came from."""

    name: str
    cls: type[Any]
    origin: str
    """`built-in`, `package NAME VERSION` or `file PATH`."""
    version: str
    """Goes into a result's identity."""
    whole: bool = True
    """Whether the version covers all of the method's own code. Not in a notebook, where a class may call functions of other cells; its
    cells are always run again."""
    call: str = "diff"
    """The function of the class that does the work."""
    published: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    """What the method's paper decides, if it is to run with that."""

    @property
    def row(self) -> str:
        """What asks for it: its name, NAME@published with its paper's options."""
        return f"{self.name}{AS_PUBLISHED}" if self.published else self.name

    @property
    def file(self) -> Path | None:
        """Where the class is written, if that is a file."""
        path = getattr(sys.modules.get(self.cls.__module__), "__file__", None)
        return Path(path) if path else None

    @property
    def access(self) -> Access:
        """Declared access tier."""
        return self.cls.access

    @property
    def config_class(self) -> type[BaseModel]:
        """The class of its options; a method without `Config` has none."""
        return getattr(self.cls, "Config", NoConfig)

    @property
    def summary(self) -> str:
        """First line of the class's docstring."""
        return (inspect.getdoc(self.cls) or "").partition("\n")[0]

    @property
    def paper(self) -> str:
        """Where the method comes from, e.g. `arXiv 2603.04426`; empty if the class does not say."""
        return str(getattr(self.cls, "paper", ""))

    @property
    def cost(self) -> str:
        """What it spends, e.g. `harvest` or `train 900 steps`; empty if the class does not say."""
        return str(getattr(self.cls, "cost", ""))

    @property
    def stochastic(self) -> bool:
        """Whether another seed can give other findings; assumed of a class that does not say `stochastic = False`."""
        return bool(getattr(self.cls, "stochastic", True))

    @property
    def departures(self) -> dict[str, Any]:
        """Option → its paper's value, where our default is another; empty for methods of others."""
        paper = PUBLISHED.get(self.name, {}) if self.origin == "built-in" else {}
        fields = self.config_class.model_fields
        return {k: v for k, v in paper.items() if fields[k].default != v}

    def facts(self) -> dict[str, str | bool]:
        """What a list of methods says of it, JSON-serialisable."""
        return {n: getattr(self, n) for n in ("name", "access", "paper", "cost", "stochastic", "origin", "summary")}

    def configure(self, options: dict[str, Any]) -> BaseModel:
        """Validated options.

        Raises:
            UsageError: unknown or ill-typed option, naming the valid ones; a number that is not finite.
        """
        fields = list(self.config_class.model_fields)
        for key in options:
            if key not in fields:
                raise (
                    unknown(f"option of {self.row}", key, fields)
                    if fields
                    else UsageError(f"{self.row} has no options, so {key!r} cannot be set")
                )
            if key in self.published:
                raise UsageError(f"{key} of {self.row} is its paper's, {self.published[key]}; set it for {self.name}")
        try:
            config = self.config_class.model_validate({**self.published, **options})
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(
                f"{self.row}.{'.'.join(map(str, first['loc']))}: {first['msg']} (given: {first.get('input')!r})"
            ) from error
        for name, value in config.model_dump(mode="json").items():
            try:
                json.dumps(value, allow_nan=False)  # as an identity is hashed; in lists and tables too
            except ValueError as error:
                raise UsageError(f"{self.row}.{name}: {value} is no finite number; give one") from error
        return config

    def of_tier(self, tier: str) -> Mapping[str, Any]:
        """Option → default on organisms of a tier, where that is another than elsewhere; empty for methods of others."""
        return OF_TIER.get(tier, {}).get(self.name, {}) if self.origin == "built-in" else {}

    def on(self, config: BaseModel, tier: str) -> BaseModel:
        """The options on an organism of a tier: what was not given has its default there."""
        own = {k: v for k, v in self.of_tier(tier).items() if k not in config.model_fields_set}
        return config.model_copy(update=own)

    def create(self, config: BaseModel) -> Method:
        """An instance for one cell."""
        takes_config = len(inspect.signature(self.cls).parameters) > 0
        return self.cls(config) if takes_config else self.cls()

    def run(self, config: BaseModel, problem: DiffProblem) -> DiffResult:
        """`diff` (`call`, of another kind) with every exception of the method turned into a MethodError."""
        try:
            return getattr(self.create(config), self.call)(problem)
        except (DiffbenchError, MemoryError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:  # third-party code may raise anything; the cell fails with its words
            raise MethodError(f"{self.name} raised {type(error).__name__}: {error} ({self.place(error)})") from error

    @property
    def code_file(self) -> str | None:
        """The file name that the code of the class carries; a notebook's cell has one, too."""
        code = getattr(inspect.unwrap(getattr(self.cls, self.call)), "__code__", None)
        return str(self.file) if self.file else getattr(code, "co_filename", None)

    def place(self, error: BaseException) -> str:
        """Where in the method's own file an exception came by last, or where the method is from."""
        own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == self.code_file]
        return f"{Path(own[-1].filename).name}:{own[-1].lineno} in {own[-1].name}" if own else self.origin
