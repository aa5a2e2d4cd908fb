"""What a user may write for a model, and that exactly the bytes that are hashed can be loaded."""

import errno
import json
import socket
from pathlib import Path
from typing import Any

import httpx2 as httpx
import huggingface_hub
import pytest
from diffbench.organisms.errors import DiffbenchError, PrerequisiteError, ValidationFailed
from diffbench.organisms.hub.sources import locate, small_files
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def adapter(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def model(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in set(index["weight_map"].values()):
        (folder / name).write_text(name)
    return folder


def test_a_pickle_beside_the_safetensors_is_neither_hashed_nor_loaded(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    before = locate(str(folder), "adapter", "adapter")
    (folder / "adapter_model.bin").write_bytes(b"another adapter")
    after = locate(str(folder), "adapter", "adapter")
    assert before.sha256 == after.sha256
    assert sorted(p.name for p in after.folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_an_adapter_in_a_pickle_only_is_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ValidationFailed, match=r"only adapter_model\.bin, a pickle"):
        locate(str(folder), "adapter", "adapter")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model-2-of-2.safetensors", "chat_template.jinja"])
def test_every_file_that_is_loaded_is_in_the_identity(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "m")
    before = locate(str(folder), "model", "base").sha256
    (folder / name).write_text("changed")
    assert locate(str(folder), "model", "base").sha256 != before


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "training_args.bin", "consolidated.safetensors", "model.safetensors"]
)
def test_weights_that_the_index_does_not_name_change_nothing(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "m")
    before = locate(str(folder), "model", "base").sha256
    (folder / name).write_text("other weights")
    found = locate(str(folder), "model", "base")
    assert found.sha256 == before
    assert not (found.folder / name).exists()


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "..", "*.safetensors", "shard.bin", "", 5])
def test_an_index_that_names_anything_but_safetensors_beside_it_is_refused(tmp_path: Path, name: Any) -> None:
    folder = model(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ValidationFailed, match="fetch the model again"):
        locate(str(folder), "model", "base")


def test_a_folder_of_several_adapters_names_them_and_its_subfolder_is_one(tmp_path: Path) -> None:
    adapter(tmp_path / "repo" / "first")
    second = adapter(tmp_path / "repo" / "second", b"other")
    with pytest.raises(ValidationFailed, match="one of its subfolders is meant: first, second"):
        locate(str(tmp_path / "repo"), "adapter", "adapter")
    assert locate(str(second), "adapter", "adapter").folder.is_dir()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, list[str]]]:
    """A repository of a model and two adapters; what was asked of it."""
    root = model(tmp_path / "snapshots" / COMMIT)
    for name in ("first", "second"):
        adapter(root / name, name.encode())
    asked: list[tuple[str, str | None, list[str]]] = []

    def download(repo: str, revision: str | None = None, allow_patterns: list[str] | None = None) -> str:
        asked.append((repo, revision, allow_patterns or ["*"]))
        return str(root)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_of_several_adapters_in_a_repository_only_the_named_one_is_fetched(
    hub: list[tuple[str, str | None, list[str]]],
) -> None:
    found = locate("org/repo/second@v1", "adapter", "adapter")
    assert found.commit == COMMIT
    assert (found.folder / "adapter_model.safetensors").read_text() == "second"
    assert {(repo, revision) for repo, revision, _ in hub} == {("org/repo", "v1")}
    assert all(p.startswith("second/") and not p.endswith((".bin", ".pt", ".gguf")) for _, _, ps in hub for p in ps)


def test_of_a_model_without_its_weights_the_small_files_are_fetched(
    hub: list[tuple[str, str | None, list[str]]],
) -> None:
    assert (small_files("org/repo") / "config.json").is_file() and len(hub) == 1
    assert not [n for _, _, names in hub for n in names if n.endswith(".safetensors")]


def test_of_a_model_the_shards_that_its_index_names_are_fetched(hub: list[tuple[str, str | None, list[str]]]) -> None:
    locate("org/repo", "model", "base")
    assert hub[-1] == ("org/repo", None, ["model-1-of-2.safetensors", "model-2-of-2.safetensors"])


RESPONSE = httpx.Response(404, request=httpx.Request("GET", "https://hub.example"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RepositoryNotFoundError("x", response=RESPONSE), "no such repository, or it is private"),
        (GatedRepoError("x", response=RESPONSE), "licence has to be accepted"),
        (RevisionNotFoundError("x", response=RESPONSE), "no such revision"),
        (LocalEntryNotFoundError("x"), "network cannot be reached"),
        (httpx.ConnectError("x"), "network cannot be reached"),
        (httpx.ReadTimeout("x"), "interrupted"),
        (httpx.RemoteProtocolError("peer closed"), "interrupted"),
        (ConnectionResetError("reset"), "network cannot be reached"),
        (OSError(errno.ENOSPC, "No space left"), "disk is full"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_what_cannot_be_fetched_says_why_and_is_a_missing_prerequisite(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(DiffbenchError, match=told) as raised:
        locate("org/repo@v9", "adapter", "adapter")
    assert isinstance(raised.value, PrerequisiteError)
    assert raised.value.exit_code == 3
