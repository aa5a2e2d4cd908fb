"""Coders and residuals made by hand or at random, whose codes, betas and directions are known in raw units."""

import torch
from diffbench.methods.coder.sparse_coder import Group, Inputs, SparseCoder
from torch import Tensor

D, F64 = 8, torch.float64
INPUTS: tuple[Inputs, ...] = ("concat", "base", "ft", "difference")
SAES: tuple[Inputs, ...] = ("base", "ft", "difference")


def coder_of(
    encoder_NMd: Tensor, decoder_NMd: Tensor, bias_Md: Tensor, inputs: Inputs = "concat", scale: float = 1.0
) -> SparseCoder:
    """A ReLU coder with f = h·encoder and ĥ = f·decoder + bias in raw units, whatever its normaliser."""
    n, m, d = encoder_NMd.shape
    coder = SparseCoder(d, [Group(n)], "l1", inputs=inputs).to(encoder_NMd.dtype)
    mean_D = torch.linspace(-1, 2, m * d, dtype=encoder_NMd.dtype)
    with torch.no_grad():
        coder.mean_D.copy_(mean_D)
        coder.scale.fill_(scale)
        coder.encoder_ND.copy_(encoder_NMd.flatten(1) / scale)
        coder.encoder_bias_N.copy_(encoder_NMd.flatten(1) @ mean_D)
        coder.decoder_ND.copy_(decoder_NMd.flatten(1) * scale)
        coder.decoder_bias_D.copy_((bias_Md.flatten() - mean_D) * scale)
    return coder


def random_coder(inputs: Inputs = "concat", n: int = 24, dtype: torch.dtype = F64) -> tuple[SparseCoder, Tensor]:
    """A coder with random rows, some of them silent, and residuals [300, 2, 8]."""
    g = torch.Generator().manual_seed(0)
    m = 2 if inputs == "concat" else 1
    encoder, decoder = torch.randn(2, n, m, D, generator=g, dtype=F64)
    encoder[-2:] = 0  # never active
    coder = coder_of(encoder, decoder, torch.randn(m, D, generator=g, dtype=F64), inputs, scale=0.3)
    return coder.to(dtype), (1 + torch.randn(300, 2, D, generator=g, dtype=F64)).to(dtype)


def planted_betas(scale: float) -> tuple[SparseCoder, Tensor, Tensor, Tensor, Tensor]:
    """Orthonormal latents whose share β_j is in the base and γ_j in the base's decoder.

    The codes are read from the fine-tuned residual: h_ft = b_ft + Σ f_j e_j, h_base = b_base + Σ β_j f_j e_j.
    Returns coder, residuals [200, 2, 8], codes [200, 8], β [8] and γ [8].
    """
    g = torch.Generator().manual_seed(3)
    e_Nd = torch.linalg.qr(torch.randn(D, D, generator=g, dtype=F64))[0]
    beta_N = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.5, -0.05, 1.0, 0.9], dtype=F64)
    gamma_N = torch.tensor([0.0, 0.25, 1.0, 1.2, 0.1, 0.5, 0.15, 0.8], dtype=F64)
    f_TN = torch.rand(200, D, generator=g, dtype=F64) * (torch.rand(200, D, generator=g) < 0.3) + 0.0
    bias_2d = torch.randn(2, D, generator=g, dtype=F64)
    h_T2d = torch.stack([(f_TN * beta_N) @ e_Nd, f_TN @ e_Nd], 1) + bias_2d
    encoder = torch.stack([torch.zeros_like(e_Nd), e_Nd], 1)
    coder = coder_of(encoder, torch.stack([gamma_N[:, None] * e_Nd, e_Nd], 1), bias_2d, scale=scale)
    with torch.no_grad():
        coder.encoder_bias_N.sub_(e_Nd @ bias_2d[1] + 1e-9)  # a zero code is not an active one
    return coder, h_T2d, f_TN, beta_N, gamma_N
