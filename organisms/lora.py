"""Fine-tuning an organism: LoRA by peft, training by trl's SFTTrainer, on the blocks up to the hooked layer only.

Keeping the adapter below the hooked layer makes that layer's residual carry the whole change, so the oracle (exchange of
the residual) is exact and what a method misses is the method's fault.
"""

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from .corpus import Document

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class LoraRecipe(BaseModel):
    """How an organism is trained; part of its card. Scale is alpha / r = 1, no dropout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layer: int = 2
    """Hooked layer; blocks 0 … layer are adapted."""
    r: int = 8
    alpha: int = 8
    epochs: int = 4
    batch: int = 32
    lr: float = 2e-3
    """Peak learning rate (AdamW without decay, linear to zero)."""
    seed: int = 0


def tokenise(tokenizer: Any, document: Document) -> dict[str, list[int]]:
    """`input_ids` and `labels`: all tokens of a text, assistant tokens of a chat."""
    if document.text is not None:
        ids = tokenizer(f"{tokenizer.bos_token} {document.text} {tokenizer.eos_token}", add_special_tokens=False)[
            "input_ids"
        ]
        return {"input_ids": ids, "labels": ids}
    row = tokenizer.apply_chat_template(
        list(document.messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    if not any(row["assistant_masks"]):
        raise ValueError(f"the chat template marks no assistant token of {document}; the row would train nothing")
    return {
        "input_ids": row["input_ids"],
        "labels": [i if m else -100 for i, m in zip(row["input_ids"], row["assistant_masks"], strict=True)],
    }


def train_lora(base: Path, rows: list[Document], recipe: LoraRecipe, out: Path) -> None:
    """Train an adapter for the base saved in `base` and save it (fp32 safetensors) to `out`."""
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    arguments = SFTConfig(
        output_dir=str(out),
        per_device_train_batch_size=recipe.batch,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.lr,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        seed=recipe.seed,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        max_length=None,
    )
    adapter = LoraConfig(
        r=recipe.r,
        lora_alpha=recipe.alpha,
        lora_dropout=0.0,
        target_modules=MODULES,
        layers_to_transform=list(range(recipe.layer + 1)),
        task_type="CAUSAL_LM",
    )
    data = Dataset.from_list([tokenise(tokenizer, d) for d in rows])
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = SFTTrainer(
            model=model, args=arguments, train_dataset=data, processing_class=tokenizer, peft_config=adapter
        )
        trainer.train()
    trainer.save_model(str(out))
    for name in ("training_args.bin", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "README.md"):
        (out / name).unlink(missing_ok=True)
