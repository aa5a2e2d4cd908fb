"""From a trained sparse coder to findings: one pass over the harvest at the inference thresholds, then a ranking.

The idea: sparse codes of the harvest are visited once, and frequencies, mean activations, L0 and explained variance
are all sums over that one visit; directions and gates come from `SparseCoder.raw()`, so they are in residual units.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .contract import MAX_FINDINGS, Finding, Gate
from .dictionary import RawCoder
from .sparse_coder import SparseCoder

Rank = Literal["rdn", "contribution"]
CHUNK = 4096
"""Tokens coded at a time."""


class Survey(NamedTuple):
    """What the latents do on the harvest, at the inference thresholds."""

    tokens: int
    fires_N: Tensor
    """[N] tokens on which each latent is active."""
    sums_N: Tensor
    """[N] sum of its activations (in the coder's own units)."""
    explained: dict[str, float | None]
    """Fraction of variance explained of base, ft and delta; None where there is no variance."""
    l0: float
    """Mean active latents per token."""


def relative_decoder_norm(decoder_NMd: Tensor) -> Tensor:
    """[N] rdn_j = ‖d_ft‖ / (‖d_base‖ + ‖d_ft‖): 0 base only, ½ shared, 1 fine-tune only; ½ where both are zero."""
    base, ft = decoder_NMd.norm(dim=2).unbind(1)
    return torch.where(base + ft > 0, ft / (base + ft), 0.5)


def survey(coder: SparseCoder, residuals_T2d: Tensor) -> Survey:
    """Code all residuals [tokens, 2, d_model] once; changes no state of the coder."""
    fires_N = torch.zeros(coder.n_latents, dtype=torch.int64, device=residuals_T2d.device)
    sums_N = torch.zeros(coder.n_latents, dtype=torch.float64, device=residuals_T2d.device)
    left, total = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for chunk in residuals_T2d.split(CHUNK):
        x_BD = coder.normalise(chunk)
        codes = coder.encode(x_BD)
        fires_N += torch.bincount(codes.pairs.latents, minlength=coder.n_latents)
        sums_N += torch.bincount(codes.pairs.latents, weights=codes.values_A.double(), minlength=coder.n_latents)
        left += _squares(x_BD - coder.decode(codes))
        total += _squares(x_BD)
    ev = [1 - float(a / b) if b > 0 else None for a, b in zip(left, total, strict=True)]
    n = len(residuals_T2d)
    return Survey(n, fires_N, sums_N, dict(zip(("base", "ft", "delta"), ev, strict=True)), int(fires_N.sum()) / n)


def _squares(x_BD: Tensor) -> Tensor:
    """[3] sums of squares of base half, fine-tuned half and difference (variances of a centred x)."""
    base, ft = x_BD.chunk(2, dim=1)
    return torch.stack([part.square().sum() for part in (base, ft, ft - base)]).double().cpu()


def findings(raw: RawCoder, seen: Survey, rank: Rank, min_tokens: int, n_shared: int = 0) -> list[Finding]:
    """The best 16 non-shared latents active on at least `min_tokens` tokens, as directions in raw residual units.

    direction_j = (d_ft − d_base)·(mean activation when active). A zero direction if no latent qualifies.

    Args:
        raw: coder in raw units, over base and fine-tuned.
        seen: its activity on the harvest.
        rank: "rdn", or "contribution" = mean over tokens of f_j·‖d_ft − d_base‖.
        min_tokens: fewer active tokens and a latent counts as dead.
        n_shared: the first latents, designated shared, are not candidates.
    """
    rdn_N = relative_decoder_norm(raw.decoder_NMd)
    base_Nd, ft_Nd = raw.decoder_NMd.unbind(1)
    change_Nd = ft_Nd - base_Nd
    mean_active_N = (seen.sums_N / seen.fires_N.clamp_min(1)).to(change_Nd.dtype)
    score_N = rdn_N if rank == "rdn" else (seen.sums_N / seen.tokens).to(change_Nd.dtype) * change_Nd.norm(dim=1)
    cosine_N = torch.cosine_similarity(base_Nd, ft_Nd, dim=1)
    reads_Nd, thresholds_N = raw.gates()
    candidates = candidate_latents(seen, min_tokens, n_shared)
    best = candidates[score_N[candidates].argsort(descending=True, stable=True)][:MAX_FINDINGS].tolist()
    found = [
        Finding(
            direction=change_Nd[j] * mean_active_N[j],
            gate=Gate(reads_Nd[j], float(thresholds_N[j])),
            score=float(score_N[j]),
            evidence={
                "latent": j,
                "rdn": float(rdn_N[j]),
                "frequency": int(seen.fires_N[j]) / seen.tokens,
                "mean_activation": float(mean_active_N[j]),
                "decoder_cosine": float(cosine_N[j]),
            },
        )
        for j in best
    ]
    return found or [
        Finding(
            torch.zeros_like(change_Nd[0]), evidence={"note": f"no candidate latent is active on {min_tokens} tokens"}
        )
    ]


def candidate_latents(seen: Survey, min_tokens: int, n_shared: int = 0) -> Tensor:
    """Indices of the non-shared latents that are alive on the harvest."""
    alive = seen.fires_N >= min_tokens
    alive[:n_shared] = False
    return alive.nonzero()[:, 0]


def diagnostics(raw: RawCoder, seen: Survey, min_tokens: int, n_shared: int = 0) -> dict[str, Any]:
    """JSON-serialisable facts; the rdn histogram counts candidate latents in 20 bins over [0, 1]."""
    rdn = relative_decoder_norm(raw.decoder_NMd)[candidate_latents(seen, min_tokens, n_shared)]
    return {
        "explained_variance": seen.explained,
        "l0": seen.l0,
        "l0_shared": int(seen.fires_N[:n_shared].sum()) / seen.tokens,
        "dead_share": float((seen.fires_N == 0).double().mean()),
        "rdn_histogram": torch.histc(rdn.cpu(), 20, 0.0, 1.0).int().tolist(),
        "n_latents": len(seen.fires_N),
        "n_shared": n_shared,
    }
