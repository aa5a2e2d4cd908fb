"""What runs: the modules of both sides under one thread, with the moves that every measurement is made of.

*Early exit*: a pass stops at the hooked layer. *Resume*: the blocks up to the layer are swapped for one that hands over an edited
residual, so only the blocks above run again, and logits are made of the last block's output only where they are read: a vocabulary may
have 256k entries. *Side*: an adapter is switched on or off, or the other of two models is taken.
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
from .trees import Layout

TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest difference of a logit, as a share of the largest logit, that rounding can explain."""
OTHER_SHAPES = 4
"""So many times that where batches have other shapes: their sums run in another order."""


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

    where: Tensor
    """[n, 2] row and position."""

    def __init__(self, whole: nn.Module):
        super().__init__()
        self.whole = whole

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[batch, positions, d_model] in and out."""
        row, at = self.where.to(hidden_states.device).unbind(1)
        out = torch.zeros_like(hidden_states)
        out[row, at] = self.whole(hidden_states[row, at][None])[0]
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
        stand_ins = [_Handover(block, self._handed) for block in blocks]
        self.above = nn.ModuleList([*stand_ins[: layer + 1], *blocks[layer + 1 :]])
        """The blocks above the layer, on what is handed over."""
        self.none = nn.ModuleList(stand_ins)
        """No block at all: what comes after them, on what is handed over."""
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
    def handing(self, blocks: nn.ModuleList, residual: Tensor) -> Generator[Any, None, None]:
        """Inside the block the model runs `blocks` on a residual [rows, pos, d_model]."""
        self.residual = residual.to(self.dtype)
        setattr(self.parts.decoder, self.parts.attribute, blocks)
        try:
            yield self.model
        finally:
            setattr(self.parts.decoder, self.parts.attribute, self.parts.blocks)
            self.residual = None

    @contextlib.contextmanager
    def reading(self, where: Tensor) -> Generator[None, None, None]:
        """Inside the block the last feed-forward part runs at the positions [n, 2] that are read, if it reads each by itself."""
        if self.kept is None:
            yield
            return
        self.kept.where, self.last.mlp = where, self.kept
        try:
            yield
        finally:
            self.last.mlp = self.kept.whole


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

    def residuals(self, ids: Tensor, side: Side, layout: Layout | None = None) -> Tensor:
        """See `Pair.residuals`."""
        with self.side(side) as body:
            return _output(body.model, body.parts.blocks[self.layer], ids, layout).float()

    def ends(self, residual: Tensor, ids: Tensor, side: Side, where: Tensor, layout: Layout | None = None) -> Tensor:
        """See `Pair.ends`."""
        row, at = where.unbind(1)
        with self.side(side) as body:
            if self.layer == len(body.parts.blocks) - 1:
                return residual[row, at].to(body.dtype)
            with body.handing(body.above, residual) as model, body.reading(where):
                return _output(model, body.last, ids, layout)[row, at]

    def unembed(self, ends: Tensor, side: Side) -> Tensor:
        """See `Pair.unembed`."""
        with self.side(side) as body, body.handing(body.none, ends[:, None]) as model:
            ids = torch.zeros(len(ends), 1, dtype=torch.int64, device=ends.device)
            return model(input_ids=ids, use_cache=False).logits[:, 0].float()

    def logits(self, ids: Tensor, side: Side, keep: Tensor | int) -> Tensor:
        """See `Pair.logits`."""
        with self.side(side) as body:
            return body.model(input_ids=ids, use_cache=False, logits_to_keep=body.where(keep)).logits.float()

    def generate(self, ids: Tensor, mask: Tensor, side: Side, how: Any) -> Tensor:
        """Prompts and continuations [rows, pos] of left-padded ids; `how` is from `decoding`."""
        with self.side(side) as body:
            return body.model.generate(input_ids=ids, attention_mask=mask, generation_config=how)


def _output(model: Any, block: nn.Module, ids: Tensor, layout: Layout | None) -> Tensor:
    """Output [rows, pos, d_model] of a block; nothing behind it runs."""
    found: list[Tensor] = []

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        found.append(output if isinstance(output, Tensor) else output[0])
        raise _Exit

    told = {} if layout is None else {"position_ids": layout.depth, "attention_mask": layout.sees}
    handle = block.register_forward_hook(leave)
    try:
        with contextlib.suppress(_Exit):
            model(input_ids=ids, use_cache=False, **told)
    finally:
        handle.remove()
    return found[0].to(ids.device)


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
