"""From a score to a probability, one way for all of our strategies.

The idea: a score compares A with B and changes its sign when they change places. On line-ups with a faker it lies around ±effect with a
scatter, on two aligned twins around 0 with another. Both are measured on lineup-tune and written beside the strategy. The probability
that A is the faker then follows by Bayes' rule, "neither" being halved: near 0 it is one half, and a strategy whose scores do not tell a
faker from a twin stays near one half throughout.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from .contract import Lineup

Options = TypeVar("Options", bound=BaseModel)

LEAST = 0.05
"""Least effect, in scatters, so that a strategy that fails on lineup-tune still names one of the two, without being sure."""


class Scale(NamedTuple):
    """How a strategy's score is distributed on lineup-tune."""

    effect: float
    """Mean of the score with its sign turned so that A is the faker; negative where the strategy is wrong more often than right."""
    scatter: float
    """Its standard deviation."""
    twins: float
    """Standard deviation of the score on two aligned twins."""


class Scored(ABC, Generic[Options]):
    """A strategy that gives a score, from which its probability follows."""

    scale: ClassVar[Scale]

    def __init__(self, config: Options):
        self.config = config

    def suspect(self, lineup: Lineup) -> float:
        """Probability that A is the faker."""
        return probability(self.score(lineup), self.scale)

    @abstractmethod
    def score(self, lineup: Lineup) -> float:
        """Large if A is the faker; changes its sign when A and B change places. Its unit is the strategy's own."""


def probability(score: float, scale: Scale) -> float:
    """That A is the faker, from a score that is large if it is; either of the two and neither are equally likely beforehand."""
    if not math.isfinite(score):
        return score
    effect = max(scale.effect, LEAST * scale.scatter)
    logs = (
        _log_density(score, effect, scale.scatter),
        _log_density(score, -effect, scale.scatter),
        _log_density(score, 0.0, scale.twins),
    )
    most = max(logs)
    a, b, neither = (math.exp(x - most) for x in logs)
    return (a + neither / 2) / (a + b + neither)


def _log_density(x: float, mean: float, deviation: float) -> float:
    return -0.5 * ((x - mean) / deviation) ** 2 - math.log(deviation)
