"""A token as a reader should see it."""

import functools
import re
from typing import Any

MARK = "▁"
"""What sentencepiece writes for a space."""


def shown(tokenizer: Any, token: int) -> str:
    """A token as text, its leading space included, with control characters escaped, and bytes that are no text as \\x…"""
    text, piece = str(tokenizer.decode([token])), str(tokenizer.convert_ids_to_tokens(token))
    if re.fullmatch("<0x[0-9A-F]{2}>", piece):
        byte = bytes.fromhex(piece[3:5])
        text = byte.decode("ascii") if byte.isascii() else f"\\x{byte.hex()}"
    elif set(piece) == {MARK} or (piece.startswith(MARK) and not text[:1].isspace()):
        text = (
            " " * (len(piece) - len(piece.lstrip(MARK))) + text.lstrip()
        )  # a decoder drops the space that begins a text
    elif "\ufffd" in text or not text:
        raw = [_bytes().get(c) for c in piece]
        text = "".join(f"\\x{b:02x}" for b in raw if b is not None) if None not in raw and raw else piece
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@functools.cache
def _bytes() -> dict[str, int]:
    """Byte of each character that byte-level BPE writes in its place (Radford et al. 2019)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}
