"""The notebook runs as it stands and says what it said when it was written; the Python door is the command line's."""

import re
from pathlib import Path
from typing import Any

import diffbench as db
import nbformat
import pytest
import torch
from diffbench.organisms.errors import PrerequisiteError, UsageError
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "examples" / "quickstart.ipynb"


def printed(notebook: Any) -> list[str]:
    """What its cells show, pictures left out."""
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    return [o["data"]["text/plain"] for o in outputs if "data" in o and "image/png" not in o["data"]]


@pytest.mark.slow
def test_the_quickstart_says_what_it_said() -> None:
    kept = nbformat.read(NOTEBOOK, 4)
    fresh = nbformat.read(NOTEBOOK, 4)
    NotebookClient(fresh, timeout=300, kernel_name="python3").execute()
    number = re.compile(r"-?\d+\.\d+")
    assert len(printed(kept)) == len(printed(fresh)) > 5
    for before, after in zip(printed(kept), printed(fresh), strict=True):
        assert re.sub(r"\s+", " ", number.sub("#", before)) == re.sub(r"\s+", " ", number.sub("#", after))
        assert [float(n) for n in number.findall(after)] == pytest.approx(
            [float(n) for n in number.findall(before)], abs=2e-3
        )
    pictures = [o for c in kept.cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 1


class Constant:
    """The same direction everywhere."""

    name = "constant"
    access = "activations"

    def diff(self, problem: Any) -> db.DiffResult:
        return db.DiffResult([db.Finding(torch.ones(problem.d_model))])


def test_a_class_a_name_and_findings_are_scored_alike(tmp_path: Path) -> None:
    (by_class,) = db.run(Constant, "subliminal/fox-narrow", out=tmp_path, limit=8)
    by_hand = db.score([torch.ones(64)], "subliminal/fox-narrow", limit=8)
    assert by_class.scores == by_hand.scores and by_class.status == "ok"
    assert by_class.identity.limit == 8 and list(tmp_path.rglob("result.json"))
    frame = db.table([by_class, by_hand])
    assert list(frame["method"]) == ["constant", "findings"] and frame["isolation"].nunique(dropna=False) == 1
    again = db.run(Constant, "subliminal/fox-narrow", out=tmp_path, limit=8)
    assert again == [by_class]


@pytest.mark.drawn
@pytest.mark.slow
def test_a_result_is_drawn_as_in_its_run_folder_and_one_without_curves_is_told_why(tmp_path: Path) -> None:
    found, oracle = db.run([Constant, "oracle"], "subliminal/fox-narrow", out=tmp_path, limit=8)
    figure = db.plot(found)
    drawn = [
        line.get_label() for axes in figure.axes for line in axes.lines if not str(line.get_label()).startswith("_")
    ]
    curves = [name for name in drawn if not str(name).startswith("chosen")]
    assert len(curves) == 2 * len(found.curves) > 2 and len(curves) < len(drawn)
    assert "constant on subliminal/fox-narrow" in str(figure.get_suptitle())
    figure.savefig(tmp_path / "mine.png", dpi=130)
    (saved,) = tmp_path.rglob("constant/*/dose_response.png")
    assert (tmp_path / "mine.png").read_bytes() == saved.read_bytes()
    with pytest.raises(UsageError, match="oracle on subliminal/fox-narrow has no curves"):
        db.plot(oracle)


def test_what_the_door_refuses() -> None:
    with pytest.raises(UsageError, match="did you mean 'delta'"):
        db.run("dleta", "taboo")
    with pytest.raises(UsageError, match=r"no run option 'tokns'; did you mean 'tokens'"):
        db.run("delta", "taboo", tokns=5)
    with pytest.raises(UsageError, match="give either adapter"):
        db.own_pair("base", "b.json")
    with pytest.raises(PrerequisiteError, match="the base nowhere is not a folder"):
        db.load_pair("nowhere", "adapter")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = db.nothing  # type: ignore[attr-defined]
    nulls = db.score([torch.randn(63)], "subliminal/fox-narrow", limit=8)
    assert nulls.status == "failed" and "63" in str(nulls.reason)


def test_lists_are_data_frames() -> None:
    assert {"delta", "oracle"} <= set(db.list_methods()["name"])
    assert "taboo/gold-narrow" in set(db.list_organisms()["name"])
