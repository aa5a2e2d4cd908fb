"""What goes through the scoring protocol, findings and random controls alike, with what has been measured of each."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...methods.contract import MAX_FINDINGS
from ..cache import Kept
from ..pairs.interventions import Directions, Option, unit

SCORE_SEED = 0
"""Seed of the random controls and of the bootstrap: the same for every cell, so that comparisons are paired."""
KIND, VERSION = "controls", "1"
"""Of what is kept of a control. The version is that of the procedure that measures one option: change it whenever its numbers change."""
Value = float | list[float] | None
"""What was measured of an option, as JSON gives it back without a change of a bit."""


def control(index: int, d_model: int, seed: int = SCORE_SEED) -> Tensor:
    """Isotropic unit directions [16, d_model] of the index-th random control, on the CPU."""
    key = hashlib.sha256(f"random control {seed} {index}".encode()).digest()[:7]  # no method's seed can meet it
    return unit(torch.randn(MAX_FINDINGS, d_model, generator=torch.Generator().manual_seed(int.from_bytes(key))))


@dataclass
class ControlMemory:
    """What was measured of one control's constant options: known from the disk, if something is kept there, and added to it.

    Threads may add to one at the same time.
    """

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
            for known, value in self._on_disk().items():
                self.values.setdefault(known, value)
            facts = [[what, o.op, o.k, o.strength, value] for (what, o), value in list(self.values.items())]
            self.kept.put(KIND, VERSION, facts=facts, **self.key)

    def _on_disk(self) -> dict[tuple[str, Option], Any]:
        entry = self.kept.get(KIND, VERSION, **self.key) if self.kept is not None else None
        return {(what, Option(op, k, False, s)): value for what, op, k, s, value in entry.facts} if entry else {}


@dataclass(frozen=True)
class Candidate:
    """Directions under test, with what has been measured of them so far.

    The constant interventions of a random control do not depend on the findings it is a control for, so what was measured
    of them is kept between the cells of a run, and between runs; gated ones use the findings' gates and are measured anew.
    """

    directions: Directions
    control: ControlMemory | None = None
    """Of a random control; None: the findings themselves."""
    own: dict[tuple[str, Option], Value] = field(default_factory=dict[tuple[str, Option], Value])

    def recall(
        self,
        what: str,
        chosen: Sequence[Option],
        measure: Callable[[Sequence[Option]], Sequence[Value]],
        together: bool = False,
    ) -> list[Any]:
        """`measure(options)`, of which only what was not measured before is measured.

        Rounding depends on what else is in a batch, so what is kept of a control is measured in batches that no findings have a say in.

        Args:
            together: whether the missing ones are the same whichever findings ask; else each is measured by itself.
        """

        def memory(o: Option) -> dict[tuple[str, Option], Value]:
            return self.own if self.control is None or o.gated else self.control.values

        missing = [o for o in dict.fromkeys(chosen) if (what, o) not in memory(o)]
        constant = [o for o in missing if self.control is not None and not o.gated]
        gated = [o for o in missing if o not in constant]
        for some in [*([constant] if together else [[o] for o in constant]), gated]:
            for o, value in zip(some, measure(some) if some else (), strict=True):
                memory(o)[what, o] = value
        if self.control is not None and constant:
            self.control.keep()
        return [memory(o)[what, o] for o in chosen]
