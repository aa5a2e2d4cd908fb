"""A record that is published says nothing of the folders of whoever made it."""

import json
import lzma
import re
import sys
from datetime import UTC, datetime
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import pytest
from diffbench.harness.records.result import Result
from diffbench.harness.runs.packs import lines, pack
from diffbench.harness.runs.provenance import portable, provenance
from diffbench.leaderboard.submissions.build import build
from diffbench.leaderboard.submissions.bundle import RECORDS

from ...factories import make_result
from ...leaderboard.submissions.bundles import CARD, make_cell, write_cell

POSIX, WINDOWS = PurePosixPath("/home/me/project"), PureWindowsPath(r"C:\Users\me\project")
TOLD: list[tuple[PurePath, str, str]] = [
    (POSIX, "/home/me/project/runs", "runs"),
    (POSIX, "/home/me/project", "."),
    (POSIX, "/home/me/other/runs", "PATH"),
    (POSIX, "/home/me/project/../other/runs", "PATH"),
    (POSIX, "/home/me/other/../project/runs", "runs"),
    (POSIX, "--out=/srv/big disk/runs", "--out=PATH"),
    (POSIX, "--out=/home/me/project/a b", "--out=a b"),
    (POSIX, "dictionary.folder=/srv/x", "dictionary.folder=PATH"),
    (POSIX, "delta,/srv/a.py,/home/me/project/b.py", "delta,PATH,b.py"),
    (POSIX, "/home/me/project/mine.py:member", "mine.py:member"),
    (POSIX, "file /home/me/mine.py", "file PATH"),
    (POSIX, "['/home/me/a', '/home/me/project/b']", "['PATH', 'b']"),
    (POSIX, "~/runs", "PATH"),
    (POSIX, "--out=~me/runs", "--out=PATH"),
    (POSIX, "file:///home/me/x", "PATH"),
    (POSIX, "//server/share", "PATH"),
    (POSIX, "me@host:/srv/x", "me@host:PATH"),
    (POSIX, r"C:\Users\me\runs", "PATH"),
    (WINDOWS, r"C:\Users\me\project\runs\a", "runs/a"),
    (WINDOWS, "--out=c:/users/me/project/runs", "--out=runs"),
    (WINDOWS, r"--out=D:\runs", "--out=PATH"),
    (WINDOWS, r"\\server\share\runs", "PATH"),
    (WINDOWS, r"file C:\Users\me\project\mine.py", "file mine.py"),
    *((POSIX, same, same) for same in ("taboo/gold-narrow", "runs/a", "../a", "https://x.org/a", "org/model", "0,1", "-o")),
]  # fmt: skip


@pytest.mark.parametrize(("folder", "given", "told"), TOLD)
def test_of_an_absolute_path_only_what_lies_below_the_working_folder_is_told(
    folder: PurePath, given: str, told: str
) -> None:
    assert portable(given, folder) == told and portable(told, folder) == told


def test_a_new_record_says_by_which_command_and_not_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ["/srv/runs", "/srv/it's mine/x", "--texts=/srv/a, b/x"]
    monkeypatch.setattr(sys, "argv", ["/opt/bin/bench", "run", "-m", f"{tmp_path}/a.py", "--out", *paths])
    made = provenance(
        "activations", "cpu", {"organism": "taboo/gold-narrow"}, f"file {tmp_path}/a.py", datetime.now(UTC)
    )
    assert (
        made.command == ["bench", "run", "-m", "a.py", "--out", "PATH", "PATH", "--texts=PATH"]
        and made.method_origin == "file a.py"
    )


def elsewhere(result: Result) -> Result:
    """A record that an older version made."""
    made = {"command": ["bench", "run", "--out=/srv/x"], "method_origin": "file /srv/mine.py"}
    source = {**result.provenance.source, "adapter": "/srv/adapter"}
    return result.model_copy(update={"provenance": result.provenance.model_copy(update={**made, "source": source})})


def test_a_pack_and_a_bundle_leave_absolute_paths_of_older_records_out(tmp_path: Path) -> None:
    (path,) = pack([elsewhere(make_result())], tmp_path)
    made = json.loads(lines(path)[0])["provenance"]
    assert (made["command"][2], made["method_origin"], made["source"]["adapter"]) == ("--out=PATH", "file PATH", "PATH")
    cell = make_cell(stochastic=False)
    cell.provenance.command = ["bench", "--out", "/srv/x"]
    write_cell(tmp_path / "runs", cell)
    bundle, _ = build([tmp_path / "runs"], CARD, tmp_path / "b.bundle.safetensors")
    text = lzma.decompress(bundle.read(RECORDS)).decode()
    assert not re.search(r'"[^"]*/srv/', text) and '"PATH"' in text
