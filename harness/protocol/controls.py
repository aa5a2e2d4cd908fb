"""The random controls of the scoring protocol, and what was measured of each without a gate, which all findings are compared with."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...methods.contract import MAX_FINDINGS
from ..cache import Kept
from ..pairs.interventions import Option, unit

SCORE_SEED = 0
"""Seed of the random controls and of the bootstrap: the same for every cell, so that comparisons are paired."""
KIND, VERSION = "controls", "1"
"""Of what is kept of a control. The version is that of the procedure that measures one option: change it whenever its numbers change."""


def control(index: int, d_model: int, seed: int = SCORE_SEED) -> Tensor:
    """Isotropic unit directions [16, d_model] of the index-th random control, on the CPU."""
    key = hashlib.sha256(f"random control {seed} {index}".encode()).digest()[:7]  # no method's seed can meet it
    return unit(torch.randn(MAX_FINDINGS, d_model, generator=torch.Generator().manual_seed(int.from_bytes(key))))


@dataclass
class ControlMemory:
    """What was measured of one control's constant options: known from the disk, if something is kept there, and added to it."""

    kept: Kept | None
    key: Mapping[str, Any]
    """Which control."""
    values: dict[tuple[str, Option], Any] = field(default_factory=dict[tuple[str, Option], Any])
    """By what was measured and the option: a number, or a list of them; None where the option is beyond every budget."""

    def __post_init__(self) -> None:
        self.values |= self._on_disk()

    def keep(self) -> None:
        """Write down what is known now, and what another process has added meanwhile."""
        if self.kept is not None:
            self.values = self._on_disk() | self.values
            facts = [[what, o.op, o.k, o.strength, value] for (what, o), value in self.values.items()]
            self.kept.put(KIND, VERSION, facts=facts, **self.key)

    def _on_disk(self) -> dict[tuple[str, Option], Any]:
        entry = self.kept.get(KIND, VERSION, **self.key) if self.kept is not None else None
        return {(what, Option(op, k, False, s)): value for what, op, k, s, value in entry.facts} if entry else {}
