"""How much runs: token passes of scoring, from the rows, kinds of intervention and budgets that the protocol will use.

A *climb* is what finds the strengths of one kind of intervention: its collateral at a few strengths on dev text, and dev prompts at
the strength of each budget. What was measured of a constant random draw before is not run again, so it is counted with the pair.
"""

from collections.abc import Iterable

from ...methods.contract import MAX_FINDINGS, DiffResult
from ..pairs.interventions import OPS, Directions, Op, kinds
from ..protocol.clean_runs import CleanRun
from ..protocol.effects import SIDES
from ..records.settings import Protocol
from ..runs.stage import Stage

NULLS = 2
"""Kinds of constant random draws: isotropic ones, and mixtures of differences."""


def scored_positions(stage: Stage, protocol: Protocol, diff: DiffResult, first: bool) -> int:
    """Positions that are run through the blocks above the layer to score findings, at most: each budget has a strength and a choice
    of its own.

    Args:
        stage: measured with this protocol or one of fewer controls. A null's panel, which stops early, is not counted.
        first: whether the pair is measured as well, none of its random draws being known.
    """
    if stage.panel is not None:
        return 0
    total, budgets, controls = 0, len(protocol.budgets_nats), protocol.controls
    directions = None if diff.patch else Directions.of(diff.findings, stage.pair.device)
    count = MAX_FINDINGS if directions is None else len(directions.direction)
    fewer = {min(k, count) for k in protocol.ks} - set(protocol.ks)
    """Numbers of directions that draws were not measured with."""
    for name, side in SIDES.items():
        dev, test = (stage.scorer.clean_run(side, split) for split in ("dev", "test"))
        text, asked = test.read.rows.positions, test.asked.rows.positions
        probes = test.capability[0].rows.positions if name == "necessity" and test.capability else 0
        on_test = budgets * (NULLS * asked + probes)
        """Of one control of each null."""

        def draw(ops: Iterable[Op], n: int, dev: CleanRun = dev) -> int:
            """Climbs of one draw: it stands in the place of any number of findings, but a span has that number."""
            return sum(_climb(protocol, dev, op) * (n if op == "ablate" else 1) for op in ops)

        if first:
            total += (
                dev.read.rows.positions + dev.asked.rows.positions + text + 2 * asked + probes
            )  # as they are, and the oracle
            total += controls * (NULLS * draw(OPS[name], len(protocol.ks)) + on_test)
        if directions is None:
            continue
        if count < max(protocol.ks):
            spans: list[Op] = [op for op in OPS[name] if op == "ablate"]
            total += controls * (NULLS * draw(spans, len(fewer)) + on_test)
        for gated in (False, True) if directions.gated else (False,):
            own = sum(_climb(protocol, dev, option.op) for option in kinds(name, directions, protocol.ks, gated))
            total += own + budgets * (asked + text)
            total += controls * (own + budgets * asked) if gated else 0
        total += budgets * probes
    return total


def _climb(protocol: Protocol, dev: CleanRun, op: Op) -> int:
    """Positions of one kind: removal has one strength."""
    costs, kept = (1, 1) if op == "ablate" else (len(protocol.strengths), len(protocol.budgets_nats))
    return costs * dev.read.rows.positions + kept * dev.asked.rows.positions
