"""How much runs: token passes of scoring, from the rows, ladders and budgets that the protocol will use."""

import torch

from ...methods.contract import MAX_FINDINGS, DiffResult, Finding
from ..pairs.interventions import Directions, options
from ..protocol.effects import SIDE_NAMES, SIDES
from ..records.settings import Protocol
from ..runs.stage import Stage


def scored_positions(stage: Stage, protocol: Protocol, diff: DiffResult, first: bool) -> int:
    """Positions that are run through the blocks above the layer to score findings, when every option is within the largest budget.

    Args:
        stage: measured with this protocol or one of fewer controls. A null's panel, which stops early, is not counted.
        first: whether the pair is measured as well.
    """
    if stage.panel is not None:
        return 0
    total, budgets = 0, len(protocol.budgets_nats)
    directions = None if diff.patch else Directions.of(diff.findings, stage.pair.device)
    for side, name in zip(SIDES, SIDE_NAMES, strict=True):
        dev, test = (stage.scorer.clean_run(side, split) for split in ("dev", "test"))
        on_dev = dev.asked.rows.positions + dev.read.rows.positions
        if first:
            constant = list(options(name, _plain(stage), protocol.ks, protocol.strengths, protocol.shares))
            total += on_dev + 2 * test.asked.rows.positions + test.read.rows.positions  # as they are, and the oracle
            total += protocol.controls * len(constant) * on_dev
        if directions is None:
            continue
        ladder = list(options(name, directions, protocol.ks, protocol.strengths, protocol.shares))
        gated = sum(option.gated for option in ladder)
        total += (len(ladder) + protocol.controls * gated) * on_dev
        each = test.asked.rows.positions
        if name == "necessity":
            each += test.read.rows.positions + (test.capability[0].rows.positions if test.capability else 0)
        else:
            total += budgets * test.read.rows.positions
        total += (1 + protocol.controls) * budgets * each
    return total


def _plain(stage: Stage) -> Directions:
    return Directions.of([Finding(torch.ones(stage.pair.d_model))] * MAX_FINDINGS, stage.pair.device)
