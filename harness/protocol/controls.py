"""Random controls: directions that go through the same procedure as findings. Without gates what they do depends on no findings but
their number, so it is measured once and kept between cells and runs; under the findings' gates it is measured anew.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...methods.contract import MAX_FINDINGS
from ..cache import Kept
from ..pairs.interventions import unit
from ..records.control_pack import Arrays
from ..records.identity import SIDES
from ..records.result import SideName
from .procedure import Array

SCORE_SEED = 0
"""Seed of the random controls and of the bootstrap: the same for every cell, so that comparisons are paired."""
KIND, VERSION = "controls", "4"
"""Of what is kept of a control. The version is that of the procedure: change it whenever its numbers change."""
NULLS = ("isotropic", "mixture")
"""Constant random controls: directions of no model, which are the zero; and mixtures of differences between the two, reported beside."""
MIXTURES = 8
"""Most draws of the second null, which is only ever averaged."""
MIXED = 16
"""Tokens whose differences are mixed into a direction of the second null."""


def control(index: int, d_model: int, seed: int = SCORE_SEED) -> Tensor:
    """Isotropic unit directions [16, d_model] of the index-th random control, on the CPU."""
    return unit(torch.randn(MAX_FINDINGS, d_model, generator=_generator(f"random control {seed} {index}")))


def mixture(index: int, differences: Tensor, seed: int = SCORE_SEED) -> Tensor:
    """Unit directions [16, d_model] of the index-th control of the second null: each a mean of the differences [tokens, d_model] at
    `MIXED` random tokens, at random weights that sum to 1, on the CPU."""
    generator = _generator(f"mixture {seed} {index}")
    which = torch.randint(len(differences), (MAX_FINDINGS, MIXED), generator=generator)
    weights = torch.rand(MAX_FINDINGS, MIXED, generator=generator).clamp_min(1e-9).log().neg()
    weights /= weights.sum(1, keepdim=True)
    return unit((weights[..., None] * differences.cpu().float()[which]).sum(1))


def _generator(key: str) -> torch.Generator:
    digest = hashlib.sha256(key.encode()).digest()[:7]  # no method's seed can meet it
    return torch.Generator().manual_seed(int.from_bytes(digest))


class Draw(NamedTuple):
    """What one random control does."""

    effects: dict[SideName, Array]
    """[prompts] of each side, mean over budgets."""
    volume: float
    """Mitigation before rescaling."""

    @classmethod
    def known(cls, kept: Kept | None, null: str, index: int, ks: Sequence[int]) -> "Draw | None":
        """What is kept of a draw."""
        entry = kept.get(KIND, VERSION, null=null, index=index, ks=list(ks)) if kept else None
        return cls({side: np.array(entry.facts[side]) for side in SIDES}, entry.facts["volume"]) if entry else None

    def keep(self, kept: Kept | None, null: str, index: int, ks: Sequence[int]) -> None:
        """Keep it for other runs."""
        if kept is not None:
            facts = {side: e.tolist() for side, e in self.effects.items()} | {"volume": self.volume}
            kept.put(KIND, VERSION, facts=facts, null=null, index=index, ks=list(ks))


@dataclass(frozen=True)
class Null:
    """What the controls of a null do, as far as scores stand on it."""

    mean: dict[SideName, Array]
    """[prompts] mean effect of each side."""
    shares: dict[SideName, Array]
    """[controls] R of each."""
    volumes: Array
    """[controls] mitigation before rescaling."""

    @classmethod
    def of(cls, arrays: Arrays) -> "Null":
        """As a file holds it."""
        mean: dict[SideName, Array] = {side: arrays[f"{side} mean"] for side in SIDES}
        shares: dict[SideName, Array] = {side: arrays[f"{side} shares"] for side in SIDES}
        return cls(mean, shares, arrays["volumes"])

    @property
    def arrays(self) -> Arrays:
        """For a file."""
        each = (
            (f"{side} {what}", of[side])
            for side in SIDES
            for what, of in (("mean", self.mean), ("shares", self.shares))
        )
        return {**dict(each), "volumes": self.volumes}
