"""Where organisms come from: the shipped zoo, another zoo folder, a user's family file, or a user's own base and adapter.

Whatever the source, a pair to be diffed is one `Organism`: two folders, a behaviour and its texts. No heavy import
happens here, so listing organisms is instant.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from .behaviour import Behaviour, load_behaviour
from .card import CARD, Card, Role, hash_folder, read_base_card, read_card, sha256_files
from .core import CORE_V1
from .errors import PrerequisiteError, UsageError, ValidationFailed, unknown

if TYPE_CHECKING:
    from .family import Family, Spec
    from .texts import Texts

SHIPPED = Path(__file__).parent / "zoo"
"""What diffbench comes with."""
ZOO = Path(os.environ.get("BENCH_ZOO", SHIPPED))
"""Folder of `bases/NAME` and `FAMILY/MEMBER-VARIANT`; the environment variable BENCH_ZOO names another."""
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Organism:
    """A pair ready to be loaded."""

    name: str
    tier: Literal["tiny", "hub"]
    base: Path
    adapter: Path
    layer: int | None
    behaviour: Behaviour
    sha256: str
    """Over base weights, adapter weights and tokenizer."""
    texts_id: str
    """Identifies the texts together with the behaviour's own."""
    make_texts: "Callable[[Any], Texts]"
    """Texts for a tokenizer."""
    source: dict[str, str]
    """What the user gave, for `bench verify`."""
    role: Role = "organism"


def organism_names(zoo: Path | None = None) -> list[str]:
    """Names of every organism in the zoo, sorted."""
    root = zoo or ZOO
    folders = (p.parent for p in root.glob(f"[!.]*/[!.]*/{CARD}"))
    return sorted(str(f.relative_to(root)) for f in folders if f.parent.name != "bases")


def expand(names: list[str], zoo: Path | None = None) -> list[str]:
    """Names as given on the command line → organisms: `all`, `core-v1`, a family, a family file, a YAML card, a name."""
    out: list[str] = []
    for name in names:
        if name == "all":
            cards = [load_card(n, zoo) for n in organism_names(zoo)]
            out += [c.name for c in cards if c.role in ("organism", "null") and c.status != "failed"]
        elif name == "core-v1":
            out += CORE_V1
        elif name.endswith(YAML):
            out.append(name)
        elif file := FAMILY_FILE.fullmatch(name):
            out += [f"{file[1]}:{s.name.partition('/')[2]}" for s in open_source(name)[1]]
        else:
            out.append(resolve_name(name, zoo))
    return list(dict.fromkeys(out))


FAMILY_FILE = re.compile(r"(.*\.py)(?::([^/:]+))?")
"""`my.py` or `my.py:member-variant`."""


def resolve_name(name: str, zoo: Path | None = None) -> str:
    """`taboo` means the family's first organism.

    Raises:
        UsageError: unknown organism, with the nearest name and the list. PrerequisiteError: an empty zoo.
    """
    names = organism_names(zoo)
    if not names:
        raise PrerequisiteError(
            f"there are no organisms in {zoo or ZOO}; reinstall diffbench or run `bench organisms build`"
        )
    if name in names:
        return name
    from .families import families

    if name in families():
        if (first := families()[name].specs()[0].name) in names:
            return first
        raise PrerequisiteError(f"{first} is not built; run `bench organisms build {name}`")
    family, _, rest = name.partition("/")
    if rest and family in families():
        raise unknown("organism", name, [n for n in names if n.startswith(f"{family}/")])
    raise unknown("organism", name, [*families(), *names])


def load_card(name: str, zoo: Path | None = None) -> Card:
    """The card of a zoo organism, its files checked."""
    return read_card((zoo or ZOO) / resolve_name(name, zoo))


def open_source(source: str) -> tuple[Path | None, list["Spec"]]:
    """Organisms named by a zoo name, or by a family file: `my.py` (all of them) or `my.py:member-variant`.

    Returns:
        The family file, if it is one, and the specs.
    """
    from .families import family_file, find_spec, register

    if source.endswith(YAML):
        raise UsageError(f"{source} is a pair of your own: `build`, `verify` and `run` take it, this command does not")
    file = FAMILY_FILE.fullmatch(source)
    if file is None:
        return None, [find_spec(source)]
    path = Path(file[1]).resolve()
    family = register(family_file(path))
    specs = family.specs()
    if not file[2]:
        return path, specs
    chosen = [s for s in specs if s.name == f"{family.name}/{file[2]}"]
    if not chosen:
        raise unknown("organism", file[2], [s.name.partition("/")[2] for s in specs])
    return path, chosen


def locate(name: str, zoo: Path | None = None) -> tuple[str, Path]:
    """The zoo name of an organism and the zoo it is in; the organisms of `my.py` are in the folder `zoo` beside it."""
    if not name.endswith(YAML) and not FAMILY_FILE.fullmatch(name):
        return resolve_name(name, zoo), zoo or ZOO
    path, specs = open_source(name)
    assert path is not None
    root = zoo or path.parent / "zoo"
    if not (root / specs[0].name / CARD).is_file():
        raise PrerequisiteError(f"{specs[0].name} is not built; run `bench organisms build {name}`")
    return specs[0].name, root


def base_folder(name: str, root: Path) -> Path:
    """Folder of a base: in `root`, in the zoo in use, or the shipped one."""
    for zoo in (root, ZOO, SHIPPED):
        if (zoo / "bases" / name / CARD).is_file():
            return zoo / "bases" / name
    raise PrerequisiteError(f"there is no base {name} in {root}; run `bench organisms build --base {name}`")


def family_and_spec(name: str, zoo: Path | None = None) -> tuple["Family", "Spec", Card]:
    """The family, the spec and the card of a built organism."""
    from .families import family
    from .family import Spec

    name, root = locate(name, zoo)
    card = read_card(root / name)
    kind = family(card.family)
    base = "" if card.base == kind.base else card.base
    return kind, Spec(card.family, card.member, card.variant, base, card.seed, card.role, card.core), card


def load_organism(name: str, zoo: Path | None = None, allow_failed: bool = False) -> Organism:
    """An organism ready to be loaded, with every file's hash checked.

    Raises:
        UsageError: unknown name. ValidationFailed: a damaged file, an adapter trained on another base, failed gates.
    """
    if name.endswith(YAML):
        return yaml_organism(Path(name))
    from .texts import WorldTexts
    from .world.facts import WORLD_VERSION, World

    kind, spec, card = family_and_spec(name, zoo)
    _, root = locate(name, zoo)
    base_dir = base_folder(card.base, root)
    base = read_base_card(base_dir)
    if sha256_files(base.files) != card.base_sha256:
        raise ValidationFailed(
            f"organism {card.name} was trained on another {card.base} than the one in {base_dir.parent}; "
            f"rebuild it with `bench organisms build {name}`"
        )
    if card.status == "failed" and not allow_failed:
        raise ValidationFailed(
            f"organism {card.name} failed its gates ({'; '.join(card.failures)}): a score on it would mean nothing; "
            "choose one that `bench organisms list` shows as calibrated or uncalibrated"
        )
    world = World(int(base.recipe["world_seed"]))
    return Organism(
        name=card.name,
        tier=card.tier,
        base=base_dir,
        adapter=root / card.name,
        layer=card.layer,
        behaviour=kind.behaviour(world, spec),
        sha256=sha256_files({**base.files, **{f"adapter/{k}": v for k, v in card.files.items()}}),
        texts_id=f"world-{WORLD_VERSION}-{world.seed}",
        make_texts=lambda tokenizer: WorldTexts(world, tokenizer),
        source={"organism": name},
        role=card.role,
    )


class UserCard(BaseModel):
    """A user's own pair, as a YAML file; paths are relative to the file."""

    model_config = ConfigDict(extra="forbid")

    base: str
    """Folder or hub id."""
    adapter: str
    """Folder or hub id."""
    behaviour: str
    """Path of a behaviour file."""


def yaml_organism(path: Path) -> Organism:
    """The pair described by a YAML card.

    Raises:
        UsageError: no such file. ValidationFailed: not YAML, missing or unknown fields.
    """
    try:
        card = UserCard.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValidationFailed(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:5]]
        raise ValidationFailed(
            "\n".join([f"{path} is not an organism card:", *lines, "fields: base, adapter, behaviour"])
        ) from error
    beside = {k: path.parent / v for k, v in card.model_dump().items()}
    base, adapter = (str(beside[k]) if beside[k].is_dir() else getattr(card, k) for k in ("base", "adapter"))
    return user_organism(base, adapter, beside["behaviour"])


def user_organism(base: str, adapter: str, behaviour: Path) -> Organism:
    """A user's own pair: local folders or hub ids, and a behaviour file."""
    from .texts import FileTexts

    spec = load_behaviour(behaviour)
    base_dir, adapter_dir = _local(base, "base"), _local(adapter, "adapter")
    files = {
        **{f"base/{k}": v for k, v in hash_folder(base_dir).items()},
        **{f"adapter/{k}": v for k, v in hash_folder(adapter_dir).items()},
    }
    return Organism(
        name=spec.name,
        tier="hub",
        base=base_dir,
        adapter=adapter_dir,
        layer=spec.layer,
        behaviour=spec,
        sha256=sha256_files(files),
        texts_id="file",
        make_texts=lambda tokenizer: FileTexts(spec, tokenizer),
        source={"base": base, "adapter": adapter, "behaviour": str(behaviour)},
    )


def _local(where: str, what: str) -> Path:
    """A folder as it is, or the snapshot of a hub repository (safetensors, configuration and tokenizer only)."""
    path = Path(where)
    if path.is_dir():
        return path
    if path.is_absolute() or where.startswith((".", "~")) or where.count("/") != 1:
        raise PrerequisiteError(
            f"the {what} {where} is not a folder; give a folder or a hub id such as google/gemma-2-2b-it"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(where, allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.model"]))
    except Exception as error:  # the hub client has a dozen unrelated error types; all mean the same to the user
        raise PrerequisiteError(
            f"the {what} {where} could not be fetched from the hub ({type(error).__name__}); "
            "is the id right, the licence accepted, the network up?"
        ) from error
