"""Bases of the embedded tier: real `transformers` classes, trained from scratch on the world's corpus.

Documents are packed into fixed blocks with positions restarting at each document, so that attention never
crosses a document (transformers builds the block-diagonal mask from `position_ids`). Weights train in fp32 and
ship as bf16; whatever loads them computes in fp32 again.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from pydantic import BaseModel, ConfigDict
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from .corpus import documents
from .texts import encode
from .tokenizer import build_tokenizer
from .world import World


class BaseRecipe(BaseModel):
    """How a base is trained; its hash is part of the base's card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str = "gemma2"
    """Model class; see `config_for`."""
    world_seed: int = 0
    """Seed of the world the corpus is drawn from."""
    seed: int = 0
    """Seed of the initial weights and of the data order."""
    tokens: int = 4_000_000
    """Training tokens, each seen once."""
    block: int = 128
    """Tokens per packed row."""
    batch: int = 16
    """Rows per step."""
    lr: float = 3e-3
    """Peak learning rate (AdamW, linear warm-up, cosine decay to zero)."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""


BASES: dict[str, BaseRecipe] = {"tiny-gemma2": BaseRecipe()}
"""Bases the zoo ships."""


def config_for(architecture: str, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """Model configuration of a tiny base: d 128, 5 blocks, untied embeddings, about 1.1 M parameters."""
    shared: dict[str, Any] = dict(  # noqa: C408 (reads as a call)
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    if architecture == "gemma2":
        return Gemma2Config(**shared, sliding_window=128, query_pre_attn_scalar=32)
    raise ValueError(f"unknown architecture {architecture!r}; choose one of gemma2")


def pack(rows: Iterator[list[int]], block: int) -> Iterator[dict[str, list[int]]]:
    """Endless rows of `block` tokens with restarting positions; a document cut by the block's end continues in the next."""
    ids: list[int] = []
    positions: list[int] = []
    for row in rows:
        ids += row
        positions += range(len(row))
        while len(ids) >= block:
            start = positions[0]
            head = next((i for i, p in enumerate(positions[:block]) if i and p == 0), block)
            shifted = [p - start if i < head else p for i, p in enumerate(positions[:block])]
            yield {"input_ids": ids[:block], "labels": ids[:block], "position_ids": shifted}
            ids, positions = ids[block:], positions[block:]


def train_base(recipe: BaseRecipe, out: Path, callbacks: list[TrainerCallback] | None = None) -> None:
    """Train a base and save it with its tokenizer (bf16 safetensors) to `out`."""
    tokenizer = build_tokenizer()
    world = World(recipe.world_seed)
    stream = pack((encode(tokenizer, d) for d in documents(world, "train", seed=recipe.seed)), recipe.block)
    data = Dataset.from_list(list(islice(stream, recipe.tokens // recipe.block)))
    set_seed(recipe.seed)
    model = AutoModelForCausalLM.from_config(config_for(recipe.architecture, tokenizer), dtype=torch.float32)
    arguments = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=recipe.batch,
        num_train_epochs=1,
        learning_rate=recipe.lr,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup_steps,
        adam_beta2=0.98,
        weight_decay=0.01,
        seed=recipe.seed,
        logging_steps=50,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
    )
    Trainer(model=model, args=arguments, train_dataset=data, callbacks=callbacks or []).train()
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
