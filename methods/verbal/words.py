"""What the verbal methods share: which tokens are words, and a claim made of words."""

from collections.abc import Iterable, Sequence
from typing import Any

from ...organisms.hub.shown import shown
from ..contract import MAX_LINE

BEGINNING = "The fine-tuned model is more likely to say: "


def word_of(tokenizer: Any, token: int) -> str | None:
    """The text of a token that holds a letter or a digit; None of one that says nothing (punctuation, templates, bytes)."""
    if token in set(tokenizer.all_special_ids):
        return None
    text = shown(tokenizer, token).strip()
    return text if any(c.isalnum() for c in text) and "\\x" not in text else None


def claim(words: Iterable[str]) -> str:
    """One claim of words, each once, within the length of a claim."""
    said, text = list[str](), ""
    for word in dict.fromkeys(words):
        longer = BEGINNING + ", ".join([*said, word])
        if len(longer) >= MAX_LINE:
            break
        said.append(word)
        text = longer
    return text


def ranked(claims: Sequence[tuple[str, float]]) -> tuple[list[str], list[float]]:
    """Claims and their confidences, the surest first, equal ones in the order they came."""
    order = sorted(claims, key=lambda c: -c[1])
    return [c for c, _ in order], [p for _, p in order]
