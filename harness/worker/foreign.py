"""Methods of other people's files and packages, as their own process describes them: none of their code is imported here.

The idea: importing a file runs it, and what runs in the scorer's process can change the scorer. So a file is read here and imported there;
its options are described and validated there, and here they are a list of names with defaults.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from ...methods.catalogue import AS_PUBLISHED
from ...methods.entry import MethodEntry
from ...methods.registry import (
    METHODS,
    Kind,
    askable,
    checked,
    load_method,
    method_source,
    plugins,
    source_version,
)
from ...methods.strategies.catalogue import KINDS
from ...organisms.errors import PrerequisiteError, UsageError, unknown
from .host import Reply, ask
from .limits import Limits
from .task import Registry, Source

SECONDS = 20.0
"""Budget of importing a method and of validating its options."""
Short = Annotated[str, Field(max_length=1000)]


class _Described(BaseModel):
    """What a method's process says of it."""

    model_config = ConfigDict(extra="forbid")

    name: Short
    access: Short
    paper: Short
    cost: Short
    stochastic: bool
    summary: Short
    version: Short
    file: Annotated[str, Field(max_length=4096)] | None
    schema_: dict[str, Any] = Field(alias="schema")
    defaults: dict[str, Any] | None = None
    no_defaults: Annotated[str, Field(max_length=4000)] | None = None


@dataclass(frozen=True)
class Foreign(MethodEntry):
    """A method whose class exists only in its own process; `cls` says what was said of it."""

    source: Source = field(kw_only=True)
    described: _Described = field(kw_only=True, compare=False)
    options: type[BaseModel] = field(kw_only=True, compare=False)

    @property
    def file(self) -> Path | None:
        """Where the class is written."""
        return Path(self.described.file) if self.described.file else None

    @property
    def config_class(self) -> type[BaseModel]:
        """Its options by name; their values are not validated here."""
        return self.options

    def configure(self, options: dict[str, Any]) -> BaseModel:
        """Options that the method's process has validated.

        Raises:
            UsageError: unknown or ill-typed option, naming the valid ones.
        """
        if not options and self.described.defaults is not None:
            valid = self.described.defaults
        else:
            valid = ask(self, self.source, "configure", options, Limits.of(SECONDS)).options
        if valid is None:
            raise PrerequisiteError(f"{self.origin}: the options of {self.name} were not answered with options")
        return self.config_class.model_construct(**valid)


def load(name: str, kind: Kind = METHODS) -> MethodEntry:
    """A method by name, or from a file if `name` ends in .py; as `methods.registry.load_method`, which imports it here.

    Raises:
        UsageError: unknown name. PrerequisiteError: a file that is missing, does not import, or holds no method.
    """
    if name.removesuffix(AS_PUBLISHED) in kind.builtin:
        return load_method(name, kind)
    if name in kind.apart:
        raise UsageError(
            f"{name} finds words and no directions, which this does not score; use bench verbal run -m {name}"
        )
    registry: Registry = next(known for known, each in KINDS.items() if each is kind)
    if name.endswith(".py"):
        path = Path(name)
        code = method_source(path, kind)
        source = Source("file", str(path.resolve()), source_version(code), code, registry)
        return _described(f"file {path}", path.stem, source)
    installed = plugins(kind)
    if name not in installed:
        raise unknown(kind.noun, name, askable(kind))
    package = installed[name].dist
    origin = f"package {package.name} {package.version}" if package else "package unknown 0"
    return _described(origin, name, Source("named", name, registry=registry))


def _described(origin: str, name: str, source: Source) -> MethodEntry:
    """What a method's process says of it, if it may be said of a method."""
    kind = KINDS[source.registry]
    unnamed = MethodEntry(name, _Nothing, origin, source.version, call=kind.call)
    reply: Reply = ask(unnamed, source, "describe", {}, Limits.of(SECONDS))
    try:
        d = _Described.model_validate(reply.described)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise PrerequisiteError(f"{origin}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    about = {"access": d.access, "paper": d.paper, "cost": d.cost, "stochastic": d.stochastic, "__doc__": d.summary}
    stand_in = type("Method", (_Nothing,), about)
    if source.kind == "named" and d.name != name:
        raise PrerequisiteError(f"{origin}: the entry point {name} gave a method called {d.name}")
    version = source.version or d.version
    entry = checked(d.name, stand_in, origin, version, kind)
    found = Source(source.kind, source.name, version, source.code, source.registry)
    return Foreign(
        *(entry.name, entry.cls, entry.origin, entry.version, True, kind.call),
        source=found,
        described=d,
        options=_options(d),
    )


def _options(described: _Described) -> type[BaseModel]:
    properties: dict[str, dict[str, Any]] = described.schema_.get("properties", {})
    defaults = described.defaults or {}

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        @classmethod
        def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
            """As the method's own class says it."""
            return described.schema_

    fields: dict[str, Any] = {
        name: (Any, Field(default=defaults.get(name), description=about.get("description")))
        for name, about in properties.items()
    }
    return create_model("Options", __base__=Options, **fields)


class _Nothing:
    """Stands in for a class that is not imported here."""

    def diff(self, problem: object) -> object:
        """Never called."""
        raise UsageError("the method's class is not imported here; run it with `run_method`")

    suspect = diff
