"""What a method's process may take, and what is said when it takes more or ends otherwise than it should.

Every message is a fact, its cause and what to do, with the place in the method's own file where one is known.
"""

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...methods.entry import MethodEntry, MethodError
from ...organisms.errors import DiffbenchError
from ..devices import OutOfMemory
from ..pairs.preflight import free_on_host
from .servers import Used

GRACE, GRACE_S = 1.5, 60.0
"""A method is ended when it has computed for so many times its budget of seconds, and so many seconds more: time to read out what it has.
Time that the harness takes to answer it does not count."""
MEMORY_SHARE = 0.9
"""Share of the memory that is free when a method starts which it may take."""
MOST_PROCESSES = 256
"""Processes that a method may have at once."""
Excess = Literal["seconds", "bytes", "processes"]


class TimedOut(DiffbenchError):
    """A method computed for longer than it may: the cell is a timeout, other cells go on."""


class LostDevice(DiffbenchError):
    """An accelerator failed under a method's process: the cell failed and keeps its checkpoint, other cells go on."""


@dataclass(frozen=True)
class Limits:
    """What a method's process and all that it starts may take."""

    seconds: float
    """Seconds of its own."""
    bytes: int
    processes: int = MOST_PROCESSES

    @classmethod
    def of(cls, seconds: float) -> "Limits":
        """Limits on this machine, for a budget of seconds."""
        return cls(GRACE * seconds + GRACE_S, int(MEMORY_SHARE * free_on_host()))


def exceeded(entry: MethodEntry, excess: Excess, taken: float, limits: Limits, place: str) -> DiffbenchError:
    """What is said of a method that was ended for taking too much."""
    diffs = entry.call == "diff"
    if excess == "seconds":
        allowed = f"({GRACE:g} times its budget and {GRACE_S:g} s)" if diffs else "on one line-up"
        fix = (
            "look at problem.budget.seconds and return what it has; or give it more --seconds"
            if diffs
            else "compute less"
        )
        return TimedOut(
            f"{entry.name} was ended: it had computed for {taken:.0f} s and may for {limits.seconds:.0f} {allowed}{place}. It has to {fix}"
        )
    if excess == "bytes":
        fix = "Fewer --tokens, a smaller dictionary or batch" if diffs else "Fewer vectors at a time"
        return OutOfMemory(
            f"{entry.name} was ended: it held {taken / 2**30:.2f} GiB and may hold {limits.bytes / 2**30:.2f}, {MEMORY_SHARE:.0%} of "
            f"what was free when it started{place}; other cells go on. {fix}, or a larger machine"
        )
    return MethodError(
        f"{entry.name} was ended: it had {taken:.0f} processes and may have {limits.processes}{place}. It has to start fewer, and wait "
        "for those that it has"
    )


def ended(entry: MethodEntry, how: Used | None, place: str) -> MethodError:
    """What is said of a method whose process is gone, or has closed its channel, before it returned anything.

    Args:
        how: it ended; None: the process that it was forked from is gone as well.
        place: of `place_of`.
    """
    name = entry.name
    if how is None:
        return MethodError(
            f"{name} is gone with the process that it was started from{place}; a method must leave processes alone that it did not start"
        )
    if how.killed:
        return MethodError(
            f"{name} closed its channel to the harness and went on{place}; a method must leave files alone that it did not open"
        )
    number, diffs = how.status & 0x7F, entry.call == "diff"
    if not number:
        returns = "diff() return a DiffResult" if diffs else f"{entry.call}() return a number"
        return MethodError(
            f"{name} ended its process with exit status {how.status >> 8} and returned nothing{place}; let {returns} and "
            "end nothing itself (os._exit, or exit() in compiled code)"
        )
    why = (
        f"the kernel sends it when memory runs out: {'fewer --tokens, or ' if diffs else ''}a larger machine"
        if number == signal.SIGKILL
        else "compiled code failed: look for an index outside an array, or a library that does not fit this machine"
        + ("; `bench run --in-process` under a debugger shows it" if diffs else "")
    )
    return MethodError(f"{name} crashed: {signal.Signals(number).name} ended its process{place}; {why}")


def place_of(entry: MethodEntry, traces: str) -> str:
    """Where in a method's own file its process was when it died, if the interpreter could write that down: `, at FILE:LINE in FUNCTION`."""
    for file, line, function in re.findall(r'File "(.+)", line (\d+) in (\S+)', traces):
        if entry.code_file is not None and Path(file).resolve() == Path(entry.code_file).resolve():
            return f", at {Path(file).name}:{line} in {function[:80]}"
    return ""
