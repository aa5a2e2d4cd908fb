"""What `bench run` was asked to do: command line over environment over file over defaults, names resolved, nothing run yet.

Nothing heavy is imported before a method or a model is needed, so that a finished run is recognised at once (`recall`).
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ...methods.catalogue import AS_PUBLISHED, BUILTIN, PUBLISHED
from ...methods.registry import load_method
from ...organisms.card import Tier
from ...organisms.errors import DiffbenchError, UsageError, unknown
from ...organisms.hub.files import MOST_YAML, FileError, load_yaml, read_text
from ...organisms.hub.registry.load import is_hub
from ...organisms.hub.registry.organism import hub_organism
from ...organisms.hub.user_pair import UserPair, user_organism
from ...organisms.organism import Organism
from ...organisms.registry import expand, load_organism
from ...organisms.sets import public

if TYPE_CHECKING:
    from ...methods.entry import MethodEntry
    from ..runs.run import Plan

SWEPT = ("oracle", "supervised")
"""Methods of every sweep of layers."""
N = TypeVar("N")
T = TypeVar("T")


class RunFile(BaseModel):
    """Options of a run, as `--config` reads them; the same names as on the command line."""

    model_config = ConfigDict(extra="forbid")

    method: list[str] = Field(default_factory=list[str])
    organism: list[str] = Field(default_factory=list[str])
    tier: Tier | None = None
    """Of which size a family and `all` are; None: tiny."""
    seed: list[Annotated[int, Field(ge=0, lt=2**32)]] = [0]
    out: Path = Path("runs")
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    device_map: str | None = None
    layer: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list[int])
    """Hooked layer, where it is not the organism's; several are a sweep."""
    tokens: int | None = Field(default=None, ge=100)
    """Budget of harvested tokens a cell."""
    seconds: float | None = Field(default=None, gt=0)
    """Wall clock that a method may use."""
    limit: int | None = Field(default=None, ge=1)
    """Only so many prompts a split: a partial result, which stands in no table."""
    sinks: Literal["drop", "keep"] | None = None
    backend: Literal["hooks", "nnsight"] = "hooks"
    """What runs the models: our hooks, or nnsight."""
    remote: bool = False
    """With nnsight: on NDIF."""
    cache: bool = True
    """Whether what is measured of a pair is kept for the next run, and taken from an earlier one."""
    in_process: bool = False
    """Run methods in the scorer's own process, for a debugger: such records stand in no table."""
    set: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    """Method options: {method: {option: value}}."""
    base: str | None = None
    adapter: str | None = None
    on: str | None = None
    tuned: str | None = None
    behaviour: Path | None = None
    texts: Path | None = None
    """File that names sources of large text, for a pair of one's own."""
    allow_other_base: bool = False

    @field_validator("method", "organism", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """`a,b` and [`a,b`, `c`] both mean a list."""
        items: list[Any] = value if isinstance(value, list) else [value]
        return [part.strip() for item in items for part in str(item).split(",") if part.strip()]

    @field_validator("device_map")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is None:
            return None
        from ..pairs.preflight import DEVICE_MAPS

        if not DEVICE_MAPS.fullmatch(value):
            raise PydanticCustomError("device_map", "use auto, balanced, balanced_low_0, sequential or one device")
        return value

    @field_validator("seed", "layer", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """`4,8`, 4, [4, 8], (4, 8) and range(4, 9); no layer is the organism's."""
        if value is None and info.field_name == "layer":
            return []
        if isinstance(value, str):
            return [v.strip() for v in value.split(",")]
        given: list[Any] = list(value) if isinstance(value, list | tuple | range) else [value]  # pyright: ignore[reportUnknownArgumentType]
        if any(isinstance(v, bool) for v in given):
            raise PydanticCustomError("number", "give numbers, not true or false")
        return given

    @property
    def one_layer(self) -> int | None:
        """The layer of a command that takes one; None: the organism's."""
        return self.layer[0] if self.layer else None


@dataclass(frozen=True)
class Settings:
    """Resolved options of a run."""

    organisms: list[Organism]
    methods: "list[tuple[MethodEntry, BaseModel]]"
    file: RunFile
    left_out: dict[str, DiffbenchError]
    """Organisms and methods that cannot be used, and why; the others are run."""

    @property
    def out(self) -> Path:
        """Folder of run folders."""
        return self.file.out

    def plan(self, overwrite: bool) -> "Plan":
        """The cells these settings mean.

        Raises:
            UsageError: a layer that a model does not have.
        """
        from ...methods.contract import Budget
        from ..cache import Cache
        from ..pairs.preflight import check_layer
        from ..runs.run import plan
        from ..runs.stage import Machine

        f = self.file
        for o in self.organisms:
            for layer in f.layer:
                check_layer(o.name, o.pair.base, layer)
        chosen: dict[str, Any] = {
            "machine": Machine(f.device, f.dtype, f.device_map, f.backend, f.remote),
            "sinks": f.sinks,
            "limit": f.limit,
            "in_process": f.in_process,
        }
        if f.cache:
            chosen["cache"] = Cache.of_user()
        if f.tokens or f.seconds:
            chosen["budget"] = Budget(f.tokens or Budget.tokens, f.seconds or Budget.seconds)
        organisms = [o.at(layer, f.limit) for o in self.organisms for layer in f.layer or [None]]
        return plan(organisms, self.methods, f.seed, f.out, overwrite, **chosen)


def asked(config: Path | None, given: dict[str, Any], here: bool = True) -> RunFile:
    """A run file merged with the options that were given (None means not given).

    Args:
        here: whether cells will run on this machine, so that their device has to be here.

    Raises:
        UsageError: unknown options, no method, contradictory options.
    """
    values = _read(config) if config else {}
    assignments = given.pop("set") or []
    file = run_file(values | given_options(given), here)
    if not file.method:
        raise UsageError(f"no method given; use -m NAME with one of {', '.join(BUILTIN)} or a file.py")
    options = {name: dict(chosen) for name, chosen in file.set.items()}
    for assignment in assignments:
        method, option, value = _assignment(assignment)
        options.setdefault(method, {})[option] = value
    return file.model_copy(update={"set": options})


def given_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were given: an option that was not is None or empty."""
    return {k: v for k, v in options.items() if v not in (None, [])}


def resolve(file: RunFile) -> Settings:
    """Every name of a run resolved.

    Raises:
        UsageError: unknown names or options, nothing to run, contradictory options.
    """
    left_out: dict[str, DiffbenchError] = {}
    methods = usable(names_of_methods(file), loader(file), left_out)
    chosen = configured(methods, file.set, left_out)
    return Settings(find_organisms(file, left_out), chosen, file, left_out)


def loader(file: RunFile) -> "Callable[[str], MethodEntry]":
    """Finds a method by name or file; what is not built in is imported in its own process only."""
    if file.in_process:
        return load_method
    from ..worker.foreign import load

    return load


def names_of_methods(file: RunFile) -> list[str]:
    """`each_once` of a run file."""
    return each_once(file.method, file.layer)


def each_once(names: Iterable[N], layers: Sequence[int]) -> "list[N | str]":
    """Methods, each once: `all` (every built-in) and `published` (those with their paper's settings, where ours are others) are spelt
    out, and a sweep of layers has the anchors, by which a layer is judged."""
    groups = {"all": BUILTIN, "published": [f"{m}{AS_PUBLISHED}" for m in PUBLISHED]}
    spelt = [each for name in names for each in (groups.get(name, [name]) if isinstance(name, str) else [name])]
    return list(dict.fromkeys([*spelt, *(SWEPT if len(layers) > 1 else ())]))


def run_file(values: dict[str, Any], here: bool = True) -> RunFile:
    """Options of a run, checked; the device only if it is to be `here`.

    Raises:
        UsageError: an unknown option, a value of the wrong kind, options that contradict each other.
    """
    try:
        file = RunFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise unknown("run option", name, list(RunFile.model_fields)) from error
        raise UsageError(f"option {name}: {first['msg']} (given: {first.get('input')!r})") from error
    if file.device != "cpu" and here:
        from ..pairs.preflight import check_device

        check_device(file.device)
    if file.remote and file.backend != "nnsight":
        raise UsageError("--remote is nnsight's way to NDIF; add --backend nnsight, or leave out --remote")
    once = {k: list(dict.fromkeys(getattr(file, k))) for k in ("seed", "layer")}
    return file.model_copy(update=once)


def configured(
    methods: "Sequence[MethodEntry]", options: dict[str, dict[str, Any]], left_out: Collection[str] = ()
) -> "list[tuple[MethodEntry, BaseModel]]":
    """Methods with their options {method: {option: value}}.

    Raises:
        UsageError: options of a method that is not there, or that it does not have.
    """
    names = [m.row for m in methods]
    for name in options:
        if name not in names and name not in left_out:
            raise unknown("method of this run", name, names)
    return [(m, m.configure(options.get(m.row, {}))) for m in methods]


def find_organisms(file: RunFile, left_out: dict[str, DiffbenchError]) -> list[Organism]:
    """The organisms of a run, or the pair of one's own.

    Raises:
        UsageError: unknown names, contradictory options, nothing given.
    """
    own = {k: getattr(file, k) for k in ("base", "adapter", "on", "tuned", "behaviour", "texts")}
    if file.organism and {k for k, v in own.items() if v} <= {"texts"} and (names := _public(file)):
        return usable(names, lambda name: hub_organism(name, own["texts"], file.allow_other_base), left_out)
    if file.organism and [k for k, v in own.items() if v] == ["texts"]:
        others = [n for n in file.organism if not (is_hub(n) or public(n))]
        raise UsageError(
            f"--texts is for public organisms (hub/NAME) and pairs of your own, and {others[0]} has texts of its own; "
            "run it apart, without --texts"
        )
    if any(own.values()):
        if file.tier is not None:
            raise UsageError(
                "--tier chooses among the organisms of the zoo, and a pair of your own is none; leave it out"
            )
        if file.organism:
            raise UsageError(
                "give either --organism or a pair of your own (--base with --adapter or --tuned), not both"
            )
        change = own["adapter"] or own["tuned"]
        needed = {"--base": own["base"], "--adapter or --tuned": change, "--behaviour": own["behaviour"]}
        if missing := [name for name, value in needed.items() if not value]:
            raise UsageError(
                f"{' and '.join(missing)} missing: a pair of your own needs --base, --adapter or --tuned, and --behaviour"
            )
        return [user_organism(given(own, file.allow_other_base))]
    if not file.organism:
        raise UsageError(
            "no organism given; use -o NAME (see `bench organisms list`), -o core-v2 (a set) or -o all, or --base, --adapter or --tuned, "
            "and --behaviour"
        )
    found = usable(expand(file.organism, tier=file.tier), load_organism, left_out)
    if file.remote and (embedded := [o.name for o in found if o.tier == "tiny"]):
        raise UsageError(f"--remote: the base is an embedded organism's ({embedded[0]}), which NDIF does not have")
    return found


def _public(file: RunFile) -> list[str]:
    """The organisms that are meant, if all of them are public ones of the hub."""
    some = any(is_hub(n) or public(n) for n in file.organism)
    names = expand(file.organism, tier=file.tier) if some else []
    return names if all(map(is_hub, names)) else []


def given(options: dict[str, Any], allow_other_base: bool) -> UserPair:
    """Options of the command line as a pair.

    Raises:
        UsageError: options that contradict each other.
    """
    try:
        return UserPair.model_validate(
            {k: str(v) for k, v in options.items() if v is not None} | {"allow_other_base": allow_other_base}
        )
    except ValidationError as error:
        raise UsageError("; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())) from error


def named_organism(name: str | None, options: dict[str, Any], allow_other_base: bool) -> Organism | None:
    """The organism that a command names beside a record; None: it names none, and the record's must be of the zoo.

    Raises:
        UsageError: options that are not of what is named.
    """
    if name is not None:
        fits = ("texts",) if is_hub(name) else ()
        wrong = [k for k, v in options.items() if v is not None and k not in fits]
        wrong += ["allow-other-base"] * (allow_other_base and not fits)
        if wrong:
            raise UsageError(f"--{wrong[0]} is not for -o {name}; leave out one of the two")
        return hub_organism(name, options.get("texts"), allow_other_base) if fits else load_organism(name)
    return user_organism(given(options, allow_other_base)) if any(options.values()) else None


def usable(names: Sequence[N], load: Callable[[N], T], left_out: dict[str, DiffbenchError]) -> list[T]:
    """What can be loaded. A wrong name stops the run before anything is done; what is there and cannot be used is left out, unless
    nothing else was asked for."""
    found = list[T]()
    for name in names:
        try:
            found.append(load(name))
        except UsageError:
            raise
        except DiffbenchError as error:
            if len(names) == 1:
                raise
            left_out[str(name)] = error
    return found


def _assignment(text: str) -> tuple[str, str, Any]:
    """`delta.k=8` → ("delta", "k", 8); the value is read as YAML."""
    key, equals, value = text.partition("=")
    method, dot, option = key.partition(".")
    if not (equals and dot and method and option):
        raise UsageError(f"--set {text!r} is not of the form method.option=value, e.g. --set delta.k=8")
    return method.strip(), option.strip(), _yaml(value, f"--set {text!r}")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = _yaml(read_text(path, MOST_YAML), str(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except FileError as error:
        raise UsageError(str(error)) from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} is not a YAML mapping of run options ({', '.join(RunFile.model_fields)})")
    return values  # pyright: ignore[reportUnknownVariableType]


def _yaml(text: str, where: str) -> Any:
    try:
        return load_yaml(text, where)
    except FileError as error:
        raise UsageError(str(error)) from error
