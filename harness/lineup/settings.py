"""Strategies as named on the command line, with their options."""

from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from ...methods.entry import MethodEntry
from ...methods.strategies.catalogue import BUILTIN, STRATEGIES
from ...organisms.errors import UsageError, unknown
from ..worker.foreign import load


def chosen(names: Sequence[str], given: Sequence[str]) -> list[tuple[MethodEntry, BaseModel]]:
    """Strategies and their options; `all` is every built-in.

    Args:
        given: `strategy.option=value`, values as in YAML.

    Raises:
        UsageError: unknown or repeated strategies, options that nobody has.
    """
    whole = [n for name in names for n in (BUILTIN if name == "all" else [name])]
    entries = {entry.name: entry for entry in (load(name, STRATEGIES) for name in dict.fromkeys(whole))}
    options = {name: dict[str, Any]() for name in entries}
    for line in given:
        key, equals, value = line.partition("=")
        name, dot, option = key.partition(".")
        if not (equals and dot):
            raise UsageError(f"--set {line}: write strategy.option=value, for example noise.draws=8")
        if name not in options:
            raise unknown("strategy of this run", name, list(options))
        options[name][option] = yaml.safe_load(value)
    return [(entry, entry.configure(options[name])) for name, entry in entries.items()]
