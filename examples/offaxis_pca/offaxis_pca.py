"""Off-axis PCA: the principal directions of the change that lie outside what the base itself varies in.

1. Read chat through both models: the base's residual b and the change c = fine-tuned − base at every token.
2. Take the base's first components away from every change: c ← c − U Uᵀ c, U the leading eigenvectors of the covariance of b.
3. The findings are the leading eigenvectors of E[c cᵀ], turned to point along the mean change.

The thought: a fine-tuned model also says everything it could say before, a little more or a little less of it. What is new is more
easily seen where the base had nothing to say. It costs one pass over the text and two eigendecompositions of [d_model, d_model].
"""

import torch
from diffbench.methods.contract import Access, DiffProblem, DiffResult, Finding
from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """Every field is an option: `--set offaxis_pca.tokens=10000`; the text under it is its help."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tokens: int = Field(default=20_000, ge=1)
    """Tokens of chat that are read."""
    skip: int = Field(default=1, ge=0)
    """First positions of each text left out; the very first one is an attention sink."""
    base_components: int = Field(default=8, ge=0)
    """Principal components of the base that are taken away from the change; at most half of d_model."""
    findings: int = Field(default=4, ge=1, le=16)
    """Directions returned."""


class OffaxisPca:
    """Principal directions of the change over chat, without the base's own first components."""

    name = "offaxis_pca"
    access: Access = "activations"
    paper = ""
    cost = "reads 20,000 tokens, two eigendecompositions"
    stochastic = False
    Config = Options

    def __init__(self, config: Options) -> None:
        self.config = config

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Findings [d_model] of one standard deviation each; their score is the share of the change that they explain."""
        d, n = problem.d_model, 0
        sums = torch.zeros(2, d, dtype=torch.float64)
        moments = torch.zeros(2, d, d, dtype=torch.float64)  # of the base, and of the change
        for batch in problem.activations("chat", tokens=self.config.tokens):
            base, tuned = batch.residuals[batch.positions >= self.config.skip].cpu().double().unbind(1)
            for i, rows in enumerate((base, tuned - base)):
                sums[i] += rows.sum(0)
                moments[i] += rows.T @ rows
            n += len(base)
            problem.progress(n, self.config.tokens)
        (base_mean, change_mean), (base_moment, change_moment) = sums / max(n, 1), moments / max(n, 1)
        own = torch.linalg.eigh(base_moment - torch.outer(base_mean, base_mean)).eigenvectors
        own = own[:, d - min(self.config.base_components, d // 2) :]
        off = torch.eye(d, dtype=torch.float64) - own @ own.T
        variances, axes = torch.linalg.eigh(off @ change_moment @ off)
        variances, axes = variances.flip(0).clamp_min(0), axes.flip(1)
        whole = float(change_moment.trace())
        found = [
            Finding(
                (axis * variance.sqrt() * (-1 if axis @ change_mean < 0 else 1)).float(),
                score=float(variance) / whole if whole else 0.0,
            )
            for variance, axis in zip(variances[: self.config.findings], axes.T, strict=False)
        ]
        kept = float((off @ change_moment @ off).trace()) / whole if whole else 0.0
        return DiffResult(found, diagnostics={"tokens": n, "share_of_change_kept": kept})
