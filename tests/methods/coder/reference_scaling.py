"""Latent Scaling as it is usually computed, to compare with: one dense pass over the tokens for each of the eight betas.

β_j(Y) = Σ_t f_tj⟨Y_tj, d_j⟩ / (Σ_t f_tj²·‖d_j‖²), d_j the fine-tuned row, for a crosscoder in raw residual units.
"""

import torch
from diffbench.methods.coder.dictionary import RawCoder
from torch import Tensor

TARGETS = ("activation", "unbiased", "reconstruction", "error")


def eight_passes(raw: RawCoder, residuals_T2d: Tensor, chunk: int = 512, literal: bool = True) -> dict[str, Tensor]:
    """[2, N] betas of base and fine-tuned by target, NaN where a latent never fires.

    Args:
        raw: a crosscoder.
        residuals_T2d: paired residuals.
        chunk: tokens at a time.
        literal: build the error target [tokens, latents, d] as it is defined; otherwise take the latent's own part out of
            the sum, which leaves dense products only (the fairest speed to compare with).
    """
    return {
        target: torch.stack([_one_pass(raw, residuals_T2d, target, m, chunk, literal) for m in (0, 1)])
        for target in TARGETS
    }


def _one_pass(raw: RawCoder, residuals_T2d: Tensor, target: str, m: int, chunk: int, literal: bool) -> Tensor:
    own_Nd, d_Nd = raw.decoder_NMd[:, m], raw.decoder_NMd[:, 1]
    above = torch.zeros(len(d_Nd), dtype=torch.float64, device=d_Nd.device)
    squares = torch.zeros_like(above)
    for h_B2d in residuals_T2d.split(chunk):
        f_BN = raw.encode(h_B2d)
        squares += f_BN.square().sum(0).double()
        if target == "error" and literal:
            error_Bd = (h_B2d - raw.decode(f_BN))[:, m]
            for block in torch.arange(len(d_Nd), device=d_Nd.device).split(64):
                y_BLd = error_Bd[:, None] + f_BN[:, block, None] * own_Nd[block]
                above[block] += torch.einsum("bl,bld,ld->l", f_BN[:, block], y_BLd, d_Nd[block]).double()
            continue
        y_Bd = {
            "activation": lambda h: h[:, m],
            "unbiased": lambda h: h[:, m] - raw.decoder_bias_Md[m],
            "reconstruction": lambda h, f=f_BN: raw.decode(f)[:, m],
            "error": lambda h, f=f_BN: (h - raw.decode(f))[:, m],
        }[target](h_B2d)
        above += ((f_BN.T @ y_Bd) * d_Nd).sum(1).double()
        if target == "error":
            above += (f_BN.square().sum(0) * (own_Nd * d_Nd).sum(1)).double()
    den = squares * d_Nd.square().sum(1).double()
    return above / torch.where(den > 0, den, torch.nan)
