"""Where and with what a result was made. Recorded, never hashed, and published: it says nothing of the folders of whoever made it.

Relative paths stand as they were given on the command line; of absolute ones only what lies below the working folder is told.
"""

import ast
import functools
import hashlib
import ntpath
import platform
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any, Literal

from ..records.making import Provenance

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "transformers", "peft", "numpy", "safetensors", "tokenizers", "pydantic")


def provenance(
    access: str,
    device: str,
    source: dict[str, str],
    origin: str,
    started: datetime,
    stochastic: bool | None = None,
    backend: Literal["hooks", "nnsight"] = "hooks",
    remote: bool = False,
) -> Provenance:
    """Provenance of a result that began at `started` (UTC)."""
    return Provenance(
        diffbench=version("diffbench"),
        packages=package_versions() | ({"nnsight": version("nnsight")} if backend == "nnsight" else {}),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu=cpu_name(),
        device=device,
        git=git_state(),
        command=_command(),
        started_utc=started.isoformat(timespec="seconds"),
        finished_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        access=access,
        source=source,
        method_origin=portable(origin),
        stochastic=stochastic,
        backend=backend,
        remote=remote,
    )


@functools.cache
def source_hash(method: Path | None, start: Path = Path(__file__).with_name("cell.py")) -> str:
    """Hash of the source that makes a cell's numbers: the cell's own (`start`), and what a method's file uses of this package.

    Imports are followed, so a changed instrument or method is another identity, and a change to the pages, the tables or another
    method is not.
    """
    files = sorted(_sources(start) | (_sources(method) if method else set()))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def _sources(start: Path) -> set[Path]:
    """The files of this package that a file is or imports, directly or not."""
    found, todo = set[Path](), [start.resolve()]
    while todo:
        path = todo.pop()
        if path not in found and path.is_file():
            found.add(path)
            todo += _imported(path)
    return {path for path in found if path.is_relative_to(ROOT)}


@functools.cache  # most files are those of every method
def _imported(path: Path) -> tuple[Path, ...]:
    """Files that a file may import when it runs."""
    nodes = list(ast.walk(ast.parse(path.read_bytes())))
    for_types = {id(n) for node in nodes if _is_for_types(node) for n in ast.walk(node)}
    froms = (node for node in nodes if isinstance(node, ast.ImportFrom) and id(node) not in for_types)
    return tuple(file for node in froms for file in _imports(node, path))


def _is_for_types(node: ast.AST) -> bool:
    """An `if TYPE_CHECKING:` block, which never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imports(node: ast.ImportFrom, path: Path) -> Iterator[Path]:
    """Files that `from … import …` in another file may mean."""
    module = node.module.split(".") if node.module else []
    if node.level:
        folder = path.parents[node.level - 1]
    elif module[:1] == ["diffbench"]:
        folder, module = ROOT, module[1:]
    else:
        return
    whole = folder.joinpath(*module)
    yield whole.with_suffix(".py")
    yield from (whole / f"{alias.name}.py" for alias in node.names)


def _command() -> list[str]:
    """The command line of `bench`, or the name of the program that called the Python functions: its arguments say nothing of the run."""
    name = Path(sys.argv[0]).name
    return ["bench", *map(_word, sys.argv[1:])] if Path(name).stem == "bench" else [name]


def _word(word: str) -> str:
    """A word of the command line; one that begins with a path is told as one, whatever commas and quotes are in it."""
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    begins = _ABSOLUTE.match(value)
    return option + equals + (_told(value, Path.cwd()) if begins else portable(value))


ELSEWHERE = "PATH"
"""Stands for an absolute path outside the working folder."""
_ABSOLUTE = re.compile(
    r"""(?:^|(?<=[=,:;\s"'(\[]))          # at the beginning, or after what parts one value from another
    (?:file:/+|~[\w.-]*(?:[\\/]|$)       # file:///x, ~/x, ~name/x, ~
    |[A-Za-z]:[\\/]|\\\\|(?<!:)/|/(?!/)) # C:\\x, C:/x, \\\\server\\x, /x, but not the //x of an address
    [^,;"']*""",
    re.VERBOSE,
)


def portable(text: str, folder: PurePath | None = None) -> str:
    """Text without absolute paths: those below a folder (default: the working one) relative to it, `PATH` for any other.

    A path goes as far as a comma, a semicolon or a quotation mark, whatever spaces are in it.
    """
    here = folder or Path.cwd()

    return _ABSOLUTE.sub(lambda found: _told(found.group(), here), text)


def _told(text: str, here: PurePath) -> str:
    """An absolute path as it is told; `/here/../other` is not below `/here`."""
    flat = ntpath if isinstance(here, PureWindowsPath) else posixpath
    path = type(here)(flat.normpath(text))
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else ELSEWHERE


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of packages; default: those that can change a number."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def cpu_name() -> str:
    """Model name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


@functools.cache
def git_state() -> dict[str, Any] | None:
    """Commit of the diffbench checkout and whether it is dirty, when it was first asked; None for an installed package."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        status = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(here), "status", "--porcelain"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
