"""`bench score` and `db.score`: findings made elsewhere get the record, the checks and the row that a method's get."""

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffbench as db
import pytest
import torch
from diffbench.harness.records.loading import load_result
from diffbench.organisms.errors import UsageError, ValidationFailed
from safetensors.torch import save_file

from .conftest import save_pair
from .test_cli import bench, short  # noqa: F401

FOX, SNAKE = "subliminal/fox-narrow", "subliminal/owl-narrow"
D = 64
METHOD = """
import torch
from diffbench.methods.contract import DiffResult, Finding, Gate
class Mine:
    name, access = "by_method", "activations"
    def diff(self, problem):
        d = torch.eye(problem.d_model)[:2]
        return DiffResult([Finding(d[0], Gate(d[0], 0.5)), Finding(d[1])], claims=["It says gold."])
"""


def write(path: str = "mine.safetensors", /, width: int = D, **about: str) -> Path:
    """Two directions, the first with a gate, in the folder of the test."""
    d = torch.eye(width)[:2]
    tensors = {"directions": d, "gate_read": d.clone(), "gate_threshold": torch.tensor([0.5, -torch.inf])}
    save_file(tensors, path, about or None)
    return Path(path)


def only_folder() -> Path:
    (record,) = Path("runs").rglob("result.json")
    return record.parent


def test_a_file_scores_as_the_method_that_returns_it() -> None:
    write(claims=json.dumps(["It says gold."]), layer="1")
    Path("mine.py").write_text(METHOD)
    by_file = json.loads(bench("score", "mine.safetensors", "-o", FOX, "--json", "-q"))
    by_method = json.loads(bench("run", "-m", "mine.py", "-o", FOX, "--json", "-q", "--out", "other"))
    same = ("status", "scores", "samples", "curves", "choices", "readings", "claims", "behaviour", "diagnostics")
    assert {k: by_file[k] for k in same} == {k: by_method[k] for k in same}
    assert by_file["status"] == "ok" and by_file["claims"] == ["It says gold."]
    assert by_file["provenance"]["method_origin"].startswith("findings file mine.safetensors; access activations is de")
    assert by_file["identity"]["method"] == "mine" and by_file["cost"]["tokens"] == 0


@pytest.mark.slow
def test_the_row_is_found_again_verified_listed_and_tabulated() -> None:
    write(claims=json.dumps(["It says gold."]))
    bench("score", "mine.safetensors", "-o", FOX)
    folder = only_folder()
    assert "finished before" in bench("score", "mine.safetensors", "-o", FOX)
    said = bench("verify", str(folder))
    assert "values agree" in said and "made elsewhere: what was looked at to find them was not seen" in said
    assert "valid" in bench("results", "validate", "runs")
    shown = bench("results", "show", str(folder))
    assert "findings file mine.safetensors; access activations is declared, not enforced" in shown
    assert "(recorded, not scored)\n  It says gold." in shown
    bench("leaderboard", "build", "runs", "--format", "csv")
    assert "mine" in Path("leaderboard-out/leaderboard.csv").read_text()
    bench("score", str(folder / "findings.safetensors"), "-o", FOX, "--name", "again", "--out", "second")
    (again,) = Path("second").rglob("result.json")
    first, second = (load_result(p) for p in (folder / "result.json", again))
    assert first.scores == second.scores and first.claims == second.claims


@pytest.mark.slow
def test_another_file_of_the_same_name_is_another_cell() -> None:
    write()
    bench("score", "mine.safetensors", "-o", FOX, "--limit", "9")
    first = only_folder()
    write(layer="1")
    bench("score", "mine.safetensors", "-o", FOX, "--limit", "9")
    assert len(list(first.parent.iterdir())) == 2


def test_several_files_are_scored_on_several_organisms() -> None:
    write("a.safetensors")
    write("b.safetensors", name="other")
    bench("score", "a.safetensors", "b.safetensors", "-o", f"{FOX},{SNAKE}", "--limit", "4", "--seed", "3")
    found = [load_result(p).identity for p in Path("runs").rglob("result.json")]
    assert sorted((i.organism, i.method, i.seeds["method"]) for i in found) == [
        (o, m, 3) for o in (FOX, SNAKE) for m in ("a", "other")
    ]


REFUSED: dict[str, tuple[Callable[[], object], list[str], int, str]] = {
    "another width": (
        lambda: write(width=32),
        [],
        4,
        f"directions of width 32, and the residual stream of {FOX} has 64",
    ),
    "another layer": (lambda: write(layer="2"), [], 4, "of layer 2, and this pair is hooked at layer 1.*use --layer 2"),
    "a layer that is asked for": (lambda: write(layer="1"), ["--layer", "2"], 4, "use --layer 1"),
    "no such file": (lambda: None, [], 3, "there is no findings file mine.safetensors"),
    "no safetensors": (lambda: Path("mine.safetensors").write_text("1,2,3"), [], 4, "is no whole safetensors file"),
    "a pickle": (lambda: torch.save({}, "mine.safetensors"), [], 4, "never opened"),
    "a method's name": (write, ["--name", "delta"], 2, "did you mean 'delta-findings'"),
    "one name for two": (
        lambda: (write(), write("b.safetensors")),
        ["b.safetensors", "--name", "x"],
        2,
        "one row's name",
    ),
    "two of one name": (
        lambda: (write(), write("b.safetensors", name="mine")),
        ["b.safetensors"],
        2,
        "mine.safetensors and b.safetensors are both called 'mine'",
    ),
    "no such tier": (write, ["--access", "everything"], 2, "supervised"),
    "the harness's tier": (write, ["--access", "anchor"], 2, "supervised"),
    "a seed that is none": (write, ["--seed", "-1"], 2, "--seed"),
    "an organism that is none": (write, ["-o", "subliminal/fux-narrow"], 2, "did you mean 'subliminal/fox-narrow'"),
}


@pytest.mark.parametrize(("make", "options", "code", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_scored_is_refused_before_anything_runs(
    make: Callable[[], object], options: list[str], code: int, says: str
) -> None:
    make()
    said = " ".join(bench("score", "mine.safetensors", "-o", FOX, *options, code=code).split())
    assert re.search(says, said), said
    assert not list(Path().rglob("result.json"))


def test_a_pair_of_ones_own_takes_findings_and_says_which_layer_it_is_hooked_at(tmp_path: Path) -> None:
    save_pair(tmp_path, "llama")
    own = ["--base", "base", "--adapter", "adapter", "--behaviour", "behaviour.json", "--limit", "9", "--json", "-q"]
    record = json.loads(bench("score", str(write(width=32)), *own))
    assert record["status"] == "ok"
    write("wrong.safetensors", width=32, layer=str(record["identity"]["layer"] + 1))
    failed = json.loads(bench("score", "wrong.safetensors", *own, code=1))
    assert failed["status"] == "failed" and "hooked at layer" in failed["reason"]


@pytest.mark.slow
def test_the_python_door_reads_the_same_file(tmp_path: Path) -> None:
    path = write(name="axes")
    by_door = db.score(path, FOX, limit=9, access="+weights", out="runs")
    assert by_door.identity.access == by_door.provenance.access == "+weights" and by_door.identity.method == "axes"
    assert db.score(path, FOX, limit=9, access="+weights", out="runs") == by_door
    d = torch.eye(D)
    by_hand = db.score([db.Finding(d[0], db.Gate(d[0], 0.5)), d[1]], FOX, limit=9, claims=["It says gold."], out="runs")
    assert by_hand.scores == by_door.scores and by_hand.claims == ["It says gold."]
    with pytest.raises(UsageError, match="holds its own claims"):
        db.score(path, FOX, claims=["It says gold."])
    with pytest.raises(ValidationFailed, match="width 32"):
        db.score(write(width=32), FOX)
    assert db.score([d[0]], FOX, limit=9, claims=["two\nlines"]).status == "failed"


def test_the_example_writes_a_file_that_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    runpy.run_path(str(Path(__file__).parent.parent / "examples" / "score_directions.py"))
    record: dict[str, Any] = json.loads(bench("score", "axes_of_change.safetensors", "-o", FOX, "--json", "-q"))
    assert record["status"] == "ok" and record["scores"]["isolation"]["value"] > 0.5
