"""Baselines that any method must beat: random directions, and the mean difference of the residuals."""

import torch
from pydantic import BaseModel, ConfigDict, Field

from .contract import Access, DiffProblem, DiffResult, Finding, NoConfig
from .differences import Pass, delta


class RandomDirections:
    """Isotropic random directions: what a method that found nothing would score."""

    name = "random"
    access: Access = "activations"
    cost: str = "none"
    Config = NoConfig

    def __init__(self, config: NoConfig):
        self.config = config

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Sixteen unit directions from `problem.seed`."""
        generator = torch.Generator().manual_seed(problem.seed)
        rows = torch.randn(16, problem.d_model, generator=generator)
        return DiffResult([Finding(r / r.norm()) for r in rows])


class MeanDiffConfig(BaseModel):
    """Options of `mean_diff`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tokens: int = Field(default=40_000, ge=1)
    """Tokens harvested, half neutral and half chat."""


class MeanDifference:
    """Mean of fine-tuned minus base residuals over ordinary text: the constant bias a narrow fine-tune leaves behind.

    Findings: the mean over all text, over neutral text and over chat, in this order.
    """

    name = "mean_diff"
    access: Access = "activations"
    cost: str = "reads 40,000 tokens"
    stochastic: bool = False
    Config = MeanDiffConfig

    def __init__(self, config: MeanDiffConfig):
        self.config = config

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Three mean differences [d_model]; the score is their norm."""
        reading = Pass(problem, self.config.tokens)
        sums = {text: torch.zeros(problem.d_model, dtype=torch.float64) for text in reading.tokens}
        for text, batch in reading.activations():
            sums[text] += delta(batch).sum(0).cpu()
        means = [s / reading.tokens[text] for text, s in sums.items() if reading.tokens[text]]
        means.insert(0, sum(sums.values(), torch.zeros(problem.d_model)) / reading.total)
        return DiffResult([Finding(m.float(), score=float(m.norm())) for m in means], reading.facts())
