"""The registered organisms: read from the files beside this module once, without torch, transformers or a network."""

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from ...errors import UsageError, ValidationFailed
from ..files import MOST_YAML, load_yaml, read_text
from .schema import NOT_LOADED, Base, Entry, Recipe, RegistryFile, Truth

CARDS = Path(__file__).parent / "cards"
HUB = "hub/"
"""What the names of public organisms begin with."""
NO_KIND = ("bases",)
"""Files of `cards/` that hold no organisms."""


@dataclass(frozen=True)
class HubCard:
    """One public organism with all that its file says of it."""

    name: str
    """`hub/NAME`."""
    kind: str
    about: str
    entry: Entry
    recipe: Recipe
    truth: Truth
    base: Base

    @property
    def layer(self) -> int:
        """Hooked block."""
        return self.base.layer if self.entry.layer is None else self.entry.layer

    @property
    def not_verified(self) -> tuple[str, ...]:
        """What nobody has checked here."""
        return (NOT_LOADED, *self.entry.not_verified)


def is_hub(name: str) -> bool:
    """Whether a name means a public organism."""
    return name.startswith(HUB)


def refuse(name: str) -> None:
    """For what is about the zoo: a public organism is in none.

    Raises:
        UsageError: it is one, or would be.
    """
    if is_hub(name):
        raise UsageError(
            f"{hub_card(name).name} is a public organism, which is in no zoo; `bench organisms show` and `bench run -o` take it, this "
            "command does not"
        )


@functools.cache
def hub_bases() -> dict[str, Base]:
    """Bases by hub id."""
    return TypeAdapter(dict[str, Base]).validate_python(_shipped("bases"))


@functools.cache
def hub_cards() -> dict[str, HubCard]:
    """Every registered organism by name, in the order of the files."""
    files = [read(path) for path in sorted(CARDS.glob("*.yaml")) if path.stem not in NO_KIND]
    return {card.name: card for file in files for card in cards_of(file)}


def hub_card(name: str) -> HubCard:
    """The card of `hub/NAME`.

    Raises:
        UsageError: there is none, with the nearest name.
    """
    cards = hub_cards()
    if name not in cards:
        close = difflib.get_close_matches(name, cards, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"no public organism {name!r}; {hint}`bench organisms list --tier hub` shows all {len(cards)}")
    return cards[name]


def ladder(card: HubCard) -> list[HubCard]:
    """The organisms that differ from this one in the mix alone, itself among them, by mix; empty if it stands alone."""
    of = (card.kind, card.entry.base, card.entry.member, card.entry.recipe)
    same = [c for c in hub_cards().values() if (c.kind, c.entry.base, c.entry.member, c.entry.recipe) == of]
    rungs = sorted((c for c in same if c.entry.mix is not None), key=lambda c: c.entry.mix or 0.0)
    return rungs if len({c.entry.mix for c in rungs}) > 1 and card in rungs else []


def read(path: Path) -> RegistryFile:
    """A file of one kind.

    Raises:
        UsageError: no such file. ValidationFailed: not YAML, or unknown, missing or contradictory fields.
    """
    try:
        values = _shipped(path.stem) if path.parent == CARDS else load_yaml(read_text(path, MOST_YAML), str(path))
        return TypeAdapter[RegistryFile](RegistryFile).validate_python(values)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
        more = [f"  and {len(lines) - 8} more"] if len(lines) > 8 else []
        raise ValidationFailed("\n".join([f"{path} is not a file of the hub registry:", *lines[:8], *more])) from error


def cards_of(file: RegistryFile, bases: Mapping[str, Base] | None = None) -> list[HubCard]:
    """The organisms of a file, each with its recipe, its member and its base.

    Raises:
        ValidationFailed: one that the file does not have, or a base without sizes.
    """
    known = hub_bases() if bases is None else bases
    cards = list[HubCard]()
    for name, entry in file.organisms.items():
        given: dict[str, tuple[str, Mapping[str, Any]]] = {
            "recipe": (entry.recipe, file.recipes),
            "member": (entry.member, file.members),
            "base": (entry.base, known),
        }
        if lost := [f"{what} {key!r}" for what, (key, there) in given.items() if key not in there]:
            raise ValidationFailed(f"{name}: {' and '.join(lost)} is not in the registry; write it there, or mend it")
        recipe, truth, base = (there[key] for key, there in given.values())
        cards.append(HubCard(HUB + name, file.kind, file.about, entry, recipe, truth, base))
    return cards


def _shipped(stem: str) -> Any:
    """Values of a file of ours, by the fast loader where PyYAML was built with one."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((CARDS / f"{stem}.yaml").read_text(encoding="utf-8"), loader)
