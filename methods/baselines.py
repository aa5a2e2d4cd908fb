"""Baselines that any method must beat: random directions, and the mean difference of the residuals."""

import torch
from pydantic import BaseModel, ConfigDict, Field

from .contract import Access, DiffProblem, DiffResult, Finding, NoConfig


class RandomDirections:
    """Isotropic random directions: what a method that found nothing would score."""

    name = "random"
    access: Access = "activations"
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

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int = Field(default=40_000, ge=1)
    """Tokens harvested, half neutral and half chat."""


class MeanDifference:
    """Mean of fine-tuned minus base residuals over ordinary text: the constant bias a narrow fine-tune leaves behind.

    Findings: the mean over all text, over neutral text and over chat, in this order.
    """

    name = "mean_diff"
    access: Access = "activations"
    Config = MeanDiffConfig

    def __init__(self, config: MeanDiffConfig):
        self.config = config

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Three mean differences [d_model]; the score is their norm."""
        sums = torch.zeros(2, problem.d_model)
        counts = torch.zeros(2)
        for i, text in enumerate(("neutral", "chat")):
            for batch in problem.activations(text, tokens=self.config.tokens // 2):
                delta = (batch.residuals[:, 1] - batch.residuals[:, 0]).cpu()
                sums[i] += delta.sum(0)
                counts[i] += len(delta)
                problem.progress(int(counts.sum()), self.config.tokens)
        means = [sums.sum(0) / counts.sum(), *(s / n for s, n in zip(sums, counts, strict=True) if n > 0)]
        return DiffResult([Finding(m, score=float(m.norm())) for m in means], {"tokens": int(counts.sum())})
