"""A device that is full costs one cell; a device that fails costs the rest of this run and nothing that is finished."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.devices import DeviceFailed, OutOfMemory, release, trouble
from diffbench.harness.pairs.anatomy import PairError
from diffbench.harness.records.result import Result
from diffbench.harness.runs import cell as cell_module
from diffbench.harness.runs.run import exit_code, plan, run
from diffbench.harness.runs.stage import Stage
from diffbench.methods.entry import MethodEntry, MethodError
from diffbench.methods.registry import load_method
from diffbench.organisms.organism import Organism

from ...conftest import SHORT
from ...factories import make_result
from .test_cells import Quiet, write_method

FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has …"),
    MemoryError(),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.87 GB, max allowed: 9.07 GB)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 17 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
)
DEAD = (
    RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"),
    torch.AcceleratorError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA driver error: invalid argument"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("HIP error: an illegal memory access was encountered"),
)


@pytest.mark.parametrize("error", [*FULL, *DEAD], ids=lambda e: str(e)[:40])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_device_and_a_dead_one_are_told_apart_by_what_libraries_say(error: Exception, wrapped: bool) -> None:
    seen: Exception = error
    if wrapped:
        seen = MethodError("mine raised something")
        seen.__cause__ = error
    known = trouble(seen, "cuda")
    assert type(known) is (OutOfMemory if error in FULL else DeviceFailed)
    assert "cuda" in str(known) and (str(error).split("\n")[0] or "MemoryError") in str(known)


def test_anything_else_is_what_it_is() -> None:
    own = PairError("the models differ")
    assert trouble(own, "cuda") is own
    for bug in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RuntimeError("")):
        assert trouble(bug, "cuda") is None


def test_what_a_failed_cell_held_is_let_go() -> None:
    held = list[Any]()

    def work() -> None:
        big = torch.zeros(10)
        held.append(__import__("weakref").ref(big))
        raise torch.OutOfMemoryError("CUDA out of memory")

    try:
        work()
    except torch.OutOfMemoryError as error:
        assert held[0]() is not None
        release(error)
        assert held[0]() is None


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    """Loading is quick, and nothing is scored."""
    monkeypatch.setattr(Stage, "load", lambda *_: stage)
    monkeypatch.setattr(Stage, "measured", lambda *_: None)
    monkeypatch.setattr(cell_module, "measure_controls", lambda *_: None)
    scored = make_result()
    fields = {name: getattr(scored, name) for name in ("scores", "samples", "behaviour")}
    monkeypatch.setattr(cell_module, "measured", lambda *_: dict(fields))


def raising(folder: Path, error: Exception) -> MethodEntry:
    """A method that meets an error unless a file `fine` lies in a folder; it keeps a checkpoint."""
    fine = folder / "fine"
    words = str(error).split("\n")[0]
    return write_method(
        folder,
        f"""from pathlib import Path
        problem.scratch.mkdir(parents=True, exist_ok=True)
        seen = (problem.scratch / "half").exists()
        (problem.scratch / "half").touch()
        if not Path({str(fine)!r}).exists():
            raise {type(error).__name__.join(("torch.", "")) if "torch" in type(error).__module__ else type(error).__name__}({words!r})
        return DiffResult([Finding(torch.ones(problem.d_model))], diagnostics=dict(resumed=seen))""",
    )


def go(
    folder: Path, organism: Organism, entry: MethodEntry, watch: Quiet | None = None, in_process: bool = False
) -> list[Result]:
    methods = [(m, m.configure({})) for m in (load_method("random"), entry, load_method("pca"))]
    cells = plan([organism], methods, [0], folder / "runs", protocol=SHORT, in_process=in_process)
    return list(run(cells, watch or Quiet(), str))


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    "error", [FULL[0], *(pytest.param(e, marks=pytest.mark.slow) for e in FULL[1:3])], ids=lambda e: str(e)[:20]
)
def test_a_cell_that_does_not_fit_stops_no_other(tmp_path: Path, organism: Organism, error: Exception) -> None:
    results = go(tmp_path, organism, raising(tmp_path, error))
    assert [r.status for r in results] == ["ok", "oom", "ok"] and exit_code(results) == 1
    reason = results[1].reason or ""
    assert "the memory of this machine did not hold the cell" in reason and "--tokens" in reason
    assert results[1].failure is not None and results[1].failure.type == "OutOfMemory"


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("error", DEAD[:2], ids=lambda e: str(e)[12:30])
def test_a_device_that_fails_ends_the_run_and_the_next_one_goes_on(
    tmp_path: Path, organism: Organism, error: Exception
) -> None:
    entry = raising(tmp_path, error)
    results = go(tmp_path, organism, entry, in_process=True)
    assert [r.status for r in results] == ["ok", "failed", "not_run"] and exit_code(results) == 1
    for r in results[1:]:
        assert "the process that met it can run nothing more on it. What is finished is kept" in (r.reason or "")
    saved = {p.parents[1].name for p in (tmp_path / "runs").rglob("result.json")}
    assert saved == {"random", "mine"}, "what was not tried leaves no record"
    (tmp_path / "fine").touch()
    watch = Quiet()
    again = go(tmp_path, organism, entry, watch, in_process=True)
    assert [r.status for r in again] == ["ok"] * 3 and (watch.cached, watch.ran) == (1, 2)
    assert again[1].diagnostics["resumed"], "its checkpoint was kept"
    assert not list((tmp_path / "runs" / ".work").iterdir())


@pytest.mark.usefixtures("served")
def test_a_device_that_fails_under_a_methods_own_process_costs_its_cell(tmp_path: Path, organism: Organism) -> None:
    entry = raising(tmp_path, DEAD[0])
    results = go(tmp_path, organism, entry)
    assert [r.status for r in results] == ["ok", "failed", "ok"]
    assert "cpu failed (CUDA error: device-side assert triggered)" in (results[1].reason or "")
    (tmp_path / "fine").touch()
    again = go(tmp_path, organism, entry)
    assert [r.status for r in again] == ["ok"] * 3 and again[1].diagnostics["resumed"], "its checkpoint was kept"


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("place", ["measure", "score"])
@pytest.mark.parametrize(("error", "status"), [(FULL[0], "oom"), (DEAD[0], "failed"), (RuntimeError("shapes"), None)])
def test_wherever_in_a_cell_it_happens(
    tmp_path: Path, organism: Organism, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception, status: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    if place == "measure":
        monkeypatch.setattr(Stage, "measured", fail)
    else:
        monkeypatch.setattr(cell_module, "measured", fail)
    cells = plan([organism], [(m := load_method("random"), m.configure({}))], [0, 1], tmp_path, protocol=SHORT)
    if status is None:
        with pytest.raises(RuntimeError, match="shapes"):
            list(run(cells, Quiet(), str))
        return
    assert [r.status for r in run(cells, Quiet(), str)] == [status, "oom" if status == "oom" else "not_run"]


def test_a_device_that_fails_while_a_pair_loads(
    tmp_path: Path, organism: Organism, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PairError("Gemma2ForCausalLM does not run") from DEAD[1]

    monkeypatch.setattr(Stage, "load", fail)
    cells = plan([organism], [(m := load_method("random"), m.configure({}))], [0, 1], tmp_path, protocol=SHORT)
    results = list(run(cells, Quiet(), str))
    assert [r.status for r in results] == ["failed", "not_run"]
    assert all("nothing more on it" in (r.reason or "") for r in results)
