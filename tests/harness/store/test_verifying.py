"""`bench verify` goes into folders and packs, says a line a record, and scores what a pack holds."""

from pathlib import Path

import pytest
from diffbench.cli import app
from diffbench.harness.records.result import Result
from diffbench.harness.runs.folder import FINDINGS, RESULT
from diffbench.harness.runs.verify import Verification
from diffbench.harness.store import verifying
from diffbench.organisms.errors import PrerequisiteError, ValidationFailed
from typer.testing import CliRunner

from ...factories import make_result
from .test_store import write

CELLS = [make_result("delta", "taboo/gold", s) for s in (0, 1)] + [make_result("l1", "taboo/gold", status="oom")]


def scored(folder: Path, organism: object) -> Verification:
    """In the place of scoring: cells of seed 1 claim something else, findings have to be there."""
    result = Result.model_validate_json((folder / RESULT).read_text())
    if result.status != "ok":
        raise PrerequisiteError(f"{folder} holds a cell with status {result.status!r}")
    assert (folder / FINDINGS).is_file()
    if result.identity.seeds["method"] == 2:
        raise ValidationFailed("another organism, protocol or version")
    return Verification(
        3, [("scores.isolation.value", 0.9, 0.1)] if result.identity.seeds["method"] else [], ["unseen"]
    )


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(verifying, "verify", scored)
    for cell in CELLS:
        write(tmp_path / "runs", cell)
    assert (
        CliRunner().invoke(app, ["results", "pack", str(tmp_path / "runs"), "--out", str(tmp_path / "packs")]).exit_code
        == 0
    )
    return tmp_path / "runs", tmp_path / "packs"


def test_a_line_a_record_wherever_it_lies(places: tuple[Path, Path]) -> None:
    for place in places:
        said = {c.where.rpartition(":")[2].rpartition("/")[2]: c for c in verifying.verify_all([place], None)}
        assert [said[c.id[:12]].bad for c in CELLS] == [False, True, False]
        assert said[CELLS[0].id[:12]].line.endswith(": 3 values agree; unseen")
        assert said[CELLS[1].id[:12]].line.endswith(": 1 of 3 values differ")
        assert "not verified" in said[CELLS[2].id[:12]].line and "status 'oom'" in said[CELLS[2].id[:12]].line
        whole = CliRunner().invoke(app, ["verify", str(place)])
        assert whole.exit_code == 4 and "1 of 3 records do not say what their findings score" in whole.output
        assert "scores.isolation.value" in whole.output


def test_a_record_that_cannot_be_believed_is_refused_and_the_others_go_on(places: tuple[Path, Path]) -> None:
    runs, _ = places
    write(runs, make_result("delta", "taboo/gold", 2))
    (write(runs, make_result("pca", "taboo/gold")) / RESULT).write_text("{")
    lines = [c.line for c in verifying.verify_all([runs], None)]
    assert len(lines) == 5 and sum(": refused: " in line for line in lines) == 2


def test_where_nothing_can_be_verified_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "verify", scored)
    write(tmp_path / "runs", CELLS[2])
    write(tmp_path / "runs", make_result("pca", "taboo/gold", status="failed"))
    said = CliRunner().invoke(app, ["verify", str(tmp_path / "runs")])
    assert said.exit_code == 3 and "none of 2 records can be verified" in said.output
    (tmp_path / "empty").mkdir()
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "empty")]).exit_code == 3
