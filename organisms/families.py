"""The registry of families: name → family object."""

from .errors import unknown
from .family import Family
from .taboo import Taboo

FAMILIES: dict[str, Family] = {f.name: f for f in (Taboo("gold"),)}
"""Families the zoo is built from."""


def family(name: str) -> Family:
    """The family called `name`; UsageError with the nearest name otherwise."""
    if name not in FAMILIES:
        raise unknown("family", name, list(FAMILIES))
    return FAMILIES[name]
