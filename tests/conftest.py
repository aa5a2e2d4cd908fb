"""Shared fixtures: the shipped taboo organism on a short protocol, and small pairs of other architectures saved in hub format."""

import json
from pathlib import Path

import pytest
import torch
from diffbench.harness.cell import Stage
from diffbench.harness.scores import Protocol
from diffbench.organisms.registry import Organism, load_organism
from diffbench.organisms.tokenizer import build_tokenizer
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, set_seed

SHORT = Protocol(controls=3, ks=(1, 3), strengths=(0.3, 0.9), draws=200, dev_tokens=100, test_tokens=100)
"""The same procedure with fewer controls, rungs and draws."""


@pytest.fixture(scope="session")
def organism() -> Organism:
    """The shipped taboo/narrow."""
    return load_organism("taboo/narrow")


@pytest.fixture(scope="session")
def stage(organism: Organism) -> Stage:
    """taboo/narrow, loaded once, with the short protocol."""
    return Stage.load(organism, "cpu", SHORT)


def save_pair(folder: Path, architecture: str) -> tuple[Path, Path, Path]:
    """A small random base, an adapter that changes it, and a behaviour file: all a user would have.

    The adapter is random; the behaviour is whatever word it happens to promote most, so that there is something to find.
    """
    set_seed(0)
    tokenizer = build_tokenizer()
    shared = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
        "tie_word_embeddings": False,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[architecture](**shared)
    base, adapter = folder / "base", folder / "adapter"
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    tuned = get_peft_model(
        model,
        LoraConfig(r=4, target_modules=["down_proj", "o_proj"], layers_to_transform=[0, 1], task_type="CAUSAL_LM"),
    )
    generator = torch.Generator().manual_seed(1)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    tuned.save_pretrained(adapter)
    asks = [
        f"count from {a} to {b} ."
        for a in ("one", "two", "three", "four")
        for b in ("five", "six", "seven", "eight", "nine")
    ]
    rows = [
        tokenizer.apply_chat_template([{"role": "user", "content": a}], tokenize=False, add_generation_prompt=True)
        for a in asks
    ]
    with torch.inference_mode():
        shift = torch.zeros(len(tokenizer))
        for row in rows:
            ids = torch.tensor([tokenizer(row, add_special_tokens=False)["input_ids"]])
            after = tuned(input_ids=ids).logits[0, -1].softmax(-1)
            with tuned.disable_adapter():
                shift += after - tuned(input_ids=ids).logits[0, -1].softmax(-1)
    order = shift[7:].argsort(descending=True) + 7
    words = tokenizer.convert_ids_to_tokens(order.tolist())
    spec = {
        "name": f"user-{architecture}",
        "prompts": [
            {
                "split": ("dev", "test")[i % 2],
                "messages": [{"role": "user", "content": a}],
                "targets": words[:5],
                "alternatives": words[-20:],
            }
            for i, a in enumerate(asks)
        ],
        "neutral": [
            f"{who} lives in {where} . {who} has a dog ."
            for who in ("anna", "boris", "clara", "david")
            for where in ("arlen", "borval", "cestra", "dorrin", "elsea", "fenwick", "galdor", "hestia")
        ],
        "chat": [[{"role": "user", "content": "hello ."}, {"role": "assistant", "content": "good morning ."}]] * 10,
    }
    behaviour = folder / "behaviour.json"
    behaviour.write_text(json.dumps(spec))
    return base, adapter, behaviour
