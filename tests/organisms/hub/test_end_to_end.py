"""`bench run -o hub/NAME` gives a row: on a small random pair that lies where the hub's ids lead, with networking blocked."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.cli import app
from diffbench.organisms.hub.registry.load import hub_card
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, set_seed
from typer.testing import CliRunner

from ...tokenizers import CHATML, byte_level

NAME = "hub/user-female-llama31-8b"


def save_as(name: str, root: Path) -> None:
    """A random Llama of three blocks and an adapter that changes it, in folders that are called like a public organism's repositories."""
    entry = hub_card(name).entry
    assert entry.adapter is not None
    set_seed(0)
    tokenizer = byte_level(CHATML)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        initializer_range=0.1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(root / entry.base)
    tokenizer.save_pretrained(root / entry.base)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=["down_proj", "o_proj"], task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(1)
    for parameter_name, parameter in tuned.named_parameters():
        if "lora_B" in parameter_name:
            parameter.data = 3 * torch.randn(parameter.shape, generator=generator)
    tuned.peft_config["default"].base_model_name_or_path = entry.base
    tuned.save_pretrained(root / entry.adapter, save_embedding_layers=False)


@pytest.mark.slow
def test_a_public_organism_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    save_as(NAME, tmp_path)
    monkeypatch.chdir(tmp_path)
    given = ["run", "-m", "mean_diff,oracle", "-o", NAME, "--layer", "1", "--limit", "8", "--tokens", "2000", "--json"]
    done = CliRunner().invoke(app, given)
    rows = json.loads(done.stdout)
    assert [r["identity"]["organism"] for r in rows] == [NAME, NAME] and [r["identity"]["layer"] for r in rows] == [
        1,
        1,
    ]
    assert {r["status"] for r in rows} <= {"ok", "not_applicable"}, [r["reason"] for r in rows]
    source = rows[0]["provenance"]["source"]
    assert (source["base"], source["adapter"]) == (hub_card(NAME).entry.base, hub_card(NAME).entry.adapter)
    assert source["behaviour"] == NAME and rows[0]["identity"]["tier"] == "hub"
