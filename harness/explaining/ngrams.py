"""An explainer without a language model: the tokens and n-grams that set a finding's contexts apart, and their use as a classifier.

What is set apart is decided by log-odds with an informative prior (Monroe, Colaresi & Quinn 2008, "Fightin' Words", eq. 16 and 22), here
of windows that hold an n-gram and windows that do not: a rare one needs more evidence than its ratio. Such an explanation is at once a
rule, so detection, fuzzing and simulation by it need nobody to read it, and are exact.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..inspection.activations import spelled
from .contexts import Half, Window, wrong_marks

LONGEST = 3
"""Tokens of an n-gram."""
MOST = 8
"""Of each kind that an explanation names."""
PRIOR = 2.0
"""Windows that the prior is worth."""
LEVEL = 1.96
"""Standard errors from which a difference counts."""
AT_LEAST = 2
"""Active windows that an n-gram has to stand in."""


@dataclass(frozen=True)
class Term:
    """A token or n-gram, and what it says."""

    ids: tuple[int, ...]
    text: str
    weight: float
    """Of an n-gram: log-odds of its window being active. Of a token: its mean activation."""


@dataclass(frozen=True)
class Explanation:
    """Words, and where they were made without a language model the rule that they stand for."""

    text: str
    contexts: tuple[Term, ...] = ()
    tokens: tuple[Term, ...] = ()
    level: float = 0.0
    """A window is said to be active where its n-grams' weights sum to more."""
    mark_level: float = 0.0
    """Marks are said to be right where the mean weight of the marked tokens is more."""

    @property
    def is_rule(self) -> bool:
        """Whether it can be applied by itself."""
        return bool(self.contexts or self.tokens)


def explained(half: Half, tokenizer: Any, seed: int) -> Explanation:
    """What sets the active windows of a half apart from the others, the thresholds chosen on the same half."""
    contexts = _contexts(half, tokenizer)
    tokens = _tokens(half, tokenizer)
    rule = Explanation(_said(contexts, tokens), contexts, tokens)
    right = [marked(rule, w, w.marks) for w in half.active]
    wrong = [marked(rule, w, wrong_marks(w, seed)) for w in half.active]
    level = _cut([held(rule, w.ids) for w in half.active], [held(rule, w.ids) for w in half.other])
    return Explanation(rule.text, contexts, tokens, level, _cut(right, wrong))


def held(rule: Explanation, ids: Sequence[int]) -> float:
    """Sum of the weights of the n-grams that a text holds, each once."""
    there = set(ngrams(ids))
    return sum(t.weight for t in rule.contexts if t.ids in there)


def marked(rule: Explanation, window: Window, marks: Sequence[int]) -> float:
    """Mean weight of the marked tokens; 0 without marks."""
    weight = {t.ids[0]: t.weight for t in rule.tokens}
    return sum(weight.get(window.ids[i], 0.0) for i in marks) / max(1, len(marks))


def simulated(rule: Explanation, ids: Sequence[int]) -> list[float]:
    """The activation that the rule says of each token."""
    weight = {t.ids[0]: t.weight for t in rule.tokens}
    return [weight.get(i, 0.0) for i in ids]


def ngrams(ids: Sequence[int]) -> Iterable[tuple[int, ...]]:
    """All n-grams of a text, with repetitions."""
    for n in range(1, LONGEST + 1):
        for i in range(len(ids) - n + 1):
            yield tuple(ids[i : i + n])


def log_odds(with_: int, of: int, others: int, of_others: int) -> tuple[float, float]:
    """Log-odds ratio of holding something, and its z-score; the prior is the pooled rate.

    Args:
        with_, of: windows that hold it, among the active ones.
        others, of_others: the same among the others.
    """
    rate = (with_ + others) / (of + of_others)
    yes, no = PRIOR * rate, PRIOR * (1 - rate)
    a, b, c, d = with_ + yes, of - with_ + no, others + yes, of_others - others + no
    if min(a, b, c, d) <= 0:  # in all windows or in none
        return 0.0, 0.0
    delta = math.log(a / b) - math.log(c / d)
    return delta, delta / math.sqrt(1 / a + 1 / c)


def _contexts(half: Half, tokenizer: Any) -> tuple[Term, ...]:
    """N-grams by evidence; one that holds another, or is held by it, stands for both."""
    ours = Counter(g for w in half.active for g in set(ngrams(w.ids)))
    theirs = Counter(g for w in half.other for g in set(ngrams(w.ids)))
    found = list[tuple[float, float, tuple[int, ...]]]()
    for gram, count in ours.items():
        delta, z = log_odds(count, len(half.active), theirs[gram], len(half.other))
        if count >= AT_LEAST and z > LEVEL:
            found.append((z, delta, gram))
    kept = list[Term]()
    for _, delta, gram in sorted(found, key=lambda f: (-f[0], len(f[2]), f[2])):
        if len(kept) == MOST:
            break
        if not any(_holds(t.ids, gram) or _holds(gram, t.ids) for t in kept):
            kept.append(Term(gram, "".join(spelled(tokenizer, gram)).strip(), delta))
    return tuple(kept)


def _tokens(half: Half, tokenizer: Any) -> tuple[Term, ...]:
    """Tokens on which it is active more often than on others, by evidence, with their mean activation."""
    at, active, total = Counter[int](), Counter[int](), Counter[int]()
    for w in (*half.active, *half.other):
        for i, v in zip(w.ids, w.values, strict=True):
            at[i] += 1
            active[i] += v > 0
            total[i] += max(0.0, v)  # pyright: ignore[reportArgumentType]
    n, m = active.total(), at.total() - active.total()
    scored = [(log_odds(active[i], n, at[i] - active[i], m)[1], i) for i in active if active[i] >= AT_LEAST]
    best = sorted((s for s in scored if s[0] > LEVEL), key=lambda s: (-s[0], s[1]))[:MOST]
    return tuple(Term((i,), "".join(spelled(tokenizer, [i])).strip(), total[i] / at[i]) for _, i in best)


def _said(contexts: Sequence[Term], tokens: Sequence[Term]) -> str:
    parts = [
        f"{what} {', '.join(f'“{t.text}”' for t in some)}"
        for what, some in (("active on", tokens), ("in texts with", contexts))
        if some
    ]
    return "; ".join(parts) or "no token and no n-gram is more frequent there than elsewhere"


def _cut(active: Sequence[float], other: Sequence[float]) -> float:
    """The level that tells two lists apart best (mean of both shares), half-way between neighbours."""
    values = sorted({*active, *other})
    levels = [(a + b) / 2 for a, b in pairwise(values)] or [0.0]

    def right(level: float) -> float:
        yes = sum(v > level for v in active) / max(1, len(active))
        return yes + sum(v <= level for v in other) / max(1, len(other))

    return max(levels, key=right)


def _holds(long: Sequence[int], short: Sequence[int]) -> bool:
    return any(tuple(long[i : i + len(short)]) == tuple(short) for i in range(len(long) - len(short) + 1))
