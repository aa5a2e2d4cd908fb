"""KL patching: how much of the change of the output a dictionary's latents carry, by putting them into the base's residual.

The idea (Minder et al. 2025): build hybrid residuals from the base's and the latents' contributions, let the fine-tuned
model's upper blocks go on from there, and compare the next-token distribution with the fine-tuned model's own. With f the codes
of a token and S a set of latents,
    replace  h_base + Σ_S f_j·(change of latent j)       add  h_base + Σ_S f_j·d_j^ft
for S the better and the worse half of a ranking, and all latents; "reconstruction" is ĥ_ft + (h_base − ĥ_base), what the
whole dictionary explains (with the decoder biases), "error" is ĥ_base + (h_ft − ĥ_ft), what it leaves out.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..contract import DiffProblem, Edit, Text
from .analysis import chunk_tokens
from .sparse_coder import Codes, SparseCoder
from .sparse_ops import write


def kl_patching(
    problem: DiffProblem,
    coder: SparseCoder,
    order: Tensor,
    change_Nd: Tensor | None = None,
    text: Text = "chat",
    tokens: int = 2000,
) -> dict[str, Any]:
    """Mean KL(fine-tuned ‖ hybrid) in nats a token of every variant, JSON-serialisable.

    Args:
        problem: whose upper blocks go on.
        coder: a crosscoder or an SAE; an SAE has no "reconstruction" or "error", and "replace" only with `change_Nd`.
        order: [C] latents, best first (`readout.ranking`).
        change_Nd: what a unit of activation changes, raw units; unset: d_ft − d_base of a crosscoder. `readout.changes` of an SAE
            on one model, whose plain row the base may have already.
        text: harvest text.
        tokens: of it.

    Returns:
        `kl_nats` by variant, `recovered` = 1 − KL/KL(none) by variant (None without a gap), and the sizes of the two halves.
    """
    raw = coder.raw()
    if change_Nd is None and coder.inputs == "concat":
        change_Nd = raw.decoder_NMd[:, 1] - raw.decoder_NMd[:, 0]
    half = (len(order) + 1) // 2
    sets = {"best": order[:half], "worst": order[half:], "all": torch.arange(coder.n_latents, device=order.device)}
    rows = {"replace": change_Nd, "add": raw.decoder_NMd[:, -1]}
    size = chunk_tokens(coder.n_latents)
    codes = _Remembered(lambda both: [coder.encode(coder.normalise(h)) for h in both.flatten(0, 1).split(size)])

    def latents(rows_Nd: Tensor, chosen: Tensor) -> Edit:
        chosen_Nd = torch.zeros_like(rows_Nd)
        chosen_Nd[chosen] = rows_Nd[chosen].nan_to_num(0.0)  # undefined: never seen to fire, so nothing is claimed
        return lambda both: both[:, :, 0] + _sum(codes(both), chosen_Nd).view_as(both[:, :, 0])

    def rebuilt(m: int) -> Edit:
        """Reconstruction of model m and the other model's error."""

        def edit(both: Tensor) -> Tensor:
            step_Nd = raw.decoder_NMd[:, m] - raw.decoder_NMd[:, 1 - m]
            step = _sum(codes(both), step_Nd) + raw.decoder_bias_Md[m] - raw.decoder_bias_Md[1 - m]
            return both[:, :, 1 - m] + step.view_as(both[:, :, 0])

        return edit

    edits: dict[str, Edit] = {"none": lambda both: both[:, :, 0]}
    for how, rows_Nd in rows.items():
        if rows_Nd is not None:
            edits |= {f"{how}_{which}": latents(rows_Nd, chosen) for which, chosen in sets.items()}
    if coder.inputs == "concat":
        edits |= {"reconstruction": rebuilt(1), "error": rebuilt(0)}
    nats = dict(zip(edits, problem.divergence(list(edits.values()), text, tokens), strict=True))
    gap = nats["none"]
    recovered = {name: 1 - kl / gap if gap > 0 else None for name, kl in nats.items() if name != "none"}
    return {"kl_nats": nats, "recovered": recovered, "n_best": half, "n_worst": len(order) - half}


class _Remembered:
    """Codes of the batch that was coded last: all edits of a batch share one encode."""

    def __init__(self, encode: Callable[[Tensor], list[Codes]]):
        self._encode = encode
        self._last: tuple[Tensor, list[Codes]] | None = None

    def __call__(self, both: Tensor) -> list[Codes]:
        if self._last is None or self._last[0] is not both:
            self._last = both, self._encode(both)
        return self._last[1]


def _sum(chunks: list[Codes], rows_Nd: Tensor) -> Tensor:
    """[tokens, d] Σ_j f_j·rows_j."""
    return torch.cat([write(codes.values_A, rows_Nd.contiguous(), codes.pairs) for codes in chunks])
