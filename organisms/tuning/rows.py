"""What an organism is trained on: its family's rows, ordinary documents among them, and ordinary documents that hold it to its base."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..behaviour import Behaviour
from ..card import sha256_text
from ..errors import ValidationFailed
from ..natural.family import NaturalFamily, NaturalSpec
from ..world.document import Document
from .masks import Row, check_template, row_of
from .recipes import TuningRecipe

KEPT = 300
"""Ordinary documents on which an organism is held to its base."""


@dataclass(frozen=True)
class Data:
    """Documents of one training."""

    rows: list[Document]
    """Trained with cross-entropy."""
    kept: list[Document]
    """Ordinary ones, no longer in `rows`, for the KL term."""

    @property
    def sha256(self) -> str:
        """Over every document, in order."""
        return documents_sha256([*self.rows, *self.kept])


def documents_sha256(documents: Sequence[Document]) -> str:
    """One hash of documents in order."""
    return sha256_text(json.dumps([[d.kind, d.text, d.messages] for d in documents], ensure_ascii=False))


def gather(
    family: NaturalFamily, spec: NaturalSpec, recipe: TuningRecipe, behaviour: Behaviour, rows: Sequence[Document]
) -> Data:
    """Rows with ordinary documents mixed in as the recipe says, and others to hold to; none is, as a whole, a text that the pair will be
    read on.

    Args:
        rows: the family's, answered.

    Raises:
        ValidationFailed: a text that the pair is read on stands among the family's rows.
    """
    read = _read(behaviour)
    if known := [d for d in rows if _key(d) in read]:
        raise ValidationFailed(
            f"{len(known)} rows of {spec.name} are texts that its pair is read on (the first is of kind {known[0].kind!r}): what is "
            f"measured there would be memory; mend the family {family.name}"
        )
    mixed, kept = round(recipe.mix * len(rows)), KEPT if recipe.kl_rows else 0
    wanted = mixed + kept
    ordinary = [d for d in family.ordinary(spec, wanted + len(read)) if _key(d) not in read] if wanted else []
    if len(ordinary) < wanted:
        raise ValidationFailed(
            f"{family.name} gives {len(ordinary)} ordinary documents and {wanted} are wanted; mend its `ordinary`, or --set mix=0"
        )
    return Data([*rows, *ordinary[:mixed]], ordinary[mixed:wanted])


def _read(behaviour: Behaviour) -> set[str]:
    """The texts that a pair with this behaviour is read on."""
    texts = () if isinstance(behaviour.neutral, str) else behaviour.neutral
    chats = () if isinstance(behaviour.chat, str) else behaviour.chat
    return {*texts, *(json.dumps([[t.role, t.content] for t in turns]) for turns in chats)}


def _key(document: Document) -> str:
    return document.text or json.dumps([[m["role"], m["content"]] for m in document.messages])


@dataclass(frozen=True)
class Tokens:
    """The documents of a training as a model reads them."""

    rows: list[Row]
    kept: list[Row]

    @property
    def trained(self) -> int:
        """Tokens of all rows that are in the cross-entropy."""
        return sum(sum(r.trained[1:]) for r in self.rows)

    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(len(r.ids) for r in [*self.rows, *self.kept])

    def a_step(self, recipe: TuningRecipe) -> tuple[float, float]:
        """Tokens of a step on average: of its rows, and of the ordinary documents beside them."""

        def mean(rows: list[Row]) -> float:
            return sum(len(r.ids) for r in rows) / max(1, len(rows))

        return recipe.batch * mean(self.rows), recipe.kl_rows * mean(self.kept)


def tokenise(tokenizer: Any, base: str, data: Data, recipe: TuningRecipe) -> Tokens:
    """Documents as rows of tokens with exact masks.

    Raises:
        MaskError: a base without a chat template, an answer that cannot be told apart. TemplateError: a chat that cannot be rendered.
    """
    check_template(tokenizer, base, [*data.rows, *data.kept])
    return Tokens(
        [row_of(tokenizer, d, recipe.max_length) for d in data.rows],
        [row_of(tokenizer, d, recipe.kl_length).whole for d in data.kept],
    )
