"""What a model really reads of an organism's prompts and texts: a hash for the identity, and facts for the record.

A template, a tokenizer or their library may change what stands before a model while the behaviour file stays the same; so the tokens
of every prompt are hashed, not its text alone.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...organisms.behaviour import Behaviour
from ...organisms.errors import DiffbenchError
from ...organisms.hub.asked import encode_prompt
from ...organisms.hub.chat import PROBE, additions, render, template_of
from ...organisms.organism import Organism
from ...organisms.texts import Losses
from ..pairs.preflight import readable
from .identity import sha256_json
from .making import SourceRead, TextRead


def prompts_sha256(organism: Organism) -> str:
    """Hash over an organism's behaviour and texts, and over the tokens of each prompt and of a conversation."""
    o = organism
    return _read_sha256(o.base, o.sha256, o.pair.chat_template, o.texts_id, o.behaviour)  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=256)
def _read_sha256(base: Path, sha256: str, template: str | None, texts_id: str, behaviour: Behaviour) -> str:
    """Kept, because every cell of an organism asks for it; `sha256` is that of its files."""
    return sha256_json([texts_id, behaviour.model_dump(), _tokens(base, template, behaviour)])


def _tokens(base: Path, template: str | None, behaviour: Behaviour) -> list[list[int] | None]:
    """Tokens of a short conversation and of each prompt; None for what cannot be rendered. The hash only tells organisms apart."""
    from ...organisms.world.tokenizer import load_tokenizer

    try:
        with readable(base, "model"):
            tokenizer = load_tokenizer(base)
    except DiffbenchError:
        return []  # the pair does not load either, and says why
    if template is not None:
        tokenizer.chat_template = template

    def conversation() -> list[int]:
        return list(tokenizer(render(tokenizer, PROBE), add_special_tokens=False)["input_ids"])

    places = [functools.partial(_ids, tokenizer, p) for p in (*behaviour.prompts, *behaviour.capability)]
    found = list[list[int] | None]()
    for read in (conversation, *places):
        try:
            found.append(read())
        except DiffbenchError:
            found.append(None)
    return found


def _ids(tokenizer: Any, prompt: Any) -> list[int]:
    return encode_prompt(tokenizer, prompt).ids


def text_read(
    ended: Mapping[str, tuple[int, int]], losses: Losses, tokenizer: Any, notes: Sequence[str] = ()
) -> TextRead:
    """The record of what was read.

    Args:
        ended: tokens asked for and given of each text that ended before.
        notes: what the organism leaves to be said.
    """
    added = additions(tokenizer)
    return TextRead(
        asked={text: asked for text, (asked, _) in ended.items()},
        held={text: given for text, (_, given) in ended.items()},
        cut=len(losses.cut),
        skipped=len(losses.skipped),
        template_sha256=hashlib.sha256(template_of(tokenizer).encode()).hexdigest() if added else None,
        inserted=added.inserted if added else "",
        date=added.date if added else None,
        sources=tuple(
            SourceRead(
                kind=kind,
                name=part.path or part.name or "",
                subset=part.subset,
                split=None if part.path else part.split,
                licence=part.licence,
                revision=part.revision or "",
                weight=part.weight,
                **vars(tally),
            )
            for (kind, part), tally in losses.read.items()
        ),
        notes=tuple(notes),
    )
