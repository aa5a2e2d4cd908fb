import json
import lzma
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.records.result import Localisation, Located, Result
from diffbench.leaderboard.board.resolve import MixedResultsError, check_comparable
from diffbench.leaderboard.board.store import load, load_results
from diffbench.organisms.errors import PrerequisiteError
from typer.testing import CliRunner

from ...factories import make_result, write_result


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_results_come_back_equal_and_in_one_order(tmp_path: Path) -> None:
    cells = [make_result(m, o, s) for m in ("b", "a") for o in ("taboo/gold-narrow", "planted") for s in (1, 0)]
    for cell in cells:
        write_result(tmp_path, cell)
    loaded = load_results(tmp_path)
    assert [(r.identity.organism, r.identity.method, r.identity.seeds["method"]) for r in loaded.results] == sorted(
        (r.identity.organism, r.identity.method, r.identity.seeds["method"]) for r in cells
    )
    assert {r.id: r for r in loaded.results} == {r.id: r for r in cells}
    assert loaded.problems == ()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"layer":2', '"layer":3', "id is not the hash of identity"),
        ('"status":"ok"', '"status":"failed"', "scores, samples and behaviour must be present exactly when"),
        ("{", "", "Invalid JSON"),
        ('"reason":null', '"reason":null,"extra":1', "extra"),
    ],
)
def test_a_damaged_file_is_reported_beside_the_good_ones(tmp_path: Path, old: str, new: str, reason: str) -> None:
    good = make_result("good")
    write_result(tmp_path, good)
    rewrite(write_result(tmp_path, make_result("bad")), old, new)
    loaded = load_results(tmp_path)
    assert loaded.results == (good,)
    (problem,) = loaded.problems
    assert reason in problem.reason
    assert "http" not in problem.reason and "\n" not in problem.reason
    assert problem.path == f"taboo/gold-narrow/bad/{make_result('bad').id[:12]}/result.json"


def test_bytes_that_are_not_text_are_reported(tmp_path: Path) -> None:
    write_result(tmp_path, make_result()).write_bytes(b"\xff\xfe\x00")
    (problem,) = load_results(tmp_path).problems
    assert "UTF-8" in problem.reason


@pytest.mark.parametrize("score", ["isolation", "mitigation"])
def test_a_score_that_does_not_follow_from_its_samples_is_not_believed(tmp_path: Path, score: str) -> None:
    """The id does not cover the scores, so this edit passes the record's own validation."""
    path = write_result(tmp_path, make_result(quality=0.2))
    record = json.loads(path.read_text())
    record["scores"][score]["value"] = 0.99
    path.write_text(json.dumps(record))
    Result.model_validate(record)
    (problem,) = load_results(tmp_path).problems
    assert problem.reason.startswith(f"{score} is recorded as 0.99 but its samples give 0.")


def test_samples_of_unequal_length_are_refused(tmp_path: Path) -> None:
    path = write_result(tmp_path, make_result())
    record = json.loads(path.read_text())
    record["samples"]["b1"].pop()
    path.write_text(json.dumps(record))
    assert "unequal lengths" in load_results(tmp_path).problems[0].reason


def test_a_copy_of_a_cell_counts_once_and_a_contradiction_is_an_error(tmp_path: Path) -> None:
    write_result(tmp_path / "one", make_result(draw="x"))
    write_result(tmp_path / "two", make_result(draw="x"))
    assert len(load_results(tmp_path).results) == 1
    write_result(tmp_path / "three", make_result(draw="y"))
    with pytest.raises(MixedResultsError, match=r"one/.*three/|three/.*two/") as error:
        load_results(tmp_path)
    assert "different numbers" in str(error.value)
    located = make_result("pca").model_copy(
        update={
            "localisation": Localisation(first_cos=0.5, at=[Located(k=1, cos=0.5, p=0.1, overlap=0.25, chance=0.1)])
        }
    )
    write_result(tmp_path / "null" / "one", make_result("pca"))
    write_result(tmp_path / "null" / "two", located)
    with pytest.raises(MixedResultsError, match="different numbers"):
        load_results(tmp_path / "null")


def test_a_bundle_beside_good_records_is_told_what_it_is_for(tmp_path: Path) -> None:
    import_module("diffbench.cli")  # brings those who read bundles
    write_result(tmp_path / "runs", make_result())
    bundle = tmp_path / "theirs.bundle.safetensors"
    bundle.write_bytes(b"")
    loaded = load([tmp_path / "runs", bundle])
    assert len(loaded.cells) == 1
    assert [p.path for p in loaded.problems] == [bundle.as_posix()] and "leaderboard add" in loaded.problems[0].reason


def test_a_missing_folder_says_which_and_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match=r"bench run --out"):
        load_results(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"protocol": "v3"}, "v3"),
        ({"protocol_sha256": "f" * 64}, "ffffffffffff"),
        ({"organism_sha256": "e" * 64}, "eeeeeeeeeeee"),
        ({"prompts_sha256": "d" * 64}, "dddddddddddd"),
        ({"layer": 3}, "layer 2 and 3"),
        ({"dtype": "bfloat16"}, "float32 and bfloat16"),
        ({"sinks": "keep"}, "sinks None and keep"),
    ],
)
def test_records_that_measured_different_things_are_not_mixed(change: dict[str, Any], says: str) -> None:
    with pytest.raises(MixedResultsError, match=says) as error:
        check_comparable([make_result("a"), make_result("b", **change)])
    assert "separate folders" in str(error.value)


def test_organisms_may_differ_in_layer_and_weights() -> None:
    check_comparable([make_result(organism="one"), make_result(organism="two", layer=3, dtype="bfloat16")])


V1 = Path(__file__).parent / "v1-result.json"


def test_a_record_of_v1_is_answered_with_where_its_code_is(tmp_path: Path) -> None:
    """By name, alone and in a pack, read and added to; beside records of v2 it is left out."""
    old = tmp_path / "old" / "result.json"
    old.parent.mkdir()
    old.write_bytes(V1.read_bytes())
    packed = tmp_path / "packs" / "taboo" / "gold-narrow.jsonl.xz"
    packed.parent.mkdir(parents=True)
    packed.write_bytes(lzma.compress(V1.read_bytes()))
    write_result(tmp_path / "new", make_result())
    for command in (
        ["leaderboard", "build", str(old.parent), "--out", str(tmp_path / "out")],
        ["leaderboard", "show", str(packed.parent)],
        ["results", "show", str(old)],
        ["results", "validate", str(old)],
        ["results", "pack", str(tmp_path / "new"), "--out", str(packed.parent.parent)],
    ):
        said = CliRunner().invoke(app, command)
        text = " ".join(said.output.split())
        assert said.exit_code == 4, (command, said.output)
        assert "a record of protocol v1 (schema_version 1)" in text and "CHANGELOG.md names" in text, command
        assert "Field required" not in text and "pydantic" not in text
    loaded = load_results(tmp_path)
    assert len(loaded.results) == 1 and {p.path for p in loaded.problems} == {
        "old/result.json",
        "packs/taboo/gold-narrow.jsonl.xz",
    }


def test_a_version_yet_to_come_is_named(tmp_path: Path) -> None:
    rewrite(write_result(tmp_path, make_result()), '"schema_version":2', '"schema_version":3')
    assert [p.reason for p in load_results(tmp_path).problems] == ["schema_version is 3, this diffbench reads 2"]
