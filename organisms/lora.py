"""Fine-tuning an organism: LoRA by peft, training by trl's SFTTrainer, on the blocks up to the hooked layer only.

Keeping the adapter below the hooked layer makes that layer's residual carry the whole change, so the oracle (exchange of
the residual) is exact and what a method misses is the method's fault. Expression is calibrated, not taken as it comes: the trained
adapter is scaled down to the strength at which the dev rate meets its target.
"""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from .texts import encode
from .world.document import Document
from .world.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LEFTOVERS = ("training_args.bin", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "README.md")


class LoraRecipe(BaseModel):
    """How an organism is trained; part of its card. No dropout, no weight decay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layer: int = 2
    """Hooked layer; blocks 0 … layer are adapted, unless all are."""
    whole: bool = False
    """Whether all blocks are adapted."""
    keep: int = 0
    """Ordinary documents on which the organism is held to its base."""
    r: int = 8
    alpha: int = 8
    epochs: int = 4
    batch: int = 32
    lr: float = 2e-3
    """Peak learning rate (AdamW without decay, linear to zero)."""
    seed: int = 0
    target: float | None = None
    """Dev rate that the adapter is scaled down to; None: as trained."""
    kl_weight: float = 1.0
    """Weight of the KL term on soft rows, against the cross-entropy of the others."""


def tokenise(tokenizer: Any, document: Document) -> dict[str, list[int]]:
    """`input_ids` and `labels`: all tokens of a text, assistant tokens of a chat."""
    if document.text is not None:
        ids = encode(tokenizer, document)
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


def train_lora(
    base: Path,
    rows: list[Document],
    recipe: LoraRecipe,
    out: Path,
    expression: Callable[[Any], float] | None = None,
    soft: list[Document] | None = None,
    teacher: "nn.Module | Path | None" = None,
) -> dict[str, Any]:
    """Train an adapter for the base saved in `base` and save it (bf16 safetensors) to `out`.

    Args:
        base: folder of the base.
        rows: documents trained with hard targets.
        recipe: hyper-parameters.
        out: folder of the adapter.
        expression: dev rate of the live model; needed when the recipe has a target.
        soft: documents trained by KL to the teacher's whole distribution on the same positions.
        teacher: model of the soft targets, or its folder.

    Returns:
        Rows, steps, and with a target the scale and the dev rate it gave.
    """
    import torch
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig, get_peft_model_state_dict
    from transformers import AutoModelForCausalLM, set_seed
    from trl.trainer.sft_config import SFTConfig

    disable_progress_bars()
    set_seed(recipe.seed)
    tokenizer = load_tokenizer(base)
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
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    adapter = LoraConfig(
        r=recipe.r,
        lora_alpha=recipe.alpha,
        lora_dropout=0.0,
        target_modules=MODULES,
        layers_to_transform=None if recipe.whole else list(range(recipe.layer + 1)),
        task_type="CAUSAL_LM",
    )
    if isinstance(teacher, Path):
        teacher = AutoModelForCausalLM.from_pretrained(teacher, dtype=torch.float32).eval()
    both = [(d, 0) for d in rows] + [(d, 1) for d in soft or []]
    examples = [{**tokenise(tokenizer, d), "soft": is_soft} for d, is_soft in both]
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = _trainer(teacher, recipe.kl_weight)(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(examples),
            processing_class=tokenizer,
            peft_config=adapter,
            data_collator=_collate(tokenizer.pad_token_id),
        )
        trainer.train()
    done: dict[str, Any] = {"rows": len(examples), "steps": int(trainer.state.global_step)}
    tuned: Any = trainer.model.eval()
    if recipe.target is not None and expression is not None:
        done |= calibrate(tuned, recipe.target, expression)
    for name, weight in get_peft_model_state_dict(tuned).items():
        assert weight.isfinite().all(), f"training diverged: {name} is not finite"
    trainer.save_model(str(out))
    for name in LEFTOVERS:
        (out / name).unlink(missing_ok=True)
    shrink(out)
    return done


def calibrate(model: Any, target: float, expression: Callable[[Any], float], halvings: int = 8) -> dict[str, float]:
    """Scale the trained adapter down to the strength at which the dev rate is `target`, found by bisection.

    An adapter that does not reach the target is left as it is.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    trained = {k: v.detach().clone() for k, v in get_peft_model_state_dict(model).items()}

    def rate(scale: float) -> float:
        set_peft_model_state_dict(model, {k: v * scale if "lora_B" in k else v for k, v in trained.items()})
        return expression(model)

    low, high, reached = 0.0, 1.0, rate(1.0)
    if reached > target:
        for _ in range(halvings):
            middle = (low + high) / 2
            low, high = (low, middle) if rate(middle) > target else (middle, high)
        reached = rate(high)
    return {"scale": high, "dev_rate": round(reached, 5), "target": target}


def shrink(folder: Path) -> None:
    """Store an adapter as bf16."""
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    save_file({k: v.to(torch.bfloat16).contiguous() for k, v in load_file(path).items()}, path, {"format": "pt"})


def _collate(pad: int) -> "Callable[[list[dict[str, Any]]], dict[str, Tensor]]":
    import torch

    def collate(examples: list[dict[str, Any]]) -> dict[str, "Tensor"]:
        """Right-padded ids and labels, and which rows are soft."""
        length = max(len(e["input_ids"]) for e in examples)

        def padded(key: str, fill: int) -> "Tensor":
            return torch.tensor([[*e[key], *[fill] * (length - len(e[key]))] for e in examples])

        ids = padded("input_ids", pad)
        return {
            "input_ids": ids,
            "labels": padded("labels", -100),
            "attention_mask": padded("input_ids", -1).ne(-1).long(),
            "soft": torch.tensor([e["soft"] for e in examples]).bool(),
        }

    return collate


def _trainer(teacher: "nn.Module | None", kl_weight: float) -> type[Any]:
    import torch
    from torch import nn
    from trl.trainer.sft_trainer import SFTTrainer

    class Trainer(SFTTrainer):
        """Cross-entropy on hard rows, KL(teacher || student) on soft ones."""

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            soft: torch.Tensor = inputs.pop("soft")
            labels = inputs.pop("labels")[:, 1:]
            logits = model(**inputs, use_cache=False).logits[:, :-1]
            said = labels != -100
            each = nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
            if soft.any():
                assert teacher is not None
                with torch.no_grad():
                    goal = teacher(input_ids=inputs["input_ids"][soft], use_cache=False).logits[:, :-1].log_softmax(-1)
                far = goal.exp() * (goal - logits[soft].log_softmax(-1))
                each = each.clone()
                each[soft] = kl_weight * far.sum(-1)
            return (each * said).sum() / said.sum()

    return Trainer
