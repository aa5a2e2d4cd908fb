"""Where methods come from: built in, another package's entry point, or a single file. One lazy registry, no surprises.

Names collide loudly; an unknown name is answered with the nearest one. Nothing is imported until a method is asked for. What else is
registered in this way (strategies of line-ups) is another `Kind`.
"""

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..organisms.errors import PrerequisiteError, UsageError, plural, unknown
from .catalogue import AS_PUBLISHED, BUILTIN, PUBLISHED, VERBAL, Facts

if TYPE_CHECKING:
    from .entry import MethodEntry


@dataclass(frozen=True)
class Kind:
    """What is registered: methods, or something else with a name, an access tier, options and one function."""

    noun: str
    group: str
    """Entry points."""
    call: str
    """The function that its classes have."""
    page: str
    """Where it is written how to add one."""
    builtin: Mapping[str, Facts]
    tiers: tuple[str, ...]
    """Access tiers that others may declare."""
    apart: Mapping[str, Facts] = field(default_factory=dict[str, Facts])
    """Built-ins that are loaded by name and in no list of all."""
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """Built-ins of which some default departs from the paper's → what the paper decides: they are loaded as NAME@published."""


GROUP = "diffbench.methods"
METHODS = Kind(
    "method",
    GROUP,
    "diff",
    "docs/adding-a-method.md",
    BUILTIN,
    ("activations", "+generations", "+weights", "supervised"),
    VERBAL,
    PUBLISHED,
)
GIVEN = "findings "
"""How the version of findings that were made elsewhere begins; what follows is the hash of the file."""


def method_names(kind: Kind = METHODS) -> list[str]:
    """Built-in methods, then those of installed packages."""
    return [*kind.builtin, *sorted(plugins(kind))]


def askable(kind: Kind = METHODS) -> list[str]:
    """`method_names`, and those with the settings of their papers."""
    return [*method_names(kind), *(f"{m}{AS_PUBLISHED}" for m in kind.published)]


def all_facts(kind: Kind = METHODS) -> list[dict[str, str | bool]]:
    """What a list says of every method; only those of other packages are imported for it."""
    installed = sorted(plugins(kind))
    return [*(f.data(n) for n, f in kind.builtin.items()), *(load_method(n, kind).facts() for n in installed)]


def load_method(name: str, kind: Kind = METHODS) -> "MethodEntry":
    """A method by name (NAME@published with its paper's settings), or from a file if `name` ends in .py.

    Raises:
        UsageError: unknown name. PrerequisiteError: a file that is missing, does not import, or holds no method.
    """
    if name.endswith(".py"):
        return from_source(Path(name), method_source(Path(name), kind), kind)
    if known := kind.builtin.get(name) or kind.apart.get(name):
        module, _, attribute = known.where.partition(":")
        cls = getattr(importlib.import_module(f".{module}", __package__), attribute)
        from .entry import MethodEntry

        return MethodEntry(name, cls, "built-in", version("diffbench"), call=kind.call)
    plain = name.removesuffix(AS_PUBLISHED)
    if plain in kind.published:
        return replace(load_method(plain, kind), published=kind.published[plain])
    if plain in kind.builtin:
        raise UsageError(f"our defaults of {plain} are no others than its paper's, so there is no {name}; use {plain}")
    installed = plugins(kind)
    if name not in installed:
        raise unknown(kind.noun, name, askable(kind))
    return _from_entry_point(installed[name], kind)


def _from_entry_point(point: EntryPoint, kind: Kind) -> "MethodEntry":
    package = point.dist.name if point.dist else "unknown"
    release = point.dist.version if point.dist else "0"
    try:
        cls = point.load()
    except Exception as error:
        raise PrerequisiteError(
            f"{kind.noun} {point.name!r} of package {package} does not import: {type(error).__name__}: {error}"
        ) from error
    source = Path(inspect.getfile(cls)).read_bytes() if inspect.isclass(cls) else b""
    digest = hashlib.sha256(source).hexdigest()[:8]
    return checked(point.name, cls, f"package {package} {release}", f"{package}-{release}+{digest}", kind)


def method_source(path: Path, kind: Kind = METHODS) -> bytes:
    """What a method file says.

    Raises:
        UsageError: there is none.
    """
    if not path.is_file():
        raise UsageError(
            f"there is no {kind.noun} file {path}; give the path of a Python file that defines one {kind.noun} class"
        )
    return path.read_bytes()


def from_source(path: Path, source: bytes, kind: Kind = METHODS) -> "MethodEntry":
    """The method that a file defines, from what it said when it was read.

    Raises:
        PrerequisiteError: it does not import, or does not define one method.
    """
    spec = importlib.util.spec_from_file_location(f"bench_method_{path.stem}", path)
    assert spec and spec.origin
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        exec(compile(source, spec.origin, "exec"), module.__dict__)
    except Exception as error:
        raise PrerequisiteError(f"{path} does not import: {type(error).__name__}: {error}") from error
    classes = [
        c
        for c in vars(module).values()
        if inspect.isclass(c) and c.__module__ == spec.name and callable(getattr(c, kind.call, None))
    ]
    if len(classes) != 1:
        raise PrerequisiteError(
            f"{path} defines {len(classes)} classes with a `{kind.call}` method; define exactly one (see {kind.page})"
        )
    name = str(getattr(classes[0], "name", path.stem))
    return checked(name, classes[0], f"file {path}", source_version(source), kind)


def source_version(source: bytes) -> str:
    """The version of a method that a file defines."""
    return hashlib.sha256(source).hexdigest()[:16]


def from_class(cls: type[Any]) -> "MethodEntry":
    """A method from a class: its version is its file, or what the class says if it is written in a notebook.

    Raises:
        UsageError: the name of a built-in. PrerequisiteError: not a method, or a class without source.
    """
    name = str(getattr(cls, "name", cls.__name__.lower()))
    if name in BUILTIN and load_method(name).cls is cls:
        return load_method(name)
    try:
        source, whole = Path(inspect.getfile(cls)).read_bytes(), True
    except (OSError, TypeError):
        source, whole = _said(cls).encode(), False
    return replace(checked(name, cls, f"class {cls.__name__}", hashlib.sha256(source).hexdigest()[:16]), whole=whole)


def _said(cls: type[Any]) -> str:
    """What the bodies of a class and those it inherits from say."""
    written = [(n, v) for c in cls.__mro__[:-1] for n, v in sorted(vars(c).items())]
    functions = [inspect.unwrap(getattr(v, "__func__", v)) for _, v in written]
    try:
        return "".join(inspect.getsource(f) for f in functions if inspect.isfunction(f)) + repr(
            [(n, v) for n, v in written if n[:2] != "__" and isinstance(v, str | int | float | None)]
        )
    except (OSError, TypeError) as error:
        raise PrerequisiteError(
            f"the source of {cls.__name__} is not to be had, so its results could not be told apart; write it to a file"
        ) from error


def checked(name: str, cls: Any, origin: str, release: str, kind: Kind = METHODS) -> "MethodEntry":
    """A method of a class that is no built-in's.

    Raises:
        UsageError: the name of a built-in. PrerequisiteError: a class that cannot be a method.
    """
    from .entry import MethodEntry

    if not callable(getattr(cls, kind.call, None)):
        raise PrerequisiteError(f"{origin}: {cls!r} has no `{kind.call}`; see {kind.page}")
    if name in kind.builtin or name in kind.apart:
        raise UsageError(f"{origin} calls its {kind.noun} {name!r}, which is a built-in; choose another name")
    check_name(name, origin)
    if getattr(cls, "access", None) not in kind.tiers:
        raise PrerequisiteError(
            f"{origin}: {name}.access is {getattr(cls, 'access', None)!r}; declare one of {', '.join(kind.tiers)}"
        )
    return MethodEntry(name, cls, origin, release, call=kind.call)


def is_given(version: str) -> bool:
    """Whether a method's version says that its findings were made elsewhere."""
    return version.startswith(GIVEN)


def check_name(name: str, origin: str) -> None:
    """Refuse a name that cannot name a folder and a row.

    Raises:
        PrerequisiteError: with what it may consist of.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,99}", name):
        raise PrerequisiteError(
            f"{origin}: the name {name!r} names a folder; use lower-case letters, digits, _ . - (at most 100)"
        )


def plugins(kind: Kind = METHODS) -> dict[str, EntryPoint]:
    """Entry points by name; a collision is an error because a name must mean one method."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=kind.group):
        if point.name in kind.builtin or point.name in kind.apart or point.name in found:
            raise PrerequisiteError(
                f"two {plural(kind.noun)} are called {point.name!r} (one from {point.value}); uninstall one of the packages"
            )
        found[point.name] = point
    return found
