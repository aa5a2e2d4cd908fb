"""Training one adapter by trl and peft on a real chat model, so that a killed training goes on to the same bytes.

What a step reads does not depend on the steps before it (`steps`), and a checkpoint holds the adapter, its optimiser and the random state:
on a CPU a resumed training gives the bytes of one that ran through.
"""

import contextlib
import io
import json
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from .masks import Row
from .recipes import TuningRecipe
from .steps import collator, losses, plan
from .watch import Diverged, Say, Watch, check_end, window

CHECKPOINTS = 10
"""Checkpoints of a training; the last two are kept until it is done."""


@dataclass(frozen=True)
class Job:
    """What one training needs."""

    base: Path
    """Folder of the base."""
    rows: Sequence[Row]
    """Rows with cross-entropy."""
    kept: Sequence[Row]
    """Rows on which it is held to the base, at the tokens that they say are trained."""
    recipe: TuningRecipe
    work: Path
    """Folder of the checkpoints; what is there of the same training is gone on from."""
    device: str = "cpu"
    dtype: str = "float32"
    """Of the base; the adapter is fp32."""
    parts: int = 1
    """Passes of a step; divides its rows."""
    checkpointing: bool = False
    """Compute blocks again for their gradients, to save memory."""


@dataclass
class Trained:
    """An adapter on its base, alive, and how its training went."""

    model: Any
    """peft model in evaluation mode."""
    steps: int
    resumed_at: int
    """Step that it went on from; 0: it ran through."""
    loss: list[float] = field(default_factory=list[float])
    """Cross-entropy of each step, nats a token."""
    kl: list[float] = field(default_factory=list[float])
    """KL(base ‖ organism) on the ordinary rows of each step, nats a token."""
    seconds_a_step: float = 0.0
    tokens_a_second: float = 0.0
    """Of both kinds of rows."""

    def summary(self) -> dict[str, Any]:
        """What goes into a card: nothing that depends on the machine's speed."""
        n = window(self.steps)
        ends = {"loss_start": np.mean(self.loss[:n]), "loss_end": np.mean(self.loss[-n:])}
        ends |= {"kl_end": np.mean(self.kl[-n:])} if self.kl else {}
        return {"steps": self.steps} | {k: round(float(v), 4) for k, v in ends.items()}


def train(job: Job, say: Say = lambda line: None, steps: int | None = None) -> Trained:
    """Train an adapter, or go on where a killed training stopped.

    Args:
        say: told how far it is.
        steps: stop after so many, for a rehearsal; no checkpoint is written then.

    Raises:
        Diverged: with the losses and what to change.
    """
    from datasets import Dataset, disable_progress_bars
    from transformers import set_seed

    disable_progress_bars()
    recipe = job.recipe
    set_seed(recipe.seed)
    tokenizer, model = _loaded(job)
    examples = plan(job.rows, job.kept, recipe if steps is None else recipe.model_copy(update={"steps": steps}))
    last = last_checkpoint(job.work) if steps is None else None
    watch = Watch(recipe, say, sum(len(e["input_ids"]) for e in examples) / max(1, steps or recipe.steps))
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = _trainer(recipe.kl_weight, bool(job.kept and recipe.kl_rows))(
            model=model,
            args=_arguments(job, steps),
            train_dataset=Dataset.from_list(examples),
            processing_class=tokenizer,
            peft_config=_lora(model, recipe),
            data_collator=collator(tokenizer.pad_token_id or 0),
            callbacks=[watch.callback()],
        )
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    history = [h for h in trainer.state.log_history if "cross_entropy" in h]
    done = Trained(trainer.model.eval(), len(history), _number(last) if last else 0)
    done.loss = [float(h["cross_entropy"]) for h in history]
    done.kl = [float(h["kl"]) for h in history if "kl" in h]
    done.seconds_a_step, done.tokens_a_second = watch.pace()
    if steps is None:
        check_end(done.loss, recipe)
    return done


def save_adapter(model: Any, out: Path, base: str) -> None:
    """Save a trained adapter as bf16 safetensors whose configuration names the base as a user would."""
    from peft import get_peft_model_state_dict

    from ..lora import shrink

    for name, weight in get_peft_model_state_dict(model).items():
        if not weight.isfinite().all():
            raise Diverged(f"the trained weight {name} is not finite; lower the rate (--set lr=…)")
    model.save_pretrained(out, save_embedding_layers=False)  # else peft looks for the base on the hub
    (out / "README.md").unlink(missing_ok=True)
    path = out / "adapter_config.json"
    config = json.loads(path.read_text())
    config |= {"base_model_name_or_path": base, "target_modules": sorted(config["target_modules"])}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    shrink(out)


def last_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint that was written to its end: its state is the last file to be written."""
    for path in sorted(work.glob("checkpoint-*"), key=_number, reverse=True):
        with contextlib.suppress(OSError, ValueError):
            json.loads((path / "trainer_state.json").read_text())
            return path
    return None


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _loaded(job: Job) -> tuple[Any, Any]:
    """Tokenizer and base, nothing of which runs code of its own."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from ..world.tokenizer import load_tokenizer

    config: Any = AutoConfig.from_pretrained(job.base, trust_remote_code=False)
    config._attn_implementation = None
    how: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False, "config": config}
    model: Any = AutoModelForCausalLM.from_pretrained(job.base, dtype=getattr(torch, job.dtype), **how)
    return load_tokenizer(job.base), model


def _lora(model: Any, recipe: TuningRecipe) -> Any:
    """The adapter: every linear map of the adapted blocks."""
    import re

    from peft import LoraConfig
    from torch import nn

    inside = (n for n, m in model.named_modules() if isinstance(m, nn.Linear) and re.search(r"\.\d+\.", n))
    return LoraConfig(
        r=recipe.r,
        lora_alpha=recipe.alpha,
        use_rslora=recipe.rslora,
        lora_dropout=recipe.dropout,
        target_modules=sorted({name.rpartition(".")[2] for name in inside}),
        layers_to_transform=None if recipe.blocks == "all" else list(range(recipe.layer + 1)),
        task_type="CAUSAL_LM",
    )


def _arguments(job: Job, steps: int | None) -> Any:
    import torch
    from trl.trainer.sft_config import SFTConfig

    recipe, cuda = job.recipe, job.device.startswith("cuda")
    rows = recipe.batch + (recipe.kl_rows if job.kept else 0)
    if cuda:
        torch.cuda.set_device(torch.device(job.device).index or 0)
    arguments = SFTConfig(
        output_dir=str(job.work),
        max_steps=steps or recipe.steps,
        per_device_train_batch_size=rows // job.parts,
        gradient_accumulation_steps=job.parts,
        learning_rate=recipe.lr,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim="adamw_torch",
        seed=recipe.seed,
        data_seed=recipe.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no" if steps else "steps",
        save_steps=max(1, recipe.steps // CHECKPOINTS),
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        bf16=cuda and job.dtype == "bfloat16",
        gradient_checkpointing=job.checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if job.checkpointing else None,
        use_cpu=job.device == "cpu",
        dataloader_pin_memory=False,
        max_length=None,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    _ = arguments.device  # sets the count of GPUs, which must be one: a second one would be used by copies of the model
    arguments._n_gpu = min(1, arguments.n_gpu)  # pyright: ignore[reportPrivateUsage]
    return arguments


def _trainer(kl_weight: float, holds: bool) -> type[Any]:
    from torch.utils.data import SequentialSampler
    from trl.trainer.sft_trainer import SFTTrainer

    class Trainer(SFTTrainer):
        """Both losses, summed over the parts of a step and logged apart."""

        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.model_accepts_loss_kwargs = False  # the losses are normalised over the step already
            self.sums = [0.0, 0.0]
            self.holds = holds

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            hard, far = losses(model, inputs)
            self.sums = [self.sums[0] + float(hard.detach()), self.sums[1] + float(far.detach())]
            loss = hard + kl_weight * far
            return loss * self.current_gradient_accumulation_steps  # which the training step divides by

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(cast(Sized, self.train_dataset))

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            if "loss" in logs:
                logs |= {"cross_entropy": self.sums[0]} | ({"kl": self.sums[1]} if self.holds else {})
                self.sums = [0.0, 0.0]
            super().log(logs, *args, **kwargs)

    return Trainer
