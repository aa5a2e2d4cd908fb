"""The families, one file each: a module of this package whose `FAMILY` is a `Family` is registered by being here."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ..errors import UsageError, ValidationFailed, unknown
from ..family import Family, Spec
from ..hub.registry.load import refuse

_registered: dict[str, Family] = {}


def families() -> dict[str, Family]:
    """Every family by name: the shipped ones, and those registered from files."""
    return {**_shipped(), **_registered}


def register(family: Family) -> Family:
    """Make a user's family known; UsageError if its name is a shipped one's."""
    if family.name in _shipped():
        raise UsageError(f"the family name {family.name} is taken; give yours another name")
    _registered[family.name] = family
    return family


@cache
def _shipped() -> dict[str, Family]:
    found = [importlib.import_module(f"{__name__}.{m.name}").FAMILY for m in pkgutil.iter_modules(__path__)]
    return {f.name: f for f in sorted(found, key=lambda f: f.name)}


def family(name: str) -> Family:
    """The family called `name`; UsageError with the nearest name otherwise."""
    if name not in families():
        raise unknown("family", name, list(families()))
    return families()[name]


def family_file(path: Path) -> Family:
    """The family defined by a user's Python file.

    Raises:
        UsageError: no such file. ValidationFailed: a file that raises, or has no `FAMILY`.
    """
    if not path.is_file():
        raise UsageError(f"there is no family file {path}; `bench organisms new NAME` writes one to start from")
    spec = importlib.util.spec_from_file_location(f"diffbench_family_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValidationFailed(
            f"{path} raises {type(error).__name__} when it is imported: {error}; run it with python to see where"
        ) from error
    made = getattr(module, "FAMILY", None)
    if not isinstance(made, Family):
        raise ValidationFailed(
            f"{path} has no FAMILY that is a diffbench.organisms.family.Family; end it with `FAMILY = YourFamily()`"
        )
    return made


def specs() -> list[Spec]:
    """Every organism and control of the zoo."""
    return [s for f in families().values() for s in f.specs()]


def unknown_organism(name: str, names: Sequence[str], others: Sequence[str] = ()) -> UsageError:
    """The nearest of all `names`, families and `others`; of the names, which are a page, it is said where they are."""
    first = [*families(), *others]
    shown = f"families{' and sets' if others else ''}: {', '.join(first)}; `bench organisms list` shows the organisms of each"
    return unknown("organism", name, [*first, *names], shown)


def find_spec(name: str) -> Spec:
    """The spec called `name`: one of the zoo's, the first of a family, or a member a family can make (`taboo/clock-narrow`).

    Raises:
        UsageError: unknown name, with the nearest.
    """
    known = {s.name: s for s in specs()}
    if name in known:
        return known[name]
    first, _, rest = name.partition("/")
    if first not in families():
        refuse(name)
        raise unknown_organism(name, list(known))
    if not rest:
        return families()[first].specs()[0]
    made = families()[first].member(rest)
    if made is None:
        raise unknown("organism", name, [n for n in known if n.startswith(f"{first}/")])
    return made
