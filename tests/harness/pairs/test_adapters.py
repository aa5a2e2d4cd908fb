"""Adapters beyond the common kind: what is accepted is exact on models with tied embeddings too; what cannot mean anything is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.pairs.adapters import read_adapter
from diffbench.harness.pairs.anatomy import PairError
from diffbench.harness.pairs.loading import load_pair
from diffbench.organisms.hub.sources import PairSource
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from .kinds import CONFIGS, edit, save_adapter, save_base
from .test_kinds_of_pairs import check_sides, merged_change

TIED: dict[str, dict[str, Any]] = {
    "a replaced unembedding": {"modules_to_save": ["lm_head"]},
    "a replaced embedding": {"modules_to_save": ["embed_tokens"]},
    "LoRA on the embedding": {"target_modules": ["down_proj", "embed_tokens"]},
    "LoRA on the unembedding": {"target_modules": ["down_proj", "lm_head"]},
    "trained tokens": {"trainable_token_indices": [8, 9]},
    "trained tokens that no probe has": {"target_modules": ["q_proj"], "trainable_token_indices": [60]},
}
WHOLE: dict[str, dict[str, Any]] = {
    "replaced linear layers": {"modules_to_save": ["up_proj"]},
    "replaced feed-forward parts": {"target_modules": ["q_proj"], "modules_to_save": ["mlp"]},
    "replaced norms": {"modules_to_save": ["input_layernorm"]},
}


def both(base: Path, adapter: Path) -> tuple[Any, Any]:
    """The base, and peft's own model."""
    models: list[Any] = [AutoModelForCausalLM.from_pretrained(base) for _ in range(2)]
    return models[0], PeftModel.from_pretrained(models[1], adapter)


@pytest.mark.parametrize("kind", TIED)
def test_adapter_off_is_the_base_where_embeddings_are_tied(tmp_path: Path, kind: str) -> None:
    base = save_base(tmp_path / "base", "llama3")
    adapter = save_adapter(tmp_path / "adapter", base, **TIED[kind])
    check_sides(load_pair(base, adapter, 2), *both(base, adapter))


@pytest.mark.parametrize("kind", WHOLE)
def test_weights_that_an_adapter_replaces_are_in_delta_w(tmp_path: Path, kind: str) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base, **WHOLE[kind])
    pair = load_pair(base, adapter, 2)
    check_sides(pair, *both(base, adapter))
    expected, found = merged_change(base, adapter, 2), pair.weight_changes()
    assert found.keys() == expected.keys() != set()
    for name, delta in found.items():
        torch.testing.assert_close(delta, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"bias": "all"}, {"use_rslora": True}])
def test_delta_w_of_transposed_layers_is_exact(tmp_path: Path, options: dict[str, Any]) -> None:
    base = save_base(tmp_path / "base", "gpt2")
    adapter = save_adapter(tmp_path / "adapter", base, "gpt2", fan_in_fan_out=True, **options)
    pair = load_pair(base, adapter, 2)
    check_sides(pair, *both(base, adapter))
    expected = merged_change(base, adapter, 2)
    assert pair.weight_changes().keys() == expected.keys() != set()
    for name, delta in pair.weight_changes().items():
        torch.testing.assert_close(delta, expected[name], rtol=1e-4, atol=1e-5)


def test_trained_tokens_alone_are_an_effect_though_no_probe_has_them(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base, trainable_token_indices={"embed_tokens": [60]})
    path = adapter / "adapter_model.safetensors"
    saved = load_file(path)
    save_file({k: v * 0 if ".lora_B" in k else v for k, v in saved.items()}, path)
    check_sides(load_pair(base, adapter, 2), *both(base, adapter))


WRONG: list[dict[str, Any]] = [
    {"r": 4.5},
    {"r": True},
    {"r": 10**400},
    {"r": [4]},
    {"lora_alpha": 10**400},
    {"lora_alpha": "8"},
    {"rank_pattern": [4]},
    {"rank_pattern": "q_proj"},
    {"rank_pattern": {"q_proj": 2.5}},
    {"alpha_pattern": 3},
    {"alpha_pattern": {"q_proj": None}},
    {"use_rslora": "false"},
    {"use_dora": "no"},
    {"use_dora": 2},
    {"lora_bias": "no"},
    {"fan_in_fan_out": "x"},
    {"target_modules": {"q_proj": 1}},
    {"target_modules": [1, 2]},
    {"target_modules": "("},
    {"exclude_modules": 7},
    {"modules_to_save": "lm_head"},
    {"modules_to_save": [3]},
    {"layers_to_transform": "1"},
    {"layers_to_transform": [0.5]},
    {"layers_pattern": 4},
    {"trainable_token_indices": {"embed_tokens": [10**6]}},
    {"trainable_token_indices": "all"},
    {"base_model_name_or_path": 5},
    {"base_model_name_or_path": ["google/gemma-2-2b"]},
    {"init_lora_weights": ["gaussian"]},
    {"init_lora_weights": 1},
    {"task_type": "NONE"},
    {"task_type": "SEQ_CLS"},
    {"lora_dropout": None},
    {"bias": None},
]


@pytest.mark.parametrize("fields", WRONG, ids=lambda f: json.dumps(f)[:50])
def test_an_option_of_a_wrong_type_is_refused_by_its_name(tmp_path: Path, fields: dict[str, Any]) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    edit(adapter / "adapter_config.json", **fields)
    with pytest.raises(PairError, match=rf"(has {next(iter(fields))} |out of bounds)"):
        load_pair(base, adapter, 2)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.complex64])
def test_adapter_weights_that_are_no_common_floats_are_refused_by_key(tmp_path: Path, dtype: torch.dtype) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    path = adapter / "adapter_model.safetensors"
    saved = load_file(path)
    name = sorted(saved)[0]
    save_file(saved | {name: saved[name].to(dtype)}, path)
    with pytest.raises(PairError, match=f"{name}.*{str(dtype).removeprefix('torch.')}"):
        load_pair(base, adapter, 2)


@pytest.mark.parametrize("size", [1e20, 1e30])
def test_finite_weights_that_give_no_finite_logits_are_refused(tmp_path: Path, size: float) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    path = adapter / "adapter_model.safetensors"
    save_file({k: v * size for k, v in load_file(path).items()}, path)
    with pytest.raises(PairError, match="not finite"):
        load_pair(base, adapter, 2)


def test_an_adapter_that_brings_a_larger_embedding_is_refused_with_the_sizes(tmp_path: Path) -> None:
    size = CONFIGS["llama2"].vocab_size
    base = save_base(tmp_path / "base")
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(size + 8)
    tuned = get_peft_model(
        model, LoraConfig(r=4, target_modules=["down_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    )
    tuned.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=True)
    edit(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(PairError, match=rf"embed_tokens.*{size + 8}.*{size}.*vocabulary"):
        load_pair(base, tmp_path / "adapter", 2)


def test_the_upper_adapter_of_a_stack_is_read_as_strictly(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    lower, upper = (save_adapter(tmp_path / n, base, seed=s) for n, s in (("lower", 1), ("upper", 2)))
    edit(upper / "adapter_config.json", init_lora_weights="eva", eva_config={"rho": 2.0})
    pair = load_pair(PairSource(base, upper, on=lower), layer=2)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), lower).merge_and_unload()
    edit(upper / "adapter_config.json", init_lora_weights=True, eva_config=None)
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), lower).merge_and_unload()
    from .kinds import IDS, logits_of

    torch.testing.assert_close(pair.logits(IDS, "base"), logits_of(model), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        pair.logits(IDS, "tuned"), logits_of(PeftModel.from_pretrained(tuned, upper)), rtol=1e-4, atol=1e-4
    )


def test_a_configuration_is_read_without_a_model(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", save_base(tmp_path / "base"), r=3)
    assert read_adapter(adapter).r == 3
