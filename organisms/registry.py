"""Where organisms come from: the shipped zoo, another zoo folder, or a user's own base and adapter.

Whatever the source, a pair to be diffed is one `Organism`: two folders, a behaviour and its texts. No heavy import
happens here, so listing organisms is instant.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .behaviour import Behaviour, load_behaviour
from .card import CARD, Card, hash_folder, read_base_card, read_card, sha256_files
from .errors import PrerequisiteError, ValidationFailed, unknown

if TYPE_CHECKING:
    from .texts import Texts

ZOO = Path(os.environ.get("BENCH_ZOO", Path(__file__).parent / "zoo"))
"""Folder of `bases/NAME` and `FAMILY/VARIANT`; the environment variable BENCH_ZOO names another."""
DEFAULT_VARIANT = "narrow"


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


def organism_names(zoo: Path | None = None) -> list[str]:
    """Names `family/variant` of every organism in the zoo, sorted."""
    root = zoo or ZOO
    return sorted(str(p.parent.relative_to(root)) for p in root.glob(f"*/*/{CARD}") if p.parent.parent.name != "bases")


def resolve_name(name: str, zoo: Path | None = None) -> str:
    """`taboo` means `taboo/narrow`.

    Raises:
        UsageError: unknown organism or variant, with the nearest name and the list.
    """
    names = organism_names(zoo)
    if not names:
        raise PrerequisiteError(
            f"there are no organisms in {zoo or ZOO}; reinstall diffbench or run `bench organisms build`"
        )
    family, _, variant = name.partition("/")
    families = sorted({n.partition("/")[0] for n in names})
    if family not in families:
        raise unknown("organism", name, [*families, *names])
    full = f"{family}/{variant or DEFAULT_VARIANT}"
    if full not in names:
        raise unknown(
            "variant", variant or DEFAULT_VARIANT, [n.partition("/")[2] for n in names if n.startswith(f"{family}/")]
        )
    return full


def load_card(name: str, zoo: Path | None = None) -> Card:
    """The card of a zoo organism, its files checked."""
    return read_card((zoo or ZOO) / resolve_name(name, zoo))


def load_organism(name: str, zoo: Path | None = None) -> Organism:
    """A zoo organism, with every file's hash checked.

    Raises:
        UsageError: unknown name. ValidationFailed: a damaged file, or an adapter trained on another base.
    """
    from .families import family
    from .texts import WorldTexts
    from .world import WORLD_VERSION, World

    root = zoo or ZOO
    card = load_card(name, zoo)
    base = read_base_card(root / "bases" / card.base)
    if sha256_files(base.files) != card.base_sha256:
        raise ValidationFailed(
            f"organism {card.name} was trained on another {card.base} than the one in {root / 'bases'}; "
            f"rebuild it with `bench organisms build {card.name}`"
        )
    world = World(int(base.recipe["world_seed"]))
    return Organism(
        name=card.name,
        tier=card.tier,
        base=root / "bases" / card.base,
        adapter=root / card.name,
        layer=card.layer,
        behaviour=family(card.family).behaviour(world),
        sha256=sha256_files({**base.files, **{f"adapter/{k}": v for k, v in card.files.items()}}),
        texts_id=f"world-{WORLD_VERSION}-{world.seed}",
        make_texts=lambda tokenizer: WorldTexts(world, tokenizer),
        source={"organism": card.name},
    )


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
