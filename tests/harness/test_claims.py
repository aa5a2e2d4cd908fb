"""A claim: one process at a time has a folder, and none has it when its process is gone."""

import subprocess
import sys
from pathlib import Path

from diffbench.harness.claims import claimed, is_claimed

HOLDER = """
import sys, time
from pathlib import Path
from diffbench.harness.claims import claimed
with claimed(Path(sys.argv[1])) as mine:
    (Path(sys.argv[1]) / "checkpoint").touch()
    print(mine, flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_no_claim_and_what_it_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "cell"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "True\n"
        asked = list[str]()
        assert is_claimed(folder)
        with claimed(folder, wait=False) as mine:
            assert not mine
        other.kill()
    with claimed(folder, waiting=lambda: asked.append("waited")) as mine:
        assert mine and not asked and (folder / "checkpoint").is_file()
    assert (folder / "checkpoint").is_file() and not is_claimed(folder)


def test_an_empty_folder_goes_and_one_that_was_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline()

        def end() -> None:
            (folder / "checkpoint").unlink()
            folder.rmdir()
            other.kill()

        with claimed(folder, waiting=end) as mine:
            assert mine and folder.is_dir()
    assert not folder.exists() and not is_claimed(folder)
