"""Run folders: whole or not there, whatever is killed; findings that are the ones of their record."""

import os
import stat
from pathlib import Path

import pytest
import torch
from diffbench.harness.records.loading import finished, load_result
from diffbench.harness.records.result import Result
from diffbench.harness.runs import folder as folder_module
from diffbench.harness.runs.folder import FINDINGS, RESULT, read_findings, tidy, write_run
from diffbench.harness.runs.records import validate
from diffbench.leaderboard.board.store import load_results
from diffbench.methods.contract import DiffResult, Finding
from diffbench.organisms.card import sha256_file
from diffbench.organisms.errors import ValidationFailed
from safetensors.torch import load_file, save_file

from ...factories import make_result


def written(runs: Path, seed: int = 0, length: float = 1.0) -> tuple[Path, Result]:
    result = make_result(seed=seed)
    folder = runs / result.id[:12]
    write_run(folder, result, DiffResult([Finding(torch.full((4,), length)) for _ in range(2)]), "log")
    return folder, result


def test_every_file_of_a_run_can_be_read_by_others(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        folder, _ = written(tmp_path)
    finally:
        os.umask(mask)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()}
    assert FINDINGS in modes and set(modes.values()) == {0o644}


class Killed(BaseException):
    """What nothing catches."""


@pytest.mark.parametrize("rename", [1, 2])
def test_a_kill_while_a_folder_is_replaced_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rename: int
) -> None:
    """Before the first rename the old run stands; between the two nothing does until the cell is asked for again."""
    folder, result = written(tmp_path)
    done, real = 0, Path.rename

    def killed(self: Path, target: Path) -> Path:
        nonlocal done
        done += 1
        if done >= rename:
            raise Killed  # and whatever would put things right is killed as well
        return real(self, target)

    with monkeypatch.context() as m:
        m.setattr(Path, "rename", killed)
        m.setattr(folder_module.shutil, "rmtree", lambda *a, **k: None)
        with pytest.raises(Killed):
            written(tmp_path, length=2.0)
    assert folder.exists() == (rename == 1)
    tidy(folder)
    assert finished(folder / RESULT, result.id) is not None and validate([folder])[0].problems == ()
    assert float(read_findings(folder).findings[0].direction[0]) == rename
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_scratch_of_another_cell_is_left_alone(tmp_path: Path) -> None:
    folder, _ = written(tmp_path)
    (tmp_path / f".{folder.name}.abc").mkdir()
    (tmp_path / ".another.abc").mkdir()
    tidy(folder)
    assert {p.name for p in tmp_path.iterdir()} == {folder.name, ".another.abc"}


def test_the_record_holds_the_hash_of_its_findings(tmp_path: Path) -> None:
    folder, result = written(tmp_path)
    assert load_result(folder / RESULT).findings_sha256 == result.findings_sha256 == sha256_file(folder / FINDINGS)
    written(tmp_path / "other", length=2.0)
    (other,) = (tmp_path / "other").rglob(FINDINGS)
    (folder / FINDINGS).write_bytes(other.read_bytes())  # the same cell's, by every name in it
    assert "other bytes than the ones that were scored" in validate([folder])[0].problems[0]


def test_the_leaderboard_looks_at_findings_that_lie_beside_a_record(tmp_path: Path) -> None:
    """Another method's findings under this record, or fewer; a record alone, or from a pack, has none to look at."""
    folder, result = written(tmp_path / "a")
    other, _ = written(tmp_path / "b", seed=1)
    assert len(load_results(tmp_path).results) == 2
    own = (folder / FINDINGS).read_bytes()
    (folder / FINDINGS).write_bytes((other / FINDINGS).read_bytes())
    assert "belongs to result" in load_results(tmp_path).problems[0].reason
    write_run(folder, result, DiffResult([Finding(torch.ones(4))]), "log")
    assert "holds 1 findings, but 2 were scored" in load_results(tmp_path).problems[0].reason
    (folder / FINDINGS).write_bytes(own[:20])
    assert "cannot be read" in load_results(tmp_path).problems[0].reason
    (folder / FINDINGS).unlink()
    assert load_results(tmp_path).problems == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("direction", torch.ones(4)),
        ("direction", torch.tensor(1.0)),
        ("direction", torch.ones(2, 4, dtype=torch.float64)),
        ("direction", torch.ones(2, 4, dtype=torch.int32)),
        ("direction", torch.ones(17, 4)),
        ("direction", torch.ones(0, 4)),
        ("read", torch.ones(2, 5)),
        ("threshold", torch.ones(2, 1)),
        ("score", torch.ones(3)),
        ("score", None),
    ],
)
def test_tensors_that_are_no_findings_are_refused(tmp_path: Path, name: str, value: torch.Tensor | None) -> None:
    folder, result = written(tmp_path)
    tensors = {k: v for k, v in (load_file(folder / FINDINGS) | {name: value}).items() if v is not None}
    save_file(tensors, folder / FINDINGS, {"result": result.id, "layer": "2"})
    with pytest.raises(ValidationFailed, match="is damaged"):
        read_findings(folder)
    assert validate([folder])[0].problems
