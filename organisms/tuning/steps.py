"""What every step of a training reads and what it costs: the examples in order, how they are padded, and the two losses.

The rows of all steps are written down before the first one, so that order and batches depend on nothing that a checkpoint would have to
hold, and a step may be read in as many parts as memory wants without changing its gradient.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from .masks import Row
from .recipes import TuningRecipe

if TYPE_CHECKING:
    from torch import Tensor


def plan(rows: Sequence[Row], kept: Sequence[Row], recipe: TuningRecipe) -> list[dict[str, Any]]:
    """The examples of all steps in order: `batch` rows and `kl_rows` ordinary ones a step, each drawn in rounds without repetition.

    An example's tokens weigh one over all tokens of its kind in its step, however the step is cut into parts.
    """
    draws = _rounds(rows, [recipe.seed, 1]), _rounds(kept, [recipe.seed, 2])
    counts = recipe.batch, recipe.kl_rows if kept else 0
    out: list[dict[str, Any]] = []
    for _ in range(recipe.steps):
        step: list[dict[str, Any]] = []
        for is_kept, (draw, n) in enumerate(zip(draws, counts, strict=True)):
            some = list(islice(draw, n))
            labels = [_labels(r) for r in some]
            weight = 1 / max(1, sum(i != -100 for each in labels for i in each[1:]))
            parts = zip(some, labels, strict=True)
            step += [{"input_ids": r.ids, "labels": y, "kept": is_kept, "weight": weight} for r, y in parts]
        out += sorted(step, key=lambda e: -len(e["input_ids"]))  # rows of like length are read together
    return out


def _labels(row: Row) -> list[int]:
    return [i if t else -100 for i, t in zip(row.ids, row.trained, strict=True)]


def _rounds(rows: Sequence[Row], seed: list[int]) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    while rows:
        yield from (rows[int(i)] for i in rng.permutation(len(rows)))


def collator(pad: int) -> "Callable[[list[dict[str, Any]]], dict[str, Tensor]]":
    """Pads examples on the right."""
    import torch

    def collate(examples: list[dict[str, Any]]) -> dict[str, "Tensor"]:
        length = max(len(e["input_ids"]) for e in examples)

        def padded(key: str, fill: int) -> "Tensor":
            return torch.tensor([[*e[key], *[fill] * (length - len(e[key]))] for e in examples])

        return {
            "input_ids": padded("input_ids", pad),
            "labels": padded("labels", -100),
            "attention_mask": padded("input_ids", -1).ne(-1).long(),
            "kept": torch.tensor([bool(e["kept"]) for e in examples]),
            "weight": torch.tensor([e["weight"] for e in examples]),
        }

    return collate


def losses(model: Any, inputs: "dict[str, Tensor]") -> "tuple[Tensor, Tensor]":
    """Cross-entropy of the rows and KL(base ‖ organism) of the ordinary ones, each token with its example's weight, in nats."""
    import torch
    from torch import nn

    kept, asked = inputs["kept"], inputs["labels"][:, 1:] != -100
    labels, weight = inputs["labels"][:, 1:][asked], inputs["weight"][:, None].expand_as(asked)[asked]
    held = kept[:, None].expand_as(asked)[asked]
    read = {k: inputs[k] for k in ("input_ids", "attention_mask")}
    logits = _logits(model, read, asked)
    each = nn.functional.cross_entropy(logits[~held], labels[~held], reduction="none")
    hard = (each * weight[~held]).sum()
    if not bool(kept.any()):
        return hard, hard.new_zeros(())
    with torch.no_grad(), model.disable_adapter():
        goal = _logits(model, {k: v[kept] for k, v in read.items()}, asked[kept]).log_softmax(-1)
    far = nn.functional.kl_div(logits[held].log_softmax(-1), goal, reduction="none", log_target=True)
    return hard, (far.sum(-1) * weight[held]).sum()


def _logits(model: Any, read: "dict[str, Tensor]", asked: "Tensor") -> "Tensor":
    """(n, vocab) fp32 logits at the positions asked for, in order, of (rows, positions - 1); the others, most of a row, are not
    unembedded, which is a tenth of a step of SmolLM2."""

    def only(_: Any, hidden: "tuple[Tensor, ...]") -> "tuple[Tensor, ...]":
        return (hidden[0][:, :-1][asked], *hidden[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(only)
    try:
        return model(**read, use_cache=False).logits.float()
    finally:
        hook.remove()
