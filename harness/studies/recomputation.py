"""Effects of constant interventions computed again without clean runs, for the self-test.

None of what makes scoring fast is used: no early exit, no resumption, no batch, no tree, no shared residuals.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...organisms.behaviour import Prompt
from ...organisms.hub.asked import encode_prompt
from ..pairs.engine import SIDES, Side
from ..pairs.pair import Pair
from ..protocol.intervals import Array
from ..protocol.prompts import ordinary
from ..records.result import Choice
from .known_truth import KnownOrganism

RECOMPUTED = 6
"""Test prompts whose effects are computed again by other means."""


@torch.inference_mode()
def recomputed(s: KnownOrganism, choices: Sequence[Choice]) -> Array:
    """[prompts] mean effect of one side's choices with the constant truth: a hook on the whole model, row by row."""
    pair, d, behaviour = s.stage.pair, s.truth.direction, s.stage.organism.behaviour
    side, other = SIDES if choices[0].side == "sufficiency" else SIDES[::-1]
    prompts = behaviour.of("test")[:RECOMPUTED]
    text = ordinary(pair, s.stage.texts, behaviour.of("dev"), "dev", s.protocol.dev_tokens)
    base, own = (pair.residuals(text.ids, which)[:, 1:-1][text.scored[:, 1:]] for which in ("base", side))
    beyond, scale = float(base.mean(0) @ d), float(own.norm(dim=-1).mean())

    def rates(side: Side, length: float = 0.0, ablates: bool = False) -> Array:
        def edit(module: Any, args: Any, output: Any) -> Any:
            h = output if isinstance(output, Tensor) else output[0]
            h = h + length * d - ablates * (h @ d - beyond).clamp_min(0)[..., None] * d
            return h if isinstance(output, Tensor) else (h, *output[1:])

        handle = pair.block(side).register_forward_hook(edit)
        try:
            return np.array([_rate(pair, side, p) for p in prompts])
        finally:
            handle.remove()

    signs = {"add": scale, "subtract": -scale}
    edits = [(c.strength * signs.get(c.op, 0.0), c.op == "ablate") for c in choices]
    target, before = rates(other), rates(side)
    away = {each: np.abs(rates(side, *each) - target) for each in dict.fromkeys(edits)}
    return np.abs(before - target) - np.mean([away[each] for each in edits], axis=0)


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
