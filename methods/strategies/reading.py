"""What strategies read of a line-up: the choice between the two answers, and directions at a block."""

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .contract import Lineup, Model, Told

TOLD: tuple[Told, ...] = ("strong", "none")


class AtBlock(BaseModel):
    """Option of strategies that look at one block."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    layer: int | None = Field(default=None, ge=0)
    """Block whose output is read or changed; by default the middle one."""


def block_of(lineup: Lineup, config: AtBlock) -> int:
    """The block that a strategy looks at."""
    return lineup.blocks // 2 if config.layer is None else config.layer


def margins(lineup: Lineup, log_probs: Tensor) -> Tensor:
    """log p(wrong) − log p(right) [..., scenes] of log-probabilities [..., scenes, vocab]."""
    rows = torch.arange(len(lineup.seen))
    wrong = torch.tensor([s.wrong for s in lineup.seen])
    right = torch.tensor([s.right for s in lineup.seen])
    return log_probs[..., rows, wrong] - log_probs[..., rows, right]


def tempted(lineup: Lineup, model: Model, layer: int, add: Tensor, told: Told = "strong") -> Tensor:
    """Of the two answers, the share of probability on the wrong one [n, scenes] with vectors [n, d_model] added."""
    return margins(lineup, lineup.outputs(model, told, layer, add)).sigmoid()


def unwatched(lineup: Lineup, model: Model, layer: int) -> Tensor:
    """[d_model] from being watched to nobody being said to watch: mean residual without that fact minus with it."""
    return lineup.activations(model, layer, "none").mean(0) - lineup.activations(model, layer, "strong").mean(0)


def length(lineup: Lineup, layer: int) -> float:
    """Mean norm of the last token's residual, over both models."""
    return float(torch.cat([lineup.activations(m, layer) for m in ("a", "b")]).norm(dim=1).mean())
