"""Scores of an explanation by the base model itself: how well it predicts a text after the explanation, and how near the two lie.

Neither needs an endpoint. The base reads the explanation as it reads any text; where its vocabulary lacks most of the words, it cannot.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..pairs.pair import Pair
from .contexts import Window, rng_of
from .ngrams import Explanation

ROWS = 32
"""Windows a pass."""
GENERIC = 3
"""Generic beginnings that a loss is compared with."""
MOST_UNKNOWN = 0.5
"""Share of words that the base may lack."""


def as_tokens(explanation: Explanation, tokenizer: Any) -> tuple[list[int], float]:
    """An explanation as the base reads it, and the share of its tokens that the base lacks."""
    if explanation.is_rule:
        return [i for t in (*explanation.contexts, *explanation.tokens) for i in t.ids], 0.0
    ids = list(tokenizer(explanation.text, add_special_tokens=False)["input_ids"])
    unknown = 0.0 if tokenizer.unk_token_id is None else ids.count(tokenizer.unk_token_id) / max(1, len(ids))
    return ids, unknown


class BaseReader:
    """Reads windows as the base does.

    Args:
        ordinary: windows that are not active, which a loss and a nearness are measured from.
        seed: of the generic beginnings.
    """

    def __init__(self, pair: Pair, ordinary: Sequence[Window], seed: int):
        self.pair, self.seed = pair, seed
        self._text = [i for w in ordinary for i in w.ids]
        self._centre = self._means([list(w.ids) for w in ordinary]).mean(0)

    def surprisal(self, explanation: Sequence[int], windows: Sequence[Window]) -> list[float]:
        """How much a window's loss (nats a token) drops after an explanation, against equally long generic text."""
        n, generic = len(explanation), list[Tensor]()
        if not windows:
            return []
        for draw in range(GENERIC):
            start = int(rng_of("generic", self.seed, draw, n).integers(max(1, len(self._text) - n + 1)))
            generic.append(self._losses(self._text[start : start + n], windows))
        return (torch.stack(generic).mean(0) - self._losses(explanation, windows)).tolist()

    def nearness(self, explanation: Sequence[int], windows: Sequence[Window]) -> list[float]:
        """Cosine of an explanation and each window, as mean residuals at the hooked layer, from the mean of ordinary windows."""
        said, texts = self._means([list(explanation)]) - self._centre, self.vectors(windows)
        return torch.cosine_similarity(said, texts).tolist()

    def vectors(self, windows: Sequence[Window]) -> Tensor:
        """[windows, d_model] mean residuals, from the mean of ordinary windows."""
        return self._means([list(w.ids) for w in windows]) - self._centre

    def _means(self, rows: Sequence[list[int]]) -> Tensor:
        """[rows, d_model] mean over a row's tokens, what begins every text set before it and left out."""
        start, out = self._start, list[Tensor]()
        for at in range(0, len(rows), ROWS):
            ids, mask = self.pair.pad([start + row for row in rows[at : at + ROWS]])
            mask[:, : len(start)] = False
            h = self.pair.residuals(ids, "base")
            out.append((h * mask[..., None]).sum(1).cpu() / mask.sum(1, keepdim=True).clamp_min(1).cpu())
        return torch.cat(out)

    @torch.inference_mode()
    def _losses(self, before: Sequence[int], windows: Sequence[Window]) -> Tensor:
        """[windows] mean loss of each window's tokens after some others, in nats; every window is read by itself."""
        start, out = [*self._start, *before], list[Tensor]()
        for at in range(0, len(windows), ROWS):
            some = windows[at : at + ROWS]
            ids, mask = self.pair.pad([[*start, *w.ids] for w in some])
            mask[:, : max(1, len(start))] = False
            logits = self.pair.logits(ids, "base")[:, :-1]
            loss = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none") * mask[:, 1:]
            out.append(loss.sum(1).cpu() / mask[:, 1:].sum(1).clamp_min(1).cpu())
        return torch.cat(out)

    @property
    def _start(self) -> list[int]:
        begin = self.pair.tokenizer.bos_token_id
        return [] if begin is None else [int(begin)]
