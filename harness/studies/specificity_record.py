"""What a specificity matrix is, and how a row of it is summarised: numpy only, from effects per test prompt."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..protocol.intervals import interval, weights
from ..records.identity import Record

Array = NDArray[np.float64]
BOOTSTRAP_SEED = 0


class Column(Record):
    """One behaviour, as it is asked of every organism that does not have it."""

    name: str
    """`family/member`."""
    organism: str
    """Whose test prompts are asked and whose gap divides: the first of the headline set with this behaviour."""
    gap: float
    """Its b1 - b0 on test, from its card."""
    prompts: int


class Half(Record):
    """One row of one matrix, and its summary."""

    effects: list[float | None]
    """[columns] mean over budgets of the change of the rate in the wanted direction, as a share of the gap; None: could not be asked."""
    random: list[float | None]
    """[columns] mean |effect| of random directions at the same strengths."""
    own: float
    """Effect on the organism's own behaviour."""
    own_low: float
    own_high: float
    others: float | None = None
    """Mean |effect| over the other families' columns."""
    others_low: float | None = None
    others_high: float | None = None
    others_random: float | None = None
    """The same of random directions."""
    specificity: float | None = None
    """max(0, 1 - others / |own|)."""
    reason: str | None = None
    """Why there is no specificity."""


class Row(Record):
    """One organism's interventions on every behaviour."""

    organism: str
    behaviour: str
    """Name of its own column; there its own prompts are asked, and the gap is the one its run measured."""
    gap: float
    """That gap."""
    result: str
    """Id of the run."""
    other: list[bool]
    """[columns] whether the behaviour counts among the others: of another family, and sharing no prompt with the own one."""
    added: Half
    removed: Half
    wall_s: float


class Specificity(Record):
    """Both matrices of one method: interventions of the organisms (rows) on behaviours (columns)."""

    method: str
    seed: int
    """The method's seed."""
    protocol_sha256: str
    controls: int
    draws: int
    columns: list[Column]
    rows: list[Row]
    notes: list[str] = Field(default_factory=list[str])
    """Runs that were left out, entries that are missing, and why."""


def summary(effects: Sequence[Array | None], own: int, other: Sequence[bool], draws: int) -> Half:
    """One row from its effects per test prompt, [sets, prompts] a column, the findings' set first.

    Intervals: bootstrap over each column's prompts. A resampled mean is farther from 0 than the mean, so the interval of
    mean |effect| is the reflected one (2 x - quantiles), which takes that bias out instead of doubling it; it ends at 0.
    """
    mine = effects[own]
    assert mine is not None  # an organism's own prompts were asked when it was scored
    means = [None if e is None else e.mean(1) for e in effects]
    row = Half(
        effects=[None if m is None else float(m[0]) for m in means],
        random=[None if m is None else float(np.abs(m[1:]).mean()) for m in means],
        own=float(mine[0].mean()),
        **dict(zip(("own_low", "own_high"), interval(_drawn(mine[0], draws, 0)), strict=True)),
    )
    far = [e for e, counts in zip(effects, other, strict=True) if counts and e is not None]
    if not far:
        row.reason = "no other family's behaviour could be asked"
        return row
    row.others = float(np.mean([abs(e[0].mean()) for e in far]))
    row.others_random = float(np.mean([np.abs(e[1:].mean(1)).mean() for e in far]))
    low, high = interval(np.mean([np.abs(_drawn(e[0], draws, j)) for j, e in enumerate(far)], axis=0))
    row.others_low, row.others_high = max(0.0, 2 * row.others - high), max(0.0, 2 * row.others - low)
    if row.own_low <= 0 <= row.own_high:
        row.reason = "the own effect's interval covers 0"
    else:
        row.specificity = max(0.0, 1 - row.others / abs(row.own))
    return row


def _drawn(values: Array, draws: int, stream: int) -> Array:
    """Bootstrap means [draws] of values [prompts]; streams are shuffled against each other, so columns are drawn independently."""
    order = np.random.default_rng([BOOTSTRAP_SEED, stream]).permutation(draws)
    return (_weights(len(values), draws) @ values)[order]


@cache
def _weights(n: int, draws: int) -> Array:
    """Bootstrap weights [draws, n], the same for every row."""
    return weights(n, draws, np.random.default_rng(BOOTSTRAP_SEED))
