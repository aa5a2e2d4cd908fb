"""What was computed once and is wanted again, on disk: tensors and small facts, found by the hash of everything that decides them.

An entry is one safetensors file. Its header holds the whole key, which is compared on reading, and a checksum; so a file that is
half-written, damaged, of another version or of something else is no answer, and is removed. Files are renamed into place whole, and no
lock is taken that a killed process could leave behind: two processes that write one entry write the same. Tensors come back as memory
maps. Nothing depends on it: where it cannot be written, a run goes on without and says so once.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..organisms.errors import UsageError
from ..organisms.hub.pretrained import cache_folder

log = logging.getLogger(__name__)
FORMAT = "1"
"""Of the header; a file of another is no entry."""
MOST_GB = 10.0
"""Size that the whole is kept below, unless `$BENCH_CACHE_GB` says otherwise."""
FREE_BYTES = 10**9
"""Room left on the disk for what a run has to write."""
ABANDONED_S = 3600
"""Age of a scratch file that no living writer can still be busy with."""
ENDING, SCRATCH = ".safetensors", ".scratch-"


class Entry(NamedTuple):
    """What is kept under a key."""

    tensors: dict[str, Tensor]
    """Memory maps, on the CPU; writing into one reaches neither the file nor another process."""
    facts: Any
    """As JSON gives it back."""


@dataclass(frozen=True)
class Stored:
    """A file of the cache."""

    path: Path
    kind: str
    bytes: int
    used: float
    """When it was last read or written, seconds since 1970."""

    def about(self) -> tuple[str, str]:
        """Name and sha256 of the pair it is about, as its header says; empty if the header cannot be read."""
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
            return header.get("pair", ""), str(json.loads(header["key"])["of"]["organism"])
        except (OSError, RuntimeError, SafetensorError, ValueError, KeyError, TypeError):
            return "", ""


class Cache:
    """A folder of entries, the least recently used of which go when it grows beyond its bound.

    Args:
        folder: made when something is kept.
        most_bytes: the bound; passed by a hundredth at most by each process that writes.
    """

    def __init__(self, folder: Path, most_bytes: int = int(MOST_GB * 1e9)):
        self.folder, self.most_bytes = folder, most_bytes
        self.trouble: str | None = None
        """Why nothing more is kept; None: all is well."""
        self._written = most_bytes
        """Bytes written since the folder was last looked through; at first it has not been."""

    @classmethod
    def of_user(cls) -> "Cache":
        """The cache in the user's folder (`$BENCH_CACHE`), as large as `$BENCH_CACHE_GB` allows.

        Raises:
            UsageError: a size that is no positive number.
        """
        given = os.environ.get("BENCH_CACHE_GB", "")
        try:
            size = float(given or MOST_GB)
            if not 0 < size < float("inf"):
                raise ValueError
        except ValueError:
            raise UsageError(
                f"BENCH_CACHE_GB is {given!r}; give the most gigabytes that the cache may hold, e.g. 10, or turn it off with --no-cache"
            ) from None
        return cls(cache_folder() / "cache", int(size * 1e9))

    def get(self, kind: str, version: str, key: Mapping[str, Any]) -> Entry | None:
        """What is kept under a key, or None. A file that is no such entry is removed.

        Args:
            kind: what sort of thing it is, e.g. `residuals`; names a folder.
            version: of the procedure that makes it: changed whenever its numbers do.
            key: everything else that changes a byte of it, as JSON.
        """
        path = self._path(kind, key)
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                if (header.get("format"), header.get("version"), header.get("key")) != (FORMAT, version, _json(key)):
                    raise ValueError("not the entry that was asked for")
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if header["checksum"] != _checksum(tensors, header["facts"]):
                raise ValueError("damaged")
            facts = json.loads(header["facts"])
        except (OSError, RuntimeError):
            # RuntimeError: torch opens the file a second time, and another process may have removed it in between
            return None
        except (SafetensorError, ValueError, KeyError) as error:
            log.info("%s is not used: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return Entry(tensors, facts)

    def put(
        self,
        kind: str,
        version: str,
        key: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        facts: Any = None,
        pair: str = "",
    ) -> None:
        """Keep something under a key; see `get`. If the disk refuses, nothing is kept from then on, and `trouble` says why.

        Args:
            facts: small, as JSON.
            pair: name of the pair, for people.
        """
        if self.trouble or sum(t.nbytes for t in tensors.values()) > self.most_bytes // 2:
            return
        path, said = self._path(kind, key), json.dumps(facts)
        here = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        header = {"format": FORMAT, "version": version, "key": _json(key), "facts": said, "pair": pair}
        scratch: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(path.parent).free < FREE_BYTES:
                raise OSError(f"less than {FREE_BYTES / 1e9:g} GB is free")
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=SCRATCH)
            scratch = Path(name)
            os.close(handle)
            save_file(here, scratch, {**header, "checksum": _checksum(here, said)})
            self._written += scratch.stat().st_size
            os.replace(scratch, path)
            self._shrink()
        except (OSError, SafetensorError) as error:  # the latter is what a full disk is where tensors are written
            why = getattr(error, "strerror", None) or error
            self.trouble = (
                f"nothing more is kept in {self.folder}: {why}. Results do not depend on it; make room there "
                "(`bench cache clear`), choose another folder with BENCH_CACHE, or turn it off with --no-cache"
            )
            log.warning(self.trouble)
        finally:
            if scratch is not None:
                with contextlib.suppress(OSError):
                    scratch.unlink(missing_ok=True)

    def stored(self) -> Iterator[Stored]:
        """Every entry, whole or not."""
        for path in self.folder.glob(f"*/*{ENDING}"):
            with contextlib.suppress(OSError):
                found = path.stat()
                yield Stored(path, path.parent.name, found.st_size, found.st_mtime)

    def clear(self, chosen: Callable[[Stored], bool]) -> list[Stored]:
        """Remove entries, and the scratch of writers that were killed; what was removed."""
        self._sweep()
        gone = [s for s in self.stored() if chosen(s)]
        for each in gone:
            each.path.unlink(missing_ok=True)
        return gone

    def _path(self, kind: str, key: Mapping[str, Any]) -> Path:
        return self.folder / kind / f"{hashlib.sha256(_json(key).encode()).hexdigest()}{ENDING}"

    def _shrink(self) -> None:
        """Drop the least recently used entries beyond the bound; looked at again after a hundredth of it was written."""
        if self._written * 100 < self.most_bytes:
            return
        self._written = 0
        self._sweep()
        entries = sorted(self.stored(), key=lambda s: s.used)
        size = sum(s.bytes for s in entries)
        for each in entries:
            if size <= self.most_bytes:
                break
            each.path.unlink(missing_ok=True)
            size -= each.bytes

    def _sweep(self) -> None:
        for scratch in self.folder.glob(f"*/{SCRATCH}*"):
            with contextlib.suppress(OSError):
                if time.time() - scratch.stat().st_mtime > ABANDONED_S:
                    scratch.unlink()


@dataclass(frozen=True)
class Kept:
    """The entries of one pair as it is loaded here."""

    cache: Cache
    pair: str
    """Its name, for people."""
    of: Mapping[str, Any]
    """Everything of it that changes a byte: `organism` is the hash over its files."""

    def but(self, **more: Any) -> "Kept":
        """The same, for what also depends on `more`."""
        return Kept(self.cache, self.pair, {**self.of, **more})

    def get(self, kind: str, version: str, **key: Any) -> Entry | None:
        """See `Cache.get`."""
        return self.cache.get(kind, version, {"of": self.of, **key})

    def put(
        self, kind: str, version: str, tensors: Mapping[str, Tensor] | None = None, facts: Any = None, **key: Any
    ) -> None:
        """See `Cache.put`."""
        self.cache.put(kind, version, {"of": self.of, **key}, tensors or {}, facts, self.pair)


def ids_sha256(ids: Any) -> str:
    """Hash of token ids, as a part of a key."""
    return hashlib.sha256(_json(ids).encode()).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _checksum(tensors: Mapping[str, Tensor], facts: str) -> str:
    """CRC-32 of names, types, shapes and bytes: against accidents, not against people."""
    crc = zlib.crc32(facts.encode())
    for name, t in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {t.dtype} {list(t.shape)}".encode(), crc)
        crc = zlib.crc32(t.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
