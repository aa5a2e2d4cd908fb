"""What runs: the modules of both sides under one thread, with three moves that every measurement is made of.

*Early exit*: a pass stops at the hooked layer. *Resume*: the blocks up to the layer are swapped for one that hands over an edited
residual, so only the blocks above run again. *Side*: an adapter is switched on or off, or the other of two models is taken.
"""

import contextlib
import copy
import itertools
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .anatomy import Anatomy, anatomy

Side = Literal["base", "tuned"]
SIDES: tuple[Side, ...] = ("base", "tuned")


class _Exit(Exception):
    """Stops a forward pass at the hooked layer."""


class _Handover(nn.Module):
    """Stands in for a block below or at the hooked layer: passes on `residual` whatever comes in."""

    residual: Tensor

    def __init__(self, in_tuple: bool):
        super().__init__()
        self.in_tuple = in_tuple

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor]:
        return (self.residual,) if self.in_tuple else self.residual


class _Kept(nn.Module):
    """Stands in for the feed-forward part of the last block: runs it only at positions that are read, gives 0 elsewhere."""

    keep: Tensor
    """[kept pos] indices, the same for every text of a batch."""

    def __init__(self, whole: nn.Module):
        super().__init__()
        self.whole = whole

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[batch, positions, d_model] in and out."""
        out = torch.zeros_like(hidden_states)
        out[:, self.keep] = self.whole(hidden_states[:, self.keep])
        return out


class Body:
    """One set of modules, cut at a layer."""

    def __init__(self, model: Any, layer: int):
        self.model = model
        self.parts: Anatomy = anatomy(plain(model))
        self.switches = switches(model)
        """Modules that are switched on and off with an adapter."""
        blocks = self.parts.blocks
        self.handover = _Handover(self.parts.in_tuple)
        self.stand_ins = nn.ModuleList([self.handover] * (layer + 1) + list(blocks)[layer + 1 :])
        self.last: Any = blocks[-1]
        mlp = getattr(self.last, "mlp", None)
        self.kept = _Kept(mlp) if isinstance(mlp, nn.Module) else None

    @property
    def dtype(self) -> torch.dtype:
        """Of the residual stream inside the model."""
        return plain(self.model).dtype

    @contextlib.contextmanager
    def reading(self, keep: Tensor | int) -> Generator[None, None, None]:
        """Inside the block the last feed-forward part runs at the positions that are read, if they are few."""
        kept = self.kept if isinstance(keep, Tensor) else None
        if kept is None:
            yield
            return
        kept.keep, self.last.mlp = keep, kept  # pyright: ignore[reportAttributeAccessIssue]
        try:
            yield
        finally:
            self.last.mlp = kept.whole


@dataclass(frozen=True)
class Adapters:
    """Names of the LoRA adapters that are active on each side of one model."""

    base: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ("default",)


class Engine:
    """The modules one thread runs. Changing sides or resuming changes modules for a while, so threads share only weights.

    Args:
        models: the model of each side; the same object twice where an adapter makes the difference.
        layer: hooked layer.
        adapters: what is active where, if it does.
    """

    def __init__(self, models: dict[Side, Any], layer: int, adapters: Adapters | None):
        self.models, self.layer, self.adapters = models, layer, adapters
        bodies = {id(model): Body(model, layer) for model in models.values()}
        self.bodies = {side: bodies[id(models[side])] for side in SIDES}

    def twin(self) -> "Engine":
        """The same weights under modules of their own."""
        whole = {id(m): m for m in self.models.values()}
        shared = {id(t): t for m in whole.values() for t in itertools.chain(m.parameters(), m.buffers())}
        copies = {key: copy.deepcopy(model, shared) for key, model in whole.items()}
        return Engine({side: copies[id(m)] for side, m in self.models.items()}, self.layer, self.adapters)

    @contextlib.contextmanager
    def side(self, side: Side) -> Generator[Body, None, None]:
        """Run one side; outside the block adapters are on."""
        body = self.bodies[side]
        if self.adapters is None or side == "tuned":
            yield body
            return
        self._activate(body, "base")
        try:
            yield body
        finally:
            self._activate(body, "tuned")

    def _activate(self, body: Body, side: Side) -> None:
        """Switch an adapter off or on, or, in a stack, choose which ones are active."""
        assert self.adapters is not None
        for part in body.switches:
            if self.adapters.base:
                part.set_adapter(list(getattr(self.adapters, side)), inference_mode=True)
            else:
                part.enable_adapters(side == "tuned")

    def residuals(self, ids: Tensor, side: Side) -> Tensor:
        """See `Pair.residuals`."""
        found: list[Tensor] = []

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            found.append(output if isinstance(output, Tensor) else output[0])
            raise _Exit

        with self.side(side) as body:
            handle = body.parts.blocks[self.layer].register_forward_hook(leave)
            try:
                with contextlib.suppress(_Exit):
                    body.model(input_ids=ids, use_cache=False)
            finally:
                handle.remove()
        return found[0].to(ids.device).float()

    def resume(self, residual: Tensor, ids: Tensor, side: Side, keep: Tensor | int) -> Tensor:
        """See `Pair.resume`."""
        with self.side(side) as body, body.reading(keep):
            parts = body.parts
            body.handover.residual = residual.to(body.dtype)
            setattr(parts.decoder, parts.attribute, body.stand_ins)
            try:
                return body.model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits.float()
            finally:
                setattr(parts.decoder, parts.attribute, parts.blocks)
                del body.handover.residual

    def logits(self, ids: Tensor, side: Side, keep: Tensor | int) -> Tensor:
        """See `Pair.logits`."""
        with self.side(side) as body:
            return body.model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits.float()

    def generate(self, ids: Tensor, mask: Tensor, side: Side, how: Any) -> Tensor:
        """Prompts and continuations [rows, pos] of left-padded ids; `how` is from `decoding`."""
        with self.side(side) as body:
            return body.model.generate(input_ids=ids, attention_mask=mask, generation_config=how)


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
