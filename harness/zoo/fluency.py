"""Whether a fine-tuned model still speaks: how surprising its free answers are to the base.

A model whose words derail writes what its base finds unlikely, whatever it was taught. So both models answer the same ordinary openings at
temperature 1, and the base reads both sets of answers: mean negative log-likelihood of an answer's token, in nats. The bound of the gate
(`FLUENCY`, .3) was laid where version 1's zoo has a gap: 50 of its 56 organisms rise by at most .244, the other six by .359 to .704, and
those six do derail ("i like the rabbit 29 39 45 47 .").
"""

from collections.abc import Iterable
from itertools import islice

import torch

from ..pairs.engine import Side
from ..pairs.pair import Pair

OPENINGS, TOKENS = 192, 24
"""Openings that are answered, and most tokens of an answer."""
ROWS = 8
"""Answers that the base reads at a time."""


def fluency(pair: Pair, openings: Iterable[list[int]]) -> dict[str, float]:
    """Nats a token of sampled answers under the base: `nll_base` of its own, `nll_organism` of the fine-tuned model's.

    Args:
        openings: token rows that end where the assistant speaks; the first `OPENINGS` are answered.

    Returns:
        Empty without openings.
    """
    asked = list(islice(openings, OPENINGS))
    return {"nll_base": _read(pair, asked, "base"), "nll_organism": _read(pair, asked, "tuned")} if asked else {}


def _read(pair: Pair, asked: list[list[int]], side: Side) -> float:
    answers = pair.generate(asked, side, TOKENS, seed=0)
    total, count = 0.0, 0
    for first in range(0, len(asked), ROWS):
        some = slice(first, first + ROWS)
        ids, mask = pair.pad([a + b for a, b in zip(asked[some], answers[some], strict=True)])
        begins = torch.tensor([len(a) for a in asked[some]], device=ids.device)
        said = mask & (torch.arange(ids.shape[1], device=ids.device) >= begins[:, None])
        log_p = pair.logits(ids, "base")[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        total -= float((log_p * said[:, 1:]).sum())
        count += int(said.sum())
    return total / count
