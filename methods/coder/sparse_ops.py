"""Exact sparse products and the exact BatchTopK selection under the sparse coder.

The idea: a BatchTopK step touches only k of n latents per token, so after the one dense encode product everything else
(decode, gradients of the codes, gradients of both weight matrices) is a sum over active (token, latent) pairs.
`F.embedding_bag` is that sum: over pairs sorted by token it decodes, sorted by latent it makes a weight gradient. On CUDA, where it
waits for one small read after another, a product with a compressed sparse matrix is. No kernel of our own, deterministic on a CPU, and
equal to dense autograd (tested by gradcheck in float64).

Shape letters: B tokens, N latents, D width, A active pairs.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLED = 32
"""Every so many tokens are fully scored, to know where the selection's boundary about is."""
SLACK = 1.5
"""Candidates as a multiple of what is kept: a sample that is off by less costs no second look."""
RADIX = 32_768
"""From so many integers on, a CPU sorts them by radix; padding up to it costs a third of sorting fewer by comparison."""


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
    def by_latent(self) -> tuple[Tensor, Tensor, Tensor]:
        """([A] order that sorts the pairs by latent, [A] their tokens in it, [N] where each latent's pairs begin)."""
        n_pairs = len(self.latents)
        padded = F.pad(self.latents.int(), (0, max(0, RADIX - n_pairs)), value=self.n_latents)
        latents, order = torch.sort(padded, stable=True)
        begins = torch.searchsorted(latents, torch.arange(self.n_latents, device=latents.device, dtype=latents.dtype))
        return order[:n_pairs], self.tokens.index_select(0, order[:n_pairs]), begins

    @property
    def fired_N(self) -> Tensor:
        """[N] bool: active on some token."""
        return torch.zeros(self.n_latents, dtype=torch.bool, device=self.latents.device).index_fill_(
            0, self.latents, True
        )

    def split_at(self, latent: int) -> "tuple[Pairs, Pairs]":
        """The pairs below a latent and those from it on."""
        low = self.latents < latent
        parts = [mask.nonzero()[:, 0] for mask in (low, ~low)]
        below, rest = (Pairs(self.tokens[i], self.latents[i], self.n_tokens, self.n_latents) for i in parts)
        return below, rest

    def among(self, first: int, n_latents: int) -> "Pairs":
        """The same pairs as part of a dictionary of `n_latents`, where they begin at latent `first`."""
        return Pairs(self.tokens, self.latents + first, self.n_tokens, n_latents)


class Codes(NamedTuple):
    """Sparse codes of a batch."""

    values_A: Tensor
    pairs: Pairs

    def dense(self) -> Tensor:
        """[B, N]."""
        out = self.values_A.new_zeros(self.pairs.n_tokens, self.pairs.n_latents)
        out[self.pairs.tokens, self.pairs.latents] = self.values_A
        return out


class Products:
    """x·Eᵀ + b [B, N] in the one place that all steps of a size share: new memory costs as much as a tenth of a step."""

    def __init__(self) -> None:
        self.out_BN = torch.empty(0)

    def __call__(self, bias_N: Tensor, x_BD: Tensor, encoder_ND: Tensor) -> Tensor:
        """Valid until the next call; no gradient."""
        shape = (len(x_BD), len(encoder_ND))
        if (self.out_BN.shape, self.out_BN.dtype, self.out_BN.device) != (shape, x_BD.dtype, x_BD.device):
            self.out_BN = x_BD.new_empty(shape)
            # glibc keeps blocks as large as one that was freed before, up to 32 MiB, and faults larger ones in again each time
            torch.empty(32 * 2**20 - 2**16, dtype=torch.uint8)
        return torch.addmm(bias_N, x_BD, encoder_ND.T, out=self.out_BN)


def _sum_by_latent(values_A: Tensor, rows_BD: Tensor, pairs: Pairs) -> Tensor:
    """Σ_t values_tj · rows_t for every latent j: [N, D]."""
    order, tokens, begins = pairs.by_latent
    return _sums(tokens, rows_BD, begins, values_A.index_select(0, order))


def _sum_by_token(values_A: Tensor, rows_ND: Tensor, pairs: Pairs) -> Tensor:
    """Σ_j values_tj · rows_j for every token t: [B, D]."""
    return _sums(pairs.latents, rows_ND, pairs.token_offsets, values_A)


def _sums(which_A: Tensor, rows_RD: Tensor, begins: Tensor, weights_A: Tensor) -> Tensor:
    """Weighted sums of rows, one for each run of pairs: [len(begins), D]."""
    if rows_RD.is_cuda:
        return sparse_product(which_A, rows_RD, begins, weights_A)
    return F.embedding_bag(which_A, rows_RD, begins, mode="sum", per_sample_weights=weights_A)


def sparse_product(which_A: Tensor, rows_RD: Tensor, begins: Tensor, weights_A: Tensor) -> Tensor:
    """What `F.embedding_bag` sums, as the product of a sparse matrix of weights and the rows.

    Args:
        which_A: [A] row of each pair.
        rows_RD: [R, D].
        begins: [runs] where each run of pairs begins; it ends where the next one does.
        weights_A: [A].

    Returns:
        [runs, D]; 0 for a run without pairs.
    """
    bounds = F.pad(begins, (0, 1), value=len(which_A)).int()
    shape = len(begins), len(rows_RD)
    return torch.sparse_csr_tensor(bounds, which_A.int(), weights_A, shape, check_invariants=False) @ rows_RD


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
        return _sum_by_token(values_A.detach(), rows_ND.detach(), pairs)  # nothing is kept for a backward that is ours

    @staticmethod
    def backward(ctx: Any, grad_BD: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        values_A, rows_ND = ctx.saved_tensors
        pairs: Pairs = ctx.pairs
        grad_BD = grad_BD.contiguous()
        # ⟨grad_t, row_j⟩ per pair without an [A, D] temporary: what embedding_bag's own backward calls (mode 0 = sum),
        # latent by latent, so that each of the many rows is fetched once
        order, tokens, _ = pairs.by_latent
        dots = torch.ops.aten._embedding_bag_per_sample_weights_backward
        sorted_A: Tensor = dots(grad_BD, rows_ND, pairs.latents.index_select(0, order), pairs.token_offsets, tokens, 0)
        grad_A = torch.empty_like(sorted_A).index_copy_(0, order, sorted_A)
        return grad_A, _sum_by_latent(values_A, grad_BD, pairs), None


class _Error(torch.autograd.Function):
    """mean_b ‖x − bias − written‖², whose gradient is one multiple of the residual instead of six passes over it."""

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor, bias_D: Tensor, written_BD: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        residual_BD = (x_BD - bias_D).sub_(written_BD)
        ctx.save_for_backward(residual_BD)
        ctx.mark_non_differentiable(residual_BD)
        return residual_BD.square().sum(1).mean(), residual_BD

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (residual_BD,) = ctx.saved_tensors
        grad_BD = residual_BD * (grad * (-2 / len(residual_BD)))
        return None, grad_BD.sum(0), grad_BD


def squared_error(x_BD: Tensor, bias_D: Tensor, written_BD: Tensor) -> tuple[Tensor, Tensor]:
    """(mean_b ‖x − bias − written‖², differentiable in bias and written (x is data); the residual [B, D], data)."""
    return cast(tuple[Tensor, Tensor], _Error.apply(x_BD, bias_D, written_BD))


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


def batch_topk(pre_BN: Tensor, norms_N: Tensor, count: int) -> Selected:
    """Keep the `count` largest positive scores pre·N of the whole batch, or all positive ones if they are fewer.

    Exact: ties at the boundary go to the earlier (token, latent). Only candidates are scored, so no second [B, N] matrix is
    written: those above a level that the same share of every 32nd token just passes, and all if that level is too high. On an
    accelerator each compaction reads a size.

    Args:
        pre_BN: pre-activations; no gradient flows through the selection.
        norms_N: N_j ≥ 0.
        count: how many pairs to keep, k·B.
    """
    level = _level(pre_BN[::SAMPLED], norms_N, count * len(pre_BN[::SAMPLED]) // len(pre_BN))
    pairs, scores = _above(pre_BN, norms_N, level)
    if level is not None and (scores > level).sum() < count:
        pairs, scores = _above(pre_BN, norms_N, None)
    lowest = scores.min() if len(scores) else scores.new_zeros(())
    if len(scores) > count:
        lowest = torch.topk(scores, count, sorted=False).values.min()
        kept = (scores >= lowest).nonzero()[:, 0]
        if len(kept) > count:
            late = (scores[kept] == lowest).nonzero()[count - len(kept) :, 0]
            kept = kept[torch.ones_like(kept, dtype=torch.bool).index_fill_(0, late, False)]
        tokens, latents = pairs.tokens.index_select(0, kept), pairs.latents.index_select(0, kept)
        pairs = Pairs(tokens, latents, pairs.n_tokens, pairs.n_latents)
    return Selected(pairs, lowest)


def _level(sample_BN: Tensor, norms_N: Tensor, count: int) -> Tensor | None:
    """A level that more than the wanted scores pass if the sample is like the batch; None: too few to say."""
    if len(sample_BN) < 8 or not 0 < count <= sample_BN.numel():
        return None
    slack = min(round(SLACK * count), sample_BN.numel())
    return (sample_BN * norms_N).flatten().topk(slack, sorted=False).values.min().clamp_min(0)


def _above(pre_BN: Tensor, norms_N: Tensor, level: Tensor | None) -> tuple[Pairs, Tensor]:
    """The pairs that may score above a level (positive ones for None), and their scores; slack for the division's rounding."""
    limit_N = torch.zeros_like(norms_N) if level is None else 0.999 * level / norms_N
    pairs = above(pre_BN, torch.where(norms_N > 0, limit_N, torch.inf))
    return pairs, pre_BN[pairs.tokens, pairs.latents] * norms_N.index_select(0, pairs.latents)


def above(pre_BN: Tensor, limit_N: Tensor) -> Pairs:
    """The pairs with pre_tj > limit_j. Eight flags are read as one word, and most words are empty."""
    flags = (pre_BN > limit_N).view(-1)
    words_W8 = F.pad(flags, (0, -len(flags) % 8)).view(-1, 8) if len(flags) % 8 else flags.view(-1, 8)
    words_W = words_W8.view(torch.int64)[:, 0]
    filled = words_W.nonzero()[:, 0]
    place, bit = words_W.index_select(0, filled)[:, None].view(torch.bool).nonzero().unbind(1)
    flat = filled.index_select(0, place).mul_(8).add_(bit)
    tokens = flat.div(pre_BN.shape[1], rounding_mode="trunc")
    return Pairs(tokens, flat.sub_(tokens * pre_BN.shape[1]), *pre_BN.shape)
