"""The proof that a pair is what it claims, carried out on a short text at every load.

Structure is found, not known (`anatomy.py`), and adapters are switched, not trusted (`adapters.py`); so what everything stands on is
measured: a pass stopped at the layer and resumed from its own residual gives the model's own logits, on both sides; the base side gives
the logits of the base loaded alone; the fine-tuned side differs. What fails is refused with the number.
"""

from typing import Any

import torch
from torch import Tensor

from .anatomy import PairError
from .engine import SIDES
from .pair import Pair

LENGTH, LAST = 40, 4
"""Tokens of the probe, and how many of its last positions are compared (a vocabulary may have 256k entries)."""
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest difference of a logit, as a share of the largest logit, that rounding can explain."""


def probe(model: Any) -> Tensor:
    """Token ids [1, `LENGTH`] that any vocabulary has."""
    size = int(model.config.get_text_config().vocab_size)
    return torch.arange(2, 2 + LENGTH, device=next(model.parameters()).device)[None] % size


@torch.inference_mode()
def alone(model: Any) -> Tensor:
    """Last logits [1, `LAST`, vocab] of a model on the probe, before an adapter is attached."""
    return model(input_ids=probe(model), use_cache=False, logits_to_keep=LAST).logits.float()


def prove(pair: Pair, base_alone: Tensor, what: str, identity: bool) -> None:
    """Raise if the pair is not its two models.

    Args:
        base_alone: `alone` of the base.
        what: adapter or fine-tuned model, as the user wrote it.
        identity: whether the sides may be equal (a null).

    Raises:
        PairError: a pass cannot be resumed here, the base side is not the base, or nothing differs.
    """
    ids = probe(pair.model)
    keep = torch.arange(LENGTH - LAST, LENGTH, device=ids.device)
    whole = {side: pair.logits(ids, side, LAST) for side in SIDES}
    if whole["base"].shape[1] != LAST:
        raise PairError(
            f"{type(pair.model).__name__} does not give the logits of chosen positions (logits_to_keep); it is not supported"
        )
    for side in SIDES:
        if not (whole[side].isfinite().all() and pair.residuals(ids, side).isfinite().all()):
            raise PairError(
                f"the {side} model's residuals or logits on a probe are not finite in {pair.dtype}: its weights are too large, or "
                "need a wider --dtype (float32)"
            )
    allowed = TOLERANCE[pair.dtype]
    if (off := _far(whole["base"], base_alone)) > allowed:
        raise PairError(
            f"with {what} switched off the model is not its base: logits differ by {off:.2g} of the largest (at most {allowed:g} is "
            "rounding). The adapter changed the base's own weights; merge it and give the result as --tuned"
        )
    for side in SIDES:
        for how in (keep, LAST):
            resumed = pair.resume(pair.residuals(ids, side), ids, side, how)
            if (off := _far(resumed, whole[side])) > allowed:
                raise PairError(
                    f"resuming the {side} model after block {pair.layer} from its own residual gives other logits, off by {off:.2g} "
                    f"of the largest (at most {allowed:g} is rounding): its blocks are no plain sequence, so residuals cannot be exchanged"
                )
    if not identity and torch.equal(whole["base"], whole["tuned"]) and not _other_tokens(pair):
        raise PairError(f"base and fine-tuned model give equal logits on a probe: {what} has no effect")


@torch.inference_mode()
def _other_tokens(pair: Pair) -> bool:
    """Whether an embedding differs between the sides: a few trained tokens have an effect that no probe shows."""
    for ids in torch.arange(pair.vocab_size, device=pair.device).split(8192):
        found: list[Tensor] = []
        for side in SIDES:
            with pair.side(side) as model:
                found.append(model.get_input_embeddings()(ids))
        if not torch.equal(*found):
            return True
    return False


def _far(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-9))
