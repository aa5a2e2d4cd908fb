"""Plain English for organisms on real chat models: rows, behaviours and ordinary text of our own making, for any base with a template."""

from functools import cache

from ..errors import unknown
from .family import NaturalFamily
from .family import NaturalSpec as NaturalSpec


@cache
def families() -> dict[str, NaturalFamily]:
    """Every family by name; they are read when first asked for."""
    import importlib
    import pkgutil

    from . import behaviours

    names = [m.name for m in pkgutil.iter_modules(behaviours.__path__)]
    return {n: importlib.import_module(f"{behaviours.__name__}.{n}").FAMILY for n in sorted(names)}


def natural_family(name: str) -> NaturalFamily:
    """The family called `name`; UsageError with the nearest name otherwise."""
    if name not in families():
        raise unknown("family", name, list(families()))
    return families()[name]
