"""Small models and adapters of every kind that a pair may be made of, saved in hub format."""

import json
from pathlib import Path
from typing import Any

import torch
from diffbench.organisms.world.tokenizer import build_tokenizer
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    set_seed,
)

WORDS = len(build_tokenizer())
SIZE: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
CONFIGS: dict[str, Any] = {
    "gemma2": Gemma2Config(**SIZE, head_dim=8, sliding_window=8),
    "gemma3": Gemma3TextConfig(**SIZE, head_dim=8, sliding_window=8),
    "llama2": LlamaConfig(**SIZE),
    "llama3": LlamaConfig(
        **SIZE,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "qwen2": Qwen2Config(**SIZE),
    "qwen3": Qwen3Config(**SIZE, head_dim=8),
    "mistral": MistralConfig(**SIZE, sliding_window=8),
    "olmo2": Olmo2Config(**SIZE),
    "phi3": Phi3Config(**SIZE),
    "smollm3": SmolLM3Config(**SIZE),
    "gpt2": GPT2Config(**SIZE),
}
"""One config of each family, from its real class; windows shorter than the proof's text."""
TARGETS = {"phi3": ["down_proj", "qkv_proj"], "gpt2": ["c_proj", "c_attn"]}
"""Names of linear layers where they are not Llama's."""


def save_base(folder: Path, kind: str = "llama2", seed: int = 0, **changes: Any) -> Path:
    """A base with random weights and the tokenizer of the embedded tier."""
    set_seed(seed)
    config = type(CONFIGS[kind])(**(CONFIGS[kind].to_diff_dict() | changes)) if changes else CONFIGS[kind]
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data = 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def save_adapter(
    folder: Path, base: Path, kind: str = "llama2", seed: int = 1, on: Path | None = None, **options: Any
) -> Path:
    """A trained-looking LoRA adapter for a base: every weight that training would touch is moved."""
    set_seed(seed)
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    if on is not None:
        model = PeftModel.from_pretrained(model, on).merge_and_unload()
    chosen = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": TARGETS.get(kind, ["down_proj", "q_proj"]),
        "task_type": "CAUSAL_LM",
    }
    tuned = get_peft_model(model, LoraConfig(**{**chosen, **options}))
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * torch.randn(parameter.shape)
    tuned.save_pretrained(folder)
    edit(folder / "adapter_config.json", base_model_name_or_path=None)
    return folder


def edit(path: Path, **fields: Any) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def logits_of(model: Any) -> torch.Tensor:
    """[1, 40, vocab] of a model loaded alone."""
    with torch.inference_mode():
        return model.eval()(input_ids=IDS, use_cache=False).logits.float()


IDS = torch.arange(7, 47)[None]
