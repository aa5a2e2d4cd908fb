"""What ends a command is a sentence and an exit code."""

import errno
import os
import subprocess
import sys

import pytest
import typer
from diffbench.harness.terminal import handled


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_said_whichever_limit_it_is(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A write that fails names no file."""
    with pytest.raises(typer.Exit) as ended, handled(False):
        raise OSError(number, os.strerror(number))
    assert ended.value.exit_code == 3 and "the disk is full; what was finished is kept" in capsys.readouterr().err


def test_an_interrupt_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, handled(False):
        raise KeyboardInterrupt("3 of 4 cells are kept")
    assert ended.value.exit_code == 130 and capsys.readouterr().err == "interrupted: 3 of 4 cells are kept\n"


@pytest.mark.slow
def test_no_library_reports_what_is_trained() -> None:
    """In a process of its own: the hub's client reads the variable once, when it is imported."""
    code = """
from diffbench.harness.terminal import silenced
with silenced(False):
    from huggingface_hub.utils import _telemetry, send_telemetry
    from trl.trainer import sft_trainer
    send_telemetry("trl/SFTTrainer")
    print(_telemetry._TELEMETRY_QUEUE.qsize(), _telemetry._TELEMETRY_THREAD)
"""
    kept = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "CI")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept, timeout=300)
    assert done.stdout.split() == ["0", "None"], done.stderr
