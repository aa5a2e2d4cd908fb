"""How much runs: token passes of scoring, from the rows, kinds of intervention and budgets that the protocol will use.

A *climb* is what finds the strengths of one kind of intervention: its collateral at a few strengths on dev text, and dev prompts at
each strength that is tried.
"""

import math

from ...methods.contract import DiffResult
from ..pairs.interventions import OPS, Directions, Op, kinds
from ..protocol.clean_runs import CleanRun
from ..protocol.controls import MIXTURES
from ..records.identity import SIDES
from ..records.settings import Protocol
from ..runs.stage import Stage


def scored_positions(stage: Stage, protocol: Protocol, diff: DiffResult, first: bool, controls: bool) -> int:
    """Positions that are run through the blocks above the layer to score findings, at most: each budget has a strength and a choice
    of its own.

    Args:
        stage: measured with this protocol or one of fewer controls. A null's panel, which stops early, is not counted.
        first: whether the pair is measured as well.
        controls: whether the constant controls of so many findings are.
    """
    if stage.panel is not None:
        return 0
    total, budgets = 0, len(protocol.budgets_nats)
    nulls = protocol.controls + min(protocol.controls, MIXTURES)
    directions = None if diff.patch else Directions.of(diff.findings[: max(protocol.ks)], stage.pair.device)
    for name, side in SIDES.items():
        dev, test = (stage.scorer.clean_run(side, split) for split in ("dev", "test"))
        text, asked, brief = test.read.rows.positions, test.asked.rows.positions, test.brief.rows.positions
        own_probes = test.capability[0].rows.positions if test.capability else 0
        probes = own_probes if name == "necessity" else 0
        if first:  # as they are, and the oracle
            total += dev.read.rows.positions + dev.asked.rows.positions + text + brief + 2 * asked + own_probes
        if directions is None:
            continue
        if controls:
            climb = sum(_climb(protocol, dev, op) for op in OPS[name])
            ks = len(stage.scorer.ks(len(directions.direction)))
            total += nulls * (ks * climb + budgets * (asked + brief)) + protocol.controls * budgets * probes
        for gated in (False, True) if directions.gated else (False,):
            own = sum(_climb(protocol, dev, option.op) for option in kinds(name, directions, protocol.ks, gated))
            total += own + budgets * (asked + text)
            total += (own + budgets * (asked + brief)) * protocol.controls * gated
        total += budgets * probes
    return total


def _climb(protocol: Protocol, dev: CleanRun, op: Op) -> int:
    """Positions of one kind: ablation has one strength, others one for each budget and the halves of the smallest one's."""
    if op == "ablate":
        return dev.read.rows.positions + dev.asked.rows.positions
    tried = len(protocol.budgets_nats) + int(math.log2(protocol.strengths[-1] / protocol.strengths[0]))
    return len(protocol.strengths) * dev.read.rows.positions + tried * dev.asked.rows.positions
