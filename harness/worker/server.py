"""The process that methods' processes are forked from: torch is imported there once, before anything is known of a run.

The idea: a fork of it starts at once, and there is nothing in it to be found. It was started by name, outside of any folder, with few
variables of its parent's environment; it gets one byte and three files for each method, and never learns what for. As the subreaper of
what it starts it can end a method with everything that the method started, whatever that did to hide. It ends when the harness does.
"""

import ctypes
import faulthandler
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import NoReturn

import psutil

STARTED, ENDED = struct.Struct("<q"), struct.Struct("<qdq")
"""What is told of a method's process: its id; its wait status, CPU seconds and most bytes of memory."""
FORK, KILL, SIZE = b"f", b"k", b"s"
PERIOD_S = 0.01
"""How often it is looked whether a method's process has ended."""
_PARENT_DEATH, _SUBREAPER = 1, 36


def main() -> None:
    """Serve until the harness closes its end: `python -m diffbench.harness.worker.server FD`."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _control_process(_SUBREAPER, 1)
    from . import child

    while True:
        if not select.select([control], [], [], 0)[0]:
            child.warm()  # a first method that is asked for sooner does not wait for it; the next ones find it done
        asked, files, *_ = socket.recv_fds(control, 1, 3)
        if not asked:
            return
        if asked == SIZE:
            child.warm()
            control.sendall(STARTED.pack(psutil.Process().memory_info().rss))
        if asked != FORK:
            continue
        server, pid = os.getpid(), os.fork()
        if not pid:
            control.close()
            _become_method(server, *files)
        for file in files:
            os.close(file)
        control.sendall(STARTED.pack(pid))
        told = _wait(control, pid)
        if told is None:
            return
        control.sendall(told)


def _wait(control: socket.socket, pid: int) -> bytes | None:
    """What became of a method's process, told when nothing that it started is left; None if the harness is gone."""
    gone = False
    while True:
        if select.select([control], [], [], PERIOD_S)[0]:
            gone = not control.recv(1)
            _end_all(pid)
        found, status, used = os.wait4(pid, os.WNOHANG)
        if found:
            _end_all(pid)
            _reap()
            peak = used.ru_maxrss if sys.platform == "darwin" else used.ru_maxrss * 1024
            return None if gone else ENDED.pack(status, used.ru_utime + used.ru_stime, peak)


def _end_all(pid: int) -> None:
    """Kill everything that descends from here; the method's own process is left to be waited for.

    All are stopped before any is killed, so that none is started meanwhile.
    """
    for _ in range(200):
        left = [p for p in psutil.Process().children(recursive=True) if _alive(p)]
        for sign in (signal.SIGSTOP, signal.SIGKILL):
            for process in left:
                try:
                    os.kill(process.pid, sign)
                except ProcessLookupError:
                    continue
        if not left:
            return
        time.sleep(PERIOD_S)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _reap() -> None:
    """Let what was ended go; its parents were ended before it."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _become_method(server: int, channel: int, output: int, places: int) -> NoReturn:
    """The forked side: a session of its own, output into the log, a place written down when it dies."""
    os.setsid()
    _control_process(_PARENT_DEATH, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for file, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(file, number)
    os.close(nothing)
    os.close(output)
    faulthandler.enable(places)
    faulthandler.register(signal.SIGUSR1, places)
    leave = os._exit

    def leave_telling_where(status: int) -> NoReturn:
        faulthandler.dump_traceback(places)
        leave(status)

    os._exit = leave_telling_where
    from . import child

    try:
        child.main(socket.socket(fileno=channel))
    finally:
        leave(0)


def _control_process(option: int, value: int) -> None:
    """`prctl`, where there is one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


if __name__ == "__main__":
    main()
