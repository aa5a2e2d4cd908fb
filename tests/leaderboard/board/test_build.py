import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from diffbench.cli import app
from diffbench.harness.files import atomic_write_bytes, atomic_write_text
from diffbench.leaderboard.board.build import Ask, build, markdown
from diffbench.organisms.errors import UsageError, ValidationFailed
from typer.testing import CliRunner

from ...factories import make_result, write_result


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in (0, 1):
        write_result(tmp_path / "runs", make_result(seed=seed))
    return tmp_path / "runs"


def test_build_writes_the_formats_asked_for_twice_the_same(runs: Path, tmp_path: Path) -> None:
    one, two = (build(runs, tmp_path / name, ask=Ask(draws=50)) for name in ("one", "two"))
    names = [p.name for p in one.paths]
    assert {f"leaderboard.{f}" for f in ("md", "tex", "csv", "html", "json")} <= set(names)
    assert {"leaderboard-overall.tex", "leaderboard-organisms.csv", "leaderboard-cells.csv"} < set(names)
    assert [p.read_bytes() for p in one.paths] == [p.read_bytes() for p in two.paths]
    assert [row.method for row in one.table.overall] == ["delta"] and one.overall.shape[0] == 1
    only = build(runs, tmp_path / "only", ["csv"], ask=Ask(draws=50))
    assert sorted(os.listdir(tmp_path / "only")) == [f"leaderboard{end}.csv" for end in ("-cells", "-organisms", "")]
    assert only.paths[0].parent == tmp_path / "only"


def test_damaged_files_reach_the_caller_and_the_page(runs: Path, tmp_path: Path) -> None:
    write_result(runs, make_result("bad")).write_text("{")
    built = build(runs, tmp_path / "out", ["html", "md"], ask=Ask(draws=50))
    assert [p.path.split("/")[2] for p in built.problems] == ["bad"]
    assert all(built.problems[0].path in path.read_text(encoding="utf-8") for path in built.paths)
    assert markdown(runs, ask=Ask(draws=50)) == built.paths[1].read_text(encoding="utf-8")


def test_mistakes_are_explained_and_write_nothing(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"'htm'.*did you mean 'html'.*md, tex, csv, html, json"):
        build(runs, out, ["md", "htm"])
    for path in runs.rglob("result.json"):
        path.write_text("{")
    with pytest.raises(ValidationFailed, match="none of 2 result files can be used"):
        build(runs, out)
    assert not out.exists()


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new folder" / "file.txt"
    atomic_write_text(target, "old\n")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        atomic_write_bytes(target, b"new")
    assert target.read_bytes() == b"old\n"
    assert os.listdir(target.parent) == ["file.txt"]


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    atomic_write_text(tmp_path / "atomic", "ü")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")]
    assert modes[0] == modes[1]
    assert (tmp_path / "atomic").read_bytes() == "ü".encode()


def test_the_leaderboard_does_not_import_torch() -> None:
    code = (
        "import sys, diffbench.leaderboard.board.build; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_takes_a_set_of_organisms(runs: Path) -> None:
    write_result(runs, make_result(organism="backdoor/zephyr", quality=0.9))
    write_result(runs, make_result("pca"))

    def show(*options: str) -> Result:
        return CliRunner().invoke(app, ["leaderboard", "show", str(runs), *options])

    whole, part = (" ".join(show("--all", *options).output.split()) for options in ((), ("-o", "taboo/gold-narrow")))
    assert "organism set as given, 1 organism" in part and "1 result outside the set left out" in part
    assert "backdoor" not in part and "backdoor" in whole
    assert "not run" in whole and "not run" not in part
    assert show("--set", "core-v2", "-o", "taboo/gold-narrow").exit_code == show("--set", "core-v9").exit_code == 2


def test_a_seed_that_is_not_everywhere_can_be_left_out(runs: Path) -> None:
    write_result(runs, make_result(organism="backdoor/zephyr"))

    def shown(*options: str) -> Result:
        return CliRunner().invoke(app, ["leaderboard", "show", str(runs), "--all", *options])

    whole, first = (shown(*o).output for o in ((), ("--seed", "0")))
    assert "1 not run" in whole and "not run" not in first and "method seed 0 only" in first
    for wrong, code, says in (("7", 3, "no result has method seed 7; there are 0, 1"), ("x", 2, "whole numbers")):
        refused = shown("--seed", wrong)
        assert refused.exit_code == code and says in refused.output
    for command in ("compare", "power"):
        got = CliRunner().invoke(app, ["leaderboard", command, str(runs), "--seed", "7"])
        assert got.exit_code == 3


def test_what_is_asked_of_a_table_counts_in_every_form(runs: Path) -> None:
    """Rows that were not asked for are in no output, and what there is not is refused."""
    for words, says in (
        (("--status", "bogus"), "no status 'bogus'"),
        (("-o", "taboo/*"), "'taboo/*' is a pattern"),
        (("-m", "nosuch[a=1, b=2]"), "no method 'nosuch[a=1, b=2]'"),
    ):
        refused = CliRunner().invoke(app, ["leaderboard", "show", str(runs), *words])
        assert refused.exit_code == 2 and says in refused.output
    shown = CliRunner().invoke(app, ["leaderboard", "show", str(runs), "-m", "delta", "--json"])
    found = json.loads(shown.stdout)
    assert {row["method"] for row in found["methods"]} == {row["method"] for row in found["organisms"]} == {"delta"}
    for words in (("--layer", "9"), ("--tier", "hub")):
        for command in ("show", "power"):
            nothing = CliRunner().invoke(app, ["leaderboard", command, str(runs), *words])
            assert nothing.exit_code == 3 and f"no result has {words[0][2:]}" in nothing.output
