"""Effects of constant interventions computed again without clean runs, for the self-test.

None of what makes scoring fast is used: no early exit, no resumption, no batch, no shared residuals.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...organisms.behaviour import Prompt
from ..pairs.engine import Side
from ..pairs.pair import Pair
from ..protocol.intervals import Array
from ..protocol.prompts import encode_prompt, passage
from ..records.result import Choice
from .known_truth import KnownOrganism

RECOMPUTED = 6
"""Test prompts whose effects are computed again by other means."""


@torch.inference_mode()
def recomputed(s: KnownOrganism, choices: Sequence[Choice]) -> Array:
    """[prompts] mean effect of one side's choices with the constant truth: a hook on the whole model, row by row."""
    pair, d = s.stage.pair, s.truth.direction
    side: Side = "base" if choices[0].side == "sufficiency" else "tuned"
    sign = 1.0 if side == "base" else -1.0
    text = passage(pair, s.stage.texts.rows("neutral", "dev"), s.protocol.dev_tokens)
    scale = float(pair.residuals(text.ids, side)[:, 1:-1].norm(dim=-1)[text.scored[:, 1:]].mean())

    def rates(length: float, share: float) -> Array:
        def edit(module: Any, args: Any, output: Any) -> Any:
            h = output if isinstance(output, Tensor) else output[0]
            h = h + length * d - share * (h @ d)[..., None] * d
            return h if isinstance(output, Tensor) else (h, *output[1:])

        handle = pair.block(side).register_forward_hook(edit)
        try:
            return np.array([_rate(pair, side, p) for p in s.stage.organism.behaviour.of("test")[:RECOMPUTED]])
        finally:
            handle.remove()

    edits = [
        (c.strength * scale * {"add": 1, "subtract": -1}.get(c.op, 0), c.strength * (c.op == "project"))
        for c in choices
    ]
    after = {edit: rates(*edit) for edit in {(0.0, 0.0), *edits}}
    return sign * (np.mean([after[edit] for edit in edits], axis=0) - after[0.0, 0.0])


def _rate(pair: Pair, side: Side, prompt: Prompt) -> float:
    """Behaviour rate of one prompt, one token row at a time."""
    asked, logits, mass = encode_prompt(pair.tokenizer, prompt), dict[tuple[int, ...], Tensor](), list[float]()
    start = asked.ids
    for continuation in (*prompt.targets, *prompt.alternatives):
        tokens = list(asked.then(pair.tokenizer, continuation))
        row = (*start, *tokens[:-1])
        if row not in logits:
            logits[row] = pair.logits(torch.tensor([row]), side)[0, len(start) - 1 :]
        mass.append(float(logits[row].log_softmax(-1)[range(len(tokens)), tokens].sum().exp()))
    return sum(mass[: len(prompt.targets)]) / (sum(mass) if prompt.alternatives else 1.0)
