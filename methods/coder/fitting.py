"""What every dictionary method does around its coder: harvest paired residuals, train within the clock, read out.

The order is the same for all, so that two methods differ in their coder, objective and text alone.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from ..contract import Access, DiffProblem, DiffResult, Text
from .analysis import survey
from .patching import kl_patching
from .readout import Rank, changes, diagnostics, findings, ranking
from .sparse_coder import Objective, SparseCoder
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


C = TypeVar("C", bound=DictionaryConfig)


class DictionaryMethod(Generic[C]):
    """A method that trains dictionaries: its options, and what it says of itself unless a class says otherwise."""

    access: Access = "activations"
    cost: str = "train 900 steps"
    Config: type[C]

    def __init__(self, config: C | None = None) -> None:
        self.config: C = config or self.Config()


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
