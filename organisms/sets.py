"""Frozen sets of organisms, by name: what headline numbers are averaged over, and what settings are chosen on.

They stand in `sets.json`, each with the hash of its names, so that a changed list cannot pass for the one that numbers were published on:
a change is a new set with a new name. A set that names nobody yet has no hash. No organism is both tuned on and tested on.
"""

import json
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from .card import sha256_text
from .errors import UsageError, ValidationFailed, unknown

FILE = Path(__file__).parent / "sets.json"
HEADLINE = "core-v2"
"""What headline numbers and claims are about."""
TUNING = "tune-v2"
"""What settings of our methods are chosen on."""
TUNING_SMALL = "tune-small"
"""What those of the small tier are chosen on."""
APART = ((TUNING, HEADLINE, TUNING_SMALL, "small-v2", "core-hub-v2"),)
"""Sets that share no organism."""
RETIRED = {"core-v1": "core-v2", "tune-v1": "tune-v2"}
"""Sets of protocol v1, and what came after them."""


class OrganismSet(BaseModel):
    """One list of organisms."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    about: str
    """What it is for."""
    organisms: tuple[str, ...]
    """Whole names; none: not chosen yet."""
    sha256: str | None = None
    """Hash of the names in their order, a line each; None for a set without organisms."""

    @property
    def hash(self) -> str | None:
        """What `sha256` has to be."""
        return sha256_text("\n".join(self.organisms)) if self.organisms else None


@cache
def sets(file: Path = FILE) -> dict[str, OrganismSet]:
    """Every set by name.

    Raises:
        ValidationFailed: not such a file, a name twice in a set, a set that is not the frozen one, sets that must not share an organism.
    """
    kind: TypeAdapter[dict[str, OrganismSet]] = TypeAdapter(dict[str, OrganismSet])
    try:
        found = kind.validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise ValidationFailed(f"{file}: {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}") from error
    for name, each in found.items():
        if twice := sorted({o for o in each.organisms if each.organisms.count(o) > 1}):
            raise ValidationFailed(f"{file}: {twice[0]} stands twice in {name}; name it once")
        if each.sha256 != each.hash:
            raise ValidationFailed(
                f"{file}: {name} is not the set that was frozen: sha256 says {json.dumps(each.sha256)} and its names have "
                f"{json.dumps(each.hash)}; give a changed list a new name, or a set that is filled for the first time this hash"
            )
    for apart in APART:
        in_one = dict[str, str]()
        for name in (n for n in apart if n in found):
            for organism in found[name].organisms:
                if (other := in_one.setdefault(organism, name)) != name:
                    raise ValidationFailed(
                        f"{file}: {organism} is in {other} and in {name}: what is tuned on it would be tested on it; leave it in one"
                    )
    return found


def members(name: str) -> list[str]:
    """The organisms of a set.

    Raises:
        UsageError: no such set, with the nearest; a set of protocol v1; a set that names nobody yet.
    """
    if name in RETIRED:
        raise UsageError(
            f"{name} is a set of protocol v1, whose organisms, records and code are together at commit 0823e26; take {RETIRED[name]}"
        )
    if name not in sets():
        raise unknown("set", name, list(sets()))
    chosen = sets()[name]
    if not chosen.organisms:
        filled = ", ".join(n for n, s in sets().items() if s.organisms)
        raise UsageError(
            f"the set {name} has no organisms yet: {chosen.about}; take one of {filled}, or name organisms"
        )
    return list(chosen.organisms)


def holding(organism: str) -> list[str]:
    """Names of the sets that an organism is in."""
    return [name for name, each in sets().items() if organism in each.organisms]


def public(name: str) -> bool:
    """Whether it is a set of public organisms, which are in no zoo."""
    return name in sets() and bool(sets()[name].organisms) and all(n.startswith("hub/") for n in sets()[name].organisms)
