"""A finished run is recognised without loading anything, and never after something changed that it depends on."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from diffbench.harness.commands import recall as recall_module
from diffbench.harness.commands.recall import Known, note_of, recall, remember
from diffbench.harness.commands.settings import asked
from diffbench.harness.records.result import Result
from diffbench.harness.runs.folder import RESULT, run_folder, write_run

from .factories import make_result


def options(out: Path, **more: Any) -> dict[str, Any]:
    return {"method": ["mean_diff"], "organism": ["taboo/gold-narrow"], "out": out, "set": []} | more


def known(out: Path, **more: Any) -> Known | None:
    file = asked(None, options(out, **more))
    note = note_of(file)
    return recall(file, note) if note else None


@pytest.fixture
def result(tmp_path: Path) -> Result:
    """The record of a finished run in `tmp_path`."""
    result = make_result("mean_diff").model_copy(update={"curves": []})
    folder = run_folder(tmp_path, "taboo/gold-narrow", "mean_diff", result.id)
    write_run(folder, result, None, "")
    file = asked(None, options(tmp_path))
    note = note_of(file)
    assert note is not None
    remember(file, note, Known([result], [folder]))
    return result


def test_the_same_command_gives_the_same_records(tmp_path: Path, result: Result) -> None:
    found = known(tmp_path)
    assert found is not None and found.results == [result]
    assert found.folders == [run_folder(tmp_path, "taboo/gold-narrow", "mean_diff", result.id)]


def test_nothing_heavy_is_imported_for_it(tmp_path: Path, result: Result) -> None:
    code = (
        f"import sys; sys.argv = ['bench', 'run', '-m', 'mean_diff', '-o', 'taboo/gold-narrow', '--out', {str(tmp_path)!r}]\n"
        "from diffbench.cli import app\n"
        "app(standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'tokenizers', 'scipy', 'matplotlib'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "finished before" in done.stderr and "taboo/gold-narrow" in done.stdout


CHANGES: dict[str, dict[str, Any]] = {
    "another seed": {"seed": "1"},
    "another budget": {"tokens": 5000},
    "another option of the method": {"set": ["mean_diff.tokens=2000"]},
    "another layer": {"layer": 1},
    "fewer prompts": {"limit": 3},
    "another organism": {"organism": ["taboo/moon-narrow"]},
    "one more method": {"method": ["mean_diff", "pca"]},
    "another backend": {"backend": "nnsight"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_command_is_another_run(tmp_path: Path, result: Result, change: str) -> None:
    assert known(tmp_path, **CHANGES[change]) is None


def test_a_change_of_the_source_or_of_a_library_is_seen(
    tmp_path: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as m:
        m.setattr(recall_module, "_source", lambda: "edited")
        assert known(tmp_path) is None
    with monkeypatch.context() as m:
        m.setattr(recall_module, "package_versions", lambda names: {"torch": "0"})
        assert known(tmp_path) is None
    assert known(tmp_path) is not None


@pytest.mark.parametrize("left", ["", "{}", "[]", '[["x"]]', '[["../x", 3]]'])
def test_a_damaged_note_is_no_note(tmp_path: Path, result: Result, left: str) -> None:
    (note,) = (tmp_path / ".work" / "finished").iterdir()
    note.write_text(left)
    assert known(tmp_path) is None


def test_a_record_that_is_gone_damaged_or_another_one_is_not_finished(tmp_path: Path, result: Result) -> None:
    path = run_folder(tmp_path, "taboo/gold-narrow", "mean_diff", result.id) / RESULT
    path.write_text(make_result("mean_diff", seed=1).model_dump_json())
    assert known(tmp_path) is None
    path.write_text("{")
    assert known(tmp_path) is None
    path.unlink()
    assert known(tmp_path) is None


def test_a_method_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    method = tmp_path / "mine.py"
    notes = list[Path | None]()
    for text in ("a = 1", "a = 1", "a = 2"):
        method.write_text(text)
        notes.append(note_of(asked(None, options(tmp_path, method=[str(method)]))))
    assert notes[0] == notes[1] != notes[2]
    method.unlink()
    assert note_of(asked(None, options(tmp_path, method=[str(method)]))) is None  # the run says what is wrong
