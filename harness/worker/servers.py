"""The harness's side of the process that methods' processes are forked from: one for as long as this process lives.

It is started before it is needed (`server()` returns at once), so that torch is imported there while a pair is loaded here.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import NamedTuple

from ...organisms.errors import PrerequisiteError
from .server import ENDED, FORK, KILL, SIZE, STARTED

STARTING_S, ENDING_S = 120.0, 20.0
"""Longest that a process may take to start, and to end once it was killed."""
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
KEPT_PREFIXES = ("LC_", "LD_", "DYLD_", "OMP_", "MKL_", "KMP_", "OPENBLAS_", "CUDA_", "NVIDIA_", "TORCH_", "PYTORCH_")
"""Variables of the environment that methods get: what libraries need to run, and nothing that a user may have written a name into."""


class Used(NamedTuple):
    """How a method's process ended, and what it and all that it waited for took."""

    status: int
    cpu_s: float
    peak_rss_bytes: int
    killed: bool
    """Whether it had to be."""


class Server:
    """A running server."""

    def __init__(self) -> None:
        self._owner, self._busy = os.getpid(), threading.Lock()
        self._control, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the server)
        environment = {k: v for k, v in os.environ.items() if k in KEPT or k.startswith(KEPT_PREFIXES)}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "diffbench.harness.worker.server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                cwd="/",
                env=environment | {"TOKENIZERS_PARALLELISM": "false"},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def usable(self) -> bool:
        """Whether it still runs, and is this process's own."""
        return self._owner == os.getpid() and self._process.poll() is None

    def fork(self, *files: int) -> int:
        """A process for one method, given its channel, where it writes and where it notes a place; its id. Waits for the one before.

        Raises:
            PrerequisiteError: none starts.
        """
        self._busy.acquire()
        try:
            self._control.settimeout(STARTING_S)
            socket.send_fds(self._control, [FORK], list(files))
            return STARTED.unpack(self._read(STARTED.size))[0]
        except (OSError, EOFError) as error:
            self._busy.release()
            self.close()
            self._errors.seek(0)
            said = self._errors.read()[-1000:].decode(errors="replace").strip().splitlines()
            raise PrerequisiteError(
                f"no process for a method starts here ({said[-1] if said else type(error).__name__}); check the installation with "
                "`bench doctor` and the memory that is free, or run with --in-process"
            ) from error

    def resident_bytes(self) -> int:
        """Memory that a method's process begins with. Waits until what methods need is imported."""
        with self._busy:
            self._control.settimeout(STARTING_S)
            self._control.sendall(SIZE)
            return STARTED.unpack(self._read(STARTED.size))[0]

    def kill(self) -> None:
        """Kill the method's process and all that it started."""
        with suppress(OSError):
            self._control.send(KILL)

    def ended(self, patience_s: float) -> Used | None:
        """Wait until the method's process and all that it started are gone; None if this server is gone, too.

        Args:
            patience_s: how long it may take to end by itself.
        """
        try:
            killed = False
            self._control.settimeout(max(patience_s, 0.001))
            try:
                found = self._read(ENDED.size)
            except TimeoutError:
                killed = True
                self.kill()
                self._control.settimeout(ENDING_S)
                found = self._read(ENDED.size)
            status, cpu_s, peak = ENDED.unpack(found)
            return Used(status, cpu_s, peak, killed)
        except (OSError, EOFError):
            self.close()
            return None
        except BaseException:
            self.close()
            raise
        finally:
            self._busy.release()

    def close(self) -> None:
        """End it; with it end its descendants."""
        if self._owner == os.getpid():
            self._control.close()
            if not self._busy.locked():  # nothing descends from it
                self._process.kill()
            try:
                self._process.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.kill(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def _read(self, length: int) -> bytes:
        found = b""
        while len(found) < length:
            if not (more := self._control.recv(length - len(found))):
                raise EOFError
            found += more
        return found


_starting = threading.Lock()
_running: Server | None = None


def server() -> Server:
    """The server of this process, started if there is none."""
    global _running
    with _starting:
        if _running is None or not _running.usable:
            _running = Server()
        return _running


@atexit.register
def _close() -> None:
    if _running is not None:
        _running.close()
