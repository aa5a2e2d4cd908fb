"""Every row against a real peer that can be measured here, and why the others cannot."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..records import Row
from ..step import Shape
from . import betas, crosscoders, saes
from .sources import Unavailable

FULL = (
    (Shape(256, 8192, 1024, 32, steps=3), 6.0),
    (Shape(576, 4608, 1024, 32, steps=3), 5.0),
    (Shape(128, 1024, 512, 16, steps=10), 3.5),
)
"""BatchTopK crosscoder steps with their goals."""
QUICK = ((Shape(16, 96, 64, 4), 6.0),)
L1_GOAL, SAE_GOAL, BETAS_GOAL = 1.8, 1.0, 6.0


def measure(quick: bool, repetitions: int, root: Path) -> tuple[list[Row], dict[str, str]]:
    """(rows, reason by piece of work that was left out).

    Args:
        quick: tiny shapes, to test the scripts.
        repetitions: interleaved repetitions of every variant.
        root: folder of the peers.

    Raises:
        Disagreement: a peer and ours do not compute the same.
    """
    small = QUICK[0][0] if quick else FULL[-1][0]
    tokens = Shape(16, 64, 256, 4) if quick else Shape(128, 1024, 512, 16)
    work: dict[str, Callable[[], Row]] = {
        f"BatchTopK step against jkminder's trainer, {shape.name}": partial(
            crosscoders.measure, shape, repetitions, goal, False, root
        )
        for shape, goal in (QUICK if quick else FULL)
    }
    work["L1 step against jkminder's trainer"] = partial(crosscoders.measure, small, repetitions, L1_GOAL, True, root)
    work["SAE step against SAELens"] = partial(saes.measure, saes.SAELens, small, repetitions, SAE_GOAL, root)
    work["SAE step against sparsify"] = partial(saes.measure, saes.Sparsify, small, repetitions, SAE_GOAL, root)
    steps = 10 if quick else 200
    work["Latent Scaling against diffing-toolkit"] = partial(
        betas.measure, tokens, steps, repetitions, BETAS_GOAL, root
    )
    rows, skipped = list[Row](), dict[str, str]()
    for name, make in work.items():
        try:
            rows.append(make())
        except Unavailable as reason:
            skipped[name] = str(reason)
    return rows, skipped
