"""What differs between the two sides of a pair, and how one is left for the other.

*Adapters* are switched on and off in one model. Two whole models share every tensor that is equal; where an accelerator has room for one
of them, the other tensors are exchanged (*residents*). The weights never change, so the host keeps a copy of what differs.
"""

import contextlib
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Side = Literal["base", "tuned"]
SIDES: tuple[Side, ...] = ("base", "tuned")


@dataclass(frozen=True)
class Adapters:
    """Names of the LoRA adapters that are active on each side of one model."""

    base: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ("default",)

    def activate(self, switches: list[Any], side: Side) -> None:
        """Switch an adapter off or on, or, in a stack, choose which ones are active."""
        for part in switches:
            if self.base:
                part.set_adapter(list(getattr(self, side)), inference_mode=True)
            else:
                part.enable_adapters(side == "tuned")


def share(base: Any, tuned: Any) -> None:
    """Make the tensors of `tuned` that equal the base's the base's own; both models have the same parameters."""
    of_base = dict(base.named_parameters())
    for name, parameter in tuned.named_parameters():
        if torch.equal(parameter, of_base[name]):
            parameter.data = of_base[name].data


class Residents:
    """Two models of which a device holds one, and what is equal once. Threads take turns: they share the tensors.

    Args:
        models: the model of each side, on the host, after `share`.
        device: where they run.
    """

    def __init__(self, models: dict[Side, Any], device: str):
        self.device = torch.device(device)
        self.here: Side | None = None
        """Whose tensors are on the device."""
        self._turn, self._depth = threading.RLock(), 0
        base, tuned = ({p.data_ptr() for p in models[side].parameters()} for side in SIDES)
        both = base & tuned
        self._own: dict[Side, list[tuple[nn.Parameter, Tensor]]] = {
            side: [(p, p.data) for p in models[side].parameters() if p.data_ptr() not in both] for side in SIDES
        }
        placed: dict[int, Tensor] = {}
        for model in models.values():
            for p in model.parameters():
                if (address := p.data_ptr()) in both:
                    if address not in placed:
                        placed[address] = self._placed(p.data)
                    p.data = placed[address]
            for buffer in model.buffers():
                buffer.data = self._placed(buffer.data)

    @contextlib.contextmanager
    def on(self, side: Side) -> Generator[None, None, None]:
        """Inside the block the side's weights are on the device."""
        with self._turn:
            before = self.here if self._depth and self.here else side
            self._depth += 1
            self._bring(side)
            try:
                yield
            finally:
                self._depth -= 1
                self._bring(before)

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)

    def _bring(self, side: Side) -> None:
        if side == self.here:
            return
        for own in SIDES:
            for parameter, kept in self._own[own]:
                parameter.data = kept
        for parameter, kept in self._own[side]:
            parameter.data = self._placed(kept)
        self.here = side


def plain(model: Any) -> Any:
    """The transformers model inside a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


class BiasSwitch:
    """A bias that training changed beside the LoRA matrices, which peft leaves in place when an adapter is off."""

    def __init__(self, module: nn.Module, base: nn.Parameter):
        self.module, self.base = module, base
        self.tuned: nn.Parameter = module.bias  # pyright: ignore[reportAttributeAccessIssue]

    def enable_adapters(self, enabled: bool) -> None:
        """Put the fine-tuned bias in place, or the base's."""
        self.module.bias = self.tuned if enabled else self.base


BASE_BIASES = "_diffbench_base_biases"
"""Attribute of a peft model: the base's biases {module name: bias}, where the adapter has biases of its own."""


def switches(model: Any) -> list[Any]:
    """What an adapter changes, as things with `enable_adapters`: LoRA layers, modules and tokens it replaces, biases."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    biases: dict[str, nn.Parameter] = getattr(model, BASE_BIASES, {})
    return [*layers, *(BiasSwitch(model.get_submodule(name), bias) for name, bias in biases.items())]
