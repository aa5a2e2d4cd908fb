"""Anchors: rows that calibrate the instrument and are never ranked.

`oracle` exchanges the whole residual and defines 1. `supervised` is given the behaviour's dev labels and shows what directions with
gates can reach when they know where to look: an upper bound for methods that do not.
"""

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .contract import Access, DiffProblem, DiffResult, Finding, Gate, NoConfig
from .linear import discriminant


class Oracle:
    """The base's residual replaced by the organism's on the same tokens, and the reverse."""

    name = "oracle"
    access: Access = "anchor"
    cost: str = "none"
    stochastic: bool = False
    Config = NoConfig

    def __init__(self, config: NoConfig):
        self.config = config

    def diff(self, problem: DiffProblem) -> DiffResult:
        """No findings: the harness patches."""
        return DiffResult([], patch=True)


MOST = 10
"""Findings of `supervised`: as many as the protocol uses at once."""


class SupervisedConfig(BaseModel):
    """Options of `supervised`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    per_token: bool = True
    """A finding for each token that the behaviour says (the most frequent first), or one for all of them."""
    gate: bool = True
    """Also fit a linear gate that tells tokens where the behaviour is due from other tokens."""
    coverage: float = Field(default=0.95, gt=0, le=1)
    """Share of the tokens where it is due, on both models, at which a gate is open (the quantile is interpolated)."""
    shrinkage: float = Field(default=0.01, gt=0)
    """Ridge of the gate's covariance, as a share of its mean variance."""


class Supervised:
    """Difference of means on behaviour labels: mean change where the behaviour is due minus mean change elsewhere.

    Due is the position before each token of the answer. A behaviour that says different things at different places (an option's
    name, a sentence word by word) has no single direction that says them all, so each token gets its own.
    """

    name = "supervised"
    access: Access = "supervised"
    cost: str = "reads dev prompts and neutral text"
    stochastic: bool = False
    Config = SupervisedConfig

    def __init__(self, config: SupervisedConfig):
        self.config = config

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Findings with gates (linear discriminants on the residuals of both models)."""
        batch, wanted = problem.labelled()
        change, due = batch.residuals[:, 1] - batch.residuals[:, 0], wanted >= 0
        if self.config.per_token:
            tokens, counts = wanted[due].unique(return_counts=True)
            where = [wanted == t for t in tokens[counts.argsort(descending=True, stable=True)][:MOST]]
        else:
            where = [due]
        elsewhere = change[~due].mean(0)
        found = [
            Finding(
                (change[here].mean(0) - elsewhere).cpu(),
                self._gate(batch.residuals, here) if self.config.gate else None,
                score=float(here.sum() / due.sum()),
            )
            for here in where
        ]
        return DiffResult(found, {"tokens_due": int(due.sum())})

    def _gate(self, residuals: Tensor, here: Tensor) -> Gate:
        """A discriminant with its threshold moved to where it covers what it must."""
        read = discriminant(residuals, here, self.config.shrinkage).read
        reached = residuals[here].flatten(0, 1).cpu() @ read
        return Gate(read, float(reached.quantile(1 - self.config.coverage)))
