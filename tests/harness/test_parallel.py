"""Tasks in several processes: each is done once, an error starts nothing more, and workers end with the process that made them."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from diffbench.harness.parallel import run_jobs

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


Task = tuple[Path, int]


def begin(task: Task) -> int:
    """Leaves a file; the first task fails."""
    folder, n = task
    (folder / str(n)).touch()
    if n == 0:
        raise ValueError("the first one")
    time.sleep(0.05)
    return n


def test_every_task_is_done_once(tmp_path: Path) -> None:
    tasks = [(tmp_path, n) for n in range(1, 6)]
    assert sorted(run_jobs(begin, tasks, 2)) == [(task, task[1]) for task in tasks]


def test_after_an_error_nothing_more_is_begun(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the first one"):
        list(run_jobs(begin, [(tmp_path, n) for n in range(60)], 2))
    time.sleep(1.5)
    assert len(list(tmp_path.iterdir())) < 30
