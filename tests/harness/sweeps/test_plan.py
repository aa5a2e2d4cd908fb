"""A plan: what is finished, and times from the nearest cells that were run."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diffbench.harness.records.identity import sha256_json
from diffbench.harness.records.result import Result
from diffbench.harness.records.settings import PROTOCOL_V2
from diffbench.harness.runs.packs import pack
from diffbench.harness.runs.run import plan as cells_of
from diffbench.harness.sweeps import plan as module
from diffbench.harness.sweeps.plan import Measured, plan, recorded, work_of
from diffbench.methods.catalogue import PUBLISHED
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import PrerequisiteError
from diffbench.organisms.organism import Organism

from ...factories import make_result, write_result

PROTOCOL = sha256_json(PROTOCOL_V2.model_dump())


def took(seconds: int, method: str = "random", organism: str = "taboo/gold-narrow", **fields: Any) -> Result:
    """A record of a cell that ran for so long."""
    made = make_result(method, organism, protocol_sha256=PROTOCOL, **fields)
    times = {"started_utc": "2025-01-01T00:00:00+00:00", "finished_utc": f"2025-01-01T00:00:{seconds:02}+00:00"}
    return made.model_copy(update={"provenance": made.provenance.model_copy(update=times)})


def planned(organism: Organism, out: Path, methods: str = "random", seeds: int = 3, **more: Any) -> module.Plan:
    chosen = [(m, m.configure({})) for m in map(load_method, methods.split(","))]
    work = work_of(cells_of([organism], chosen, range(seeds), out))
    return plan(work, Measured.of(recorded(*more.pop("folders", [out]))), **({"jobs": 2, "threads": 1} | more))


def test_times_are_those_of_the_organism_then_of_its_size_and_never_of_another_protocol(
    organism: Organism, tmp_path: Path
) -> None:
    for record in (
        took(10, seed=0),
        took(20, seed=1),
        took(50, organism="taboo/gold-mixed"),
        took(7, "mean_diff", "taboo/gold-mixed"),
        took(59, "mean_diff", "taboo/gold-mixed", limit=9),
        took(59, "oracle", status="failed"),
        make_result("logit_diff"),
    ):
        write_result(tmp_path, record)
    found = planned(organism, tmp_path, "random,mean_diff,oracle,logit_diff")
    assert [c.seconds for c in found.cells] == [15, 15, 15, 7, None, None]
    assert found.unknown == 2 and found.seconds == 52 and found.wall_s == 26
    assert found.memory_bytes == 900 << 20


def test_what_a_paper_ran_takes_its_own_time(organism: Organism, tmp_path: Path) -> None:
    """It may write text where ours reads some."""
    for seconds, config in ((10, {}), (40, PUBLISHED["logit_diff"])):
        write_result(tmp_path, took(seconds, "logit_diff", config=config))
    found = planned(organism, tmp_path, "logit_diff,logit_diff@published", seeds=1)
    assert [(c.method, c.seconds) for c in found.cells] == [("logit_diff", 10), ("logit_diff@published", 40)]


def test_records_of_packs_count_and_scratch_and_damage_do_not(organism: Organism, tmp_path: Path) -> None:
    pack([took(30)], tmp_path / "published")
    path = write_result(tmp_path / "runs", took(10))
    path.write_text("{")
    write_result(tmp_path / "runs" / ".work", took(10))
    (tmp_path / "runs" / "x.jsonl.xz").write_bytes(b"no")
    found = planned(organism, tmp_path / "runs", folders=[tmp_path / "runs", tmp_path / "published"])
    assert {c.seconds for c in found.cells} == {30}


def test_what_is_finished_is_not_to_be_run_unless_all_is(organism: Organism, tmp_path: Path) -> None:
    from diffbench.harness.runs.cell import unloaded
    from diffbench.harness.runs.folder import run_folder, write_run
    from diffbench.organisms.errors import DiffbenchError

    random = load_method("random")
    work = work_of(cells_of([organism], [(random, random.configure({}))], range(3), tmp_path))
    for number, status in ((0, "not_applicable"), (1, "failed")):
        result = unloaded(work.plan.cells[number], 2, DiffbenchError("so"), status).result
        write_run(run_folder(tmp_path, organism.name, "random", result.id), result, None, "")
    found = plan(work, Measured(), 1, 1)
    assert found.todo == [1, 2] and [c.finished for c in found.cells] == [True, False, False]
    again = work_of(cells_of([organism], [(random, random.configure({}))], range(3), tmp_path, overwrite=True))
    assert plan(again, Measured(), 1, 1).todo == [0, 1, 2]


def test_a_disk_that_is_too_small_is_refused_with_both_numbers(
    organism: Organism, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    found = planned(organism, tmp_path / "not yet there")
    assert found.disk_bytes == 1_200_000
    with pytest.raises(PrerequisiteError, match=r"needs 0\.00 GB in .*not yet there and 0\.00 GB are free; make room"):
        found.check()
    assert json.loads(json.dumps(found.data()))["total"]["to_run"] == 3
