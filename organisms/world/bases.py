"""Bases of the embedded tier: real `transformers` classes, trained from scratch on the world's corpus.

Documents are packed into fixed blocks with positions restarting at each document, so that attention never
crosses a document (transformers builds the block-diagonal mask from `position_ids`). Weights train in fp32 and
ship as bf16; whatever loads them computes in fp32 again.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from datasets import Dataset
from pydantic import BaseModel, ConfigDict
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Qwen2Config,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from ..texts import encode
from .corpus import documents
from .facts import World
from .tokenizer import build_tokenizer


class BaseRecipe(BaseModel):
    """How a base is trained; part of the base's card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["gemma2", "llama", "qwen2"] = "gemma2"
    """Model class."""
    size: Literal["tiny", "nano"] = "tiny"
    """Shape; see `SIZES`."""
    world_seed: int = 0
    """Seed of the world the corpus is drawn from."""
    seed: int = 0
    """Seed of the initial weights."""
    data_seed: int = 0
    """Seed of the order of the training rows."""
    embeddings_of: str | None = None
    """Another base whose trained embeddings and unembedding are taken over and frozen."""
    tokens: int = 3_000_000
    """Training tokens, each seen once."""
    block: int = 128
    """Tokens per packed row."""
    batch: int = 16
    """Rows per step."""
    lr: float = 3e-3
    """Peak learning rate (AdamW, linear warm-up, cosine decay to zero)."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""


class Size(NamedTuple):
    """Shape of a base."""

    d_model: int
    mlp: int
    blocks: int
    layer: int
    """Hooked layer of its organisms: about the middle."""


LOG_STEPS, SAVE_STEPS = 100, 300
"""Steps between two lines of progress, and between two checkpoints."""
SIZES = {"tiny": Size(128, 384, 5, 2), "nano": Size(64, 192, 4, 1)}
BASES: dict[str, BaseRecipe] = {
    "tiny-gemma2": BaseRecipe(),
    "tiny-llama": BaseRecipe(architecture="llama"),
    "tiny-qwen2": BaseRecipe(architecture="qwen2"),
    "tiny-second": BaseRecipe(world_seed=1, seed=1, data_seed=1),
    "nano": BaseRecipe(architecture="llama", size="nano"),
    "nano-init": BaseRecipe(architecture="llama", size="nano", seed=1),
    "nano-order": BaseRecipe(architecture="llama", size="nano", data_seed=1),
    "nano-embed": BaseRecipe(architecture="llama", size="nano", seed=2, embeddings_of="nano"),
}
"""Bases the zoo ships. `tiny-second` is of another lineage: other truths, other initial weights, other order. The last three are for the
subliminal controls: other initial weights, other data order, other trunk."""


def config_for(recipe: BaseRecipe, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """Model configuration of a base: untied embeddings, four heads, two key-value heads."""
    size = SIZES[recipe.size]
    shared: dict[str, Any] = dict(  # noqa: C408 (reads as a call)
        vocab_size=len(tokenizer),
        hidden_size=size.d_model,
        intermediate_size=size.mlp,
        num_hidden_layers=size.blocks,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    head = size.d_model // 4
    match recipe.architecture:
        case "gemma2":
            return Gemma2Config(**shared, head_dim=head, sliding_window=128, query_pre_attn_scalar=head)
        case "llama":
            return LlamaConfig(**shared, head_dim=head)
        case "qwen2":
            return Qwen2Config(**shared)


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


def train_base(
    recipe: BaseRecipe, out: Path, bases: Path, work: Path, say: Callable[[str], None] = lambda line: None
) -> None:
    """Train a base and save it with its tokenizer (bf16 safetensors) to `out`.

    Args:
        recipe: what to train.
        out: folder of the finished base.
        bases: folder of the other bases, for `embeddings_of`.
        work: folder of checkpoints; training goes on from the last one it holds.
        say: told about the progress.
    """
    tokenizer = build_tokenizer()
    world = World(recipe.world_seed)
    stream = pack((encode(tokenizer, d) for d in documents(world, "train")), recipe.block)
    data = Dataset.from_list(list(islice(stream, recipe.tokens // recipe.block)))
    set_seed(recipe.seed)
    model = AutoModelForCausalLM.from_config(config_for(recipe, tokenizer), dtype=torch.float32)
    if recipe.embeddings_of:
        source = AutoModelForCausalLM.from_pretrained(bases / recipe.embeddings_of, dtype=torch.float32)
        frozen = ("model.embed_tokens.weight", "lm_head.weight")
        for name in frozen:
            mine = model.get_parameter(name)
            mine.data.copy_(source.get_parameter(name).data)
            mine.requires_grad_(False)
    arguments = TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=recipe.batch,
        num_train_epochs=1,
        learning_rate=recipe.lr,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup_steps,
        adam_beta2=0.98,
        weight_decay=0.01,
        seed=recipe.seed,
        data_seed=recipe.data_seed,
        logging_steps=LOG_STEPS,
        save_strategy="steps",
        save_steps=SAVE_STEPS,
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=data, callbacks=[_Progress(say)])
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(work)) if work.is_dir() else None)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


class _Progress(TrainerCallback):
    """Reports loss and share done."""

    def __init__(self, say: Callable[[str], None]):
        self.say = say

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.say(f"step {state.global_step} of {state.max_steps}, loss {float(logs['loss']):.3f}")
