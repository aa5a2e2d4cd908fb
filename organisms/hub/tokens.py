"""Token ids of text: a continuation is tokenised where it stands.

A tokenizer gives `" gold"` other tokens alone than after a prompt (Llama 2's makes `▁`, `▁gold` of it), and a rate measured on the wrong
ones is a plausible number. So prompt and continuation are tokenised together, the prompt's tokens must come out unchanged, and decoding
must give the text back.
"""

import functools
import json
import re
from pathlib import Path
from typing import Any

from ..errors import ValidationFailed
from .shown import shown


class TokenError(ValidationFailed):
    """Text that this tokenizer cannot be asked about."""


def encode(tokenizer: Any, text: str, special: bool) -> list[int]:
    """Token ids of text; with `special`, what the tokenizer puts before a text, but no end that it puts behind it."""
    bare: list[int] = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if not special:
        return bare
    ids: list[int] = list(tokenizer(text, add_special_tokens=True)["input_ids"])
    while len(ids) > len(bare) and ids[-1] == tokenizer.eos_token_id and ids[-len(bare) :] != bare:
        ids.pop()
    return ids


def continuation(tokenizer: Any, prompt: str, start: list[int], text: str, special: bool) -> tuple[int, ...]:
    """Token ids of a continuation behind a prompt.

    Args:
        prompt: the prompt's text.
        start: its token ids.
        text: the continuation, as it follows the prompt; a tokenizer of whole words puts the space between them itself.
        special: as in `encode` of the prompt.

    Raises:
        TokenError: no or unknown tokens, a boundary inside a token, or a text that does not survive.
    """
    gap = " " if splits_words(tokenizer) and prompt and not prompt[-1].isspace() and not text[:1].isspace() else ""
    whole = encode(tokenizer, prompt + gap + text, special)
    tokens = tuple(whole[len(start) :])
    if whole[: len(start)] != start:
        last = shown(tokenizer, start[-1])
        raise TokenError(
            f"continuation {text!r} melts into the last token {last!r} of its prompt, so it has no probability of its own; "
            "begin it with a space, or move the space from the prompt's end to its beginning"
        )
    if not tokens or (tokenizer.unk_token_id is not None and tokenizer.unk_token_id in tokens):
        raise TokenError(f"continuation {text!r} has no tokens in this vocabulary; use words the tokenizer knows")
    said, back = _bare(tokenizer.decode(start) + text), _bare(tokenizer.decode(whole))
    if said != back:
        raise TokenError(
            f"continuation {text!r} is read back as {tokenizer.decode(list(tokens))!r}: this tokenizer changes it"
        )
    return tokens


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", text)


def word(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of a word as it stands inside a text.

    Raises:
        TokenError: as `continuation`.
    """
    lead = "a"
    return continuation(
        tokenizer, lead, encode(tokenizer, lead, False), text if splits_words(tokenizer) else f" {text.strip()}", False
    )


@functools.lru_cache(maxsize=64)
def splits_words(tokenizer: Any) -> bool:
    """Whether a tokenizer reads words that spaces separate, and spaces not at all."""
    spaced, bare = (list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (" a", "a"))
    marks = tuple(str(piece)[:1] for piece in tokenizer.convert_ids_to_tokens(bare))
    return spaced == bare and not {*marks} & {"Ġ", "▁"}  # these put the space into every first word themselves


def saved_vocabulary(folder: Path) -> dict[str, int]:
    """{token: id} of the tokenizer that lies in a folder; empty without one, or with one of a kind that is not read (SentencePiece).

    Raises:
        TokenError: damaged files.
    """
    from tokenizers import Tokenizer

    whole, parts = folder / "tokenizer.json", [folder / "vocab.json", folder / "added_tokens.json"]
    try:
        if whole.is_file():
            return Tokenizer.from_file(str(whole)).get_vocab(with_added_tokens=True)
        held = [json.loads(p.read_text(encoding="utf-8-sig")) for p in parts if p.is_file()]
        return {str(token): int(i) for part in held for token, i in part.items()}
    except Exception as error:  # tokenizers raises nothing narrower
        raise TokenError(
            f"cannot read the tokenizer in {folder}: {error}; remove its files or save them again"
        ) from error
