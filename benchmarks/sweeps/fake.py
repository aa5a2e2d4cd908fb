"""Cells that compute nothing and write everything, so that a sweep goes as fast as it can and a kill often meets a write.

    python -m benchmarks.sweeps.fake sweep …      bench, in whose processes cells are such
    python -m benchmarks.sweeps.fake FD           such a process
    python -m benchmarks.sweeps.fake run …        bench run with such cells

What a cell finds follows from its id, so that a foreign or a half-written file is told from the right one.
"""

import hashlib
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SLEEP_S = 0.04
"""Longest that a cell takes beside its writing."""
D_MODEL = 128


def expected(id_: str) -> Any:
    """The direction that the cell of an id finds."""
    import torch

    generator = torch.Generator().manual_seed(int(id_[:12], 16))
    return torch.randn(D_MODEL, generator=generator)


def fake_cell(cell: Any, stage: Any, progress: Any, scratch: Path) -> Any:
    """In place of `run_cell`: a checkpoint, a little time, a record with a finding and a dictionary."""
    from diffbench.harness.runs.cell import Outcome, unloaded
    from diffbench.methods.contract import DiffResult, Finding
    from diffbench.organisms.errors import DiffbenchError

    made = unloaded(cell, stage.pair.layer, DiffbenchError("a cell that computes nothing"), "not_applicable").result
    (scratch / "checkpoint").write_bytes(os.urandom(4096))
    time.sleep(SLEEP_S * int(hashlib.sha256(made.id.encode()).hexdigest()[:4], 16) / 2**16)
    progress("fit", 1, 2)
    direction = expected(made.id)
    diff = DiffResult([Finding(direction)], dictionary={"w": direction.repeat(256, 1)})
    return Outcome(made.model_copy(update={"diagnostics": {"findings": [{"score": 0.0}]}}), diff)


def install() -> None:
    """Let cells of this process be such."""
    from diffbench.harness.runs import run
    from diffbench.harness.sweeps import processes

    def load(cell: Any, watch: Any, cache: Any) -> Any:
        watch.loading(cell.organism.name)
        return SimpleNamespace(pair=SimpleNamespace(layer=cell.organism.layer))

    run.run_cell, run._load, processes.WORKER = fake_cell, load, "benchmarks.sweeps.fake"
    processes.ENDING_S = 600.0  # one that is interrupted and does not end is not helped


def command(*args: str) -> list[str]:
    """A command line of `bench` with such cells."""
    return [sys.executable, "-m", "benchmarks.sweeps.fake", *args]


def environment(cache: Path) -> dict[str, str]:
    """Its variables: this checkout's scripts, a cache of its own, one thread."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "BENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Be a process of a sweep, or the command."""
    install()
    if sys.argv[1].isdecimal():
        from diffbench.harness.sweeps import worker

        worker.main()
        return
    from diffbench.cli import app

    sys.argv[0] = "bench"
    app()


if __name__ == "__main__":
    main()
