"""The Python door refuses what the command line refuses, and never serves an old number for new code."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffbench as db
import numpy as np
import pytest
import torch
from diffbench.methods.baselines import MeanDifference
from diffbench.methods.registry import from_class
from diffbench.organisms.errors import DiffbenchError, PrerequisiteError, UsageError

from .conftest import SHORT, save_pair

FOX = "subliminal/fox-narrow"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("diffbench.harness.runs.cell.PROTOCOL_V2", SHORT)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "x", "adapter": "y"}, "base is no option here; a pair of your own is"),
        ({"behaviour": "b.json"}, "behaviour is no option here"),
        ({"device": "gpu"}, "did you mean cuda"),
        ({"layer": 9}, "has blocks 0 to 3"),
        ({"layr": 1}, "did you mean 'layer'"),
        ({"set": {"delta": {"k": 3}}}, "no method of this run 'delta'"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_an_option_that_would_change_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        db.run("random", FOX, **options)


def test_a_sweep_of_layers_has_its_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[list[str]]()

    def cells(settings: Any, *given: Any) -> list[Any]:
        asked.append([m.name for m, _ in settings.methods])
        return []

    monkeypatch.setattr("diffbench.api._cells", cells)
    for layer in (1, [1, 2]):
        db.run(["random", "oracle"], FOX, layer=layer)
    assert asked == [["random", "oracle"], ["random", "oracle", "supervised"]]


def test_findings_belong_to_one_pair_and_have_no_other_methods_name() -> None:
    with pytest.raises(UsageError, match="findings belong to one pair"):
        db.score([torch.ones(64)], "core-v2")
    with pytest.raises(UsageError, match="which is a built-in or an installed method; did you mean 'delta-findings'"):
        db.score([torch.ones(64)], FOX, name="delta")
    with pytest.raises(UsageError, match="lower-case letters"):
        db.score([torch.ones(64)], FOX, name="My Findings")
    with pytest.raises(UsageError, match="base is no option here"):
        db.score([torch.ones(64)], FOX, base="x")
    with pytest.raises(UsageError, match="2 seeds were given"):
        db.score([torch.ones(64)], FOX, seed=[0, 1])
    assert all(issubclass(e, DiffbenchError) for e in (UsageError, PrerequisiteError))


def test_what_a_notebook_holds_is_taken_as_it_is(tmp_path: Path) -> None:
    save_pair(tmp_path, "llama")
    (tmp_path / "own.yaml").write_text("base: base\nadapter: adapter\nbehaviour: behaviour.json\n")
    own = db.own_pair(tmp_path / "base", tmp_path / "behaviour.json", tmp_path / "adapter")
    by_card, by_hand = (db.run("oracle", o, seed=np.int64(3), limit=9)[0] for o in (tmp_path / "own.yaml", own))
    assert by_card.status == "ok" and by_card.scores == by_hand.scores and by_card.id == by_hand.id
    assert [r.identity.seeds["method"] for r in db.run("random", FOX, seed=range(2), limit=9)] == [0, 1]
    assert len(db.run("oracle", [FOX, "subliminal/fox-narrow", FOX], limit=9)) == 1


def test_of_several_a_damaged_one_is_left_out_with_a_warning_and_alone_it_raises(tmp_path: Path) -> None:
    save_pair(tmp_path, "llama")
    (tmp_path / "own.yaml").write_text("base: base\nadapter: adapter\nbehaviour: behaviour.json\n")
    shutil.rmtree(tmp_path / "adapter")
    with pytest.warns(UserWarning, match=r"own.yaml was left out: the adapter adapter"):
        results = db.run("oracle", ["own.yaml", FOX], limit=9)
    assert [r.status for r in results] == ["ok"]
    with pytest.raises(PrerequisiteError):
        db.run("oracle", "own.yaml", limit=9)


@pytest.mark.slow
def test_a_table_marks_what_is_partial_and_says_what_a_null_has() -> None:
    frame = db.table(db.run("random", [FOX, "null/base-identical"], limit=9)).set_index("organism")
    assert list(frame["limit"]) == [9, 9]
    assert np.isnan(frame.loc[FOX, "false_discoveries"]) and frame.loc["null/base-identical", "false_discoveries"] >= 0


METHOD = """
import torch, diffbench as db
def sign(): return {sign}
class Mine:
    access = "activations"
    stochastic = False
    def diff(self, problem):
        return db.DiffResult([db.Finding(sign() * torch.ones(problem.d_model))])
"""


def module(path: Path, sign: int) -> Any:
    path.write_text(METHOD.format(sign=sign))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = made
    spec.loader.exec_module(made)
    return made.Mine


def test_a_class_whose_helper_changed_is_another_method(tmp_path: Path) -> None:
    ids = [
        db.run(module(tmp_path / f"helper_{i}.py", sign), FOX, limit=9, out="r")[0].id for i, sign in ((0, 1), (1, -1))
    ]
    assert ids[0] != ids[1]
    assert from_class(MeanDifference).origin == "built-in"


@pytest.mark.slow
def test_a_notebooks_class_is_run_again_because_other_cells_may_have_changed(tmp_path: Path) -> None:
    """In a notebook a class has no file; `exec` from lines that `inspect` knows is what its kernel does."""
    script = f"""
import json, linecache, sys
import diffbench as db
import diffbench.harness.runs.cell as cell
from diffbench.harness.records.settings import Protocol
cell.PROTOCOL_V2 = Protocol(**{SHORT.model_dump()!r})
del sys.modules["__main__"].__file__
def enter(name, text):
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), globals())
said = []
for n, sign in enumerate((1, -1)):
    enter(f"<cell {{n}} a>", f"def sign(): return {{sign}}")
    if not n:
        enter("<cell b>", {METHOD.partition("return {sign}")[2]!r})
    (result,) = db.run(Mine, {FOX!r}, limit=9, out="runs")
    said.append([result.status, result.curves[0].rate, result.provenance.command])
print(json.dumps(said))
"""
    script = script.replace("import json", "import json, torch")
    (tmp_path / "kernel.py").write_text(script)
    done = subprocess.run([sys.executable, "kernel.py", "-f", "/secret"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = json.loads(done.stdout)
    assert one[0] == two[0] == "ok" and one[1] != two[1]
    assert one[2] == ["kernel.py"]


def test_a_list_does_not_read_the_zoo_again_for_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    db.list_methods()
    monkeypatch.setattr("diffbench.organisms.registry.organism_names", lambda *zoo: pytest.fail("read again"))
    assert len(db.list_organisms()) > 80
