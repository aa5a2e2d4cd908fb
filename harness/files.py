"""Atomic file writes: a reader sees the old file or the whole new one, never half of it.

The data go to a temporary file in the same folder, are flushed to disk and then renamed over the target. Accepted: the
folder's own entry is not fsynced, so after a power cut the old file may still be there, whole.
"""

import os
import tempfile
from pathlib import Path

from ..organisms.hub.pretrained import cache_folder


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, creating its folder. On any error the old file stays and no temporary file is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else public_mode())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def atomic_write_text(path: Path, text: str) -> None:
    """`atomic_write_bytes` of UTF-8 text, line ends as given."""
    atomic_write_bytes(path, text.encode())


def public_mode() -> int:
    """Mode that an ordinary new file gets. The umask can only be read by setting it; mkstemp and safetensors make private files."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def tables_folder() -> Path:
    """Where intervals of tables are kept (`leaderboard/board/keep.py`); everything in it can be drawn again."""
    return cache_folder() / "tables"
