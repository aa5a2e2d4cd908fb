"""Exact sparse products and the exact BatchTopK selection under the sparse coder.

The idea: a BatchTopK step touches only k of n latents per token, so after the one dense encode product everything else
(decode, gradients of the codes, gradients of both weight matrices) is a sum over active (token, latent) pairs.
`F.embedding_bag` is that sum: over pairs sorted by token it decodes, sorted by latent it makes a weight gradient.
No kernel of our own, deterministic, and equal to dense autograd (tested by gradcheck in float64).

Shape letters: B tokens, N latents, D width, A active pairs.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

PREFILTER = 0.8
"""Pairs scoring below this share of the inference threshold are not looked at first (the selection stays exact)."""


@dataclass(frozen=True)
class Pairs:
    """Active (token, latent) pairs of one batch, sorted by token."""

    tokens: Tensor
    """[A] int64, ascending."""
    latents: Tensor
    """[A] int64, ascending within a token."""
    n_tokens: int
    n_latents: int

    @cached_property
    def token_offsets(self) -> Tensor:
        """[B] where each token's pairs begin."""
        return torch.searchsorted(self.tokens, torch.arange(self.n_tokens, device=self.tokens.device))

    @cached_property
    def by_latent(self) -> tuple[Tensor, Tensor]:
        """([A] order that sorts the pairs by latent, [N] where each latent's pairs begin)."""
        latents, order = torch.sort(self.latents, stable=True)
        return order, torch.searchsorted(latents, torch.arange(self.n_latents, device=latents.device))

    def split_at(self, latent: int) -> "tuple[Pairs, Pairs]":
        """The pairs below a latent and those from it on."""
        low = self.latents < latent
        parts = [mask.nonzero()[:, 0] for mask in (low, ~low)]
        below, rest = (Pairs(self.tokens[i], self.latents[i], self.n_tokens, self.n_latents) for i in parts)
        return below, rest

    def among(self, first: int, n_latents: int) -> "Pairs":
        """The same pairs as part of a dictionary of `n_latents`, where they begin at latent `first`."""
        return Pairs(self.tokens, self.latents + first, self.n_tokens, n_latents)


def _sum_by_latent(values_A: Tensor, rows_BD: Tensor, pairs: Pairs) -> Tensor:
    """Σ_t values_tj · rows_t for every latent j: [N, D]."""
    order, offsets = pairs.by_latent
    return F.embedding_bag(pairs.tokens[order], rows_BD, offsets, mode="sum", per_sample_weights=values_A[order])


def _sum_by_token(values_A: Tensor, rows_ND: Tensor, pairs: Pairs) -> Tensor:
    """Σ_j values_tj · rows_j for every token t: [B, D]."""
    return F.embedding_bag(pairs.latents, rows_ND, pairs.token_offsets, mode="sum", per_sample_weights=values_A)


class _Read(torch.autograd.Function):
    """Pre-activations of the active pairs: the selection's dense product is reused, only the backward is sparse."""

    @staticmethod
    def forward(ctx: Any, pre_BN: Tensor, x_BD: Tensor, encoder_ND: Tensor, bias_N: Tensor, pairs: Pairs) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x_BD)
        ctx.pairs = pairs
        return pre_BN.view(-1).index_select(0, pairs.tokens * pairs.n_latents + pairs.latents)

    @staticmethod
    def backward(ctx: Any, grad_A: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x_BD,) = ctx.saved_tensors
        pairs: Pairs = ctx.pairs
        grad_bias_N = torch.bincount(pairs.latents, weights=grad_A, minlength=pairs.n_latents).to(grad_A.dtype)
        return None, None, _sum_by_latent(grad_A, x_BD, pairs), grad_bias_N, None


class _Write(torch.autograd.Function):
    """Σ_j values_tj · rows_j with sparse gradients for both factors."""

    @staticmethod
    def forward(ctx: Any, values_A: Tensor, rows_ND: Tensor, pairs: Pairs) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(values_A, rows_ND)
        ctx.pairs = pairs
        return _sum_by_token(values_A, rows_ND, pairs)

    @staticmethod
    def backward(ctx: Any, grad_BD: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        values_A, rows_ND = ctx.saved_tensors
        pairs: Pairs = ctx.pairs
        grad_BD = grad_BD.contiguous()
        # ⟨grad_t, row_j⟩ per pair without an [A, D] temporary: what embedding_bag's own backward calls (mode 0 = sum)
        dots = torch.ops.aten._embedding_bag_per_sample_weights_backward
        grad_A: Tensor = dots(grad_BD, rows_ND, pairs.latents, pairs.token_offsets, pairs.tokens, 0)
        return grad_A, _sum_by_latent(values_A, grad_BD, pairs), None


def read(pre_BN: Tensor, x_BD: Tensor, encoder_ND: Tensor, bias_N: Tensor, pairs: Pairs) -> Tensor:
    """[A] pre-activations x_t·e_j + b_j, differentiable in encoder and bias (x is data), picked from `pre_BN`."""
    return cast(Tensor, _Read.apply(pre_BN.detach(), x_BD, encoder_ND, bias_N, pairs))


def write(values_A: Tensor, rows_ND: Tensor, pairs: Pairs) -> Tensor:
    """[B, D] sums Σ_j values_tj · rows_j, differentiable in values and rows."""
    return cast(Tensor, _Write.apply(values_A, rows_ND, pairs))


class Selected(NamedTuple):
    """What BatchTopK kept."""

    pairs: Pairs
    lowest: Tensor
    """Smallest kept score (0 where nothing was positive)."""


def batch_topk(scores_BN: Tensor, count: int, floor: Tensor | None = None) -> Selected:
    """Keep the `count` largest positive scores of the whole batch, or all positive ones if they are fewer.

    Exact: ties at the boundary go to the earlier (token, latent). `floor` only saves work: scores up to it are not
    looked at unless too few lie above, when the full selection runs. On an accelerator each compaction reads a size.

    Args:
        scores_BN: f_j·N_j (anything not positive is never kept); no gradient flows through the selection.
        count: how many pairs to keep, k·B.
        floor: 0-d prefilter, for instance 0.8 × the last threshold.
    """
    flat = (scores_BN > (0 if floor is None else floor.clamp_min(0))).view(-1).nonzero()[:, 0]
    if len(flat) < count and floor is not None:
        return batch_topk(scores_BN, count)
    scores = scores_BN.reshape(-1).index_select(0, flat)
    if len(flat) > count:
        lowest = torch.topk(scores, count, sorted=False).values.min()
        level = scores == lowest
        above = scores > lowest
        kept = (above | (level & (level.cumsum(0) <= count - above.sum()))).nonzero()[:, 0]
        flat = flat.index_select(0, kept)
    else:
        lowest = scores.min() if len(scores) else scores.new_zeros(())
    n_tokens, n_latents = scores_BN.shape
    tokens = flat // n_latents
    return Selected(Pairs(tokens, flat - tokens * n_latents, n_tokens, n_latents), lowest)
