"""Which strengths cost what a budget allows: collateral is smooth in strength, so a line between the logarithms of three measurements says.

An edit moves by that length, so collateral begins as its square: below the first measurement the slope is 2. A strength stands for
the first time that the line reaches its budget; what it costs on other text is measured afterwards (`effects.py`).
"""

import math
from collections.abc import Sequence

DIGITS = 7
"""Significant digits of a strength: what is written down is what was used. Four would be coarser than single precision: where another
machine's last bit tips the rounding, a strength would move by a thousandth, and scores by more than the 1e-4 that `bench verify` allows."""
FREE = 1e-12
"""Collateral in nats that counts as none."""


def reaching(strengths: Sequence[float], kl_nats: Sequence[float], target: float) -> float:
    """The first strength at which collateral reaches `target` nats, at most the last one measured.

    Args:
        strengths: rising.
        kl_nats: collateral at each.
    """
    cost = [max(FREE, kl) for kl in kl_nats]
    if cost[0] >= target:
        return _rounded(strengths[0] * math.sqrt(target / cost[0]))
    for i in range(len(cost) - 1):
        if cost[i] < target <= cost[i + 1]:
            share = math.log(target / cost[i]) / math.log(cost[i + 1] / cost[i])
            return _rounded(strengths[i] * (strengths[i + 1] / strengths[i]) ** share)
    return _rounded(strengths[-1])


def _rounded(strength: float) -> float:
    return float(f"{strength:.{DIGITS}g}")


def within(
    strengths: Sequence[float], kl_nats: Sequence[float], budgets: Sequence[float], aim: float
) -> dict[float, float]:
    """For each budget the strength that aims at a share `aim` of it, and the collateral that it should have; equal ones once.

    Below the smallest budget's strength it is halved down to the first one measured, at that budget's cost: under a gate that is closed
    on ordinary text every strength is free, and the largest only breaks what it reaches.
    """
    out: dict[float, float] = {}
    for tau in budgets:
        out.setdefault(reaching(strengths, kl_nats, aim * tau), min(aim * tau, max(kl_nats)))
    half, cost = next(iter(out.items()))
    while (half := _rounded(half / 2)) >= strengths[0]:
        out.setdefault(half, cost)
    return out
