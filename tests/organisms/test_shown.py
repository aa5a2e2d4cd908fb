"""A token is shown as the text it is, whatever a tokenizer calls it."""

from collections.abc import Callable
from typing import Any

import pytest
from diffbench.organisms.hub.shown import shown
from diffbench.organisms.world.tokenizer import build_tokenizer

from ..tokenizers import byte_level, sentencepiece


@pytest.mark.parametrize(
    ("make", "piece", "text"),
    [
        (byte_level, "Ġcake", " cake"),
        (byte_level, "cake", "cake"),
        (byte_level, "Ġ", " "),
        (byte_level, "Ċ", "\\n"),
        (byte_level, "ä", "\\xe4"),
        (byte_level, "Ā", "\\x00"),
        (byte_level, "<|im_start|>", "<|im_start|>"),
        (sentencepiece, "▁cake", " cake"),
        (sentencepiece, "▁", " "),
        (sentencepiece, "<0xE4>", "\\xe4"),
        (sentencepiece, "<0x0A>", "\\n"),
        (sentencepiece, "<s>", "<s>"),
        (build_tokenizer, "gold", "gold"),
        (build_tokenizer, "<bos>", "<bos>"),
    ],
)
def test_a_piece_is_shown_decoded(make: Callable[[], Any], piece: str, text: str) -> None:
    tokenizer = make()
    assert piece in tokenizer.get_vocab()
    assert shown(tokenizer, tokenizer.convert_tokens_to_ids(piece)) == text


@pytest.mark.parametrize("hidden", ["\u202e", "\u2028", "\u0085", "\x1b[2J", "\u00a0"])
def test_what_a_terminal_would_obey_or_hide_is_escaped(hidden: str) -> None:
    tokenizer = byte_level()
    tokenizer.add_tokens([f"a{hidden}b"])
    text = shown(tokenizer, len(tokenizer) - 1)
    assert text.isprintable() and text.startswith("a\\") and text != f"a{hidden}b"


@pytest.mark.parametrize("make", [byte_level, sentencepiece, build_tokenizer])
def test_every_token_of_a_vocabulary_is_shown_as_something(make: Callable[[], Any]) -> None:
    tokenizer = make()
    said = [shown(tokenizer, i) for i in range(len(tokenizer))]
    assert all(t and t.isprintable() and "�" not in t for t in said)
