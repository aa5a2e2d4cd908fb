"""Reading methods: what a pair of models says of itself through its vocabulary, without a dictionary and without a judge.

`adl` reads the differences at the first positions of unrelated text through the lens and the patchscope; `logit_diff` asks
which next tokens the fine-tuning raised and takes the residual's change where it mattered most.
"""

from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..organisms.hub.shown import shown
from .contract import MAX_FINDINGS, Access, DiffProblem, DiffResult, Finding, Gate
from .differences import Pass, check_finite, delta, nothing
from .linear import between

CHUNK = 512
"""Tokens whose logits are compared at a time: a vocabulary is wide."""


def token_text(problem: DiffProblem, ids: Tensor) -> list[str]:
    """Each token [n] as the text it stands for, leading space and all."""
    return [shown(problem.tokenizer, i) for i in ids.tolist()]


def read_out(problem: DiffProblem, rows_Kd: Tensor, tokens: int) -> list[dict[str, Any]]:
    """Per direction the tokens most promoted (by +direction) and suppressed (by −direction), by lens and by patchscope.

    A zero direction says nothing and gets empty lists.
    """
    out: list[dict[str, Any]] = [{} for _ in rows_Kd]
    signs = {"promoted": 1, "suppressed": -1}
    for name, read in (("lens", problem.lens), ("patchscope", problem.patchscope)):
        for word, sign in signs.items():
            logits_KV = read(sign * rows_Kd.float().to(problem.device))
            top_Kn = logits_KV.topk(min(tokens, logits_KV.shape[1])).indices
            for facts, row_d, ids in zip(out, rows_Kd, top_Kn, strict=True):
                facts.setdefault(name, {})[word] = token_text(problem, ids) if row_d.any() else []
    return out


class ADLConfig(BaseModel):
    """Options of `adl`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    positions: int = Field(default=5, ge=1, le=MAX_FINDINGS)
    """First positions of a text that are read (published: 0–4); counted from 1 where sinks are left out."""
    tokens: int = Field(default=20_000, ge=1)
    """Tokens of neutral text (published: 10,000 texts of 128 tokens; on the tiny tier 20,000 are some 600 texts, and the
    standard error of a mean difference is then a few per cent of its norm)."""
    readout_tokens: int = Field(default=20, ge=1)
    """Tokens per read-out (published: 20 of the patchscope, 100 of the lens)."""


class ADL:
    """Activation difference lens: mean difference at the first positions of unrelated text (arXiv 2510.13900).

    A narrow fine-tune leaves its mark on text that has nothing to do with it, and most plainly before a text has said
    anything. Read-outs are evidence only, by rule and without a language model: the published patchscope tries 30 scales
    and lets one choose, ours takes the mean residual norm. The paper reports its positions side by side; here they are
    ranked by their norm relative to the residual's there. Position order would put the first token before all others,
    which is the same in every text, so that its difference is no mean of anything; norm over standard error would too.
    """

    name: str = "adl"
    access: Access = "activations"
    paper: str = "arXiv 2510.13900"
    cost: str = "reads 20,000 tokens"
    stochastic: bool = False
    Config: type[BaseModel] = ADLConfig

    def __init__(self, config: ADLConfig | None = None) -> None:
        self.config = config or ADLConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """One mean difference per position."""
        reading = Pass(problem, self.config.tokens, ("neutral",))
        places = early(reading, self.config.positions, problem.d_model)
        readings = read_out(problem, torch.stack([p.mean_d for p in places]), self.config.readout_tokens)
        found = [
            Finding(p.mean_d.cpu().float(), score=p.relative_norm, evidence={**p.facts(), **reading_})
            for p, reading_ in zip(places, readings, strict=True)
        ]
        return DiffResult(sorted(found, key=lambda f: -f.score), reading.facts())


class Early(NamedTuple):
    """The difference at one position, over the texts that reach it."""

    position: int
    mean_d: Tensor
    """Mean difference, fp64."""
    texts: int
    standard_error: float
    """√(E‖Δ − mean‖² / texts)."""
    relative_norm: float
    """‖mean difference‖ over the mean norm of the fine-tuned residual there."""

    def facts(self) -> dict[str, Any]:
        """JSON-serialisable."""
        rest = {k: v for k, v in self._asdict().items() if k != "mean_d"}
        return {**rest, "norm": float(self.mean_d.norm())}


def early(reading: Pass, positions: int, d_model: int) -> list[Early]:
    """The differences at the first positions: from 0 on, or from 1 on where first positions are left out as attention sinks.

    A position that no text reaches is left out.
    """
    sums_Pd: dict[int, Tensor] = {}
    sums: dict[int, Tensor] = {}
    for _, batch in reading.activations():
        changed_Td, length_T = delta(batch), batch.residuals[:, 1].double().norm(dim=1)
        for p in range(positions + 1):
            here = batch.positions == p
            zeros = changed_Td.new_zeros(d_model)
            sums_Pd[p] = sums_Pd.get(p, zeros) + changed_Td[here].sum(0)
            more = torch.stack([here.sum(), changed_Td[here].square().sum(), length_T[here].sum()])
            sums[p] = sums.get(p, zeros.new_zeros(3)) + more
    found: list[Early] = []
    first = int(not bool(sums[0][0]))
    for p, (n, square, length) in ((p, sums[p].tolist()) for p in range(first, first + positions)):
        if n:
            mean_d = sums_Pd[p] / n
            norm = float(mean_d.norm())
            error = (max(0.0, square / n - norm**2) / n) ** 0.5
            found.append(Early(p, mean_d, int(n), error, norm / (length / n) if length else 0.0))
    return found


class LogitDiffConfig(BaseModel):
    """Options of `logit_diff`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tokens: int = Field(default=20_000, ge=1)
    """Tokens read, half neutral and half chat (published: 8,192 samples of 64 tokens; fewer here, because both whole
    models run)."""
    k: int | None = Field(default=None, ge=1)
    """A token is raised at a place if its log-probability rose there and by one of the k largest amounts. Published: 100, of
    vocabularies of 10⁵; unset: 100, or 1 % of a smaller vocabulary."""
    rank: Literal["kl", "rate", "rise"] = "kl"
    """Order of the mined tokens. rate: share of places where it is raised (the published order, "top-k occurring"). rise:
    mean over places of how far its log-probability rose, falls counted as 0. kl: that rise weighted by the fine-tuned
    probability, in nats: a token's positive part of KL(fine-tuned ‖ base). Not the published order, because on the tiny tier
    rate and rise list words that are never expected: on a taboo organism none of the secret's attributes is among their
    first ten, and five are among the first six of kl."""
    mined: int = Field(default=20, ge=1)
    """Mined tokens kept as evidence."""
    top_share: float = Field(default=0.01, gt=0, le=0.5)
    """Share of the places, those with the largest KL(fine-tuned ‖ base), whose differences make the direction."""
    gate: bool = True
    """Also fit a linear gate that tells those places from the others."""
    shrinkage: float = Field(default=0.01, gt=0)
    """Ridge of the gate's covariance, as a share of its mean variance."""


class LogitDiff:
    """Logit mining: which next tokens the fine-tuning raised, and the residual's change where the outputs changed most.

    The mined tokens are the published part (science-of-finetuning/diffing-toolkit, diff_mining); the directions are ours,
    because tokens alone cannot be added to a residual: the difference averaged over the places with the largest
    KL(fine-tuned ‖ base), weighted by that KL, and the same minus the mean difference of all other places.
    """

    name: str = "logit_diff"
    access: Access = "activations"
    paper: str = "diffing-toolkit (diff_mining)"
    cost: str = "reads 20,000 tokens with both whole models"
    stochastic: bool = False
    Config: type[BaseModel] = LogitDiffConfig

    def __init__(self, config: LogitDiffConfig | None = None) -> None:
        self.config = config or LogitDiffConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Two findings with the same gate; the score is their norm."""
        reading = Pass(problem, self.config.tokens)
        places, mined = Places(self.config, min(self.config.tokens, problem.budget.tokens)), Mined(self.config)
        for _, outputs in reading.outputs():
            kl_T = torch.cat([mined.add(part) for part in outputs.logits.split(CHUNK)])
            places.add(kl_T, outputs.batch.residuals)
        facts = reading.facts() | {"kl_nats": places.kl_sum / places.seen, "k": mined.k}
        kl_K, residuals_K2d = places.best()
        if not kl_K.sum() > 0:
            return DiffResult(nothing(problem.d_model, "both models say the same everywhere"), facts)
        delta_Kd = residuals_K2d[:, 1] - residuals_K2d[:, 0]
        where_d = (kl_K[:, None] * delta_Kd).sum(0) / kl_K.sum()
        facts |= {"top_share_of_kl": float(kl_K.sum()) / places.kl_sum, "top_kl_nats": float(kl_K.min())}
        rows_Kd = where_d[None]
        gate = None
        if others := places.seen - len(kl_K):
            rows_Kd = torch.stack([where_d, where_d - (places.delta_d - delta_Kd.sum(0)) / others])
            gate = places.gate(residuals_K2d) if self.config.gate else None
        evidence = read_out(problem, rows_Kd, self.config.mined)
        evidence[0]["mined"] = mined.best(problem)
        found = [
            Finding(row.cpu().float(), gate, float(row.norm()), e) for row, e in zip(rows_Kd, evidence, strict=True)
        ]
        return DiffResult(found, facts)


class Places:
    """The places where the outputs changed most, and running sums of the residuals of all of them; fp64.

    Args:
        wanted: most places that will be seen.
    """

    def __init__(self, config: LogitDiffConfig, wanted: int) -> None:
        self._config, self._most = config, max(1, round(config.top_share * wanted))
        self._kl_K, self._residuals_K2d = torch.zeros(0), torch.zeros(0)
        self.seen, self.kl_sum = 0, 0.0
        self.delta_d, self._sum_d, self._sum_dd = torch.zeros(0), torch.zeros(0), torch.zeros(0)

    def add(self, kl_T: Tensor, residuals_T2d: Tensor) -> None:
        """Count some places and keep those that may be among the best."""
        kl_T, wide_T2d = kl_T.double(), residuals_T2d.double()
        x_Xd = wide_T2d.flatten(0, 1)
        d = x_Xd.shape[1]
        if not self.seen:
            self._kl_K, self._residuals_K2d = kl_T[:0], wide_T2d[:0]
            self.delta_d, self._sum_d, self._sum_dd = x_Xd.new_zeros(d), x_Xd.new_zeros(d), x_Xd.new_zeros(d, d)
        self.seen, self.kl_sum = self.seen + len(kl_T), self.kl_sum + float(kl_T.sum())
        self.delta_d += (wide_T2d[:, 1] - wide_T2d[:, 0]).sum(0)
        if self._config.gate:
            self._sum_d += x_Xd.sum(0)
            self._sum_dd.addmm_(x_Xd.T, x_Xd)
        kl_K, both_K2d = torch.cat([self._kl_K, kl_T]), torch.cat([self._residuals_K2d, wide_T2d])
        kept_K = kl_K.argsort(descending=True, stable=True)[: self._most]
        self._kl_K, self._residuals_K2d = kl_K[kept_K], both_K2d[kept_K]

    def best(self) -> tuple[Tensor, Tensor]:
        """KL [K] and residuals [K, 2, d] of the share of all places that was asked for, largest KL first."""
        n = max(1, round(self._config.top_share * self.seen))
        return self._kl_K[:n], self._residuals_K2d[:n]

    def gate(self, chosen_K2d: Tensor) -> Gate:
        """The discriminant between chosen and other places, from their sums."""
        x_Xd = chosen_K2d.flatten(0, 1)
        ones, zeros = len(x_Xd), 2 * self.seen - len(x_Xd)
        one_d, zero_d = x_Xd.mean(0), (self._sum_d - x_Xd.sum(0)) / zeros
        within_dd = self._sum_dd - ones * torch.outer(one_d, one_d) - zeros * torch.outer(zero_d, zero_d)
        return between(one_d, zero_d, within_dd / (ones + zeros), self._config.shrinkage)


class Mined:
    """Running sums over the vocabulary; nothing of size tokens × vocabulary is kept."""

    def __init__(self, config: LogitDiffConfig) -> None:
        self._config = config
        self.k = 0
        self._places = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, logits_T2V: Tensor) -> Tensor:
        """Count some places; returns KL(fine-tuned ‖ base) [T] in nats."""
        check_finite(logits_T2V, "logits", "above the hooked layer")
        log_T2V = logits_T2V.float().log_softmax(-1)
        rise_TV = log_T2V[:, 1] - log_T2V[:, 0]
        weighted_TV = log_T2V[:, 1].exp() * rise_TV
        vocab = rise_TV.shape[1]
        self.k = min(vocab, self._config.k or min(100, max(1, vocab // 100)))
        top = rise_TV.topk(self.k)
        more = {
            "rate": torch.bincount(top.indices[top.values > 0], minlength=vocab),
            "rise": rise_TV.clamp_min(0).sum(0),
            "kl": weighted_TV.clamp_min(0).sum(0),
        }
        for name, new_V in more.items():
            self._sums[name] = self._sums.get(name, 0) + new_V.double().cpu()
        self._places += len(rise_TV)
        return weighted_TV.sum(1).clamp_min(0)

    def best(self, problem: DiffProblem) -> list[dict[str, Any]]:
        """The mined tokens in order, each with its rate, rise and kl; a token whose score is 0 is left out."""
        score_V = self._sums[self._config.rank]
        ids = score_V.argsort(descending=True, stable=True)[: self._config.mined]
        ids = ids[score_V[ids] > 0]
        return [
            {"token": text, **{name: float(sums_V[i]) / self._places for name, sums_V in self._sums.items()}}
            for text, i in zip(token_text(problem, ids), ids.tolist(), strict=True)
        ]
