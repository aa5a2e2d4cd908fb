"""Reads a result record from its file: bounded, and as no other reader could take it."""

import contextlib
import json
from pathlib import Path
from typing import Any

from ...organisms.hub.files import read_text
from .result import FINISHED, Result

MOST_RECORD = 2**24
"""Bytes of a record; those of the published matrix have up to 70 kB."""


def load_result(path: Path) -> Result:
    """Read and validate a `result.json`.

    Raises:
        OSError: not to be read. ValueError: no regular file, too large, not UTF-8, not JSON, not a record.
    """
    return read_result(read_text(path, MOST_RECORD))


def read_result(text: str) -> Result:
    """A record from its JSON, of which no reader could take another value than this one.

    Raises:
        ValueError: not JSON, nested too deeply, a key that stands twice, or not a record.
    """
    each_key_once(text)
    return Result.model_validate_json(text)


def each_key_once(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: not JSON, nested too deeply, or a key that stands twice: one reader takes the first value, another the last.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {twice[:80]!r} stands twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ValueError(f"Invalid JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error


def finished(path: Path, id_: str) -> Result | None:
    """The finished result of this identity at `path`, or None if it is missing, failed, damaged or another one."""
    with contextlib.suppress(OSError, ValueError):
        result = load_result(path)
        if result.id == id_ and result.status in FINISHED:
            return result
    return None
