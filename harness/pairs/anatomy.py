"""The parts of a decoder-only language model, found by structure: no list of architectures to keep up.

Every causal LM of transformers has a decoder that holds its blocks in one list, and an output embedding. What runs in the decoder
after the last block is the final norm; a short pass shows which module that is. A new architecture is therefore accepted if it is
built like this and passes the proof at load (`proof.py`), and refused with the reason if not. (nnsight and nnterp name these parts
too, by rules of their own and at the price of importing nnsight, which takes seconds; a pair has to load in less.)
"""

import contextlib
from collections.abc import Generator
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
    outputs: int | None
    """Length of the tuple whose first entry is a block's residual; None: a block returns the residual alone."""
    mlp: nn.Module | None
    """Feed-forward part of the last block, if it reads each position by itself."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.get_text_config().hidden_size)

    def as_output(self, residual: Any) -> Any:
        """A residual in the form in which a block returns it (attention weights and the like, that may come with it, are none)."""
        return residual if self.outputs is None else (residual, *[None] * (self.outputs - 1))


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
    # where a model also sees or hears, its language model is meant; some name another part so
    lists = _lists(model.get_decoder(), wanted) or _lists(model, wanted)
    if len(lists) != 1:
        raise PairError(
            f"{kind} has {len(lists)} lists of {wanted} blocks where a decoder-only model has one; this structure is not supported"
        )
    return _observed(model, head, *lists[0])


def _lists(within: nn.Module, wanted: int) -> list[tuple[nn.Module, str, nn.ModuleList]]:
    """(holder, name, list) of everything that can be the blocks."""
    return [
        (module, name, child)
        for module in within.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == wanted and _are_blocks(child)
    ]


def _are_blocks(entries: nn.ModuleList) -> bool:
    """Whether the entries can be blocks: modules with weights and several parts."""
    return all(next(block.parameters(), None) is not None and len(list(block.children())) > 1 for block in entries)


@torch.inference_mode()
def _observed(model: Any, head: nn.Module, decoder: Any, attribute: str, blocks: nn.ModuleList) -> Anatomy:
    """What names do not tell, from a short pass: what runs after the last block, what a block returns, what its feed-forward part reads."""
    ran: list[nn.Module] = []
    outputs: list[Any] = []
    fed: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []
    aside = [m for n, m in decoder.named_children() if n != attribute]
    mlp = getattr(blocks[-1], "mlp", None)

    def note(module: nn.Module, args: Any, output: Any) -> None:
        ran.append(module)
        if module is blocks[-1]:
            outputs.append(output)

    def feed(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        fed.append((args, kwargs, output))

    handles = [m.register_forward_hook(note) for m in (*aside, blocks[-1])]
    if isinstance(mlp, nn.Module):
        handles.append(mlp.register_forward_hook(feed, with_kwargs=True))
    kind = type(model).__name__
    try:
        with running(kind):
            model(input_ids=torch.zeros(1, 3, dtype=torch.long, device=input_device(model)), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    if len(outputs) != 1:
        raise PairError(
            f"the last block of {kind} runs {len(outputs)} times in one pass; this structure is not supported"
        )
    after = ran[ran.index(blocks[-1]) + 1 :]
    if len(after) != 1:
        raise PairError(f"{len(after)} modules of {kind} run after its last block where one final norm is expected")
    output = outputs[0]
    if not isinstance(output[0] if isinstance(output, tuple) else output, Tensor):
        raise PairError(
            f"a block of {kind} returns {type(output).__name__} and no residual; this structure is not supported"
        )
    length = len(output) if isinstance(output, tuple) else None
    alone = mlp if isinstance(mlp, nn.Module) and len(fed) == 1 and _reads_positions_alone(mlp, *fed[0]) else None
    return Anatomy(model, decoder, attribute, blocks, after[0], head, length, alone)


def _reads_positions_alone(mlp: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> bool:
    """Whether the feed-forward part takes and gives one [rows, pos, d_model] and gives the same at a position without the others."""
    if kwargs or len(args) != 1 or not isinstance(output, Tensor) or output.shape != args[0].shape:
        return False
    single = mlp(args[0][:, 1:])
    return isinstance(single, Tensor) and bool((single - output[:, 1:]).abs().max() <= 0.05 * output.abs().max())


@contextlib.contextmanager
def running(
    kind: str, what: str = "does not run on plain token ids as a decoder-only model does", fix: str = ""
) -> Generator[None]:
    """Turn what a model's own code raises in a pass that tries it into fact and cause; too little memory stays what it is."""
    try:
        yield
    except (PairError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, ImportError) as error:
        first = next(iter(str(error).strip().splitlines()), "")
        told = f"{kind} {what} ({type(error).__name__}: {first})"
        raise PairError(f"{told}; {fix or 'this structure is not supported'}") from error


def input_device(model: Any) -> torch.device:
    """Where token ids go: where the input embeddings run (`--device-map` may keep them elsewhere until then)."""
    embeddings = model.get_input_embeddings()
    runs = getattr(getattr(embeddings, "_hf_hook", None), "execution_device", None)
    return next(embeddings.parameters()).device if runs is None else torch.device(runs)
