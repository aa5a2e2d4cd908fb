"""Where organisms come from: the shipped zoo, another zoo folder, a user's family file, a user's own base and adapter, or the hub.

Whatever the source, a pair to be diffed is one `Organism`: two folders, a behaviour and its texts. No heavy import
happens here, so listing organisms is instant.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from .card import CARD, BaseCard, Card, Tier, building, read_base_card, read_card, sha256_files
from .errors import PrerequisiteError, UsageError, ValidationFailed, unknown
from .hub.registry.load import hub_card, is_hub, refuse
from .hub.sources import PairSource
from .hub.trained import TIERS, trained_organism
from .hub.user_pair import yaml_organism
from .organism import Organism
from .sets import RETIRED, members, sets

if TYPE_CHECKING:
    from .family import Family, Spec

SHIPPED = Path(__file__).parent / "zoo"
"""What diffbench comes with."""
ZOO = Path(os.environ.get("BENCH_ZOO", SHIPPED))
"""Folder of `bases/NAME` and `FAMILY/MEMBER-VARIANT`; the environment variable BENCH_ZOO names another."""
UNSHIPPED = Path(__file__).parent / "unshipped.jsonl"
"""Cards of organisms and bases that were built and measured and come without their weights: other seeds, mixes and lineages."""
YAML = (".yaml", ".yml")
WHOLE = re.compile(r"(?!bases/)[a-z0-9][a-z0-9_-]*/[a-z0-9][a-z0-9_-]*")
"""A whole name, `family/member-variant`."""


def organism_names(zoo: Path | None = None) -> list[str]:
    """Names of every organism in the zoo, sorted."""
    root = zoo or ZOO
    folders = (p.parent for p in root.glob(f"[!.]*/[!.]*/{CARD}"))
    return sorted(str(f.relative_to(root)) for f in folders if f.parent.name != "bases")


def unshipped() -> list[Card | BaseCard]:
    """What `bench organisms build --all` makes beyond the zoo that diffbench comes with."""
    kind: TypeAdapter[Card | BaseCard] = TypeAdapter(Card | BaseCard)
    return [kind.validate_json(line) for line in UNSHIPPED.read_text().splitlines()]


def expand(names: list[str], zoo: Path | None = None, tier: Tier | None = None) -> list[str]:
    """Names as given on the command line → organisms: `all`, a set (`core-v2`), a family, a family file, a YAML card, a name.

    What is there and damaged keeps its name, so that loading it says why and the others are used.

    Args:
        tier: of what `all` and a family mean, and of what is named whole; None: tiny for the first two.

    Raises:
        UsageError: an unknown name, a set without organisms, an organism of another tier. PrerequisiteError: nothing of the tier is there.
    """
    out: list[str] = []
    for name in names:
        if name == "all":
            out += _scorable(zoo or ZOO, tier or "tiny")
        elif name in sets() or name in RETIRED:
            out += _built(name, zoo or ZOO)
        elif is_hub(name):
            out.append(hub_card(name).name)
        elif name.endswith(YAML):
            out.append(name)
        elif file := FAMILY_FILE.fullmatch(name):
            try:
                out += [f"{file[1]}:{s.name.partition('/')[2]}" for s in open_source(name)[1]]
            except ValidationFailed:
                out.append(name)
        else:
            out.append(resolve_name(name, zoo, tier, list(sets())))
    found = list(dict.fromkeys(out))
    if tier is not None:
        _check_tier(found, zoo, tier)
    return found


def _scorable(root: Path, tier: Tier) -> list[str]:
    """What `all` means: no control, no failed gate; PrerequisiteError if there is nothing."""
    out: list[str] = []
    for name in organism_names(root):
        try:
            card = load_card(name, root)
        except ValidationFailed:
            out.append(name)
        else:
            if card.tier == tier and card.role in ("organism", "null") and card.status != "failed":
                out.append(name)
    if not out and organism_names(root):
        raise PrerequisiteError(
            f"no organism of tier {tier} in {root} passes its gates; `bench organisms list` shows what there is, --tier chooses another"
        )
    return out


def _built(name: str, root: Path) -> list[str]:
    """The organisms of a set, all of which must be in the zoo or public: part of a set is another set."""
    chosen = members(name)
    if missing := [n for n in chosen if not is_hub(n) and not (root / n / CARD).is_file()]:
        raise PrerequisiteError(
            f"{len(missing)} of the {len(chosen)} organisms of {name} are not in {root} (the first: {missing[0]}); "
            f"run `{_making(missing[0])}`, or leave BENCH_ZOO unset for the zoo that diffbench comes with"
        )
    return chosen


def _making(name: str) -> str:
    """The command that makes an organism which is not in the zoo in use."""
    return building(read_card(SHIPPED / name)) if (SHIPPED / name / CARD).is_file() else f"bench organisms build {name}"


def _check_tier(names: Sequence[str], zoo: Path | None, tier: Tier) -> None:
    """UsageError if an organism of the zoo that was named is of another tier."""
    for name in names:
        if name.endswith(YAML) or FAMILY_FILE.fullmatch(name):
            continue
        if is_hub(name):
            if tier != "hub":
                raise UsageError(f"{name} is a public organism of tier hub and --tier says {tier}; leave --tier out")
            continue
        with contextlib.suppress(ValidationFailed):
            if (card := load_card(name, zoo)).tier != tier:
                raise UsageError(
                    f"{name} is an organism of tier {card.tier} and --tier says {tier}; leave --tier out, or name a family of it"
                )


FAMILY_FILE = re.compile(r"(.*\.py)(?::([^/:]+))?")
"""`my.py` or `my.py:member-variant`."""


def resolve_name(name: str, zoo: Path | None = None, tier: Tier | None = None, others: Sequence[str] = ()) -> str:
    """`taboo` means the family's first organism of a tier (default: tiny); with a tier of real models `taboo/leaf` that of a member.

    Args:
        others: what else could have been meant, for the message.

    Raises:
        UsageError: unknown organism, with the nearest name and the list. PrerequisiteError: an empty zoo, nothing of that tier.
    """
    refuse(name)
    if WHOLE.fullmatch(name) and ((zoo or ZOO) / name / CARD).is_file():
        return name  # a list of all names asks for each, and reading the folders a hundred times takes half a second
    names = organism_names(zoo)
    if not names:
        raise PrerequisiteError(
            f"there are no organisms in {zoo or ZOO}; reinstall diffbench or run `bench organisms build`"
        )
    if name in names:
        return name
    from . import natural
    from .families import families, find_spec, unknown_organism

    family, _, rest = name.partition("/")
    if tier in TIERS and family in {*families(), *natural.families()}:
        if name == family or (rest and any(n.startswith(f"{name}-") for n in names)):
            return _first_of(name, str(tier), zoo or ZOO)
        raise unknown_organism(name, names, others)
    if name in families():
        if (first := families()[name].specs()[0].name) in names:
            return first
        raise PrerequisiteError(f"{first} is not built; run `bench organisms build {name}`")
    if rest and family in families():
        find_spec(name)  # refuses what nobody can make
        raise PrerequisiteError(f"{name} is not in {zoo or ZOO}; `bench organisms build {name}` trains it")
    raise unknown_organism(name, names, others)


def _first_of(asked: str, tier: str, root: Path) -> str:
    """The first organism of a family, or of `family/member`, in a tier, in the family's order; those whose gates hold first."""
    beginning = asked + ("-" if "/" in asked else "/")
    found: list[tuple[bool, int, int, int, str]] = []
    tiers = set[str]()
    for name in organism_names(root):
        with contextlib.suppress(ValidationFailed):
            card = load_card(name, root)
            if name.startswith(beginning) and card.role in ("organism", "null"):
                tiers.add(card.tier)
                if card.tier == tier:
                    found.append((card.status == "failed", *_place(card), name))
    if not found:
        there = (
            f"there are organisms of it in tier {', '.join(sorted(tiers))}" if tiers else "there is none in any tier"
        )
        raise PrerequisiteError(
            f"{root} has no organism {'' if '/' in asked else 'of the family '}{asked} in tier {tier}: {there}; `bench organisms list "
            f"--tier {tier}` shows what there is{'' if '/' in asked else ', or leave --tier out'}"
        )
    return min(found)[-1]


def _place(card: Card) -> tuple[int, int, int]:
    """Where an organism on a real model stands in its family's own order: by member, variant and seed; last where the family is unknown."""
    from . import natural

    family = natural.families().get(card.family)
    members, variants = (family.members(), list(family.variants)) if family else ([], [])
    place = [o.index(x) if x in o else len(o) for o, x in ((members, card.member), (variants, card.variant))]
    return place[0], place[1], card.seed


def load_card(name: str, zoo: Path | None = None) -> Card:
    """The card of a zoo organism, its files checked."""
    return _card(resolve_name(name, zoo), zoo or ZOO)


def _card(name: str, root: Path, given: str = "") -> Card:
    """The card of the organism that is called `name` in a zoo, and `given` by the user."""
    card = read_card(root / name, given if FAMILY_FILE.fullmatch(given) else "")
    if card.name != name:
        raise ValidationFailed(
            f"{root / name / CARD} is the card of {card.name}: a folder that was copied or renamed; give it its name back, or remove it"
        )
    return card


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
        for root in (ZOO, SHIPPED):
            if (root / source / CARD).is_file() and (card := read_card(root / source)).tier in TIERS:
                raise UsageError(f"{source} lives on a real model; `{building(card)}` trains it")
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

    given, (name, root) = name, locate(name, zoo)
    card = _card(name, root, given)
    if card.tier in TIERS:
        raise UsageError(
            f"{given} lives on a real model ({card.base}); this is of organisms on the embedded bases only"
        )
    kind = family(card.family)
    base = "" if card.base == kind.base else card.base
    whole = bool(card.recipe.get("whole"))
    return kind, Spec(card.family, card.member, card.variant, base, card.seed, card.role, card.core, whole), card


def card_of(name: str, zoo: Path | None = None) -> Card:
    """The card of a built organism: of a zoo, or of `my.py:member-variant`."""
    whole, root = locate(name, zoo)
    return _card(whole, root, name)


def load_organism(name: str, zoo: Path | None = None, allow_failed: bool = False) -> Organism:
    """An organism ready to be loaded, with every file's hash checked.

    Raises:
        UsageError: unknown name. ValidationFailed: a damaged file, an adapter trained on another base, failed gates.
    """
    if name.endswith(YAML):
        return yaml_organism(Path(name))
    if is_hub(name):
        from .hub.registry.organism import hub_organism

        return hub_organism(name)
    from .texts import WorldTexts, world_texts_id
    from .world.facts import World

    whole, root = locate(name, zoo)
    card = _card(whole, root, name)
    if card.tier in TIERS:
        _check_passed(card, allow_failed)
        return trained_organism(root / whole, card, name)
    kind, spec, card = family_and_spec(name, zoo)
    base_dir = base_folder(card.base, root)
    base = read_base_card(base_dir)
    if sha256_files(base.files) != card.base_sha256:
        raise ValidationFailed(
            f"organism {card.name} was trained on another {card.base} than the one in {base_dir.parent}; "
            f"rebuild it with `bench organisms build {name}`"
        )
    _check_passed(card, allow_failed)
    world = World(int(base.recipe["world_seed"]))
    subject = kind.subject(world, spec)
    return Organism(
        name=card.name,
        tier="tiny",
        pair=PairSource(base_dir, root / whole),
        layer=card.layer,
        behaviour=kind.behaviour(world, spec),
        sha256=sha256_files({**base.files, **{f"adapter/{k}": v for k, v in card.files.items()}}),
        texts_id=world_texts_id(world, subject),
        make_texts=lambda tokenizer: WorldTexts(world, tokenizer, subject),
        source={"organism": name},
        role=card.role,
    )


def _check_passed(card: Card, allow_failed: bool) -> None:
    if card.status == "failed" and not allow_failed:
        raise ValidationFailed(
            f"organism {card.name} failed its gates ({'; '.join(card.failures)}): a score on it would mean nothing; "
            "choose one that `bench organisms list` shows as calibrated or uncalibrated"
        )
