"""A trained dictionary as the rest of the world sees it: a JumpReLU coder in raw residual units.

Shape letters: B tokens, M models, d residual width, N latents.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class RawCoder(NamedTuple):
    """Inference in raw residual units, a JumpReLU: f_j = a_j if a_j > threshold_j else 0, a_j = Σ_m h^m·e_j^m + b_j."""

    encoder_NMd: Tensor
    bias_N: Tensor
    decoder_NMd: Tensor
    decoder_bias_Md: Tensor
    threshold_N: Tensor

    def encode(self, h_BMd: Tensor) -> Tensor:
        """Dense codes [B, N] of raw residuals."""
        pre_BN = torch.einsum("bmd,nmd->bn", h_BMd, self.encoder_NMd) + self.bias_N
        return torch.where(pre_BN > self.threshold_N, pre_BN, 0.0)

    def decode(self, f_BN: Tensor) -> Tensor:
        """Raw reconstructions [B, M, d]."""
        return torch.einsum("bn,nmd->bmd", f_BN, self.decoder_NMd) + self.decoder_bias_Md

    def gates(self) -> tuple[Tensor, Tensor]:
        """(read [N, d], threshold [N]): with h given for all models, latent j is active ⇔ h·read_j > threshold_j."""
        return self.encoder_NMd.sum(1), self.threshold_N - self.bias_N


class TopKCoder(NamedTuple):
    """A TopK coder: of the codes of `relu`, each token keeps its k largest.

    It is not a `RawCoder`, because no threshold says which latents are active: that depends on the token's other
    latents. So it has no gates, and nothing that reads a threshold can take it for a JumpReLU.
    """

    relu: RawCoder
    """The coder before selection, thresholds 0."""
    k: int

    def encode(self, h_BMd: Tensor) -> Tensor:
        """Dense codes [B, N] of raw residuals."""
        values_BK, latents_BK = (f_BN := self.relu.encode(h_BMd)).topk(self.k, dim=1)
        return torch.zeros_like(f_BN).scatter_(1, latents_BK, values_BK)

    def decode(self, f_BN: Tensor) -> Tensor:
        """Raw reconstructions [B, M, d]."""
        return self.relu.decode(f_BN)
