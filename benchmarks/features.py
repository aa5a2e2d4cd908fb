"""Synthetic paired activations: sparse sums of features with noise, so that scores are spread as a trained coder's are."""

import torch
from torch import Tensor


def paired(tokens: int, d_model: int, active: int = 12, seed: int = 0) -> Tensor:
    """[tokens, 2, d_model] fp32: 4·d_model features, `active` of them on a token on average, a tenth differing between the models."""
    g = torch.Generator().manual_seed(seed)
    n = 4 * d_model
    base_Nd = torch.randn(n, d_model, generator=g) / d_model**0.5
    tuned_Nd = base_Nd.clone()
    tuned_Nd[: n // 10] = torch.randn(n // 10, d_model, generator=g) / d_model**0.5
    codes_TN = (torch.rand(tokens, n, generator=g) < active / n) * (0.5 + torch.rand(tokens, n, generator=g))
    both = torch.stack([codes_TN @ base_Nd, codes_TN @ tuned_Nd], dim=1)
    return both + 0.02 * torch.randn(both.shape, generator=g)
