"""Where each page of a site lies, relative to its root, and how a page finds another from where it lies itself.

The one idea: a name becomes a path only through `slug`, so that no name of a record leaves the folder or meets another one's page.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..board.cell import Cell

SAFE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,80}")
HASHED = re.compile(r"-[0-9a-f]{10}$")
"""The end of a name that may be another one's slug."""


def slug(name: str) -> str:
    """`delta` as it is; anything else as its safe characters and a hash of the whole."""
    if SAFE.fullmatch(name) and not name.endswith(".") and not HASHED.search(name):
        return name
    short = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:60]
    return f"{short or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def organism(name: str) -> str:
    """The page of one."""
    return f"organisms/{'/'.join(map(slug, name.split('/')))}.html"


def method(label: str) -> str:
    """The page of one row."""
    return f"methods/{slug(label)}.html"


def cell(label: str, of: Cell) -> str:
    """The page of one record."""
    return f"cells/{organism(of.identity.organism).removeprefix('organisms/').removesuffix('.html')}/{slug(label)}/{of.id[:12]}.html"


def pair(first: str, second: str) -> str:
    """The page of two methods, whichever is named first."""
    a, b = sorted(map(slug, (first, second)))
    return f"compare/{a}/{b}.html"


def subset(what: str, name: str) -> str:
    """The overall table on part of the organisms: `what` is family or tier."""
    return f"on/{what}-{slug(name)}.html"


def root(path: str) -> str:
    """From a page to the root of the site: `../../`."""
    return "../" * path.count("/")


class Page(NamedTuple):
    """A page before it is rendered."""

    path: str
    """From the root of the site."""
    template: str
    title: str
    told: Mapping[str, Any]
    """What the template is given besides."""
    crumbs: Sequence[tuple[str, str]] = ()
    """Pages above it: name and path."""
    section: str = ""
    """The entry of the navigation that it belongs to."""
