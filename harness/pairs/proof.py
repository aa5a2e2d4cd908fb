"""The proof that a pair is what it claims, carried out on a short text at every load.

Structure is found, not known (`anatomy.py`), and adapters are switched, not trusted (`adapters.py`); so what everything stands on is
measured: a pass stopped at the layer and resumed from its own residual gives the model's own logits, on both sides; the base side gives
the logits of the base loaded alone; the fine-tuned side differs; and a row gives the same alone, beside other rows, before other tokens
and behind padding, which is how rows are read and continued. What fails is refused with the number.
"""

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from .anatomy import PairError, anatomy, input_device, running
from .engine import OTHER_SHAPES, TOLERANCE, decoding
from .pair import Pair
from .sides import SIDES, Side, plain

LENGTH, LAST = 40, 4
"""Tokens of the probe, and how many of its last positions are compared (a vocabulary may have 256k entries)."""
ANOTHER_LAYER = "where upper blocks read keys and values of lower ones, a --layer below all of these works"


def probe(model: Any) -> Tensor:
    """Token ids [1, `LENGTH`] that any vocabulary has."""
    size = int(model.config.get_text_config().vocab_size)
    return torch.arange(2, 2 + LENGTH, device=input_device(plain(model)))[None] % size


@torch.inference_mode()
def alone(model: Any) -> Tensor:
    """Last logits [1, `LAST`, vocab] of a model on the probe, before an adapter is attached."""
    with running(type(plain(model)).__name__):
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
    with running(type(plain(pair.model)).__name__):
        _prove(pair, base_alone, what, identity)


def _prove(pair: Pair, base_alone: Tensor, what: str, identity: bool) -> None:
    ids = probe(pair.model)
    keep = torch.arange(LENGTH - LAST, LENGTH, device=ids.device)
    whole = {side: pair.logits(ids, side, LAST) for side in SIDES}
    kind = type(plain(pair.model)).__name__
    if whole["base"].shape[1] != LAST:
        raise PairError(f"{kind} does not give the logits of chosen positions (logits_to_keep); it is not supported")
    residuals = {side: pair.residuals(ids, side) for side in SIDES}
    for side in SIDES:
        if not (whole[side].isfinite().all() and residuals[side].isfinite().all()):
            raise overflow(pair, side, ids)
    allowed = TOLERANCE[pair.dtype]
    if (off := _far(whole["base"], base_alone)) > allowed:
        raise PairError(
            f"with {what} switched off the model is not its base: logits differ by {off:.2g} of the largest (at most {allowed:g} is "
            "rounding). The adapter changed the base's own weights; merge it and give the result as --tuned"
        )
    for side in SIDES:
        for how in (keep, LAST):
            with running(kind, f"cannot be resumed after block {pair.layer} from its residual alone", ANOTHER_LAYER):
                resumed = pair.resume(residuals[side], ids, side, how)
            if (off := _far(resumed, whole[side])) > allowed:
                raise PairError(
                    f"resuming the {side} model after block {pair.layer} from its own residual gives other logits, off by {off:.2g} "
                    f"of the largest (at most {allowed:g} is rounding): its blocks are no plain sequence, so residuals cannot be exchanged"
                )
    for side in SIDES if pair.two_models else SIDES[1:]:
        for off, where in _by_company(pair, ids, side, whole[side]):
            if off > OTHER_SHAPES * allowed:
                raise PairError(
                    f"{kind} gives other logits {where}, off by {off:.2g} of the largest (at most {OTHER_SHAPES * allowed:g} is rounding); "
                    "texts are read and continued in batches, so it is not supported"
                )
    if not identity and torch.equal(whole["base"], whole["tuned"]) and not _other_tokens(pair):
        raise PairError(f"base and fine-tuned model give equal logits on a probe: {what} has no effect")


WIDER = {
    torch.float16: "run it with --dtype bfloat16 or float32",
    torch.bfloat16: "run it with --dtype float32, and check its weights: float32 reaches no further, it is only finer",
}
"""What to do about an overflow; for any other dtype the weights themselves are to blame."""


@torch.inference_mode()
def overflow(pair: Pair, side: Side, ids: Tensor, mask: Tensor | None = None) -> PairError:
    """The error of a side whose numbers are not finite on a text, from one more pass that looks where they first are not.

    Args:
        ids: the text [rows, pos].
        mask: [rows, pos] which of it is read; default: all.
    """
    found: list[str] = []

    def look(where: str, seen: Tensor) -> None:
        fine = seen.isfinite().all(-1).to(ids.device)
        if not found and not bool((fine if mask is None else fine | ~mask).all()):
            found.append(where)

    with pair.side(side) as model:
        blocks = anatomy(plain(model)).blocks
        handles = [
            blocks[0].register_forward_pre_hook(
                lambda _, args, kwargs: look("the embeddings are", next(_tensors(args, kwargs))), with_kwargs=True
            )
        ]
        for n, block in enumerate(blocks):
            where = f"the output of block {n} (of 0 to {len(blocks) - 1}) is"
            handles.append(
                block.register_forward_hook(lambda _, __, output, where=where: look(where, next(_tensors((output,)))))
            )
        try:
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
        finally:
            for handle in handles:
                handle.remove()
    first = found[0] if found else "the logits are, no block's output"
    kind = str(pair.dtype).removeprefix("torch.")
    fix = WIDER.get(pair.dtype, "its weights are damaged or far too large: check the files, and the adapter's training")
    return PairError(
        f"the {'base' if side == 'base' else 'fine-tuned'} model's numbers are not finite: {first} the first that overflows {kind} "
        f"(largest number {torch.finfo(pair.dtype).max:.3g}); {fix}"
    )


def _tensors(values: tuple[Any, ...], named: dict[str, Any] | None = None) -> Generator[Tensor]:
    """The tensors a module was given or returned; the residual is the first."""
    for value in (*values, *(named or {}).values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple):
            yield from _tensors(value)  # pyright: ignore[reportUnknownArgumentType]


def _by_company(pair: Pair, ids: Tensor, side: Side, whole: Tensor) -> Generator[tuple[float, str]]:
    """How far the logits of a row are from its own where it is not alone, and where that is."""
    half = LENGTH // 2
    front = ids[:, :half]
    ends = torch.tensor([half - 1, LENGTH - 1], device=ids.device)
    rows = torch.cat([torch.cat([front, ids.flip(1)[:, half:]], 1), ids])
    both = pair.logits(rows, side, ends)
    yield _far(both[1:, 1:], whole[:, -1:]), "for a row when another one is beside it"
    yield _far(both[:1, :1], pair.logits(front, side, 1)), "for a token when others follow it (attention is not causal)"
    padded = torch.nn.functional.pad(front, (LAST, 0))
    mask = (torch.arange(padded.shape[1], device=ids.device) >= LAST).long()[None]
    with pair.side(side) as model, decoding(plain(model), pair.tokenizer, 2, sample=False) as how:
        how.eos_token_id, how.output_logits, how.return_dict_in_generate = None, True, True
        made = model.generate(input_ids=padded, attention_mask=mask, generation_config=how)
    own = pair.logits(made.sequences[:, LAST:-1], side, 2)
    yield _far(torch.stack(made.logits, 1).to(own), own), "for a text that is continued behind padding"


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
    if a.shape != b.shape or not a.isfinite().all():  # NaN is beyond no tolerance
        return float("inf")
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-9))
