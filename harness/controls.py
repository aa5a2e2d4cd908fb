"""The random controls of the scoring protocol, for what is measured beside the scores."""

import hashlib

import torch
from torch import Tensor

from ..methods.contract import MAX_FINDINGS
from .interventions import unit
from .scores import SCORE_SEED


def control(index: int, d_model: int) -> Tensor:
    """Isotropic unit directions [16, d_model] of the index-th random control, as `scores.Scorer` draws them."""
    key = hashlib.sha256(f"random control {SCORE_SEED} {index}".encode()).digest()[:7]
    return unit(torch.randn(MAX_FINDINGS, d_model, generator=torch.Generator().manual_seed(int.from_bytes(key))))
