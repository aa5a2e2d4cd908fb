import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.cli import app
from diffbench.harness.protocol.consistency import fault
from diffbench.harness.records.result import Result
from diffbench.harness.runs import records
from diffbench.harness.runs.folder import FINDINGS, LOG, RESULT, write_run
from diffbench.harness.runs.records import FINDINGS_FILE, LOG_FILE, RESULT_FILE, difference, read_run, validate
from diffbench.harness.runs.verify import ABSENT, compare
from diffbench.methods.contract import DiffResult, Finding
from diffbench.organisms.errors import PrerequisiteError, ValidationFailed
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from ...factories import make_result, write_result


def bench(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, args)))
    assert result.exit_code == code, result.output
    return result.output


def folder_of(runs: Path, result: Result, findings: int = 2) -> Path:
    """A whole run folder of a result that counts its findings."""
    result.diagnostics["findings"] = [{"score": 1.0}] * findings
    folder = runs / result.identity.organism / result.identity.method / result.id[:12]
    write_run(folder, result, DiffResult([Finding(torch.ones(4)) for _ in range(findings)]), "log")
    return folder


def rewrite(path: Path, change: dict[str, Any]) -> None:
    record = json.loads(path.read_text())
    for dotted, value in change.items():
        *above, last = dotted.split(".")
        at = record
        for name in above:
            at = at[name]
        at[last] = value
    path.write_text(json.dumps(record))


def test_names_are_those_a_run_writes() -> None:
    assert (RESULT_FILE, FINDINGS_FILE, LOG_FILE) == (RESULT, FINDINGS, LOG)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({}, {}),
        ({"seed": 1}, {"seeds.method": (0, 1)}),
        ({"config": {"k": 10, "new": [1]}}, {"config.k": (3, 10), "config.new": (None, [1])}),
        ({"config": {}}, {"config.k": (3, None)}),
        ({"code_sha256": "f" * 64, "layer": 3}, {"code_sha256": None, "layer": (2, 3)}),
    ],
)
def test_diff_names_exactly_the_fields_that_changed(change: dict[str, Any], fields: dict[str, Any]) -> None:
    found = difference(make_result(), make_result(**change))
    assert found.identity.keys() == fields.keys()
    assert all(found.identity[name] == pair for name, pair in fields.items() if pair)
    assert found.same_identity == (not fields) == (make_result().id == make_result(**change).id)


def test_diff_shows_scores_and_who_made_them(tmp_path: Path) -> None:
    one = make_result(quality=0.3)
    two = make_result(quality=0.6, config={"k": 10})
    two.provenance.packages["torch"] = "2.10.0"
    a, b = (write_result(tmp_path / n, r).parent for n, r in (("a", one), ("b", two)))
    assert one.scores and two.scores
    data = json.loads(bench("results", "diff", a, b, "--json"))
    assert data["identity"] == {"config.k": [3, 10]} and not data["contradiction"]
    assert [s[0] for s in data["scores"]["isolation"]] == [one.scores.isolation.value, two.scores.isolation.value]
    assert data["provenance"] == {"packages.torch": ["2.9.0", "2.10.0"]}
    text = bench("results", "diff", a, b)
    assert "1 fields" not in text and "1 field differs" in text and "config.k" in text and "layer" not in text
    assert "same identity" in bench("results", "diff", a, a)


def test_the_same_cell_with_other_numbers_is_a_contradiction() -> None:
    assert difference(make_result(draw="x"), make_result(draw="y")).contradiction
    assert difference(make_result(), make_result(status="failed")).contradiction
    assert not difference(make_result(), make_result()).contradiction
    assert not difference(make_result(draw="x"), make_result(draw="y", seed=1)).contradiction


def test_list_has_a_line_a_run_and_says_what_it_left_out(tmp_path: Path) -> None:
    cells = [make_result(seed=s) for s in (0, 1)] + [make_result("dead", status="failed")]
    for cell in cells:
        write_result(tmp_path, cell)
    write_result(tmp_path, make_result("bad")).write_text("{")
    runner = CliRunner().invoke(app, ["results", "list", str(tmp_path), "--json"])
    lines = json.loads(runner.stdout)
    assert {(line["method"], line["seed"], line["status"], line["id"]) for line in lines} == {
        (r.identity.method, r.identity.seeds["method"], r.status, r.id) for r in cells
    }
    assert [line["isolation"] for line in lines if line["status"] == "failed"] == [[None, None, None]]
    assert "left out" in runner.stderr and "bad/" in runner.stderr
    text = bench("results", "list", tmp_path)
    assert all(r.id[:8] in text for r in cells) and "failed" in text


def test_list_names_a_score_that_its_samples_do_not_give_and_leaves_intervals_to_validate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_result(tmp_path, make_result(quality=0.4))
    whether = list[bool]()
    monkeypatch.setattr(records, "fault", lambda result, redraw=True: whether.append(redraw) or fault(result, redraw))
    assert "left out" not in CliRunner().invoke(app, ["results", "list", str(tmp_path)]).stderr
    assert not validate([path])[0].problems
    assert whether == [False, True]
    record = json.loads(path.read_text())
    record["scores"]["isolation"]["value"] += 0.1
    path.write_text(json.dumps(record))
    assert "isolation is recorded as" in CliRunner().invoke(app, ["results", "list", str(tmp_path)]).stderr


def test_show_prints_identity_scores_and_cost(tmp_path: Path) -> None:
    cell = make_result(quality=0.4)
    folder = write_result(tmp_path, cell).parent
    text = bench("results", "show", folder)
    assert cell.id in text and "k=3" in text and "0 = random directions, 1 = oracle" in text and "cost:" in text
    assert Result.model_validate_json(bench("results", "show", folder, "--json")) == cell
    failed = write_result(tmp_path, make_result("dead", status="oom", reason="out of memory")).parent
    assert "out of memory" in bench("results", "show", failed)
    assert "give a run folder" in bench("results", "show", tmp_path, code=3)


def test_whole_run_folders_are_valid_and_a_file_is_judged_alone(tmp_path: Path) -> None:
    good = folder_of(tmp_path, make_result())
    nothing = folder_of(tmp_path, make_result("oracle", access="anchor"), findings=0)
    failed = make_result("dead", status="failed")
    write_run(tmp_path / "dead", failed, None, "log")
    assert [r.problems for r in validate([tmp_path])] == [()] * 3
    assert bench("results", "validate", good, nothing).count(": valid") == 2
    (good / LOG).unlink()
    assert validate([good / RESULT])[0].problems == () and validate([good])[0].problems == ("run.log is missing",)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"identity.layer": 3}, "id is not the hash of identity"),
        ({"scores.isolation.value": 0.99}, "isolation is recorded as 0.99 but its samples give"),
        ({"samples.b1": [0.5]}, "unequal lengths"),
        ({"surprise": 1}, "surprise"),
        ({"schema_version": 99}, "schema_version is 99"),
        ({"diagnostics.findings": [{}] * 3}, "holds 2 findings, but 3 were scored"),
    ],
)
def test_an_edited_record_is_refused_with_its_reason(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    good, bad = folder_of(tmp_path, make_result("good")), folder_of(tmp_path, make_result("bad"))
    rewrite(bad / RESULT, change)
    assert reason in bench("results", "validate", bad, code=4).replace("\n", " ")
    out = CliRunner().invoke(app, ["results", "validate", str(tmp_path), "--json"])
    assert out.exit_code == 4 and "1 of 2 results are not valid" in out.stderr
    checked = {Path(line["path"]).parent: line for line in json.loads(out.stdout)}
    assert checked[good]["ok"] and not checked[bad]["ok"]
    assert any(reason in problem for problem in checked[bad]["problems"])


def test_missing_foreign_and_damaged_findings_are_named(tmp_path: Path) -> None:
    folder, other = folder_of(tmp_path, make_result()), folder_of(tmp_path, make_result(seed=1))
    own = (folder / FINDINGS).read_bytes()
    (folder / FINDINGS).write_bytes((other / FINDINGS).read_bytes())
    assert "belongs to result" in validate([folder])[0].problems[0]
    (folder / FINDINGS).write_bytes(own)
    with safe_open(folder / FINDINGS, "pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, folder / FINDINGS, about | {"layer": "7"})
    assert "is of layer 7, the record of layer" in validate([folder])[0].problems[0]
    (folder / FINDINGS).write_bytes(own[: len(own) // 2])
    assert "cannot be read" in validate([folder])[0].problems[0]
    (folder / FINDINGS).unlink()
    assert validate([folder])[0].problems == (f"{FINDINGS} is missing, but 2 findings were scored",)


def test_nothing_to_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="give a run folder"):
        validate([tmp_path / "nowhere"])
    with pytest.raises(PrerequisiteError, match=r"no result.json below"):
        validate([tmp_path])
    path = write_result(tmp_path, make_result())
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValidationFailed, match="is UTF-16; save it as UTF-8"):
        read_run(path.parent)


def test_claims_are_read_as_words_and_a_record_from_before_has_none() -> None:
    record = make_result().model_dump(mode="json")
    said = Result.model_validate(record | {"claims": ["It says gold.", "\x1b[2Jgone"]}).claims
    assert said == ["It says gold.", "\\u001b[2Jgone"]
    with pytest.raises(ValidationError, match="at most 16 items"):
        Result.model_validate(record | {"claims": ["a"] * 17})
    del record["claims"]
    assert Result.model_validate(record).claims == []


def test_a_value_that_only_one_side_has_is_a_difference() -> None:
    """An entry that was added to a record is seen as one that was taken out is."""
    differences = list[tuple[str, object, object]]()
    assert compare("at", {"a": 1.0, "mine": 2}, {"a": 1.0, "ours": 3}, differences) == 3
    assert differences == [("at.ours", ABSENT, 3), ("at.mine", 2, ABSENT)]
