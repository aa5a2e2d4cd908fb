"""A folder that one process at a time works in, however any of them ends.

The idea: the kernel holds the lock and drops it when the process that has it is gone, so a kill leaves none behind to be cleared away.
"""

import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def claimed(
    folder: Path, wait: bool = True, waiting: Callable[[], object] = lambda: None
) -> Generator[bool, None, None]:
    """Hold a folder inside the block, whether this process could have it or not; it is made, and removed again if it is empty.

    Where the file system knows no locks, every process is told that it has the folder.

    Args:
        wait: for another process that holds it; else the answer is False.
        waiting: called once before it is waited for.
    """
    file = _held(folder, wait, waiting)
    try:
        yield file is not None
    finally:
        if file is not None:
            with suppress(OSError):
                folder.rmdir()
            os.close(file)


def is_claimed(folder: Path) -> bool:
    """Whether another process holds a folder now."""
    if not folder.is_dir():
        return False
    with claimed(folder, wait=False) as free:
        return not free


def _held(folder: Path, wait: bool, waiting: Callable[[], object]) -> int | None:
    """An open file that holds the lock; None: another process has it."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # its holder has just removed it
        try:
            if not _lock(file, wait, waiting):
                os.close(file)
                return None
            if folder.stat().st_ino == os.fstat(file).st_ino:
                return file
        except FileNotFoundError:
            pass  # it was removed while we waited: what is there now is another folder
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, wait: bool, waiting: Callable[[], object]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            return False
        waiting()
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        pass
    return True
