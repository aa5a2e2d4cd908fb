"""A text continued while one side runs under an intervention: the edit that scoring measures, at every token that is read or written.

Scoring edits residuals that were computed once and runs the blocks above. An answer is not known before it is written, so here the hooked
block's output is edited as it runs; what is added is `interventions.movement`, and what is left alone are the same positions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..pairs.interventions import Edits
from ..pairs.pair import Pair
from ..pairs.sides import Side


def continued(
    pair: Pair,
    prompt: Sequence[int],
    side: Side,
    max_new_tokens: int,
    seed: int | None = None,
    edits: Edits | None = None,
) -> list[int]:
    """What one side says after a prompt, greedily or sampled at temperature 1 (with a seed), under the first of some edits.

    Args:
        prompt: token ids, not empty.
        edits: one intervention; None: none.

    Raises:
        PairError: the model was made for fewer tokens than the prompt and its answer.
    """
    if edits is None or edits.lengths[0] == 0:
        return pair.generate([prompt], side, max_new_tokens, seed)[0]
    move, length, begun = edits.moves[edits.which[0]], edits.lengths[0], False

    def edit(module: Any, args: Any, output: Any) -> Any:
        nonlocal begun
        out: Tensor = output if isinstance(output, Tensor) else output[0]
        h = out.float()
        moved = length * move(h)
        if pair.sinks is not None:
            still = pair.sinks.outlier(h, side)
            if not begun:
                still = still | pair.sinks.first(still)
            moved = moved.masked_fill(still[..., None], 0.0)
        begun = True
        edited = (h + moved).to(out.dtype)
        return edited if isinstance(output, Tensor) else (edited, *output[1:])

    handle = pair.block(side).register_forward_hook(edit)
    try:
        with torch.inference_mode():
            return pair.generate([prompt], side, max_new_tokens, seed)[0]
    finally:
        handle.remove()
