"""`bench dictionary` exports, imports and shows a dictionary unchanged, and a mistake or a failed write spoils no folder."""

import json
import re
from pathlib import Path
from typing import Any, NoReturn

import pytest
from diffbench.cli import app
from diffbench.harness.runs.dictionaries import load, of_run, save
from diffbench.methods.formats import CARD, CodeGroup, Dictionary, DictionaryCard
from diffbench.organisms.errors import PrerequisiteError, ValidationFailed
from safetensors.torch import save_file
from typer.testing import CliRunner

from ..factories import make_result, write_result
from .dictionary_files import dictionary, residuals, same_codes


def bench(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["dictionary", *map(str, args)])
    assert result.exit_code == code and "Traceback" not in result.output, result.output
    return result.output


def run_folder(tmp_path: Path, made: Dictionary, **diagnostics: Any) -> Path:
    """A run folder with this dictionary, as `bench run` leaves it."""
    result = make_result("delta").model_copy(update={"diagnostics": {"l0": 3.5, "n_shared": 24, **diagnostics}})
    folder = write_result(tmp_path / "runs", result).parent
    save_file({k: v.contiguous() for k, v in made.raw._asdict().items()}, folder / "dictionary.safetensors")
    return folder


def test_a_run_is_exported_shown_and_imported(tmp_path: Path) -> None:
    made = dictionary(sizes=(24, 40))
    groups = [{"size": 24, "k": 3.0}, {"size": 40, "k": 4.0}]
    run = run_folder(tmp_path, made, groups=groups, selection="batch_topk")
    out, back = tmp_path / "saelens", tmp_path / "back"
    assert bench("export", run, "--to", "saelens", "--out", out).strip() == str(out)
    assert bench("import", out, "--from", "saelens", "--out", back).strip() == str(back)
    found = load(back)
    same_codes(found.encode(residuals()), made.encode(residuals()))
    assert found.card.model_dump() | {"weights_sha256": None} == of_run(run).card.model_dump()
    assert (found.card.base, found.card.organism, found.card.layer) == ("tiny-gemma2", "taboo/gold-narrow", 2)
    assert found.card.groups[1] == CodeGroup(size=40, k=4.0) and found.card.metrics == {"l0": 3.5}
    for folder, form in ((run, "run"), (out, "saelens"), (back, "native")):
        shown = bench("show", folder)
        assert re.search(rf"format +{form} *\n", shown)
        assert "base and ft side by side" in shown and "64 (24 shared)" in shown and "24 (k 3), 40 (k 4)" in shown
    assert json.loads(bench("show", back, "--json"))["inputs"] == "concat"
    assert "keeps one" in bench("export", run, "--to", "jkminder", "--out", tmp_path / "jk", code=2)
    assert not (tmp_path / "jk").exists()


def test_mistakes_get_a_message_and_a_code(tmp_path: Path) -> None:
    run = run_folder(tmp_path, dictionary())
    assert "did you mean 'saelens'" in bench("export", run, "--to", "saelns", "--out", tmp_path / "a", code=2)
    bench("export", run, "--to", "native", "--out", tmp_path / "a")
    before = (tmp_path / "a" / CARD).read_bytes()
    assert "is there already" in bench("export", run, "--to", "native", "--out", tmp_path / "a", code=2)
    assert (tmp_path / "a" / CARD).read_bytes() == before
    bench("export", run, "--to", "jkminder", "--out", tmp_path / "a", "--overwrite")
    assert load(tmp_path / "a").card.result == of_run(run).card.result
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "runs"]  # no scratch folder is left
    assert "there is no folder" in bench("show", tmp_path / "nowhere", code=3)
    (run / "dictionary.safetensors").unlink()
    assert "trained none" in bench("show", run, code=3)


def test_a_run_that_does_not_describe_its_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="does not say which"):
        of_run(run_folder(tmp_path, dictionary("ft")))
    assert of_run(run_folder(tmp_path, dictionary("ft"), inputs="ft")).card.inputs == "ft"
    with pytest.raises(ValidationFailed, match="over 2 residuals"):
        of_run(run_folder(tmp_path, dictionary(), inputs="ft"))
    with pytest.raises(ValidationFailed, match="do not describe"):
        of_run(run_folder(tmp_path, dictionary(), groups=[{"size": 3}]))


def test_a_failed_write_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, out = dictionary(), tmp_path / "out"
    save(made, "native", out)
    old = {p.name: p.read_bytes() for p in out.iterdir()}

    def full(*args: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffbench.methods.formats.save_file", full)
    with pytest.raises(PrerequisiteError, match="No space left"):
        save(made, "saelens", out, overwrite=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == old and list(tmp_path.iterdir()) == [out]


def test_every_field_of_the_card_has_help() -> None:
    properties = json.loads(CliRunner().invoke(app, ["schema", "dictionary"]).stdout)["properties"]
    assert set(properties) == set(DictionaryCard.model_fields) and all(p["description"] for p in properties.values())
