"""The diff problem a method receives: handles on paired residuals, never the organism's name or its test prompts.

Harvested text is read once and counted exactly; both sides run on the same tokens and stop at the hooked layer.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from ..methods.contract import Access, Batch, Budget, Text
from ..organisms.behaviour import Prompt
from ..organisms.texts import Texts
from .pair import Pair
from .probes import encode_prompt

T = TypeVar("T")
ROWS, WINDOW = 64, 512
"""Texts per forward pass, and texts read at a time: a window is sorted by length so that little is spent on padding."""
CONTRASTIVE_NEW_TOKENS = 48
"""Longest answer in contrastive text."""


class AccessError(PermissionError):
    """A method asked for more than its declared access tier."""


class Problem:
    """`methods.contract.DiffProblem` over a `Pair`."""

    def __init__(
        self,
        pair: Pair,
        texts: Texts,
        dev: list[Prompt],
        access: Access,
        seed: int,
        budget: Budget,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ):
        self._pair, self._texts, self._dev, self._access = pair, texts, dev, access
        self.layer, self.d_model, self.device = pair.layer, pair.d_model, str(pair.device)
        self.seed, self.budget, self.tokenizer = seed, budget, pair.tokenizer
        self._on_progress = on_progress
        self.tokens_used = 0
        self.harvest_s = 0.0
        """Wall seconds spent reading and generating text."""

    def progress(self, done: int, total: int) -> None:
        """See `DiffProblem.progress`."""
        self._on_progress(done, total)

    def activations(
        self, text: Text = "neutral", batch_tokens: int = 2048, tokens: int | None = None
    ) -> Iterator[Batch]:
        """See `DiffProblem.activations`; contrastive text needs access `+generations`."""
        left = (
            self.budget.tokens - self.tokens_used
            if tokens is None
            else min(tokens, self.budget.tokens - self.tokens_used)
        )
        if text == "contrastive":
            self._need("+generations", "contrastive text")
            rows = self._contrastive()
        else:
            rows = self._texts.rows(text, "harvest")
        held: list[Batch] = []
        while (left := min(left, self.budget.tokens - self.tokens_used)) > 0 and (
            window := self._timed(partial(_take, rows, WINDOW, left))
        ):
            window.sort(key=len)
            for at in range(0, len(window), ROWS):
                held.append(self._timed(lambda at=at: self._paired(window[at : at + ROWS])))
                left -= len(held[-1].ids)
                self.tokens_used += len(held[-1].ids)
                if sum(len(b.ids) for b in held) >= batch_tokens:
                    merged = _joined(held)
                    whole = len(merged.ids) // batch_tokens * batch_tokens
                    for start in range(0, whole, batch_tokens):
                        yield Batch(*(t[start : start + batch_tokens] for t in merged))
                    held = [Batch(*(t[whole:] for t in merged))] if whole < len(merged.ids) else []
        if held:
            yield _joined(held)

    def labelled(self) -> tuple[Batch, Tensor]:
        """See `DiffProblem.labelled`: assistant tokens of dev prompts (due) and eight times as many of neutral text (not due)."""
        self._need("supervised", "behaviour labels")
        due: list[Batch] = []
        for prompt in self._dev:
            row = encode_prompt(self._pair, prompt)
            start = len(encode_prompt(self._pair, prompt.model_copy(update={"prefill": ""}))) - 1
            due.append(Batch(*(t[start:] for t in self._paired([row]))))
        n = sum(len(b.ids) for b in due)
        rest = list(self.activations("neutral", tokens=8 * n))
        labels = torch.cat([torch.ones(n), torch.zeros(sum(len(b.ids) for b in rest))]).bool()
        return _joined([*due, *rest]), labels

    def _timed(self, work: Callable[[], T]) -> T:
        """`work()`, its wall time added to `harvest_s`."""
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.harvest_s += time.perf_counter() - began

    def _paired(self, rows: list[list[int]]) -> Batch:
        ids, mask = self._pair.pad(rows)
        both = torch.stack([self._pair.residuals(ids, "base"), self._pair.residuals(ids, "tuned")], dim=2)
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return Batch(both[mask], ids[mask], positions[mask])

    def _contrastive(self) -> Iterator[list[int]]:
        """Prompts answered by both sides; each answer becomes a text that both sides read."""
        prompts = self._texts.prompts()
        round_ = 0
        while some := list(islice(prompts, 256)):
            answers = [
                self._pair.generate(some, side, CONTRASTIVE_NEW_TOKENS, seed=100_000 * self.seed + 2 * round_ + i)
                for i, side in enumerate(("base", "tuned"))
            ]
            for prompt, *both in zip(some, *answers, strict=True):
                yield from (prompt + answer for answer in both)
            round_ += 1

    def _need(self, access: str, what: str) -> None:
        if self._access != access and self._access != "anchor":
            raise AccessError(
                f"{what} needs access {access!r}, but this method declares {self._access!r}; declare it in `access`"
            )


def _take(rows: Iterator[list[int]], most: int, tokens: int) -> list[list[int]]:
    """The next rows: at most `most`, at most `tokens` tokens in all (the last row is cut)."""
    out: list[list[int]] = []
    for row in islice(rows, most):
        out.append(row[:tokens])
        tokens -= len(out[-1])
        if tokens <= 0:
            break
    return out


def _joined(batches: list[Batch]) -> Batch:
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
