"""The parts of a decoder-only language model, found by structure: no list of architectures to keep up.

Every causal LM of transformers has a decoder that holds its blocks in one list, and an output embedding. What runs in the decoder
after the last block is the final norm; a short pass shows which module that is. A new architecture is therefore accepted if it is
built like this and passes the proof at load (`proof.py`), and refused with the reason if not. (nnsight and nnterp name these parts
too, by rules of their own and at the price of importing nnsight, which takes seconds; a pair has to load in less.)
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...organisms.errors import ValidationFailed


class PairError(ValidationFailed):
    """Models that do not make a pair; the message says why and what to do."""


@dataclass
class Anatomy:
    """A causal LM and its parts."""

    model: Any
    """The whole model, logits out."""
    decoder: Any
    """The module that holds the blocks."""
    attribute: str
    """Name of the list of blocks in the decoder."""
    blocks: nn.ModuleList
    norm: nn.Module
    """Runs once, after the last block."""
    head: nn.Module
    """Unembedding."""
    in_tuple: bool
    """Whether a block returns its residual as the first of a tuple."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.get_text_config().hidden_size)


def anatomy(model: Any) -> Anatomy:
    """The parts of a causal LM (not of a peft wrapper around it).

    Raises:
        PairError: not a decoder-only model with one list of blocks, one final norm and an unembedding.
    """
    kind = type(model).__name__
    if model.config.is_encoder_decoder:
        raise PairError(
            f"{kind} is an encoder-decoder; only decoder-only models have the one residual stream that is diffed"
        )
    head = model.get_output_embeddings()
    if head is None:
        raise PairError(f"{kind} has no unembedding, so it predicts no next token; give a causal language model")
    wanted = int(model.config.get_text_config().num_hidden_layers)
    lists = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == wanted and _run_in_turn(child)
    ]
    if len(lists) != 1:
        raise PairError(
            f"{kind} has {len(lists)} lists of {wanted} blocks where a decoder-only model has one; this structure is not supported"
        )
    decoder, attribute, blocks = lists[0]
    norm, in_tuple = _after_blocks(model, decoder, attribute, blocks)
    return Anatomy(model, decoder, attribute, blocks, norm, head, in_tuple)


def _run_in_turn(blocks: nn.ModuleList) -> bool:
    """Whether the entries can be blocks: modules with weights, all of one class but for variants of attention."""
    return all(next(block.parameters(), None) is not None and len(list(block.children())) > 1 for block in blocks)


@torch.inference_mode()
def _after_blocks(model: Any, decoder: Any, attribute: str, blocks: nn.ModuleList) -> tuple[nn.Module, bool]:
    """The one module of the decoder that runs after the last block, and whether blocks return tuples."""
    ran: list[nn.Module] = []
    outputs: list[Any] = []
    aside = [m for n, m in decoder.named_children() if n != attribute]

    def note(module: nn.Module, args: Any, output: Any) -> None:
        ran.append(module)
        if module is blocks[-1]:
            outputs.append(output)

    handles = [m.register_forward_hook(note) for m in (*aside, blocks[-1])]
    try:
        model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=input_device(model)), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    kind = type(model).__name__
    if len(outputs) != 1:
        raise PairError(
            f"the last block of {kind} runs {len(outputs)} times in one pass; this structure is not supported"
        )
    after = ran[ran.index(blocks[-1]) + 1 :]
    if len(after) != 1:
        raise PairError(f"{len(after)} modules of {kind} run after its last block where one final norm is expected")
    output = outputs[0]
    if not isinstance(output, Tensor) and not (isinstance(output, tuple) and len(output) == 1):
        raise PairError(
            f"a block of {kind} returns {type(output).__name__}, not the residual alone; this structure is not supported"
        )
    return after[0], isinstance(output, tuple)


def input_device(model: Any) -> torch.device:
    """Where token ids go: the device of the input embeddings."""
    return next(model.get_input_embeddings().parameters()).device
