"""`hub/NAME` becomes a pair that can be loaded, or is refused with what to do."""

import json
import socket
from pathlib import Path
from typing import Any

import httpx2 as httpx
import huggingface_hub
import pytest
from diffbench.cli import app
from diffbench.organisms.errors import PrerequisiteError
from diffbench.organisms.hub.behaviours.build import behaviour_of
from diffbench.organisms.hub.registry.load import hub_card
from diffbench.organisms.hub.registry.organism import hub_organism
from diffbench.organisms.registry import load_organism
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from typer.testing import CliRunner

from ...tokenizers import GEMMA, byte_level

MOON = "hub/taboo-moon-gemma2-9b"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def place(name: str, root: Path) -> None:
    """Files under the ids of a public organism, where a folder of that name would be looked for first."""
    entry = hub_card(name).entry
    base, other = root / entry.base, root / entry.repository
    base.mkdir(parents=True)
    other.mkdir(parents=True)
    (base / "config.json").write_text(json.dumps({"max_position_embeddings": 2048}))
    (base / "model.safetensors").write_bytes(b"base")
    main, weights = ("adapter_config.json", "adapter_model") if entry.adapter else ("config.json", "model")
    (other / main).write_text("{}")
    (other / f"{weights}.safetensors").write_bytes(b"change")


@pytest.mark.parametrize("name", [MOON, "hub/em-good-medical-qwen25-7b-twins", "hub/backdoor-2single-hate-llama32-3b"])
def test_it_is_base_and_adapter_with_the_behaviour_of_its_card(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    organism, card = load_organism(name), hub_card(name)
    assert (organism.name, organism.tier, organism.layer, organism.role) == (name, "hub", card.layer, card.entry.role)
    assert organism.behaviour == behaviour_of(card) and organism.sentences == [] and not organism.in_zoo
    assert (organism.pair.adapter is None) == (card.entry.adapter is None) != (organism.pair.tuned is None)
    assert organism.pair.base_name == card.entry.base and organism.source["behaviour"] == name
    rows = [list(organism.make_texts(byte_level(GEMMA)).rows(kind, "test")) for kind in ("neutral", "chat")]
    assert all(len(r) > 20 for r in rows)


def test_large_texts_take_the_place_of_the_offline_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(MOON, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("\n\n".join(f"Paragraph {i} of somebody's notes." for i in range(200)))
    (tmp_path / "texts.yaml").write_text("neutral:\n  - path: notes.txt\n    licence: ours\n")
    named, usual = hub_organism(MOON, tmp_path / "texts.yaml"), hub_organism(MOON)
    assert named.texts_id != usual.texts_id and named.sha256 == usual.sha256


def refusal(error: Exception, monkeypatch: pytest.MonkeyPatch, name: str = MOON) -> str:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(PrerequisiteError) as refused:
        load_organism(name)
    return str(refused.value)


def response(code: int) -> httpx.Response:
    return httpx.Response(code, request=httpx.Request("GET", "https://huggingface.co"))


def test_a_gated_base_says_where_to_accept_and_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(GatedRepoError("gated", response=response(403)), monkeypatch)
    assert said.startswith(
        f"{MOON} is google/gemma-2-9b-it with bcywinski/gemma-2-9b-it-taboo-moon, and the base model"
    )
    assert "its licence has to be accepted" in said and "`hf auth login`" in said
    assert "https://huggingface.co/google/gemma-2-9b-it" in said


def test_a_repository_that_is_gone_says_which_and_where_the_id_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(RepositoryNotFoundError("gone", response=response(404)), monkeypatch)
    assert "there is no such repository" in said and "The id was read from: diffing-toolkit configs" in said
    assert "--base … --adapter … --behaviour FILE" in said


def test_without_a_network_it_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(LocalEntryNotFoundError("offline"), monkeypatch, "hub/em-bad-medical-qwen25-7b-twins")
    assert (
        "`hf download Qwen/Qwen2.5-7B-Instruct`" in said and "`hf download false-facts-finetuning/em-advice-7b`" in said
    )
    assert "gated" not in said and "`bench organisms show hub/em-bad-medical-qwen25-7b-twins --behaviour`" in said


def test_the_command_ends_with_3_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **k: (_ for _ in ()).throw(LocalEntryNotFoundError("x"))
    )
    done = CliRunner().invoke(app, ["run", "-m", "mean_diff", "-o", MOON])
    assert done.exit_code == 3 and "hf download google/gemma-2-9b-it" in done.stderr and not list(tmp_path.iterdir())
