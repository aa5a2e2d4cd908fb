"""What tables draw from records, kept on disk: it follows from the bytes of the records and from the source, so it is found by their hash.

Drawing intervals is nearly all of the work of a table, and a record never changes. An entry is one JSON file under `tables/` of the
cache folder (`$BENCH_CACHE`); it is renamed into place whole, and one that cannot be read is no entry. Numbers come back bit for bit,
so a table is the same with and without. Where nothing can be written a table is made without, and slowly.
"""

import contextlib
import functools
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...harness.files import atomic_write_text, tables_folder
from ...harness.records.identity import sha256_json

MOST_BYTES = 2 * 10**9
"""Size that the folder is kept below; the least recently written entries go."""
ROOT = Path(__file__).parents[2]
DECIDES = (
    "harness/protocol",
    "harness/records",
    "harness/store/labels.py",
    "leaderboard/statistics",
    "leaderboard/board",
    "methods/catalogue.py",
)
"""Source that an entry follows from."""
LIBRARIES = ("numpy", "scipy", "pydantic")


class Keep:
    """Entries of one kind of table work; `on` False keeps and finds nothing."""

    def __init__(self, on: bool = True):
        self.folder, self._on, self._written = tables_folder(), on, 0

    def get(self, *key: Any) -> Any:
        """What is kept under a key, or None."""
        if not self._on:
            return None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(self._path(key).read_bytes())
            return found["kept"] if found["key"] == _hash(key) else None
        return None

    def put(self, value: Any, *key: Any) -> None:
        """Keep JSON under a key; a disk that refuses is no reason to stop."""
        if not self._on:
            return
        text = json.dumps({"key": _hash(key), "kept": value}, separators=(",", ":"))
        try:
            atomic_write_text(self._path(key), text)
        except OSError:
            self._on = False
        self._written += len(text)
        if self._written > MOST_BYTES / 20:
            self.trim()

    def trim(self) -> None:
        """Remove the oldest entries beyond the bound."""
        self._written = 0
        files = list[tuple[float, int, Path]]()
        for path in self.folder.glob("*/*.json"):
            with contextlib.suppress(OSError):
                files.append(((at := path.stat()).st_mtime, at.st_size, path))
        excess = sum(size for _, size, _ in files) - MOST_BYTES
        for _, size, path in sorted(files):
            if excess <= 0:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                excess -= size

    def _path(self, key: tuple[Any, ...]) -> Path:
        name = _hash(key)
        return self.folder / name[:2] / f"{name[:32]}.json"


def _hash(key: tuple[Any, ...]) -> str:
    return sha256_json([_source(), *key])


@functools.cache
def _source() -> str:
    """Hash of the source that entries follow from, and the libraries that draw."""
    paths = [p for name in DECIDES for p in (sorted((ROOT / name).glob("*.py")) or [ROOT / name])]
    files = [[str(p.relative_to(ROOT)), hashlib.sha256(p.read_bytes()).hexdigest()] for p in paths]
    return sha256_json([files, [version(name) for name in LIBRARIES]])
