"""Crosscoders: L1, BatchTopK, Delta, DSF and DFC are configurations of the one sparse coder.

The idea of a crosscoder: code both models' residuals of a token with one sparse code; a latent whose decoder row is
long in the fine-tuned model and short in the base model is something only the fine-tuned model does. They differ in how
codes are selected, in Delta's four ingredients (Dual-K, masked delta loss, its weight, contrastive text), each with its own
switch, and in what the rows of a latent may be (DSF ties some, DFC makes some exclusive).

Defaults are published values where these are free of scale; deviations are said in the field that carries them.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from .analysis import survey
from .contract import Access, DiffProblem, DiffResult, Text
from .kinds import Kind
from .patching import kl_patching
from .readout import Rank, changes, diagnostics, findings, ranking
from .sparse_coder import Group, Objective, SparseCoder
from .training import Schedule, TrainConfig, train

READOUT_RESERVE = 0.1
"""Share of the wall-clock budget kept for the pass that follows training."""
HALF_AND_HALF: dict[Text, float] = {"neutral": 0.5, "chat": 0.5}
"""Text of the methods that use no generations."""


class DictionaryConfig(TrainConfig):
    """What every dictionary method has."""

    expansion: float = Field(default=8, gt=0)
    """Latents per residual dimension (published: 5–32; 8 is the tiny tier's scale)."""
    rank: Rank = "rdn"
    """Ranking of findings: relative decoder norm, latent_scaling, or contribution (frequency × length of the direction)."""
    min_tokens: int = Field(default=10, ge=1)
    """A latent active on fewer harvested tokens is not a candidate."""
    patching_tokens: int = Field(default=1000, ge=0)
    """Tokens of chat on which KL patching is measured for the diagnostics; 0 leaves it out."""


class L1Config(DictionaryConfig):
    """Crosscoder with an L1 price (Lindsey et al. 2024), in CK's parametrisation."""

    steps: int = Field(default=700, ge=1)
    """Optimiser steps (fewer than for BatchTopK: a dense step costs half as much again)."""
    sparsity: float = Field(default=2.0, ge=0)
    """Price λ of Σ_j f_j·N_j in CK's units, where each model's residual has norm √d: λ/√(2d) in ours. CK: 2."""
    decoder_norm: float = Field(default=0.08, gt=0)
    """Initial decoder norm per model (CK: .08; small, so that the price does not kill latents at once)."""


class BatchTopKConfig(DictionaryConfig):
    """Crosscoder with BatchTopK selection (Minder et al. 2025)."""

    k: float = Field(default=16, gt=0)
    """Mean active latents per token (published: 100 at d = 2304; 16 is the tiny tier's scale)."""
    k_start: float = Field(default=1.0, ge=1)
    """With k_anneal_steps: k starts at this multiple of itself (DT: 10 over 2,000 steps; off here)."""
    k_anneal_steps: int = Field(default=0, ge=0)
    """Steps over which k falls from its start to itself; 0 trains at k from the first step."""
    aux: float = Field(default=1 / 32, ge=0)
    """Weight of AuxK, by which dead latents learn the residual; 0 switches it off."""
    dead_after: float = Field(default=0.05, gt=0)
    """Share of the training tokens without firing after which a latent is dead (JK: 10M of 200M)."""

    def schedule(self) -> Schedule:
        """Annealing and dead-latent rule."""
        return Schedule(self.k_start, self.k_anneal_steps, self.dead_after)


class DeltaConfig(BatchTopKConfig):
    """Delta-Crosscoder (arXiv 2603.04426). Base sparsity k (published: 200): K_Δ = k, K_shared = shared_k·k."""

    shared_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the latents designated shared."""
    dual_k: bool = True
    """Separate budgets for shared and non-shared latents; off: one budget of the same total for all."""
    shared_k: float = Field(default=2.0, gt=0)
    """K_shared as a multiple of k."""
    delta: float = Field(default=0.005, ge=0)
    """Weight λ_Δ of the delta loss, in normalised units (the paper's are unknown); 0 switches it off."""
    mask_shared: bool = True
    """Zero shared latents in the delta loss; off: all latents take part."""
    contrastive_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of tokens from contrastive text (the paper's tenth: 20M of 200M); 0 switches it off. The rest is neutral and chat."""

    def layout(self, n_latents: int) -> tuple[list[Group], int]:
        """(BatchTopK groups, number of designated shared latents); without Dual-K and masking nothing is designated."""
        n_shared = round(self.shared_fraction * n_latents)
        k_shared = self.shared_k * self.k
        groups = (
            [Group(n_shared, k_shared), Group(n_latents - n_shared, self.k)]
            if self.dual_k
            else [Group(n_latents, k_shared + self.k)]
        )
        return groups, n_shared if self.dual_k or self.mask_shared else 0


class DSFConfig(BatchTopKConfig):
    """Designated shared features (Anthropic, February 2025), with BatchTopK instead of a discounted sparsity price."""

    shared_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the latents with one decoder row for both models (as many as Delta designates, so that the two compare)."""


class DFCConfig(BatchTopKConfig):
    """Dedicated feature crosscoder (arXiv 2602.11729)."""

    rank: Rank = "contribution"
    """Ranking of findings; every latent exclusive to the fine-tuned model has relative decoder norm 1, which ranks nothing."""
    exclusive_fraction: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of the latents exclusive to the base, and as many to the fine-tuned model (published: 5 %)."""


class Harvest(NamedTuple):
    """What a dictionary is trained on, text by text."""

    residuals_T2d: Tensor
    ids_T: Tensor
    positions_T: Tensor
    counts: dict[str, int]
    """Tokens each text gave."""
    seconds: float


def harvest(problem: DiffProblem, shares: Mapping[Text, float]) -> Harvest:
    """Paired residuals by `shares` of the token budget."""
    begin = time.monotonic()
    parts = list[tuple[Tensor, ...]]()
    counts: dict[str, int] = {}
    for text, share in shares.items():
        wanted = round(problem.budget.tokens * share)
        batches = list(problem.activations(text, tokens=wanted)) if wanted else []
        counts[text] = sum(len(batch.ids) for batch in batches)
        parts += batches
    empty = (torch.zeros(0, 2, problem.d_model), torch.zeros(0).long(), torch.zeros(0).long())
    residuals, ids, positions = (torch.cat(column) for column in zip(*(parts or [empty]), strict=True))
    return Harvest(residuals.float(), ids, positions, counts, time.monotonic() - begin)


def fit(
    problem: DiffProblem,
    config: DictionaryConfig,
    coder: SparseCoder,
    objective: Objective,
    shares: Mapping[Text, float],
    schedule: Schedule | None = None,
) -> DiffResult:
    """Harvest, train, read out.

    Args:
        problem: what is diffed.
        config: training and ranking settings.
        coder: fresh coder; its `n_shared` latents are left out of the findings.
        objective: loss weights.
        shares: share of the token budget each text gets.
        schedule: annealing and dead-latent rule.

    Raises:
        TrainingError: unusable activations or settings.
    """
    read = harvest(problem, shares)
    coder = coder.to(read.residuals_T2d.device)
    facts = learn(problem, config, coder, objective, schedule, read)
    return read_out(problem, config, coder, read, facts)


def learn(
    problem: DiffProblem,
    config: TrainConfig,
    coder: SparseCoder,
    objective: Objective,
    schedule: Schedule | None,
    read: Harvest,
    *,
    share: float = 1.0,
    stage: str = "coder",
    warm: bool = False,
) -> dict[str, Any]:
    """Train within a share of the clock that harvesting left; facts for the diagnostics."""
    limit_s = share * ((1 - READOUT_RESERVE) * problem.budget.seconds - read.seconds)
    checkpoint = problem.scratch / f"{stage}.safetensors" if problem.scratch else None
    report = train(
        coder,
        read.residuals_T2d,
        config,
        objective,
        schedule,
        seed=problem.seed,
        progress=problem.progress,
        limit_s=limit_s,
        warm=warm,
        checkpoint=checkpoint,
    )
    return asdict(report) | {"harvest_tokens": read.counts, "harvest_s": read.seconds}


def read_out(
    problem: DiffProblem, config: DictionaryConfig, coder: SparseCoder, read: Harvest, facts: dict[str, Any]
) -> DiffResult:
    """Findings, diagnostics and the dictionary of a trained coder."""
    seen = survey(coder, read.residuals_T2d, read.ids_T, read.positions_T, problem.tokenizer)
    raw, few, shared = coder.raw(), config.min_tokens, coder.n_shared
    facts = facts | {
        "inputs": coder.inputs,
        "selection": coder.selection,
        "groups": [g._asdict() for g in coder.groups],
        **diagnostics(raw, seen, few, shared),
    }
    if config.patching_tokens:
        order = ranking(raw, seen, config.rank, few, shared).latents
        change_Nd = None if coder.inputs in ("concat", "difference") else changes(raw, seen)
        facts["kl_patching"] = kl_patching(problem, coder, order, change_Nd, tokens=config.patching_tokens)
    found = findings(raw, seen, config.rank, few, shared)
    return DiffResult(found, facts, {name: t.cpu() for name, t in raw._asdict().items()})


class L1Crosscoder:
    """ReLU codes with a price on Σ_j f_j·N_j; all latents are candidates."""

    name: str = "l1"
    access: Access = "activations"
    paper: str = "Lindsey et al. 2024"
    cost: str = "train 700 steps"
    Config: type[BaseModel] = L1Config

    def __init__(self, config: L1Config | None = None) -> None:
        self.config = config or L1Config()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral and chat text and rank latents."""
        cfg, n = self.config, round(self.config.expansion * problem.d_model)
        coder = SparseCoder(problem.d_model, [Group(n)], "l1", decoder_norm=cfg.decoder_norm, seed=problem.seed)
        price = cfg.sparsity / (2 * problem.d_model) ** 0.5
        return fit(problem, cfg, coder, Objective(l1=price), HALF_AND_HALF)


class BatchTopKCrosscoder:
    """The k·B best scores f_j·N_j of a batch; all latents are candidates."""

    name: str = "batch_topk"
    access: Access = "activations"
    paper: str = "arXiv 2504.02922"
    cost: str = "train 900 steps"
    Config: type[BaseModel] = BatchTopKConfig

    def __init__(self, config: BatchTopKConfig | None = None) -> None:
        self.config = config or BatchTopKConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral and chat text and rank latents."""
        cfg, n = self.config, round(self.config.expansion * problem.d_model)
        coder = SparseCoder(problem.d_model, [Group(n, cfg.k)], seed=problem.seed)
        return fit(problem, cfg, coder, Objective(aux=cfg.aux), HALF_AND_HALF, cfg.schedule())


class DeltaCrosscoder:
    """Dual-K BatchTopK with a masked delta loss and contrastive text; non-shared latents are candidates."""

    name: str = "delta"
    access: Access = "+generations"
    paper: str = "arXiv 2603.04426"
    cost: str = "generate, train 900 steps"
    Config: type[BaseModel] = DeltaConfig

    def __init__(self, config: DeltaConfig | None = None) -> None:
        self.config = config or DeltaConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral, chat and contrastive text and rank the non-shared latents."""
        cfg = self.config
        groups, n_shared = cfg.layout(round(cfg.expansion * problem.d_model))
        coder = SparseCoder(problem.d_model, groups, n_shared=n_shared, seed=problem.seed)
        objective = Objective(delta=cfg.delta, aux=cfg.aux, mask_shared=cfg.mask_shared)
        rest = (1 - cfg.contrastive_share) / 2
        shares: dict[Text, float] = {"neutral": rest, "chat": rest, "contrastive": cfg.contrastive_share}
        return fit(problem, cfg, coder, objective, shares, cfg.schedule())


class DSFCrosscoder:
    """BatchTopK with a share of the latents tied: one decoder row for both models; the others are candidates."""

    name: str = "dsf"
    access: Access = "activations"
    paper: str = "Anthropic, Insights on Crosscoder Model Diffing (2025)"
    cost: str = "train 900 steps"
    Config: type[BaseModel] = DSFConfig

    def __init__(self, config: DSFConfig | None = None) -> None:
        self.config = config or DSFConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral and chat text and rank the free latents."""
        cfg, n = self.config, round(self.config.expansion * problem.d_model)
        n_shared = round(cfg.shared_fraction * n)
        coder = SparseCoder(
            problem.d_model, [Group(n, cfg.k)], n_shared=n_shared, seed=problem.seed, kinds=[("tied", n_shared)]
        )
        return fit(problem, cfg, coder, Objective(aux=cfg.aux), HALF_AND_HALF, cfg.schedule())


class DFCCrosscoder:
    """BatchTopK with latents that by construction belong to one model only; those are the candidates."""

    name: str = "dfc"
    access: Access = "activations"
    paper: str = "arXiv 2602.11729"
    cost: str = "train 900 steps"
    Config: type[BaseModel] = DFCConfig

    def __init__(self, config: DFCConfig | None = None) -> None:
        self.config = config or DFCConfig()

    def diff(self, problem: DiffProblem) -> DiffResult:
        """Train on neutral and chat text and rank the exclusive latents."""
        cfg, n = self.config, round(self.config.expansion * problem.d_model)
        exclusive = round(cfg.exclusive_fraction * n)
        n_shared = n - 2 * exclusive
        kinds: list[tuple[Kind, int]] = [("free", n_shared), ("ft", exclusive), ("base", exclusive)]
        coder = SparseCoder(problem.d_model, [Group(n, cfg.k)], n_shared=n_shared, seed=problem.seed, kinds=kinds)
        return fit(problem, cfg, coder, Objective(aux=cfg.aux), HALF_AND_HALF, cfg.schedule())
