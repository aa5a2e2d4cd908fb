"""Worker processes end with the process that made them, however it went."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

POOL = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from diffbench.harness.parallel import end_with_parent

def work(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(300)

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as pool:
        list(pool.map(work, [sys.argv[1]]))
"""


def test_workers_of_a_killed_process_end(tmp_path: Path) -> None:
    script, folder = tmp_path / "pool.py", tmp_path / "workers"
    script.write_text(POOL)
    folder.mkdir()
    parent = psutil.Popen([sys.executable, str(script), str(folder)], stderr=subprocess.DEVNULL)
    for _ in range(600):
        if started := [*folder.iterdir()]:
            break
        assert not psutil.wait_procs([parent], timeout=0.1)[0], "it ended before it had a worker"
    else:
        parent.kill()
        pytest.fail("no worker within a minute")
    worker = psutil.Process(int(started[0].name))
    parent.kill()
    parent.wait()
    assert not psutil.wait_procs([worker], timeout=30)[1]
