"""A process of a sweep on this machine: `python -m diffbench.harness.sweeps.worker FD` is told cells and answers what came of them.

It ends at once when the process that tells it is gone: nobody is left that would wait for it, and the next sweep goes on from what it kept.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

TOLD_S = 0.5
"""Least time between two words on how far a cell is."""


class Link:
    """Its end of the connection."""

    def __init__(self, file: int):
        self._connection, self._turn, self._said = Connection(file), threading.Lock(), ("", 0.0)
        self.told = queue.SimpleQueue[dict[str, Any]]()
        threading.Thread(target=self._listen, daemon=True, name="what the sweep tells").start()

    def say(self, **words: Any) -> None:
        """One message; if nobody is there any more, this process ends."""
        with self._turn:
            try:
                self._connection.send_bytes(json.dumps(words).encode())
            except OSError:
                os._exit(1)

    def progress(self, phase: str, done: int, total: int) -> None:
        """Say how far the cell is, not too often."""
        now, (last, at) = time.monotonic(), self._said
        if phase != last or now - at > TOLD_S:
            self._said = (phase, now)
            self.say(phase=phase, done=done, total=total)

    def _listen(self) -> None:
        try:
            while True:
                self.told.put(json.loads(self._connection.recv_bytes()))
        except (OSError, EOFError):
            os._exit(1)


def main() -> None:
    """Until it is told no more, or interrupted, which a sweep in the background of a script has its processes ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    link = Link(int(sys.argv[1]))
    try:
        _work(link)
    except KeyboardInterrupt:
        sys.exit(130)


def _work(link: Link) -> None:
    asked = link.told.get()
    sys.argv = asked["command"]  # what a record says that it was made by
    import torch

    from ..commands.settings import RunFile
    from ..terminal import collect_log, silenced
    from .share import Share, Stopped

    try:
        torch.set_num_threads(asked["threads"])
        with silenced(False):
            share = Share(RunFile.model_validate(asked["file"]), asked["overwrite"], collect_log(False), link.progress)
            link.say(ready=True)
            while (cell := link.told.get()) != {}:
                link.say(ran=share.do(**cell).data())
    except Exception as error:
        stopped = Stopped.by(error)
        link.say(stopped=stopped.message, exit_code=stopped.exit_code)


if __name__ == "__main__":
    main()
