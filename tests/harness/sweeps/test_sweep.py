"""`bench sweep` as a user meets it: usage, a plan, the same cells as `bench run`, Ctrl-C, kills, and rivals on one store."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from diffbench.harness.records.loading import load_result
from diffbench.harness.sweeps import cluster, processes
from diffbench.harness.sweeps import plan as plans
from diffbench.harness.sweeps.cluster import GIB, Need
from diffbench.organisms.errors import PrerequisiteError

from ...test_cli import bench

sys.path.insert(0, str(Path(__file__).parents[3]))  # scripts beside the package, not in it

from benchmarks.sweeps import fake
from benchmarks.sweeps.kills import _lives, kills
from benchmarks.sweeps.store import faults, rivals

PAIR = "taboo/gold-narrow"
USAGE = [
    (("-m", "dleta", "-o", "taboo"), 2, "did you mean 'delta'"),
    (("-m", "random", "-o", "tabu"), 2, "did you mean 'taboo'"),
    (("-m", "random", "-o", "core-v9"), 2, "no organism 'core-v9'; did you mean"),
    (("-m", "random", "-o", "taboo", "--jobs", "0"), 2, "greater than or equal to 1"),
    (("-m", "random", "-o", "taboo", "--seeds", "0"), 2, "greater than or equal to 1"),
    (("-m", "random", "-o", "taboo", "--seeds", "2", "--seed", "1"), 2, "give one of the two"),
    (("-m", "random", "-o", "taboo", "--address", "x:1"), 2, "--address is about a Ray cluster; add --engine ray"),
    (("-m", "random", "-o", "taboo", "--gpus", "1"), 2, "--gpus is about a Ray cluster"),
    (("-m", "random", "-o", "taboo", "--engine", "slurm"), 2, "'slurm' is not one of 'local', 'ray'"),
    (("-m", "random", "-o", "taboo", "--engine", "ray", "--cpus", "0"), 2, "a cell needs cores"),
    (("-m", "random", "-o", "taboo", "--engine", "ray", "--device", "cuda", "--gpus", "0"), 2, "contradict each other"),
    (("-m", "random", "-o", "taboo", "--measured", "nowhere"), 3, "there is no folder nowhere"),
    (("-m", "random", "-o", "taboo", "--device", "cuda:7"), 3, "cuda"),
    (("-o", "taboo"), 2, "no method given"),
    (("-m", "random"), 2, "no organism given"),
]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sweep(*args: str, code: int = 0) -> str:
    return " ".join(bench("sweep", *args, code=code).split())


@pytest.mark.parametrize(("args", "code", "said"), USAGE)
def test_what_cannot_be_meant_is_said_with_its_exit_code(args: tuple[str, ...], code: int, said: str) -> None:
    assert said in " ".join(sweep(*args, code=code).replace("│", " ").split())


def test_the_plan_counts_cells_and_writes_nothing(tmp_path: Path) -> None:
    asked = ("-m", "random,mean_diff", "-o", PAIR, "--seeds", "3", "--dry-run")
    found = json.loads(bench("sweep", *asked, "--json", "--jobs", "2"))
    assert [(c["method"], c["seed"]) for c in found["cells"]] == [
        ("random", 0),
        ("random", 1),
        ("random", 2),
        ("mean_diff", 0),
    ]
    assert found["total"]["to_run"] == 4 and found["total"]["jobs"] == min(2, processes.cores())
    assert "4 cells of 1 pairs" in sweep(*asked)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans.shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    assert "make room, choose another folder with --out" in sweep("-m", "random", "-o", PAIR, code=3)
    assert not (tmp_path / "runs").exists()


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    said = sweep("-m", "random", "-o", PAIR, "--engine", "ray", "--dry-run", code=3)
    assert "pip install 'diffbench[ray]'" in said


def test_a_cluster_that_does_not_answer_is_named_with_what_starts_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(**options: object) -> None:
        raise ConnectionError("\ncould not find any running Ray instance")

    asked = ("-m", "random", "-o", PAIR, "--engine", "ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=refuse))
    monkeypatch.setattr(cluster, "LAST", tmp_path / "none")
    said = sweep(*asked, code=3)
    assert (
        "no Ray cluster answers on this machine (could not find any running Ray instance); start one (`ray start"
        in said
    )
    assert "answers at 127.0.0.1:1 (" in sweep(*asked, "--address", "127.0.0.1:1", code=3)
    assert "answers at not-an-address (" in sweep(*asked, "--address", "not-an-address", code=3)
    (tmp_path / "none").write_text("127.0.0.1:1\n")
    assert "answers at 127.0.0.1:1, which was the last that was started on this machine" in sweep(*asked, code=3)


def test_room_on_a_cluster_is_that_of_its_machines_one_by_one() -> None:
    need = Need.of("cuda", 4, 0.5, None, 3 * GIB)
    nodes = [
        {"CPU": 16.0, "GPU": 1.0, "memory": 64.0 * GIB},
        {"CPU": 3.0, "GPU": 8.0, "memory": 64.0 * GIB},
        {"CPU": 64.0},
    ]
    assert need.room(nodes) == 2 and need.threads == 4
    assert Need.of("cpu", None, None, None, 0).room(nodes) == 16 + 3 + 64
    with pytest.raises(PrerequisiteError, match=r"the most there is of each is 64, 8 and 64\.0; ask for less"):
        Need.of("cpu", 1, None, 100, 0).room(nodes)


def test_threads_are_dealt_out_and_never_more_than_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [processes.threads_of(jobs) for jobs in (1, 2, 3, 8, 9)] == [8, 4, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [processes.threads_of(jobs) for jobs in (1, 2, 8)] == [3, 3, 1]


def test_more_jobs_than_cores_are_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 2)
    said = sweep("-m", "random", "-o", PAIR, "--jobs", "5", "--dry-run")
    assert "note: 2 at a time, not 5: there are 2 cores here" in said and "2 at a time, on 1 thread each" in said


@pytest.mark.slow
def test_a_sweep_has_the_cells_of_a_run(tmp_path: Path) -> None:
    """Real ones: the same ids, the same numbers, and neither runs what the other has finished."""
    asked = ("-m", "random,mean_diff", "-o", PAIR, "--limit", "9")
    rows = json.loads(bench("sweep", *asked, "--seeds", "2", "--jobs", "2", "--json", "-q"))
    assert [r["status"] for r in rows] == ["ok"] * 3
    run = [sys.executable, "-c", "from diffbench.cli import main; main()", "run", *asked, "--seed", "0,1"]
    again = subprocess.run([*run, "--out", "other", "--json"], capture_output=True, text=True, check=True)
    apart = {r["id"]: r["scores"] for r in json.loads(again.stdout)}
    assert {r["id"]: load_result(Path(r["folder"]) / "result.json").scores for r in rows} == {
        id_: load_result(next(Path("other").rglob(f"{id_[:12]}/result.json"))).scores for id_ in apart
    }
    said = subprocess.run(run, capture_output=True, text=True, check=True).stderr
    assert said.count("finished before") == 3
    assert "3 cells: 3 ok; 0 of them run now" in sweep(*asked, "--seeds", "2", "--jobs", "2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "background"),
    [(signal.SIGINT, False), (signal.SIGTERM, True)],
    ids=["Ctrl-C", "SIGTERM in the background"],
)
def test_an_interrupt_keeps_what_is_finished_says_so_and_leaves_no_process(
    tmp_path: Path, sent: signal.Signals, background: bool
) -> None:
    """A script starts what it puts into the background with SIGINT ignored, and a test may be run by such a script."""
    asked = ("-m", "random", "-o", PAIR, "--seeds", "300", "--jobs", "2")
    inherited = signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.default_int_handler)
    started = subprocess.Popen(
        fake.command("sweep", *asked), env=fake.environment(tmp_path / "cache"), stderr=subprocess.PIPE, text=True
    )
    signal.signal(signal.SIGINT, inherited)
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("runs/*/*/*/[!.]*/result.json"))) < 5 and time.monotonic() < until:
        time.sleep(0.05)
    below = psutil.Process(started.pid).children()  # theirs are git, which each record asks for the commit
    started.send_signal(sent)
    said = started.communicate(timeout=120)[1]
    assert started.returncode == 130 and "Traceback" not in said, said
    kept = len(list(tmp_path.glob("runs/*/*/*/[!.]*/result.json")))
    assert f"interrupted: {kept} of 300 cells are finished and kept in runs" in said and 5 <= kept < 300
    assert len(below) == 2 and not any(p.is_running() for p in below)


@pytest.mark.slow
def test_a_crash_costs_one_cell_and_a_damaged_pair_its_own(tmp_path: Path) -> None:
    """A method that ends the harness's process: its cell has a record that says so, the others are run."""
    (tmp_path / "crash.py").write_text(CRASH)
    asked = ("-m", "random", "-o", PAIR, "--seeds", "6", "--jobs", "2", "--out", "runs")
    environment = fake.environment(tmp_path / "cache") | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{fake.ROOT}"}
    said = subprocess.run(
        [sys.executable, "-m", "crash", "sweep", *asked], env=environment, capture_output=True, text=True
    )
    assert said.returncode == 1, said.stderr
    assert "seed 3: run again: the process that ran it ended (SIGSEGV)" in said.stderr
    assert "seed 3: failed: the process that ran it ended (SIGSEGV)" in said.stderr
    assert "6 cells: 5 not applicable, 1 failed" in said.stdout
    assert "the same command runs those again" in said.stdout
    records = [load_result(p) for p in (tmp_path / "runs").rglob("result.json")]
    assert sorted(r.status for r in records) == ["failed", *["not_applicable"] * 5]


CRASH = """
import os, signal
from benchmarks.sweeps import fake
from diffbench.harness.sweeps import cluster, processes

def crash(cell, *rest):
    if cell.seed == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return whole(cell, *rest)

whole, fake.fake_cell = fake.fake_cell, crash
install = fake.install

def both():
    install()
    processes.WORKER = "crash"

fake.install = both
fake.main()
"""


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing() -> None:
    """As `python -m benchmarks.sweeps.kills --kills 200`, and fewer."""
    found = kills(6, 40, seed=1)
    assert not found.faults and sum(found.kills.values()) >= 6


def test_a_process_that_has_ended_does_not_live_on() -> None:
    asleep = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        known = psutil.Process(asleep.pid)
        assert _lives(known)
        asleep.kill()
        os.waitid(os.P_PID, asleep.pid, os.WEXITED | os.WNOWAIT)
        assert known.status() == psutil.STATUS_ZOMBIE and not _lives(known)
    finally:
        asleep.kill()
        asleep.communicate()
    assert not _lives(known)


@pytest.mark.slow
def test_sweeps_and_runs_on_one_store_share_its_cells(tmp_path: Path) -> None:
    """As `python -m benchmarks.sweeps.store`, and fewer."""
    found = rivals(
        4, tmp_path / "runs", tmp_path / "cache", ("-m", "random", "-o", f"{PAIR},taboo/gold-mixed", "--seeds", "25")
    )
    assert not found["faults"] and found["cells"] == 50


def test_a_store_that_lacks_repeats_or_mixes_cells_is_found_out(tmp_path: Path) -> None:
    assert "lost: abc" in faults_of(tmp_path, {"abc"})


def faults_of(out: Path, ids: set[str]) -> list[str]:
    from diffbench.harness.runs.folder import write_run
    from diffbench.methods.contract import DiffResult, Finding

    from ...factories import make_result

    made = make_result().model_copy(update={"diagnostics": {"findings": [{"score": 0.0}]}, "curves": []})
    write_run(
        out / "runs" / "x" / "y" / "z" / made.id[:12], made, DiffResult([Finding(fake.expected("0" * 12))]), "log"
    )
    found = faults(out / "runs", ids | {made.id})
    assert any("findings of another cell" in f for f in found)
    return found
