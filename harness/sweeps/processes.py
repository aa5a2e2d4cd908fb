"""Cells in processes of this machine.

Threads are dealt out: so many processes as there are cores at most, and each computes on its share of the cores.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import IO, Any

from ...organisms.errors import DiffbenchError, PrerequisiteError, UsageError, ValidationFailed
from ..claims import is_claimed
from ..commands.settings import RunFile
from .engine import Done, Lost, Moved, News, Work
from .share import Ran

WORKER = "diffbench.harness.sweeps.worker"
"""What each process is."""
ENDING_S = 30.0
"""Longest that an interrupted process may take to keep what it has, before it is killed."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ERRORS: dict[int, type[DiffbenchError]] = {e.exit_code: e for e in (UsageError, PrerequisiteError, ValidationFailed)}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(jobs: int) -> int:
    """Threads of each of so many processes, no more than OMP_NUM_THREADS says."""
    share, said = max(1, cores() // jobs), os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(said)) if said.isdecimal() and int(said) > 0 else share


def stopped(message: str, exit_code: int) -> DiffbenchError:
    """What a process of a sweep said when it ended the whole."""
    return ERRORS.get(exit_code, DiffbenchError)(message)


@dataclass
class _Process:
    popen: "subprocess.Popen[bytes]"
    link: Connection
    errors: IO[bytes]
    ready: bool = False
    busy: bool = False

    def last_words(self) -> str:
        """The end of what it wrote."""
        self.errors.seek(0)
        return self.errors.read()[-4000:].decode(errors="replace").strip()


class Processes:
    """An engine.

    Args:
        file: options of the sweep, as every process reads them.
        jobs: processes at a time.
    """

    def __init__(self, work: Work, file: RunFile, jobs: int):
        self._work, self._file, self._jobs, self._threads = work, file, jobs, threads_of(jobs)
        self._running, self._next, self._unready = dict[int, _Process](), 0, 0

    def __enter__(self) -> "Processes":
        try:
            for _ in range(self._jobs):
                self._start()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Let idle processes go; interrupt the others, which keep what they have trained."""
        for process in self._running.values():
            _tell(process, {})  # for one that is still starting, too
            if error is not None:
                process.popen.send_signal(signal.SIGINT)
        until = time.monotonic() + ENDING_S
        try:
            for process in self._running.values():
                with suppress(subprocess.TimeoutExpired):
                    process.popen.wait(max(0.0, until - time.monotonic()))
        finally:  # a second Ctrl-C does not wait
            for process in self._running.values():
                _end(process)

    def idle(self) -> Sequence[int]:
        """Processes that wait for a cell."""
        return [n for n, p in self._running.items() if p.ready and not p.busy]

    def free(self, id_: str) -> bool:
        """Whether no other process has a cell now."""
        return not is_claimed(self._work.plan.work(id_))

    def give(self, process: int, number: int, id_: str | None) -> None:
        """A cell for an idle process."""
        self._running[process].busy = True
        _tell(self._running[process], {"number": number, "id_": id_})

    def where(self, process: int) -> str:
        """This machine."""
        return ""

    def news(self, seconds: float) -> list[News]:
        """What happened; waits for it so long at most."""
        found, links = list[News](), {p.link: n for n, p in self._running.items()}
        for link in wait(list(links), seconds):
            number = links[link]  # pyright: ignore[reportArgumentType]
            try:
                found += self._heard(number, json.loads(self._running[number].link.recv_bytes()))
            except (OSError, EOFError):
                found.append(self._lost(number))
        return found

    def _heard(self, number: int, words: dict[str, Any]) -> list[News]:
        process = self._running[number]
        if "phase" in words:
            return [Moved(number, words["phase"], words["done"], words["total"])]
        if "ready" in words:
            process.ready, self._unready = True, 0
            return []
        if "ran" in words:
            ran = Ran.read(words["ran"])
            process.busy = False
            if not ran.spent:
                return [Done(number, ran)]
            self._replace(number)
            return [Done(number, ran), Lost(number, ran.reason or "its device failed")]
        if words["exit_code"] is not None or not process.ready:
            raise stopped(words["stopped"], words["exit_code"] or 1)
        self._replace(number)
        return [Lost(number, words["stopped"], bug=True)]

    def _lost(self, number: int) -> Lost:
        """A process is gone without a word."""
        process = self._running[number]
        with suppress(subprocess.TimeoutExpired):
            process.popen.wait(5)
        status, words = process.popen.poll(), process.last_words()
        how = signal.Signals(-status).name if status is not None and status < 0 else f"exit status {status}"
        self._unready += not process.ready
        if self._unready > max(2, self._jobs):
            last = words.splitlines()[-1] if words else how
            raise PrerequisiteError(
                f"no process for cells starts here ({last}); check the installation with `bench doctor` and the memory that is free"
            )
        self._replace(number)
        memory = "; the kernel sends it when memory runs out: fewer --jobs, or fewer --tokens" * (how == "SIGKILL")
        return Lost(number, f"the process that ran it ended ({how}{memory})" + (f"\n{words}" if words else ""))

    def _replace(self, number: int) -> None:
        _end(self._running.pop(number))
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process)
        with theirs:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-m", WORKER, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=os.environ | dict.fromkeys(THREADS, str(self._threads)),
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is the sweep's to pass on
            )
        process = _Process(popen, Connection(ours.detach()), errors)
        self._running[self._next], self._next = process, self._next + 1
        file, overwrite = self._file.model_dump(mode="json"), self._work.plan.overwrite
        _tell(process, {"file": file, "overwrite": overwrite, "threads": self._threads, "command": sys.argv})


def _tell(process: _Process, words: dict[str, Any]) -> None:
    """A message; that a process is gone is found out where its answer is waited for."""
    with suppress(OSError):
        process.link.send_bytes(json.dumps(words).encode())


def _end(process: _Process) -> None:
    process.link.close()
    process.popen.kill()
    process.popen.wait()
    process.errors.close()
