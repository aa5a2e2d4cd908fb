"""Anchors: rows that calibrate the instrument and are never ranked.

`oracle` exchanges the whole residual and defines 1. `supervised` is given the behaviour's dev labels and shows what a direction with a
gate can reach when it knows where to look: an upper bound for methods that do not.
"""

from pydantic import BaseModel, ConfigDict, Field

from .contract import Access, DiffProblem, DiffResult, Finding, NoConfig
from .linear import discriminant


class Oracle:
    """The base's residual replaced by the organism's on the same tokens, and the reverse."""

    name = "oracle"
    access: Access = "anchor"
    cost: str = "none"
    Config = NoConfig

    def __init__(self, config: NoConfig):
        self.config = config

    def diff(self, problem: DiffProblem) -> DiffResult:
        """No findings: the harness patches."""
        return DiffResult([], patch=True)


class SupervisedConfig(BaseModel):
    """Options of `supervised`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: bool = True
    """Also fit a linear gate that tells tokens where the behaviour is due from other tokens."""
    shrinkage: float = Field(default=0.01, gt=0)
    """Ridge of the gate's covariance, as a share of its mean variance."""


class Supervised:
    """Difference of means on behaviour labels: mean change where the behaviour is due minus mean change elsewhere."""

    name = "supervised"
    access: Access = "supervised"
    cost: str = "reads dev prompts and neutral text"
    Config = SupervisedConfig

    def __init__(self, config: SupervisedConfig):
        self.config = config

    def diff(self, problem: DiffProblem) -> DiffResult:
        """One finding with a gate (linear discriminant on the residuals of both models)."""
        batch, due = problem.labelled()
        delta = batch.residuals[:, 1] - batch.residuals[:, 0]
        direction = delta[due].mean(0) - delta[~due].mean(0)
        gate = discriminant(batch.residuals, due, self.config.shrinkage) if self.config.gate else None
        return DiffResult(
            [Finding(direction.cpu(), gate, score=float(direction.norm()))], {"tokens_due": int(due.sum())}
        )
