"""What every command shares: errors as messages and exit codes, output, the log, and the silence of other libraries."""

import contextlib
import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any

import typer

from .escape import plain

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]
RunsArgument = Annotated[Path, typer.Argument(help="Folder of run folders.")]
"""Options that many commands have."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A disk, a user's share of it, or the size that a file may have (`ulimit -f`) is used up."""
FULL = "the disk is full; what was finished is kept, make room and run the same command again"


@contextlib.contextmanager
def handled(debug: bool) -> Generator[None, None, None]:
    """Turn errors a user can act on into one message and an exit code; leave bugs as tracebacks."""
    from ..organisms.errors import DiffbenchError

    try:
        yield
    except DiffbenchError as error:
        if debug:
            raise
        say(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    except OSError as error:
        if error.errno in NO_ROOM:
            say(f"error: {FULL}", err=True)
            raise typer.Exit(3) from error
        if debug or error.filename is None:
            raise
        say(f"error: {error.filename}: {error.strerror}; check the path and its permissions", err=True)
        raise typer.Exit(3) from error
    except KeyboardInterrupt as interrupt:
        if debug:
            raise
        kept = (
            str(interrupt)
            or "what was finished is kept, the rest left nothing behind; the same command goes on from here"
        )
        say(f"interrupted: {kept}", err=True)
        raise typer.Exit(130) from interrupt


def say(text: object, err: bool = False) -> None:
    """A line to stdout or stderr, its control characters written out (JSON stays the same JSON)."""
    typer.echo(plain(text), err=err)


def show(renderable: Any, err: bool = False) -> None:
    """To stdout or stderr; as wide as the terminal, or 160 columns into a pipe. Text is never read as markup, nor its controls obeyed."""
    from rich.console import Console

    console = Console(stderr=err)
    width = None if console.is_terminal else 160
    Console(stderr=err, width=width, markup=False, emoji=False, highlight=False).print(_Plain(renderable))


class _Plain:
    """A renderable whose text has its controls written out."""

    def __init__(self, renderable: Any):
        self.renderable = renderable

    def __rich_console__(self, console: Any, options: Any) -> Any:
        from rich.segment import Segment

        for part in console.render(self.renderable, options):
            yield part if part.control else Segment(plain(part.text), part.style)


class _PlainLog(logging.Formatter):
    """Log lines with controls written out: a log is read on terminals."""

    def format(self, record: logging.LogRecord) -> str:
        """As `logging` does."""
        return plain(super().format(record))


def collect_log(verbose: bool) -> Any:
    """Collect the log for the run folder; `verbose` also shows it. Returns a function that gives the text so far."""
    stream = io.StringIO()
    root_logger = logging.getLogger("diffbench")
    root_logger.setLevel(logging.DEBUG)
    for handler in (logging.StreamHandler(stream), *([logging.StreamHandler(sys.stderr)] if verbose else [])):
        handler.setFormatter(_PlainLog("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root_logger.addHandler(handler)

    def take() -> str:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return text

    return take


@contextlib.contextmanager
def silenced(verbose: bool) -> Generator[None, None, None]:
    """Keep other libraries' progress bars and warnings off the terminal unless asked for, and let none report what is run (trl does)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not verbose:
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
        yield
