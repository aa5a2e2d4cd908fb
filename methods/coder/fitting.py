"""What every dictionary method does around its coder: harvest or stream paired residuals, train within the clock, read out.

The order is the same for all, so that two methods differ in their coder, objective and text alone.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from ..contract import MOST_DIVERGED, Access, DiffProblem, DiffResult, Text
from .analysis import survey
from .patching import kl_patching
from .readout import Rank, changes, diagnostics, findings, ranking
from .sparse_coder import Objective, SparseCoder
from .stream import TURN, Stream
from .training import Held, Schedule, TrainConfig, train

READOUT_RESERVE = 0.1
"""Share of the wall-clock budget kept for the pass that follows training."""
HALF_AND_HALF: dict[Text, float] = {"neutral": 0.5, "chat": 0.5}
"""Text of the methods that use no generations."""


class DictionaryConfig(TrainConfig):
    """What every dictionary method has."""

    expansion: float = Field(default=8, gt=0)
    """Latents per residual dimension (published: 5–32; 8 is the tiny tier's scale)."""
    rank: Rank = "latent_scaling"
    """Ranking of findings: latent_scaling (the base lacks it), rdn (relative decoder norm), or contribution (frequency × length of the
    direction)."""
    min_tokens: int = Field(default=10, ge=1)
    """A latent active on fewer harvested tokens is not a candidate."""
    patching_tokens: int = Field(default=1000, ge=0, le=MOST_DIVERGED)
    """Tokens of chat on which KL patching is measured for the diagnostics; 0 leaves it out."""
    memory_bytes: int = Field(default=2**30, ge=1)
    """Most bytes of residuals that are held. A token budget above it is streamed through a buffer of that size (docs/performance.md)."""
    stream: bool = False
    """Stream even what could be held."""
    readout_tokens: int = Field(default=200_000, ge=1)
    """Streamed: tokens on which the trained latents are looked at, read once more."""


C = TypeVar("C", bound=DictionaryConfig)


class DictionaryMethod(Generic[C]):
    """A method that trains dictionaries: its options, and what it says of itself unless a class says otherwise."""

    access: Access = "activations"
    cost: str = "train 900 steps"
    Config: type[C]

    def __init__(self, config: C | None = None) -> None:
        self.config: C = config or self.Config()


def harvest(problem: DiffProblem, config: DictionaryConfig, shares: Mapping[Text, float]) -> Held | Stream:
    """Paired residuals by `shares` of the token budget: held if `memory_bytes` allows it, else a stream of them.

    Raises:
        TrainingError: a bound too small for a stream.
    """
    begin, tokens = time.monotonic(), problem.budget.tokens
    wanted: dict[Text, int] = {text: round(tokens * share) for text, share in shares.items()}
    if config.stream or sum(wanted.values()) * 2 * problem.d_model * 4 > config.memory_bytes:
        deadline = begin + problem.budget.seconds
        return Stream(
            lambda text, start: problem.activations(text, TURN, wanted[text], start),
            wanted,
            problem.d_model,
            config.memory_bytes,
            problem.device,
            lambda: time.monotonic() > deadline,
            config.readout_tokens,
        )
    residuals_T2d = torch.zeros(0, 2, problem.d_model)
    ids, positions, counts, at = list[Tensor](), list[Tensor](), dict.fromkeys(map(str, wanted), 0), 0
    for text, n in wanted.items():
        for batch in problem.activations(text, tokens=n) if n else ():
            if not at:  # one place for all: joining them at the end would hold them twice
                residuals_T2d = batch.residuals.new_empty(
                    (sum(wanted.values()), 2, problem.d_model), dtype=torch.float32
                )
            counts[text] += len(batch.ids)
            residuals_T2d[at : (at := at + len(batch.ids))] = batch.residuals
            ids.append(batch.ids)
            positions.append(batch.positions)
    none = [torch.zeros(0).long()]
    ids_T, positions_T = torch.cat(ids or none), torch.cat(positions or none)
    return Held(residuals_T2d[:at], ids_T, positions_T, counts, time.monotonic() - begin)


def rereads(config: DictionaryConfig, wanted: Mapping[Text, int]) -> int:
    """Tokens that a stream of so many of each text reads another time: further epochs, and the read-out."""
    epoch = sum(wanted.values())
    return max(0, config.steps * config.batch - epoch) + min(config.readout_tokens, epoch)


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
    read = harvest(problem, config, shares)
    coder = coder.to(read.device)
    facts = learn(problem, config, coder, objective, schedule, read)
    return read_out(problem, config, coder, read, facts)


def learn(
    problem: DiffProblem,
    config: TrainConfig,
    coder: SparseCoder,
    objective: Objective,
    schedule: Schedule | None,
    read: Held | Stream,
    *,
    share: float = 1.0,
    stage: str = "coder",
    warm: bool = False,
) -> dict[str, Any]:
    """Train within a share of the clock that harvesting left; facts for the diagnostics."""
    checkpoint = problem.scratch / f"{stage}.safetensors" if problem.scratch else None
    report = train(
        coder,
        read,
        config,
        objective,
        schedule,
        seed=problem.seed,
        progress=problem.progress,
        limit_s=lambda: share * ((1 - READOUT_RESERVE) * problem.budget.seconds - read.seconds),
        warm=warm,
        checkpoint=checkpoint,
    )
    return asdict(report) | read.facts()


def read_out(
    problem: DiffProblem, config: DictionaryConfig, coder: SparseCoder, read: Held | Stream, facts: dict[str, Any]
) -> DiffResult:
    """Findings, diagnostics and the dictionary of a trained coder."""
    seen = survey(coder, read.parts(), problem.tokenizer)
    raw, few, shared = coder.raw(), config.min_tokens, coder.n_shared
    facts = (
        facts
        | read.facts()
        | {
            "inputs": coder.inputs,
            "selection": coder.selection,
            "groups": [g._asdict() for g in coder.groups],
            **diagnostics(raw, seen, few, shared),
        }
    )
    if config.patching_tokens:
        order = ranking(raw, seen, config.rank, few, shared).latents
        change_Nd = None if coder.inputs in ("concat", "difference") else changes(raw, seen)
        facts["kl_patching"] = kl_patching(problem, coder, order, change_Nd, tokens=config.patching_tokens)
    found = findings(raw, seen, config.rank, few, shared)
    return DiffResult(found, facts, {name: t.cpu() for name, t in raw._asdict().items()})
