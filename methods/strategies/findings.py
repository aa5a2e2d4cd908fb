"""What our diffing methods find between the two, turned into a verdict.

A method of ours reads A as base and B as fine-tuned, over all tokens of the scenes. Its findings point from one to the other and say
nothing of which is the faker; so each is added, forth and back, to the residual of both models, and the one that turns further is
suspected.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import Field
from torch import Tensor

from ..contract import Batch, Budget, DiffProblem, Text
from ..registry import load_method
from .belief import Scale, Scored
from .contract import Access, Lineup
from .reading import TOLD, AtBlock, block_of, length, tempted


class FindingsOptions(AtBlock):
    """Options of `findings`."""

    method: str = "pca"
    """A built-in method that needs activations only."""
    settings: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Options of the method."""
    most: int = Field(default=8, ge=1)
    """Findings that are tried."""
    strength: float = Field(default=0.5, gt=0)
    """Length of the added vector, in mean lengths of a residual."""


class Findings(Scored[FindingsOptions]):
    """Directions that a method of ours finds between the two, added both ways to each: which model do they turn?"""

    name = "findings"
    access: Access = "activations"
    cost = "reads all tokens, fits a dictionary"
    Config = FindingsOptions
    scale = Scale(effect=0.0288, scatter=0.0227, twins=0.00575)
    """On lineup-tune."""

    def score(self, lineup: Lineup) -> float:
        """Mean share of the forbidden answer over findings and both ways, A minus B."""
        layer = block_of(lineup, self.config)
        entry = load_method(self.config.method)
        problem = cast(DiffProblem, Between(lineup, layer))
        found = entry.run(entry.configure(self.config.settings), problem).findings[: self.config.most]
        rows = torch.stack([f.direction for f in found])
        steps = self.config.strength * length(lineup, layer) * torch.nn.functional.normalize(rows, dim=1)
        a, b = (float(tempted(lineup, m, layer, torch.cat([steps, -steps])).mean()) for m in ("a", "b"))
        return a - b


class Between:
    """A diff problem of the two models of a line-up: A is the base, B the fine-tuned one, the scenes are the only text."""

    scratch: Path | None = None

    def __init__(self, lineup: Lineup, layer: int):
        self._lineup, self.layer, self.d_model = lineup, layer, lineup.d_model
        self.seed, self.device, self.tokenizer, self.budget = lineup.seed, "cpu", lineup.tokenizer, Budget()

    def activations(
        self, text: Text = "neutral", batch_tokens: int = 2048, tokens: int | None = None, start: int | None = None
    ) -> Iterator[Batch]:
        """Both tellings of every scene, whatever text is asked for."""
        both, ids, positions = self._all()
        rows = slice(start or 0, None if tokens is None else (start or 0) + tokens)
        for some in torch.arange(len(ids))[rows].split(batch_tokens):
            yield Batch(both[some], ids[some], positions[some])

    def _all(self) -> tuple[Tensor, Tensor, Tensor]:
        models = [torch.cat([self._lineup.activations(m, self.layer, t, last=False) for t in TOLD]) for m in ("a", "b")]
        rows = [s.strong if told == "strong" else s.none for told in TOLD for s in self._lineup.seen]
        ids = torch.tensor([i for row in rows for i in row])
        return torch.stack(models, 1), ids, torch.cat([torch.arange(len(row)) for row in rows])

    def progress(self, done: int, total: int) -> None:
        """Nobody waits for it."""
