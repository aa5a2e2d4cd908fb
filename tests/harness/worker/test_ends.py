"""However a method ends, its cell says what happened, why, what to do and where; and nothing of it goes on."""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from diffbench.harness.devices import OutOfMemory
from diffbench.harness.worker import servers
from diffbench.harness.worker.host import Usage, run_method
from diffbench.harness.worker.limits import Limits, TimedOut
from diffbench.methods.contract import DiffResult, check_findings
from diffbench.methods.entry import MethodEntry, MethodError
from diffbench.organisms.errors import DiffbenchError, PrerequisiteError

from ...methods.fakes import FakeProblem
from .written import MEAN, line_of, method

LIMITS = Limits(seconds=30.0, bytes=2**34)


def problem() -> FakeProblem:
    return FakeProblem({"chat": torch.randn(1000, 2, 32, generator=torch.Generator().manual_seed(0))})


def run(entry: MethodEntry, limits: Limits = LIMITS) -> DiffResult:
    return check_findings(run_method(entry, entry.configure({}), problem(), limits=limits), 32)


def said(entry: MethodEntry, kind: type[Exception] = MethodError, limits: Limits = LIMITS) -> str:
    with pytest.raises(kind) as raised:
        run(entry, limits)
    assert type(raised.value) is kind
    return str(raised.value)


ENDS = {
    "an exception": ("raise ValueError('bad luck')", "mine raised ValueError: bad luck", True),
    "exit": ("sys.exit(3)", "mine raised SystemExit: 3", True),
    "exit without a word": ("os._exit(3)", "ended its process with exit status 3 and returned nothing", True),
    "a crash": ("ctypes.string_at(0)", "mine crashed: SIGSEGV ended its process", True),
    "an abort": ("os.abort()", "mine crashed: SIGABRT ended its process", True),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL ended its process; the kernel sends it when", False),
    "a recursion": ("f = lambda: f()\nf()", "mine raised RecursionError", True),
    "an interrupt of its own": ("raise KeyboardInterrupt", "KeyboardInterrupt", True),
    "a closed channel": (
        "os.closerange(3, 100)\ntime.sleep(60)",
        "closed its channel to the harness and went on",
        False,
    ),
    "a return after its channel was closed": ("os.closerange(3, 100)\n" + MEAN.strip(), "returned nothing", False),
}


@pytest.mark.parametrize("kind", ENDS)
def test_an_end_is_told_with_its_place(tmp_path: Path, kind: str) -> None:
    body, words, placed = ENDS[kind]
    entry = method(tmp_path, body)
    told = said(entry)
    assert words in told
    if placed:
        where = re.search(r"mine\.py:(\d+) in ", told)
        assert where and abs(int(where[1]) - line_of(entry, body.splitlines()[0][:12])) <= 1, told
    assert run(method(tmp_path, MEAN)).findings  # and the next method runs


def test_a_hang_is_a_timeout(tmp_path: Path) -> None:
    entry = method(tmp_path, "while True: pass")
    told = said(entry, TimedOut, replace(LIMITS, seconds=0.5))
    assert "may for 0" in told and "problem.budget.seconds" in told
    assert f"at mine.py:{line_of(entry, 'while True')} in diff" in told


def test_seconds_that_the_harness_takes_are_not_the_methods(tmp_path: Path) -> None:
    class Slow(FakeProblem):
        def lens(self, directions: torch.Tensor) -> torch.Tensor:
            time.sleep(1.0)
            return super().lens(directions)

    entry = method(tmp_path, f"problem.lens(torch.ones(1, problem.d_model))\n{MEAN}")
    assert run_method(entry, entry.configure({}), Slow(problem().texts), limits=replace(LIMITS, seconds=0.7)).findings


def test_memory_beyond_the_limit_ends_the_method_alone(tmp_path: Path) -> None:
    entry = method(tmp_path, "held = [bytearray(os.urandom(2**20) * 2**5) for _ in range(2**9)]\ntime.sleep(60)")
    told = said(entry, OutOfMemory, replace(LIMITS, bytes=2**29))
    assert "may hold 0.50" in told and "other cells go on" in told and "mine.py" in told


def test_memory_is_counted_over_all_that_a_method_started(tmp_path: Path) -> None:
    body = """
    for _ in range(6):
        if not os.fork():
            held = bytearray(os.urandom(2**20) * 2**7)
            time.sleep(60)
    time.sleep(60)
    """
    entry = method(tmp_path, "".join(line[4:] for line in body.splitlines(keepends=True)))
    told = said(entry, OutOfMemory, replace(LIMITS, bytes=2**29))
    assert "may hold 0.50" in told


def test_too_many_processes_end_the_method_and_all_of_them(tmp_path: Path) -> None:
    body = """
while True:
    if not os.fork():
        os.setsid()
        if not os.fork(): time.sleep(60)
        os._exit(0)
    time.sleep(.02)
"""
    told = said(method(tmp_path, body), MethodError, replace(LIMITS, processes=20))
    assert "processes and may have 20" in told
    assert not psutil.Process(servers.server().pid).children(recursive=True)


def test_only_a_first_method_that_could_not_wait_imports_for_itself(tmp_path: Path) -> None:
    servers.server().close()
    assert run(method(tmp_path, MEAN)).findings  # asked for at once
    time.sleep(0.5)  # the next is asked for while everything is imported, and waits for it
    needed = "assert {'transformers', 'torch._dynamo'} <= set(sys.modules)\n"
    assert run(method(tmp_path, needed + MEAN)).findings


def test_what_a_method_started_ends_with_it(tmp_path: Path) -> None:
    child = "subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
    assert run(method(tmp_path, child + MEAN)).findings
    assert not psutil.Process(servers.server().pid).children(recursive=True)


def test_a_method_that_ends_what_it_was_started_from_stops_no_other(tmp_path: Path) -> None:
    told = said(method(tmp_path, "os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)"))
    assert "must leave processes alone that it did not start" in told
    assert run(method(tmp_path, MEAN)).findings


RESULT = {
    "findings": [{"score": 1, "evidence": {}, "threshold": None}],
    "diagnostics": {},
    "patch": False,
    "dictionary": [],
}
FORGED = {
    "half a message": ("struct.pack('<QQ', 100, 0) + b'[{'", "exit status 0 and returned nothing"),
    "words that are none": ("struct.pack('<QQ', 3, 0) + b'\\x80\\x04.'", "no JSON"),
    "a pickle": ("(lambda p: struct.pack('<QQ', len(p), 0) + p)(pickle.dumps({'do': 'finish'}))", "no JSON"),
    "words without end": ("struct.pack('<QQ', 10**10, 0)", "10,000,000,000 bytes of words"),
    "10 GB of findings": ("struct.pack('<QQ', 2, 10**10)", "9.3 GiB of tensors; 4 GiB is the most"),
    "a tensor of another size": ("said([{'do': 'finish'}, [['float32', [10]]]])", "another size"),
    "a tensor of negative size": ("said([{'do': 'finish'}, [['float32', [-1]]]])", "shape [-1]"),
    "a tensor of objects": ("said([{'do': 'finish'}, [['object', [1]]]])", "kind object"),
    "a deep nest": ("said_bytes(b'[' * 10**6)", "no JSON"),
    "an unknown question": ("said([{'do': '__class__', 'of': {}, 'left': []}, []])", "is no handle"),
    "no result": ("said([{'do': 'finish'}, []])", "no result"),
    "another form": ("said([{'do': 'finish', 'result': {'findings': 3}}, []])", "no result"),
    "a result without its tensors": (
        f"said([{{'do': 'finish', 'result': {RESULT}}}, []])",
        "without some of its tensors",
    ),
    "NaN among the facts": (
        (
            f"said_bytes(json.dumps([{{'do': 'finish', 'result': {RESULT | {'diagnostics': {'x': 'NaN'}}}}}, [['float32', [32]]]])"
            ".replace('\"NaN\"', 'NaN').encode(), bytes(128))"
        ),
        "NaN",
    ),
}
SPEAK = """
import json, pickle, struct
def said_bytes(words, raw=b''): return struct.pack('<QQ', len(words), len(raw)) + words + raw
def said(words): return said_bytes(json.dumps(words).encode())
channel = next(o for o in gc.get_objects() if isinstance(o, socket.socket))
channel.sendall({forged})
channel.close()
os._exit(0)
"""


@pytest.mark.parametrize("kind", FORGED)
def test_what_is_no_result_is_none(tmp_path: Path, kind: str) -> None:
    forged, words = FORGED[kind]
    with pytest.raises(DiffbenchError, match=re.escape(words)):
        run(method(tmp_path, SPEAK.replace("{forged}", forged)))


def test_a_method_may_not_exchange_the_residual(tmp_path: Path) -> None:
    with pytest.raises(DiffbenchError, match="only the oracle may"):
        run(method(tmp_path, "return DiffResult([], patch=True)"))


def test_what_a_method_writes_is_in_the_log_and_nowhere_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "diffbench")
    written = "print('from python')\nctypes.CDLL(None).puts(b'from C')\nctypes.CDLL(None).fflush(None)\nos.system('echo a child >&2')\n"
    run(method(tmp_path, written + MEAN))
    assert all(words in caplog.text for words in ("from python", "from C", "a child"))
    assert capfd.readouterr() == ("", "")


def test_a_flood_is_cut_and_said_to_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "diffbench")
    run(method(tmp_path, "for i in range(3000): print(i, 'x' * 1000)\n" + MEAN))
    assert "2999 x" in caplog.text and "0 x" in caplog.text and "bytes left out" in caplog.text
    assert len(caplog.text) < 2**17


def test_an_error_of_a_handle_is_the_methods_to_deal_with(tmp_path: Path) -> None:
    class Broken(FakeProblem):
        def weights(self) -> dict[str, torch.Tensor]:
            raise PrerequisiteError("no weights here; look elsewhere")

    broken = Broken(problem().texts)
    deals = method(
        tmp_path, f"try: problem.weights()\nexcept Exception as e: assert 'look elsewhere' in str(e)\n{MEAN}"
    )
    assert run_method(deals, deals.configure({}), broken, limits=LIMITS).findings
    lets = method(tmp_path, "problem.weights()")
    with pytest.raises(PrerequisiteError, match="no weights here"):
        run_method(lets, lets.configure({}), broken, limits=LIMITS)


def test_a_file_that_changed_after_it_was_looked_at_runs_as_it_was(tmp_path: Path) -> None:
    entry = method(tmp_path, MEAN)
    assert entry.file is not None
    entry.file.write_text("raise RuntimeError('another')\n")
    assert run(entry).findings


def test_an_interrupt_of_the_run_ends_the_method(tmp_path: Path) -> None:
    class Interrupted(FakeProblem):
        def progress(self, done: int, total: int) -> None:
            raise KeyboardInterrupt

    entry = method(tmp_path, "problem.progress(1, 2)\ntime.sleep(60)")
    with pytest.raises(KeyboardInterrupt):
        run_method(entry, entry.configure({}), Interrupted(problem().texts), limits=LIMITS)
    assert not psutil.Process(servers.server().pid).children(recursive=True)


PARENT = """
import sys, torch
from diffbench.harness.worker.foreign import load
from diffbench.harness.worker.host import run_method
from tests.methods.fakes import FakeProblem
entry = load(sys.argv[1])
run_method(entry, entry.configure({}), FakeProblem({"chat": torch.ones(10, 2, 32)}))
"""


def test_nothing_outlives_a_run_that_was_killed(tmp_path: Path) -> None:
    started = (
        "open(os.environ['HOME'] + '/pids', 'w').write(f'{os.getpid()} {subprocess.Popen([\"sleep\", \"60\"]).pid} ')\n"
    )
    method(tmp_path, started + "time.sleep(60)")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "mine.py")],
        env=os.environ | {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])},
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text().endswith(" "):
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.05)
    pids = [int(p) for p in (tmp_path / "pids").read_text().split()]
    assert all(map(psutil.pid_exists, pids))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(psutil.pid_exists(p) and psutil.Process(p).status() != "zombie" for p in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_it_took_is_counted(tmp_path: Path) -> None:
    entry, used = (
        method(tmp_path, f"end = time.process_time() + .5\nwhile time.process_time() < end: pass\n{MEAN}"),
        Usage(),
    )
    run_method(entry, entry.configure({}), problem(), used, LIMITS)
    assert 0.5 <= used.cpu_s < 2 and used.peak_rss_bytes > 2**26
