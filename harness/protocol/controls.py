"""Random controls: directions that go through the same procedure as findings, with what has been measured of each.

Without gates what a control does depends on no findings but their number, so it is measured once and kept between cells and runs; under
the findings' gates it is measured anew.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...methods.contract import MAX_FINDINGS
from ..cache import Kept
from ..pairs.interventions import Directions, Option, unit
from ..records.control_pack import Values

SCORE_SEED = 0
"""Seed of the random controls and of the bootstrap: the same for every cell, so that comparisons are paired."""
KIND, VERSION = "controls", "3"
"""Of what is kept of a control. The version is that of the procedure that measures one option: change it whenever its numbers change."""
MIXTURES = 8
"""Most draws of the second null, which is only ever averaged."""
MIXED = 16
"""Tokens whose differences are mixed into a direction of the second null."""
Value = float | list[float]
"""What was measured of an option, as JSON gives it back without a change of a bit."""


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


@dataclass
class ControlMemory:
    """What was measured of one draw: known from the disk, if something is kept there, and added to it.

    Threads may add to one at the same time.
    """

    kept: Kept | None
    key: Mapping[str, Any]
    """Which draw."""
    values: dict[tuple[str, Option], Any] = field(default_factory=dict[tuple[str, Option], Any])
    """By what was measured and the option: a number, or a list of them; in the beginning what was shipped."""

    def __post_init__(self) -> None:
        self.values |= self._on_disk()

    def keep(self) -> None:
        """Write down what is known now, and what another process has added meanwhile."""
        if self.kept is not None:
            for known, value in self._on_disk().items():
                self.values.setdefault(known, value)
            facts = [[what, o.op, o.k, o.strength, value] for (what, o), value in list(self.values.items())]
            self.kept.put(KIND, VERSION, facts=facts, **self.key)

    def _on_disk(self) -> dict[tuple[str, Option], Any]:
        entry = self.kept.get(KIND, VERSION, **self.key) if self.kept is not None else None
        return {(what, Option(op, k, False, s)): value for what, op, k, s, value in entry.facts} if entry else {}

    def packed(self) -> Values:
        """What is known, for a file."""
        return {(what, o.op, o.k, o.strength): value for (what, o), value in self.values.items()}


def unpacked(values: Values) -> dict[tuple[str, Option], Any]:
    """What `ControlMemory.packed` gave."""
    return {(what, Option(op, k, False, s)): value for (what, op, k, s), value in values.items()}  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Candidate:
    """Directions under test and how they may be used, with what has been measured of them so far."""

    directions: Directions
    ks: tuple[int, ...]
    """How many of the first directions an intervention may use."""
    gated: bool = False
    """Whether it acts where the gates are open, or everywhere."""
    draw: ControlMemory | None = None
    """Of a random draw, constant; None: findings, or a control under their gates."""
    own: dict[tuple[str, Option], Value] = field(default_factory=dict[tuple[str, Option], Value])

    def recall(
        self, what: str, chosen: Sequence[Option], measure: Callable[[Sequence[Option]], Sequence[Value]]
    ) -> list[Any]:
        """`measure(options)`, of which only what was not measured before is measured."""
        memory = self.own if self.draw is None else self.draw.values
        missing = [o for o in dict.fromkeys(chosen) if (what, o) not in memory]
        if missing:
            memory.update(((what, o), value) for o, value in zip(missing, measure(missing), strict=True))
            if self.draw is not None:
                self.draw.keep()
        return [memory[what, o] for o in chosen]
