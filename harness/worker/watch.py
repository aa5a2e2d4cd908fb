"""Looks after a method's process from a thread: keeps what it writes, and ends it when it takes more than it may."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import psutil

from .limits import Excess, Limits

PERIOD_S, WHOLE_S = 0.1, 1.0
"""How often the process itself is looked at, and all that it started."""
KEPT_BYTES = 2**15
"""Most that is kept of the beginning of what a method writes, and as much of the end."""
LAST_WORDS_S = 0.2
"""Time to write down a place before it is killed."""


class Watch:
    """Of one method's process.

    Args:
        pid: the process.
        server: the process whose descendants are all the method's.
        output: file to read from what it writes.
        limits: what it may take.
        end: kills it, and all that it started.
    """

    def __init__(self, pid: int, server: int, output: int, limits: Limits, end: Callable[[], None]):
        self._pid, self._server, self._output, self.limits, self._end = pid, server, output, limits, end
        self.excess: tuple[Excess, float] | None = None
        """What it was ended for, and how much it had taken."""
        self._own_s, self._since = 0.0, None
        self._head, self._tail, self._lost = b"", b"", 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="watch of a method")
        self._thread.start()

    @contextmanager
    def turn(self) -> Generator[None, None, None]:
        """It is the method's turn: its seconds count."""
        self._since: float | None = time.monotonic()
        try:
            yield
        finally:
            self._own_s, self._since = self._seconds(), None

    def close(self) -> str:
        """Stop looking; what the method wrote."""
        self._over.set()
        self._thread.join()
        os.close(self._output)
        cut = f"\n… {self._lost:,} bytes left out …\n" if self._lost else ""
        return self._head.decode(errors="replace") + cut + self._tail.decode(errors="replace")

    def _seconds(self) -> float:
        since = self._since
        return self._own_s + (time.monotonic() - since if since is not None else 0.0)

    def _look(self) -> None:
        looked = whole = time.monotonic()
        while True:
            if select.select([self._output], [], [], PERIOD_S)[0]:
                written = os.read(self._output, 2**16)
                if not written and self._over.wait(PERIOD_S):
                    return
                self._keep(written)
            elif self._over.is_set():
                return
            now = time.monotonic()
            if self.excess is None and now - looked > PERIOD_S:
                looked = now
                self.excess = self._taken_too_much(now - whole > WHOLE_S)
                whole = now if now - whole > WHOLE_S else whole
                if self.excess is not None:
                    self._kill()

    def _keep(self, written: bytes) -> None:
        room = KEPT_BYTES - len(self._head)
        self._head += written[:room]
        self._tail += written[room:]
        over = len(self._tail) - KEPT_BYTES
        if over > 0:
            self._tail, self._lost = self._tail[over:], self._lost + over

    def _taken_too_much(self, whole: bool) -> tuple[Excess, float] | None:
        if (seconds := self._seconds()) > self.limits.seconds:
            return "seconds", seconds
        try:
            own = psutil.Process(self._pid).memory_info().rss
            if own > self.limits.bytes:
                return "bytes", own
            if whole and not self._alone():
                others = [p for p in psutil.Process(self._server).children(recursive=True) if p.pid != self._pid]
                if len(others) >= self.limits.processes:
                    return "processes", len(others) + 1
                if (all_ := own + sum(map(_unshared, others))) > self.limits.bytes:
                    return "bytes", all_
        except psutil.Error:
            pass
        return None

    def _alone(self) -> bool:
        """Whether it is sure that it has started nothing; looking through all processes of a machine takes ten milliseconds."""
        try:
            return not _children(self._pid) and _children(self._server) == [str(self._pid)]
        except OSError:
            return False

    def _kill(self) -> None:
        try:
            os.kill(self._pid, signal.SIGUSR1)
            time.sleep(LAST_WORDS_S)
        except ProcessLookupError:
            pass
        self._end()


def _children(pid: int) -> list[str]:
    """Ids of what a process has started, as Linux lists them; OSError elsewhere."""
    return [child for file in Path(f"/proc/{pid}/task").iterdir() for child in (file / "children").read_text().split()]


def _unshared(process: psutil.Process) -> int:
    """Memory that is a process's own, not that of the one it was forked from."""
    try:
        found = process.memory_info()
    except psutil.Error:
        return 0
    return found.rss - (found.shared if sys.platform == "linux" else 0)
