"""What ends a command is a sentence and an exit code."""

import errno
import os

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
