"""`contrastive`: what the difference of two models writes when it is let speak, after contrastive decoding (CDD, arXiv 2605.25902).

Beginnings that say little (a few tokens of ordinary text) are continued from logits tuned + a·(tuned − base), and once more from the
base's own (a = −1). A word that many of the first texts hold and few of the second is informative. The paper lets a language model read
the texts; here words are counted, and one is claimed only if the two counts differ by more than chance would have it.
"""

import math
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from ..contract import Access, DiffProblem, DiffResult, Text
from ..differences import nothing
from .words import claim, word_of

TEXTS: tuple[Text, ...] = ("chat", "neutral")
SHOWN = 3
"""Continuations kept in the diagnostics."""


class ContrastiveConfig(BaseModel):
    """Options of `contrastive`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    beginnings: int = Field(default=48, ge=2, le=256)
    """Beginnings that are continued, half chat and half neutral text."""
    prefix_tokens: int = Field(default=4, ge=1, le=64)
    """Tokens of a beginning: few, so that it asks for nothing."""
    new_tokens: int = Field(default=32, ge=1, le=128)
    """Tokens of a continuation."""
    amplify: float = Field(default=2.0, ge=0)
    """a: 0 is the fine-tuned model itself. The published strength is not known to us."""
    plausible: float = Field(default=0.05, gt=0, le=1)
    """Only tokens that the fine-tuned model holds at least so probable, as a share of its likeliest."""
    words: int = Field(default=5, ge=1)
    """Most words of the claim."""
    least: float = Field(default=3.0, ge=0)
    """A word is claimed if its counts differ by so many standard errors."""


class ContrastiveDecoding:
    """What the amplified difference of the two models writes after vague beginnings: its informative words."""

    name: str = "contrastive"
    access: Access = "+generations"
    paper: str = "arXiv 2605.25902 (CDD)"
    cost: str = "writes 2 × 48 continuations of 32 tokens with both whole models"
    stochastic: bool = True
    Config: type[BaseModel] = ContrastiveConfig

    def __init__(self, config: ContrastiveConfig | None = None) -> None:
        self.config = config or ContrastiveConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """One claim of the words that tell the two sets of texts apart, or none; no direction."""
        c, rows = self.config, beginnings(problem, self.config.beginnings, self.config.prefix_tokens)
        amplified = problem.contrast(rows, c.new_tokens, c.amplify, c.plausible)
        problem.progress(1, 2)
        plain = problem.contrast(rows, c.new_tokens, -1.0, c.plausible)
        problem.progress(2, 2)
        scores = apart(words_of(problem, amplified), words_of(problem, plain), len(rows))
        best = [(word, z) for word, z in scores if z >= c.least][: c.words]
        facts = {
            "beginnings": len(rows),
            "words": [{"word": word, "z": z} for word, z in scores[: 2 * c.words]],
            "written": [
                problem.tokenizer.decode([*row, *more]) for row, more in list(zip(rows, amplified, strict=True))[:SHOWN]
            ],
        }
        silent = nothing(problem.d_model, "this method says what it finds in words")
        return DiffResult(silent, facts, claims=[claim(word for word, _ in best)] if best else [])


def beginnings(problem: DiffProblem, wanted: int, length: int) -> list[list[int]]:
    """The first tokens of distinct ordinary texts; of fewer texts if there are no more."""
    start = problem.tokenizer.bos_token_id
    found: dict[tuple[int, ...], None] = {}
    for text in TEXTS:
        mine, row = dict[tuple[int, ...], None](), list[int]()
        for batch in problem.activations(text, tokens=wanted * 40):
            last = -1
            for token, position in zip(batch.ids.tolist(), batch.positions.tolist(), strict=True):
                row = [] if position <= last or position == 0 else row
                last = position
                row.append(token)
                if len(row) == length:
                    first = () if start is None or row[0] == start else (start,)
                    mine[(*first, *row)] = None
            if len(mine) >= wanted // len(TEXTS):
                break
        found |= dict.fromkeys(list(mine)[: wanted // len(TEXTS)])
    return [list(row) for row in found]


def words_of(problem: DiffProblem, rows: Sequence[Sequence[int]]) -> Counter[str]:
    """In how many rows each word stands."""
    known = {t: word_of(problem.tokenizer, t) for t in {t for row in rows for t in row}}
    return Counter(word for row in rows for word in {known[t] for t in row} if word is not None)


def apart(ours: Counter[str], others: Counter[str], rows: int) -> list[tuple[str, float]]:
    """Words by z = log odds ratio over its standard error, half a row added to every count; the largest first, ties by name."""
    scores = list[tuple[str, float]]()
    for word in ours:
        counts = (ours[word] + 0.5, rows - ours[word] + 0.5, others[word] + 0.5, rows - others[word] + 0.5)
        a, b, c, d = counts
        scores.append((word, math.log(a * d / (b * c)) / math.sqrt(sum(1 / n for n in counts))))
    return sorted(scores, key=lambda s: (-s[1], s[0]))
