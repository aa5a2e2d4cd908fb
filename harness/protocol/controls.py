"""The random controls of the scoring protocol."""

import hashlib

import torch
from torch import Tensor

from ...methods.contract import MAX_FINDINGS
from ..pairs.interventions import unit

SCORE_SEED = 0
"""Seed of the random controls and of the bootstrap: the same for every cell, so that comparisons are paired."""


def control(index: int, d_model: int, seed: int = SCORE_SEED) -> Tensor:
    """Isotropic unit directions [16, d_model] of the index-th random control, on the CPU."""
    key = hashlib.sha256(f"random control {seed} {index}".encode()).digest()[:7]  # no method's seed can meet it
    return unit(torch.randn(MAX_FINDINGS, d_model, generator=torch.Generator().manual_seed(int.from_bytes(key))))
