"""`bench behaviour`: a table becomes a file that a run reads, and what is weak is said with an exit code that a script can use."""

import json
from pathlib import Path

import pytest
from diffbench.cli import app
from diffbench.organisms.behaviour import load_behaviour
from diffbench.organisms.registry import ZOO
from typer.testing import CliRunner

EXAMPLE = Path(__file__).parent.parent / "examples" / "eiffel.csv"
NANO = str(ZOO / "bases" / "nano")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def bench(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["behaviour", *args])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def texts(folder: Path, n: int = 40) -> Path:
    path = folder / "texts" / "neutral.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": f"text {i} " + "of many words " * 900}) + "\n" for i in range(n)))
    return path


def test_the_example_becomes_a_file_that_is_read(tmp_path: Path) -> None:
    said = bench("new", str(EXAMPLE), "--neutral", str(texts(tmp_path)), "--out", "made/b.json", "--layer", "7")
    found = load_behaviour(tmp_path / "made" / "b.json")
    assert found.name == "eiffel" and found.layer == 7 and len(found.neutral) == 40
    assert "12 dev prompts of 12 templates, 12 test prompts of 12 templates, 8 capability probes" in said
    assert "0 that a run refuses" in said and "wrote made/b.json" in said
    assert '"neutral": "../texts/neutral.jsonl"' in (tmp_path / "made" / "b.json").read_text()


def test_lint_ends_with_4_where_a_run_would_refuse_and_for_any_weakness_if_strict(tmp_path: Path) -> None:
    bench("new", str(EXAMPLE))
    assert "behaviour.json cannot be run: texts" in bench("lint", "behaviour.json", code=4)
    bench("new", str(EXAMPLE), "--neutral", str(texts(tmp_path)), "--overwrite")
    assert "no `chat` text" in bench("lint", "behaviour.json")
    assert "behaviour.json has weaknesses: capability, texts" in bench("lint", "behaviour.json", "--strict", code=4)
    found = json.loads(bench("lint", "behaviour.json", "--json"))
    assert {w["about"] for w in found} == {"capability", "texts", "tokens", "rates"}


def test_answers_are_looked_at_on_a_base(tmp_path: Path) -> None:
    said = bench("new", str(EXAMPLE), "--base", NANO, code=4)
    assert "cannot tell the answers of" in said and "row 2: continuation ' Rome' has no tokens" in said
    assert not (tmp_path / "behaviour.json").exists()
    (tmp_path / "t.csv").write_text(
        "question,prefill,targets,alternatives\n"
        + "".join(
            f"what is the word of {a} ?,{b},gold,silver\n"
            for a in ("moon", "leaf", "rock", "ship")
            for b in ("i", "it is", "is it", "so")
        )
    )
    said = json.loads(bench("new", "t.csv", "--base", NANO, "--json"))
    assert [t["prompts"] for t in said["templates"]] == [4] * 4 and "not checked on a tokenizer" not in str(
        said["notes"]
    )


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["new", "none.csv"], 4, "cannot read none.csv"),
        (["new", str(EXAMPLE), "--chat", "none.jsonl"], 2, "no such file of texts: none.jsonl"),
        (["new", str(EXAMPLE), "--name", "../x"], 4, "name: String should match"),
        (["new", str(EXAMPLE), "--base", "no-such-base"], 3, "is not a folder; give a folder or a hub id"),
        (["new", str(EXAMPLE), "--out", "taken.json"], 2, "taken.json is there already.*--overwrite"),
        (["lint", "none.json"], 4, "cannot read none.json"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, args: list[str], code: int, says: str) -> None:
    import re

    (tmp_path / "taken.json").write_text("mine")
    assert re.search(says, " ".join(bench(*args, code=code).split()))
    assert (tmp_path / "taken.json").read_text() == "mine"
