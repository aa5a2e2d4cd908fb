"""`token_topics`: what the fine-tuned model says more often, as topics, after Diff Mining (arXiv 2608.26462).

V [places, tokens] holds how far each next token was raised; V ≈ W·H with W, H ≥ 0 and few topics, each a list of tokens that rise
together. A factorisation depends on its start and always finds something, so several starts are made, the one with the least error is
kept, and a topic is claimed only if each half of the texts, factorised by itself, has it too.
"""

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import normalize

from ..contract import MAX_CLAIMS, Access, DiffProblem, DiffResult
from ..differences import Pass, check_finite, nothing
from .words import claim, ranked, word_of

TINY = 1e-12


class TopicsConfig(BaseModel):
    """Options of `token_topics`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tokens: int = Field(default=6000, ge=1)
    """Tokens read, half neutral and half chat (published: 8,192 texts of 64 tokens)."""
    weight: str = Field(default="kl", pattern="^(kl|logit)$")
    """What V holds. logit: by how much the logit rose, for the `top` most risen tokens of a place (published). kl: the rise of the
    log-probability times the fine-tuned probability, in nats: on a small vocabulary rises alone list words that nobody expects."""
    top: int = Field(default=100, ge=1)
    """Tokens of a place that are kept."""
    columns: int = Field(default=2048, ge=2)
    """Tokens of V: those that rose most over all places."""
    topics: int = Field(default=3, ge=1, le=MAX_CLAIMS)
    """Topics (published: 3)."""
    steps: int = Field(default=200, ge=1)
    """Multiplicative updates (published: 200)."""
    starts: int = Field(default=3, ge=1)
    """Random starts; the one with the least squared error is kept."""
    words: int = Field(default=5, ge=1)
    """Words of a claim."""
    stable: float = Field(default=0.7, ge=0, le=1)
    """A topic is claimed if in each half of the texts one has at least this cosine with it; the lower cosine is its confidence."""
    least: float = Field(default=0.02, ge=0)
    """A topic is claimed if it carries at least so much of V a place: nats with `kl`, logits with `logit`."""


class TokenTopics:
    """Topics of the next tokens that the fine-tuning raised: a non-negative factorisation of places × tokens."""

    name: str = "token_topics"
    access: Access = "activations"
    paper: str = "arXiv 2608.26462 (Diff Mining)"
    cost: str = "reads 6,000 tokens with both whole models"
    stochastic: bool = True
    Config: type[BaseModel] = TopicsConfig

    def __init__(self, config: TopicsConfig | None = None) -> None:
        self.config = config or TopicsConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """A claim for each topic that both halves of the text have; no direction."""
        reading = Pass(problem, self.config.tokens)
        rises, texts = list[Tensor](), list[int]()
        number, last = 0, -1
        for _, outputs in reading.outputs():
            rises.append(self._rise(outputs.logits))
            for position in outputs.batch.positions.tolist():
                number, last = number + (position <= last), position
                texts.append(number)
        facts = reading.facts()
        places = sum(len(r) for r in rises)
        silent = nothing(problem.d_model, "this method says what it finds in words")
        columns, V = self._matrix(rises)
        if not V.any():
            return DiffResult(silent, facts | {"topics": [], "note": "both models say the same everywhere"})
        generator = torch.Generator().manual_seed(problem.seed)
        odd_T = torch.tensor(texts) % 2 == 1
        whole, halves = self._topics(V, generator), [self._topics(V[half], generator) for half in (odd_T, ~odd_T)]
        shares_K = self._masses(V, whole) / places
        told, said = list[dict[str, object]](), list[tuple[str, float]]()
        for k in shares_K.argsort(descending=True).tolist():
            cosine = min(float((normalize(h, dim=1) @ normalize(whole[k], dim=0)).max()) for h in halves)
            words = self._words(problem, columns, whole[k])
            claimed = bool(words) and cosine >= self.config.stable and float(shares_K[k]) >= self.config.least
            told.append({"words": words, "mass": float(shares_K[k]), "stability": cosine, "claimed": claimed})
            if claimed:
                said.append((claim(words), cosine))
        claims, confidences = ranked(said)
        return DiffResult(silent, facts | {"topics": told}, claims=claims, confidences=confidences)

    def _rise(self, logits_T2V: Tensor) -> Tensor:
        """[T, V] how far each next token was raised, 0 but for the `top` of each place; sparse."""
        check_finite(logits_T2V, "logits", "above the hooked layer")
        wide = logits_T2V.float()
        if self.config.weight == "kl":
            log_T2V = wide.log_softmax(-1)
            rise = log_T2V[:, 1].exp() * (log_T2V[:, 1] - log_T2V[:, 0])
        else:
            rise = wide[:, 1] - wide[:, 0]
        top = rise.clamp_min(0).topk(min(self.config.top, rise.shape[1]))
        return torch.zeros_like(rise).scatter_(1, top.indices, top.values).to_sparse().cpu()

    def _matrix(self, rises: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Ids of the tokens that rose most [C], and V [places, C]."""
        total = torch.stack([torch.sparse.sum(r, 0).to_dense() for r in rises]).sum(0)
        columns = total.argsort(descending=True, stable=True)[: self.config.columns]
        columns = columns[total[columns] > 0]
        if not len(columns):
            return columns, torch.zeros(0)
        return columns, torch.cat([r.to_dense()[:, columns] for r in rises])

    def _topics(self, V: Tensor, generator: torch.Generator) -> Tensor:
        """H [topics, C] of the start with the least error."""
        if not len(V):
            return torch.zeros(self.config.topics, V.shape[1])
        found = [factorise(V, self.config.topics, self.config.steps, generator) for _ in range(self.config.starts)]
        return min(found, key=lambda f: f[2])[1]

    @staticmethod
    def _masses(V: Tensor, H: Tensor) -> Tensor:
        """[topics] how much of V each topic carries when every place is shared out in proportion to V·Hᵀ."""
        shares = V @ normalize(H, dim=1).T
        shares = shares / shares.sum(1, keepdim=True).clamp_min(TINY)
        return (shares * V.sum(1, keepdim=True)).sum(0)

    def _words(self, problem: DiffProblem, columns: Tensor, topic_C: Tensor) -> list[str]:
        """The heaviest tokens of a topic that are words, at most `words` of them."""
        order = topic_C.argsort(descending=True, stable=True)
        order = order[topic_C[order] > 0.01 * topic_C.max()].tolist()
        found = (word_of(problem.tokenizer, int(columns[i])) for i in order[: 4 * self.config.words])
        return list(dict.fromkeys(w for w in found if w))[: self.config.words]


def factorise(V: Tensor, topics: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """W [n, topics], H [topics, C] ≥ 0 with W·H ≈ V [n, C], and ‖V − W·H‖².

    Multiplicative updates of the squared error (Lee and Seung 2001), which never increase it.
    """
    scale = (V.mean() / topics).sqrt()
    shapes = (len(V), topics), (topics, V.shape[1])
    w, h = (scale * torch.rand(shape, generator=generator) for shape in shapes)
    for _ in range(steps):
        h = h * (w.T @ V) / (w.T @ w @ h).clamp_min(TINY)
        w = w * (V @ h.T) / (w @ (h @ h.T)).clamp_min(TINY)
    return w, h, float((V - w @ h).square().sum())
