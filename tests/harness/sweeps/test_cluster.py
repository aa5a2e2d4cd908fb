"""A sweep on a Ray cluster of two machines, one of which is lost while it runs a cell. Needs the extra `ray`."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # scripts beside the package, not in it

from benchmarks.sweeps import fake
from benchmarks.sweeps.store import faults

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="Ray is not installed: pip install 'diffbench[ray]'")
ASKED = ("-m", "random", "-o", "taboo/gold-narrow,taboo/gold-mixed", "--limit", "9", "--engine", "ray")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two machines of one core, as processes of this one."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        found.add_node(num_cpus=1)
        yield found
    finally:
        found.shutdown()


def command(cluster: Any, *args: str) -> list[str]:
    bench = [sys.executable, "-c", "from diffbench.cli import main; main()"]
    return [*bench, "sweep", *ASKED, "--address", cluster.address, *args]


def test_a_machine_that_is_lost_loses_no_cell(cluster: Any, tmp_path: Path) -> None:
    environment, out = fake.environment(tmp_path / "cache"), tmp_path / "runs"
    asked = command(cluster, "--seeds", "10", "--out", str(out))
    plan = subprocess.run([*asked, "--dry-run", "--json"], env=environment, capture_output=True, text=True, check=True)
    ids = {c["id"] for c in json.loads(plan.stdout)["cells"]}
    assert json.loads(plan.stdout)["total"]["jobs"] == 2 and len(ids) == 20
    sweep = subprocess.Popen(
        [*asked, "--json"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 400
    # a cell of each pair: both machines are at work
    while len({p.parts[-4] for p in out.glob("*/*/*/[!.]*/result.json")}) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    said, errors = sweep.communicate(timeout=400)
    assert sweep.returncode == 0, errors
    assert "run again: its machine or its process there was lost" in errors, errors
    rows = json.loads(said)
    assert {r["id"] for r in rows} == ids and [r["status"] for r in rows] == ["ok"] * 20
    assert not faults(out, ids, made_up=False)
    again = subprocess.run([*asked, "--json"], env=environment, capture_output=True, text=True, check=True)
    assert all(r["finished_before"] for r in json.loads(again.stdout))


def test_what_no_machine_has_is_refused(cluster: Any, tmp_path: Path) -> None:
    for more, said in ((("--cpus", "3"), "no machine of the cluster has 3 CPUs"), (("--gpus", "1"), "1 GPUs")):
        asked = command(cluster, *more, "--dry-run", "--out", str(tmp_path))
        found = subprocess.run(asked, env=fake.environment(tmp_path / "cache"), capture_output=True, text=True)
        assert found.returncode == 3 and said in found.stderr and "--cpus, --gpus or --memory" in found.stderr


def test_a_cluster_that_is_gone_is_told_from_one_that_is_there(tmp_path: Path) -> None:
    asked = [
        sys.executable,
        "-c",
        "from diffbench.cli import main; main()",
        "sweep",
        *ASKED,
        "--address",
        "127.0.0.1:1",
    ]
    found = subprocess.run(asked, env=fake.environment(tmp_path / "cache"), capture_output=True, text=True)
    assert found.returncode == 3 and "no Ray cluster answers at 127.0.0.1:1" in found.stderr, found.stderr
