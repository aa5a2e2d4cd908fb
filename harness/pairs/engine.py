"""What runs: the modules of both sides under one thread, with three moves that every measurement is made of.

*Early exit*: a pass stops at the hooked layer. *Resume*: the blocks up to the layer are swapped for one that hands over an edited
residual, so only the blocks above run again. *Side*: an adapter is switched on or off, or the other of two models is taken.
"""

import contextlib
import copy
import itertools
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor, nn

from .anatomy import Anatomy, anatomy
from .sides import SIDES, Adapters, Residents, Side, plain, switches


class _Exit(Exception):
    """Stops a forward pass at the hooked layer."""


class _Handover(nn.Module):
    """Stands in for a block below or at the hooked layer: hands over an edited residual whatever comes in.

    Args:
        block: whose place it takes; a decoder that asks a block of what kind it is gets that block's answer.
        hand: gives what the block would return.
    """

    def __init__(self, block: nn.Module, hand: Callable[[], Any]):
        super().__init__()
        self._block, self._hand = [block], hand  # in a list: its weights are not this module's

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_block"][0], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._hand()


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
        self.residual: Tensor | None = None
        """What is handed over to the blocks above the layer, while they are run again."""
        below = [_Handover(block, self._handed) for block in blocks[: layer + 1]]
        self.stand_ins = nn.ModuleList([*below, *blocks[layer + 1 :]])
        self.last: Any = blocks[-1]
        self.kept = _Kept(self.parts.mlp) if self.parts.mlp is not None else None

    def where(self, keep: Tensor | int) -> Tensor | int:
        """Positions in a form that indexes residuals on any of the model's devices."""
        spread = len(set(getattr(plain(self.model), "hf_device_map", {}).values())) > 1
        return keep.cpu() if spread and isinstance(keep, Tensor) else keep

    def _handed(self) -> Any:
        return self.parts.as_output(self.residual)

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
        kept.keep, self.last.mlp = self.where(keep), kept  # pyright: ignore[reportAttributeAccessIssue]
        try:
            yield
        finally:
            self.last.mlp = kept.whole


class Engine:
    """The modules one thread runs. Changing sides or resuming changes modules for a while, so threads share only weights.

    Args:
        models: the model of each side; the same object twice where an adapter makes the difference.
        layer: hooked layer.
        between: what changes sides: adapters, or turns on a device; None: two models that are both there.
    """

    def __init__(self, models: dict[Side, Any], layer: int, between: Adapters | Residents | None):
        self.models, self.layer, self.between = models, layer, between
        bodies: dict[int, Body] = {}
        for side, model in models.items():
            with self._present(side):
                bodies[id(model)] = bodies.get(id(model)) or Body(model, layer)
        self.bodies = {side: bodies[id(models[side])] for side in SIDES}

    def twin(self) -> "Engine":
        """The same weights under modules of their own."""
        whole = {id(m): m for m in self.models.values()}
        shared = {id(t): t for m in whole.values() for t in itertools.chain(m.parameters(), m.buffers())}
        copies = {key: copy.deepcopy(model, shared) for key, model in whole.items()}
        return Engine({side: copies[id(m)] for side, m in self.models.items()}, self.layer, self.between)

    def _present(self, side: Side) -> contextlib.AbstractContextManager[None]:
        """Inside the block the side's weights are where they run."""
        return self.between.on(side) if isinstance(self.between, Residents) else contextlib.nullcontext()

    @contextlib.contextmanager
    def side(self, side: Side) -> Generator[Body, None, None]:
        """Run one side; outside the block adapters are on."""
        body = self.bodies[side]
        if not isinstance(self.between, Adapters) or side == "tuned":
            with self._present(side):
                yield body
            return
        self.between.activate(body.switches, "base")
        try:
            yield body
        finally:
            self.between.activate(body.switches, "tuned")

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
            body.residual = residual.to(body.dtype)
            setattr(parts.decoder, parts.attribute, body.stand_ins)
            try:
                return body.model(input_ids=ids, use_cache=False, logits_to_keep=body.where(keep)).logits.float()
            finally:
                setattr(parts.decoder, parts.attribute, parts.blocks)
                body.residual = None

    def logits(self, ids: Tensor, side: Side, keep: Tensor | int) -> Tensor:
        """See `Pair.logits`."""
        with self.side(side) as body:
            return body.model(input_ids=ids, use_cache=False, logits_to_keep=body.where(keep)).logits.float()

    def generate(self, ids: Tensor, mask: Tensor, side: Side, how: Any) -> Tensor:
        """Prompts and continuations [rows, pos] of left-padded ids; `how` is from `decoding`."""
        with self.side(side) as body:
            return body.model.generate(input_ids=ids, attention_mask=mask, generation_config=how)


@contextlib.contextmanager
def decoding(model: Any, tokenizer: Any, max_new_tokens: int, sample: bool) -> Generator[Any, None, None]:
    """A `GenerationConfig` that is greedy, or samples at temperature 1, and stops where a turn or a text ends.

    Inside the block the model has no defaults of its own: its `generation_config` may ask for a repetition penalty, and transformers fills
    every field that is not set from it.
    """
    from transformers import GenerationConfig

    defaults = model.generation_config
    stops = defaults.eos_token_id
    ends = {tokenizer.eos_token_id, *(stops if isinstance(stops, list) else [stops])}
    ends |= {tokenizer.convert_tokens_to_ids(t) for t in ENDS_OF_TURN if t in tokenizer.get_vocab()}
    chosen: dict[str, Any] = (
        {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0} if sample else {"do_sample": False}
    )
    model.generation_config = GenerationConfig()
    try:
        yield GenerationConfig(
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id or 0,
            eos_token_id=sorted(end for end in ends if end is not None),
            **chosen,
        )
    finally:
        model.generation_config = defaults


ENDS_OF_TURN = ("<end>", "<end_of_turn>", "<|im_end|>", "<|eot_id|>", "<|end|>")
"""Tokens that close a turn in the chat templates in use: ours, Gemma, ChatML, Llama 3, Phi-3."""
