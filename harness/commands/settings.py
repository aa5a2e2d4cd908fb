"""What `bench run` was asked to do: command line over environment over file over defaults, names resolved, nothing run yet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ...methods.entry import MethodEntry
from ...methods.registry import BUILTIN, load_method
from ...organisms.errors import UsageError, unknown
from ...organisms.registry import Organism, expand, load_organism, user_organism
from ..runs.run import Plan, plan


class RunFile(BaseModel):
    """Options of a run, as `--config` reads them; the same names as on the command line."""

    model_config = ConfigDict(extra="forbid")

    method: list[str] = Field(default_factory=list[str])
    organism: list[str] = Field(default_factory=list[str])
    seed: list[Annotated[int, Field(ge=0, lt=2**32)]] = [0]
    out: Path = Path("runs")
    device: str = "cpu"
    backend: Literal["hooks", "nnsight"] = "hooks"
    """What runs the models: our hooks, or nnsight."""
    remote: bool = False
    """With nnsight: on NDIF."""
    set: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    """Method options: {method: {option: value}}."""
    base: str | None = None
    adapter: str | None = None
    behaviour: Path | None = None

    @field_validator("method", "organism", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """`a,b` and [`a,b`, `c`] both mean a list."""
        items: list[Any] = value if isinstance(value, list) else [value]
        return [part.strip() for item in items for part in str(item).split(",") if part.strip()]

    @field_validator("seed", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        return (
            [v.strip() for v in value.split(",")]
            if isinstance(value, str)
            else value
            if isinstance(value, list)
            else [value]
        )


@dataclass(frozen=True)
class Settings:
    """Resolved options of a run."""

    organisms: list[Organism]
    methods: list[tuple[MethodEntry, BaseModel]]
    seeds: list[int]
    out: Path
    device: str
    backend: Literal["hooks", "nnsight"] = "hooks"
    remote: bool = False

    def plan(self, overwrite: bool) -> Plan:
        """The cells these settings mean."""
        return plan(
            self.organisms, self.methods, self.seeds, self.out, self.device, overwrite, None, self.backend, self.remote
        )


def resolve(config: Path | None, given: dict[str, Any]) -> Settings:
    """Merge a run file with the options that were given (None means not given) and resolve every name.

    Raises:
        UsageError: unknown names or options, nothing to run, contradictory options.
    """
    values = _read(config) if config else {}
    assignments = given.pop("set") or []
    values |= {k: v for k, v in given.items() if v not in (None, [])}
    try:
        file = RunFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise unknown("run option", name, list(RunFile.model_fields)) from error
        raise UsageError(f"option {name}: {first['msg']} (given: {first.get('input')!r})") from error
    if not file.method:
        raise UsageError(f"no method given; use -m NAME with one of {', '.join(BUILTIN)} or a file.py")
    methods = [load_method(n) for n in _unique(list(BUILTIN) if file.method == ["all"] else file.method)]
    options = {name: dict(chosen) for name, chosen in file.set.items()}
    for assignment in assignments:
        method, option, value = _assignment(assignment)
        options.setdefault(method, {})[option] = value
    for name in options:
        if name not in [m.name for m in methods]:
            raise unknown("method of this run", name, [m.name for m in methods])
    if file.remote and file.backend != "nnsight":
        raise UsageError("--remote is nnsight's way to NDIF; add --backend nnsight, or leave out --remote")
    configured = [(m, m.configure(options.get(m.name, {}))) for m in methods]
    return Settings(
        _organisms(file), configured, list(dict.fromkeys(file.seed)), file.out, file.device, file.backend, file.remote
    )


def _organisms(file: RunFile) -> list[Organism]:
    own = {"--base": file.base, "--adapter": file.adapter, "--behaviour": file.behaviour}
    if any(own.values()):
        missing = [k for k, v in own.items() if not v]
        if missing:
            raise UsageError(f"{' and '.join(missing)} missing: your own pair needs --base, --adapter and --behaviour")
        if file.organism:
            raise UsageError("give either --organism or your own pair (--base, --adapter, --behaviour), not both")
        return [user_organism(str(file.base), str(file.adapter), Path(str(file.behaviour)))]
    if not file.organism:
        raise UsageError(
            "no organism given; use -o NAME (see `bench organisms list`), -o core-v1 or -o all, or --base, --adapter and --behaviour"
        )
    return [load_organism(n) for n in expand(file.organism)]


def _assignment(text: str) -> tuple[str, str, Any]:
    """`delta.k=8` → ("delta", "k", 8); the value is read as YAML."""
    key, equals, value = text.partition("=")
    method, dot, option = key.partition(".")
    if not (equals and dot and method and option):
        raise UsageError(f"--set {text!r} is not of the form method.option=value, e.g. --set delta.k=8")
    return method.strip(), option.strip(), _yaml(value, f"--set {text!r}")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = _yaml(path.read_text(), str(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} is not a YAML mapping of run options ({', '.join(RunFile.model_fields)})")
    return values  # pyright: ignore[reportUnknownVariableType]


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is not YAML: {error}") from error


def _unique(items: list[str]) -> list[str]:
    return list(dict.fromkeys(items))
