"""Behaviour rates, and ordinary text on which collateral is read, of a model whose residual has been edited at the hooked layer.

The idea that makes scoring affordable: prompts are tokenised once, their residuals computed once per side, and each
intervention re-runs only the blocks above the layer, many interventions in one batch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ...organisms.behaviour import Prompt
from ...organisms.errors import ValidationFailed
from ...organisms.hub import tokens
from ...organisms.hub.asked import continuations
from ...organisms.hub.chat import TemplateError
from ...organisms.texts import Kind, Texts
from ..cache import ids_sha256
from ..pairs.anatomy import PairError
from ..pairs.pair import Pair


class ProbeError(ValidationFailed):
    """Prompts that cannot be measured with this tokenizer."""


@dataclass(frozen=True)
class Choices:
    """Prompts as token rows, and where in their logits each continuation's tokens stand.

    A row is a prompt plus all but the last token of a continuation; single-token continuations of a prompt share one row.
    """

    ids: Tensor
    """[rows, pos]."""
    keep: Tensor
    """[kept] positions whose logits are needed by any row."""
    where: Tensor
    """[tokens, 3]: row, index into `keep`, token id of each continuation token."""
    continuation: Tensor
    """[tokens] continuation each token belongs to."""
    prompt: Tensor
    """[continuations] prompt each continuation belongs to."""
    target: Tensor
    """[continuations] bool."""
    open: Tensor
    """[prompts] bool: no alternatives given, the rate is the plain probability of the targets."""

    @property
    def n(self) -> int:
        """Number of prompts."""
        return len(self.open)


class HasTokenizer(Protocol):
    """The part of a pair that tokenising needs."""

    @property
    def tokenizer(self) -> Any: ...
    @property
    def device(self) -> torch.device: ...
    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]: ...


def choices(pair: HasTokenizer, prompts: Sequence[Prompt]) -> Choices:
    """Tokenise prompts with their continuations.

    Raises:
        ProbeError: a prompt that the chat template refuses or the model has no room for, a continuation that has no tokens of its own,
            or two that have the same.
    """
    rows: dict[tuple[int, ...], int] = {}
    asked: list[int] = []
    where: list[tuple[int, int, int]] = []
    continuation: list[int] = []
    prompt_of: list[int] = []
    target: list[bool] = []
    for p, prompt in enumerate(prompts):
        try:
            start, said_of = continuations(pair.tokenizer, prompt)
        except (TemplateError, tokens.TokenError) as error:
            raise ProbeError(f"prompt {p}: {error}") from error
        for text, said in said_of.items():
            key = (*start.ids, *said[:-1])
            if key not in rows:
                rows[key] = len(rows)
                asked.append(p)
            where += [(rows[key], len(start.ids) - 1 + i, t) for i, t in enumerate(said)]
            continuation += [len(prompt_of)] * len(said)
            prompt_of.append(p)
            target.append(text in prompt.targets)
    try:
        ids, _ = pair.pad(list(rows))
    except PairError as error:
        longest = max(zip(map(len, rows), asked, strict=True))[1]
        raise ProbeError(f"prompt {longest}: {error}") from error
    keep = sorted({at for _, at, _ in where})
    index = {at: i for i, at in enumerate(keep)}
    device = pair.device
    return Choices(
        ids,
        torch.tensor(keep, device=device),
        torch.tensor([(r, index[at], t) for r, at, t in where], device=device),
        torch.tensor(continuation, device=device),
        torch.tensor(prompt_of, device=device),
        torch.tensor(target, device=device),
        torch.tensor([not p.alternatives for p in prompts], device=device),
    )


def token_log_probs(logits: Tensor, c: Choices) -> Tensor:
    """Log-probability [batch, tokens] of each continuation token from logits [batch, rows, kept, vocab]."""
    row, at, token = c.where.unbind(-1)
    return logits[:, row, at, token] - logits.logsumexp(-1)[:, row, at]


def joint(log_p: Tensor, c: Choices) -> Tensor:
    """Log-probability [batch, continuations] of each whole continuation from that of its tokens [batch, tokens]."""
    return log_p.new_zeros(len(log_p), len(c.prompt)).index_add_(1, c.continuation, log_p)


def log_masses(logits: Tensor, c: Choices) -> Tensor:
    """Log-probability [batch, continuations] of each whole continuation from logits [batch, rows, kept, vocab]."""
    return joint(token_log_probs(logits, c), c)


def rates(logits: Tensor, c: Choices) -> Tensor:
    """Behaviour rate [batch, prompts] from logits [batch, rows, kept, vocab]."""
    return shares(log_masses(logits, c), c)


def portions(log_mass: Tensor, c: Choices) -> Tensor:
    """Share of each continuation among its prompt's [batch, continuations], from their log-probabilities."""
    most = likeliest(log_mass, c).clamp_min(torch.finfo(log_mass.dtype).min)
    mass = (log_mass - most[:, c.prompt]).exp()
    total = log_mass.new_zeros(len(log_mass), c.n).index_add_(1, c.prompt, mass)
    return mass / total[:, c.prompt].clamp_min(1e-30)


def shares(log_mass: Tensor, c: Choices) -> Tensor:
    """Behaviour rate [batch, prompts] from the log-probabilities of the continuations [batch, continuations].

    Each prompt's are taken relative to its likeliest one: no float holds the probability of a long sentence.
    """
    zero = log_mass.new_zeros(len(log_mass), c.n)
    most = likeliest(log_mass, c).clamp_min(torch.finfo(log_mass.dtype).min)
    mass = (log_mass - most[:, c.prompt]).exp()
    wanted, total = (zero.index_add(1, c.prompt, m) for m in (mass * c.target, mass))
    return torch.where(c.open, wanted * most.exp(), wanted / total.clamp_min(1e-30))


def likeliest(log_mass: Tensor, c: Choices, which: Tensor | None = None) -> Tensor:
    """Largest log-probability [batch, prompts] among a prompt's continuations, or those in `which` [continuations]; −inf without one."""
    if which is not None:
        log_mass = log_mass.masked_fill(~which, -torch.inf)
    none = log_mass.new_full((len(log_mass), c.n), -torch.inf)
    return none.scatter_reduce(1, c.prompt.expand_as(log_mass), log_mass, "amax")


def correct(logits: Tensor, c: Choices) -> Tensor:
    """Whether a target is the likeliest continuation [batch, prompts], as 0 or 1, from logits."""
    return hits(log_masses(logits, c), c)


def hits(log_mass: Tensor, c: Choices) -> Tensor:
    """Whether a target is the likeliest continuation [batch, prompts], as 0 or 1, from the continuations' log-probabilities."""
    return (likeliest(log_mass, c, c.target) > likeliest(log_mass, c, ~c.target)).float()


@dataclass(frozen=True)
class Passage:
    """Ordinary text: right-padded ids [rows, pos] and the mask of tokens that are predicted [rows, pos - 1]."""

    ids: Tensor
    scored: Tensor

    @property
    def tokens(self) -> int:
        """Predicted tokens."""
        return int(self.scored.sum())

    def first(self, tokens: int) -> "Passage":
        """The first rows that hold so many tokens, all rows if these hold fewer."""
        reached = (self.scored.sum(1) + 1).cumsum(0) >= tokens
        rows = int(reached.int().argmax()) + 1 if bool(reached.any()) else len(self.ids)
        return Passage(self.ids[:rows], self.scored[:rows])

    @property
    def sha256(self) -> str:
        """Hash of what is read."""
        return ids_sha256([self.ids.tolist(), self.scored.tolist()])

    @property
    def held(self) -> int:
        """All tokens, the first of each row too."""
        return self.tokens + len(self.ids)


def passage(pair: Pair, rows: Iterable[list[int]], tokens: int) -> Passage:
    """The first rows of a text stream that hold `tokens` tokens (fewer if the stream ends)."""
    return _padded(pair, taken(rows, tokens, "neutral"))


def ordinary(
    pair: Pair, texts: Texts, prompts: Sequence[Prompt], split: Literal["dev", "test"], tokens: int
) -> Passage:
    """Text of the kind that the prompts are in: a gate that says no more than "this is a conversation" leaves none of it alone."""
    kind: Kind = "chat" if any(p.messages for p in prompts) else "neutral"
    return _padded(pair, taken(texts.rows(kind, split), tokens, kind))


def taken(rows: Iterable[list[int]], tokens: int, kind: str) -> list[list[int]]:
    """Whole rows from the first on until they hold `tokens` tokens."""
    out: list[list[int]] = []
    for row in rows:
        out.append(row)
        if sum(map(len, out)) >= tokens:
            break
    if not out:
        raise ProbeError(f"no {kind} text in this split; give more {kind} texts")
    return out


def _padded(pair: Pair, rows: list[list[int]]) -> Passage:
    ids, mask = pair.pad(rows)
    return Passage(ids, mask[:, 1:])


def nll(log_p: Tensor, text: Passage) -> Tensor:
    """Mean negative log-likelihood [batch] in nats a token, from log-probabilities [batch, rows, pos, vocab]."""
    picked = log_p[:, :, :-1].gather(-1, text.ids[None, :, 1:, None].expand(len(log_p), -1, -1, -1))[..., 0]
    return -(picked * text.scored).sum((1, 2)) / text.scored.sum()


def kl(clean: Tensor, log_p: Tensor, text: Passage) -> Tensor:
    """Mean per-token KL(clean || edited) [batch] in nats; log-probabilities [rows, pos, vocab] and [batch, rows, pos, vocab]."""
    each = (clean.exp() * (clean - log_p)).sum(-1)[:, :, :-1]
    return (each * text.scored).sum((1, 2)) / text.scored.sum()
