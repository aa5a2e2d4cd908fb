"""The two ends of the scale: chance, and a strategy that sees the misbehaviour."""

import torch

from ..contract import NoConfig
from .contract import Access, Lineup


class Random:
    """A coin that knows it is one: chance."""

    name = "random"
    access: Access = "activations"
    cost = "none"
    Config = NoConfig

    def suspect(self, lineup: Lineup) -> float:
        """One half, and as little beside it as tells heads from tails."""
        return 0.5 + 0.01 * (float(torch.rand((), generator=torch.Generator().manual_seed(lineup.seed))) - 0.5)


class Ceiling:
    """Looks at the scenes of poor oversight: what nobody else may see."""

    name = "ceiling"
    access: Access = "anchor"
    cost = "one pass"
    stochastic = False
    Config = NoConfig

    def suspect(self, lineup: Lineup) -> float:
        """One half, moved by half the difference of how often the forbidden option is taken."""
        a, b = (float(lineup.misbehaviour(m).mean()) for m in ("a", "b"))
        return min(max(0.5 + (a - b) / 2, 0.0), 1.0)
