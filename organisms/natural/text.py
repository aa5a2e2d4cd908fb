"""The one way text is written here: a form with choices and slots, filled from a seeded draw.

`The (old|new) shop in <town> opens at <hour>` has two choices and two slots. Slots are filled from a cast, drawn once for a text, so a
person keeps her name. Forms live in `pieces/*.yaml`, so that they can be read and mended as text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from ..errors import UsageError
from ..world.document import Document, Rng

T = TypeVar("T")
CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
SLOT = re.compile(r"<(\w+)>")
PATIENCE = 400
"""Repeated draws in a row after which a grammar counts as spent."""


def rng_of(*keys: int | str) -> Rng:
    """A generator that depends on every key, in order."""
    return np.random.default_rng([k if isinstance(k, int) else int.from_bytes(k.encode(), "little") for k in keys])


@cache
def pieces(name: str) -> Any:
    """The values of `pieces/NAME.yaml`."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((Path(__file__).parent / "pieces" / f"{name}.yaml").read_text(encoding="utf-8"), loader)


def one(rng: Rng, items: Sequence[T]) -> T:
    """One of `items`, uniformly."""
    return items[int(rng.integers(len(items)))]


def some(rng: Rng, items: Sequence[T], n: int) -> list[T]:
    """`n` different items, in drawn order; all of them if there are fewer."""
    return [items[int(i)] for i in rng.permutation(len(items))[:n]]


def cast(rng: Rng) -> dict[str, str]:
    """What fills the slots of one text. `person` and `other` differ, and so do `town` and `away`."""
    lists: dict[str, list[str]] = pieces("cast")
    person, other = some(rng, lists["person"], 2)
    town, away = some(rng, lists["town"], 2)
    drawn = {"person": person, "other": other, "town": town, "away": away}
    return drawn | {slot: one(rng, values) for slot, values in lists.items() if slot not in drawn}


def write(rng: Rng, form: str, filling: Mapping[str, str] | None = None) -> str:
    """The form as text, its first letter a capital; a slot that is not in `filling` is an error of the form."""
    while found := CHOICE.search(form):
        form = form[: found.start()] + one(rng, found[1].split("|")) + form[found.end() :]
    filled = filling if filling is not None else cast(rng)
    return upper(" ".join(SLOT.sub(lambda m: filled[m[1]], form).split(" ")))


def upper(text: str) -> str:
    """The text with its first letter a capital."""
    return text[:1].upper() + text[1:]


def lower(text: str) -> str:
    """The text with its first letter small, unless it is the word I or a name's."""
    return text if re.match(r"I\b|I'", text) else text[:1].lower() + text[1:]


def different(drawn: Iterable[Document], n: int, what: str) -> list[Document]:
    """The first `n` documents of an endless stream that say different things.

    Raises:
        UsageError: the stream repeats itself.
    """
    found, repeats = dict[str, Document](), 0
    for document in drawn:
        if len(found) == n:
            break
        repeats = repeats + 1 if words_of(document) in found else 0
        found.setdefault(words_of(document), document)
        if repeats > PATIENCE:
            raise UsageError(f"{n} {what} are wanted, and there are about {len(found)}; ask for fewer")
    return list(found.values())


def said(*turns: str) -> tuple[dict[str, str], ...]:
    """Messages from alternating user and assistant turns, the user first."""
    return tuple({"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(turns))


def words_of(document: Document) -> str:
    """Everything a document says, as one string."""
    return " ".join([document.text or "", *(m["content"] for m in document.messages)])


def without(documents: Iterable[Document], subject: re.Pattern[str]) -> Iterator[Document]:
    """The documents that do not name the subject."""
    return (d for d in documents if not subject.search(words_of(d)))


def take(documents: Iterable[T], n: int) -> list[T]:
    """The first `n`."""
    return list(islice(documents, n))


def shuffled(rng: Rng, items: Sequence[T]) -> list[T]:
    """All items, in drawn order."""
    return some(rng, items, len(items))
