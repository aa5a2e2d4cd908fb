"""The BatchTopK crosscoder as public code writes it: everything dense, gradients by autograd. The opponent, not a library.

One model after another in an einsum whose (B, M, N) result is summed, a full-matrix top-k over B·N scores, dense decode,
the default Adam. Stated deviation: the loss is the mean squared error that our coder trains on (theirs is not squared), so
that both compute the same number; AuxK is off in both.

Shape letters: B tokens, M models, d residual width, N latents.
"""

from typing import NamedTuple

import torch
from diffbench.methods.coder.sparse_coder import SparseCoder
from torch import Tensor, nn


class DenseStep(NamedTuple):
    """What a forward pass gives."""

    loss: Tensor
    fired_N: Tensor
    lowest: Tensor
    """Smallest positive kept score."""


class DenseCrosscoder(nn.Module):
    """Same parameters as a `SparseCoder` with one group, in the layout of the public code."""

    def __init__(self, coder: SparseCoder) -> None:
        super().__init__()
        self.k = coder.groups[0].k
        self.models = (coder.n_models, coder.d_model)
        encoder_NMd, decoder_NMd = (w.detach().unflatten(1, self.models) for w in (coder.encoder_ND, coder.decoder_ND))
        self.encoder_MdN = nn.Parameter(encoder_NMd.permute(1, 2, 0).clone(memory_format=torch.contiguous_format))
        self.encoder_bias_N = nn.Parameter(coder.encoder_bias_N.detach().clone())
        self.decoder_MNd = nn.Parameter(decoder_NMd.transpose(0, 1).clone(memory_format=torch.contiguous_format))
        self.decoder_bias_Md = nn.Parameter(coder.decoder_bias_D.detach().unflatten(0, self.models).clone())

    def losses(self, x_BMd: Tensor) -> DenseStep:
        """One training pass."""
        f_BN = torch.relu(torch.einsum("bmd,mdn->bmn", x_BMd, self.encoder_MdN).sum(1) + self.encoder_bias_N)
        norms_N = self.decoder_MNd.norm(dim=2).sum(0)
        scores = (f_BN * norms_N).detach().flatten()
        best = scores.topk(round(self.k * len(x_BMd)), sorted=False)
        kept_BN = torch.zeros_like(scores).scatter(0, best.indices, f_BN.flatten()[best.indices]).view_as(f_BN)
        out_BMd = torch.einsum("bn,mnd->bmd", kept_BN, self.decoder_MNd) + self.decoder_bias_Md
        loss = (x_BMd - out_BMd).square().sum((1, 2)).mean()
        return DenseStep(loss, kept_BN.detach().sum(0) > 0, best.values[best.values > 0].min())

    def gradients(self) -> dict[str, Tensor]:
        """Gradients under the names and in the layout of `SparseCoder`."""
        grads = {name: p.grad for name, p in self.named_parameters() if p.grad is not None}
        return {
            "encoder_ND": grads["encoder_MdN"].permute(2, 0, 1).flatten(1),
            "encoder_bias_N": grads["encoder_bias_N"],
            "decoder_ND": grads["decoder_MNd"].transpose(0, 1).flatten(1),
            "decoder_bias_D": grads["decoder_bias_Md"].flatten(),
        }
