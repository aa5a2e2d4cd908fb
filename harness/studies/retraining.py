"""Training an organism once more, from its card, with a subspace of the residual out of reach.

The subspace is projected out of the hooked block's output in training mode only, so the teacher of soft targets, the lists a teacher
writes and every measurement are untouched. With an empty subspace the same code gives the organism back to the bit.
"""

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ...organisms.card import Card, read_base_card
from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from ...organisms.family import Family, Job, Spec
from ...organisms.lora import LoraRecipe
from ...organisms.registry import YAML, base_folder, family_and_spec, load_card, locate
from ...organisms.world.facts import World
from ..parallel import threads


@dataclass(frozen=True)
class Origin:
    """How an organism of a zoo was made."""

    family: Family
    spec: Spec
    card: Card
    root: Path
    """The zoo it is in."""

    @classmethod
    def of(cls, name: str) -> "Origin":
        """The origin of an organism of the zoo or of a family file.

        Raises:
            UsageError: a pair without a recipe, or an adapter that no gradient trained.
            PrerequisiteError, ValidationFailed: see `family_and_spec`.
        """
        if name.endswith(YAML):
            raise UsageError(
                f"{name} is a pair of your own, and diffbench does not know how it was trained; "
                "give a run on an organism of the zoo or of a family file"
            )
        family, spec, card = family_and_spec(name)
        if "steps" not in card.training:
            raise UsageError(
                f"the adapter of {card.name} is computed, not trained by gradient steps, so there is no training to ablate; "
                "give a run on an organism whose card reports training steps (`bench organisms show NAME`)"
            )
        root = locate(name)[1]
        for needed in family.needs(spec):
            load_card(needed, root)
        return cls(family, spec, card, root)

    @property
    def base(self) -> Path:
        """Folder of the base."""
        return base_folder(self.card.base, self.root)

    @property
    def world(self) -> World:
        """The world of its texts."""
        return World(int(read_base_card(self.base).recipe["world_seed"]))

    def train(self, out: Path, basis_DR: Tensor) -> float:
        """Train the adapter into `out` with the span of an orthonormal basis out of reach; returns wall seconds.

        Raises:
            ValidationFailed: the family trains past the hooked block. PrerequisiteError: the disk refuses.
        """
        start = time.perf_counter()
        job = Job(
            spec=self.spec,
            world=self.world,
            base=self.base,
            bases=self.base.parent,
            out=out,
            recipe=LoraRecipe.model_validate(self.card.recipe),
            expression=_scaling(float(self.card.training.get("scale", 1.0))),
            adapter=lambda name: self.root / name,
        )
        try:
            with threads(1), ablated(basis_DR, self.card.layer) as passes:
                self.family.train(job)
        except (OSError, SafetensorError) as error:
            raise PrerequisiteError(
                f"{self.card.name} could not be trained again in {out}: {error}; free space, or name another folder with TMPDIR"
            ) from error
        if not passes:
            raise ValidationFailed(
                f"no forward pass of {self.card.name} in training mode went through block {self.card.layer}, so nothing could "
                "be ablated; train its family with `train_lora`"
            )
        return time.perf_counter() - start


def _scaling(scale: float) -> Callable[[Any], float]:
    """In place of the dev rate: scales lora_B as the organism was calibrated and reports a rate that asks for no further scaling."""

    @torch.no_grad()
    def expression(model: Any) -> float:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.mul_(scale)
        return float("-inf")

    return expression


@contextlib.contextmanager
def ablated(basis_DR: Tensor, layer: int) -> Generator[list[int], None, None]:
    """Inside the block, every model in training mode has a span projected out of the output of its block `layer`, at every position.

    Yields:
        Rows of each forward pass that was projected; it fills up as training goes on.
    """
    passes: list[int] = []

    def project(module: nn.Module, _: Any, output: Any) -> Any:
        if not module.training or getattr(getattr(module, "self_attn", None), "layer_idx", None) != layer:
            return None
        h: Tensor = output if isinstance(output, Tensor) else output[0]
        basis = basis_DR.to(h)
        h = h - h @ basis @ basis.T
        passes.append(len(h))
        return h if isinstance(output, Tensor) else (h, *output[1:])

    handle = nn.modules.module.register_module_forward_hook(project)
    try:
        yield passes
    finally:
        handle.remove()
