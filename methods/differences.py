"""One checked pass over paired residuals: what the linear and reading methods share.

A `Pass` splits the token budget evenly over its texts, refuses what is not finite, stops when the wall clock of the
budget has run out, and remembers what was read, so that a method is left with its own arithmetic. Sums are kept in fp64.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from .contract import Batch, DiffProblem, Finding, Outputs, Text

T = TypeVar("T", Batch, Outputs)


class ActivationError(ValueError):
    """A method cannot work with the activations it was given; the message gives fact, cause and fix."""


class Pass:
    """One reading of `tokens` tokens, the same share from each text.

    Args:
        problem: what is diffed.
        tokens: distinct tokens to harvest over all texts; the budget if that is less.
        texts: read in this order.
    """

    def __init__(self, problem: DiffProblem, tokens: int, texts: Sequence[Text] = ("neutral", "chat")):
        self._problem, self._texts = problem, texts
        self._wanted = min(tokens, problem.budget.tokens)
        self._deadline = time.monotonic() + problem.budget.seconds
        self.tokens: dict[str, int] = dict.fromkeys(texts, 0)
        """Tokens read of each text."""
        self.budget_exhausted = False
        """True if the wall clock stopped the method."""

    @property
    def total(self) -> int:
        """Tokens read."""
        return sum(self.tokens.values())

    def facts(self) -> dict[str, Any]:
        """For `DiffResult.diagnostics`."""
        return {"tokens": self.total, "harvest_tokens": self.tokens, "budget_exhausted": self.budget_exhausted}

    def late(self) -> bool:
        """Whether the wall clock of the budget has run out; remembered in `budget_exhausted`."""
        self.budget_exhausted = self.budget_exhausted or time.monotonic() > self._deadline
        return self.budget_exhausted

    def activations(self) -> Iterator[tuple[Text, Batch]]:
        """(text, residuals).

        Raises:
            ActivationError: NaN or infinity, or no token at all.
        """
        return self._read(self._problem.activations, lambda batch: batch)

    def outputs(self) -> Iterator[tuple[Text, Outputs]]:
        """(text, logits and residuals); raises as `activations`."""
        return self._read(self._problem.outputs, lambda outputs: outputs.batch)

    def _read(self, source: Callable[..., Iterator[T]], batch_of: Callable[[T], Batch]) -> Iterator[tuple[Text, T]]:
        for text in self._texts:
            for item in source(text, tokens=self._wanted // len(self._texts)):
                check_finite(batch_of(item).residuals)
                self.tokens[text] += len(batch_of(item).ids)
                self._problem.progress(self.total, self._wanted)
                yield text, item
                if self.late():
                    return
        if not self.total:
            raise ActivationError(
                f"no token was harvested of {' or '.join(self._texts)} text: {self._wanted} tokens were asked for; "
                "raise the token budget or give more text"
            )


def check_finite(values: Tensor, what: str = "activations", where: str = "at the hooked layer") -> None:
    """Raises ActivationError if a number is NaN or infinite."""
    if not torch.isfinite(values).all():
        raise ActivationError(
            f"{what} contain NaN or infinity: one of the two models overflowed {where}; "
            "run the models in fp32 (or bf16 instead of fp16) and check the adapter"
        )


def delta(batch: Batch) -> Tensor:
    """Fine-tuned minus base [tokens, d_model], fp64."""
    residuals = batch.residuals.double()
    return residuals[:, 1] - residuals[:, 0]


def oriented(rows_Kd: Tensor, along_d: Tensor) -> Tensor:
    """Rows whose sign makes their product with `along_d` positive; if it is 0, their largest coordinate."""
    peak_K = rows_Kd.gather(1, rows_Kd.abs().argmax(1, keepdim=True))[:, 0]
    along_K = rows_Kd @ along_d
    return rows_Kd * torch.where(along_K != 0, along_K, peak_K).sign()[:, None]


def nothing(d_model: int, note: str) -> list[Finding]:
    """The one zero finding of a method that found nothing, with the reason."""
    return [Finding(torch.zeros(d_model), evidence={"note": note})]
