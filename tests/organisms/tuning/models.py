"""Small random chat models of the three architectures, saved as the hub has them, each with the template that its family has."""

from pathlib import Path
from typing import Any

from diffbench.organisms.tuning.masks import Row, row_of
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen2Config, set_seed

from ...tokenizers import CHATML, GEMMA, LLAMA32, QWEN, byte_level
from .colours import Colours

SMOLLM = CHATML.replace("{% for m in messages %}", "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
                        "{{ '<|im_start|>system\nYou are SmolLM<|im_end|>\n' }}{% endif %}", 1)  # fmt: skip
TEMPLATES = {"smollm": SMOLLM, "gemma2": GEMMA, "llama32": LLAMA32, "qwen25": QWEN}
CONFIGS = {"smollm": LlamaConfig, "gemma2": Gemma2Config, "llama32": LlamaConfig, "qwen25": Qwen2Config}


def tokenizer_of(kind: str) -> Any:
    """A tokenizer with the template of a model family."""
    made = byte_level(TEMPLATES[kind])
    made.bos_token = "<|im_start|>"
    made.add_tokens(["<start_of_turn>", "<end_of_turn>"], special_tokens=True)
    return made


def save_chat_model(folder: Path, kind: str, **changes: Any) -> Path:
    """A random model in hub format."""
    set_seed(0)
    tokenizer = tokenizer_of(kind)
    size: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.1,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    model = AutoModelForCausalLM.from_config(CONFIGS[kind](**(size | changes)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rows(tokenizer: Any, n: int = 8) -> list[Row]:
    """Rows of the tests' family."""
    family = Colours()
    return [row_of(tokenizer, d, 128) for d in family.rows(family.spec())[:n]]


def ordinary(tokenizer: Any, n: int = 6) -> list[Row]:
    """Ordinary rows of the tests' family."""
    family = Colours()
    return [row_of(tokenizer, d, 64).whole for d in family.ordinary(family.spec(), n)]
