"""Train a sparse coder on paired activations, held in memory or streamed (`stream`).

The idea: the trainer never asks the device for a number inside a step. Learning rate, k and the list of dead latents
live on the host and change on a schedule; the loss, dead latents, progress and the clock are looked at every
`CHECK_EVERY` steps. (On an accelerator BatchTopK's compaction still reads sizes, see sparse_ops.)
"""

import hashlib
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .checkpoint import Checkpoint, Position, TrainReport
from .sparse_coder import Objective, SparseCoder
from .stream import Draw, Stream, TrainingError, check_shape, too_few

CHECK_EVERY = 20
"""Steps between looks at the loss, the clock and the dead latents."""


class TrainConfig(BaseModel):
    """How long and how fast to train."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    steps: int = Field(default=900, ge=1)
    """Optimiser steps (published runs: 50,000–100,000; 900 is the tiny tier's scale)."""
    batch: int = Field(default=512, ge=2)
    """Tokens per step (published: 2,048–4,096; smaller here, so that 900 steps take seconds)."""
    lr: float | None = Field(default=None, gt=0)
    """Peak Adam learning rate; unset: 1e-3/√(n_latents/2¹⁴), 4e-3 at 1,024 latents. Five times dictionary_learning's,
    whose runs are 50–100 times longer; chosen by reconstruction on synthetic features, where theirs ended too early."""
    warmup_share: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps over which the learning rate and the L1 price rise linearly (CK: 5 %)."""
    decay_share: float = Field(default=0.2, ge=0, le=1)
    """Share of the steps, at the end, over which the learning rate falls linearly to 0 (CK: last fifth)."""
    clip: float = Field(default=1.0, gt=0)
    """Gradient norm above which gradients are rescaled."""


@dataclass(frozen=True)
class Schedule:
    """What changes with the step besides the learning rate."""

    k_start: float = 1.0
    """Every k starts at this multiple and falls linearly to itself."""
    k_anneal_steps: int = 0
    """Over so many steps; 0: k is k from the first step whatever `k_start` says."""
    dead_after: float = 0.05
    """A latent is dead after not firing for this share of the training tokens (JK: 10M of 200M)."""

    def k_factor(self, step: int) -> float:
        """Multiple of k at a step counted from 0."""
        if step >= self.k_anneal_steps:
            return 1.0
        return self.k_start + (1 - self.k_start) * step / self.k_anneal_steps


@dataclass
class Held:
    """Residuals in memory; each epoch is a fresh permutation whose incomplete last batch is dropped."""

    residuals_T2d: Tensor
    ids_T: Tensor | None = None
    positions_T: Tensor | None = None
    counts: dict[str, int] = field(default_factory=dict[str, int])
    """Tokens each text gave."""
    seconds: float = 0.0
    """Wall time of reading before training."""

    @property
    def device(self) -> torch.device:
        """Where the residuals are."""
        return self.residuals_T2d.device

    def facts(self) -> dict[str, Any]:
        """For `DiffResult.diagnostics`."""
        return {"harvest_tokens": self.counts, "harvest_s": self.seconds}

    def sample(self) -> Tensor:
        """All of them."""
        return self.residuals_T2d

    def parts(self) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
        """Residuals, token ids and positions, for the read-out."""
        yield self.residuals_T2d, self.ids_T, self.positions_T

    @contextmanager
    def draw(self, batch: int, steps: int, seed: int, done: int, at: Position | None) -> Generator[Draw, None, None]:
        """Batches from step `done` on."""
        indices = permuted(len(self.residuals_T2d), batch, steps, seed)
        batches = (self.residuals_T2d[index] for step, index in enumerate(indices) if step >= done)
        yield Draw(self.sample, batches, lambda: None)


def permuted(n: int, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """`steps` index tensors [batch] into n tokens, epoch after epoch."""
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < steps:
        for index in torch.randperm(n, generator=generator)[: n // batch * batch].split(batch)[: steps - done]:
            yield index
            done += 1


def train(
    coder: SparseCoder,
    residuals: Tensor | Held | Stream,
    config: TrainConfig,
    objective: Objective,
    schedule: Schedule | None = None,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    limit_s: Callable[[], float] = lambda: float("inf"),
    warm: bool = False,
    checkpoint: Path | None = None,
) -> TrainReport:
    """Fit normaliser, bias, weights and thresholds in place. Deterministic given `seed` on CPU at a fixed thread count.

    Args:
        coder: fresh coder.
        residuals: paired raw residuals [tokens, 2, d_model], fp32, or where they come from; read shuffled, in several epochs if
            need be.
        config: steps and learning rate.
        objective: loss weights.
        schedule: annealing and dead-latent rule.
        seed: of the shuffling.
        progress: called with (steps done, steps in all) at every check.
        limit_s: wall clock after which training stops at the next check; asked for at each.
        warm: the coder was trained before: its normaliser, bias and thresholds stay where they are.
        checkpoint: file that training writes its state to now and then and, killed, goes on from; the result has the same bits.

    Raises:
        TrainingError: unusable activations, k larger than the dictionary, a loss that stopped being finite, or a reconstruction
            worse than the mean.
    """
    begin = time.monotonic()
    schedule = schedule or Schedule()
    source = Held(residuals) if isinstance(residuals, Tensor) else residuals
    _check_fits(coder, source, config, schedule)
    lr = config.lr or 1e-3 / (coder.n_latents / 2**14) ** 0.5
    warmup = max(1, round(config.warmup_share * config.steps))
    decay = max(1, round(config.decay_share * config.steps))
    dead_tokens = schedule.dead_after * config.steps * config.batch
    optimiser = torch.optim.Adam(coder.parameters(), lr=lr, fused=True)
    since_N = torch.zeros(coder.n_latents, dtype=torch.int64, device=coder.encoder_ND.device)
    report = TrainReport(0, 0, 0.0, False, {})
    saved = checkpoint and Checkpoint(checkpoint, _fingerprint(coder, source, config, objective, schedule, seed))
    if saved and saved.load(coder, optimiser, since_N, report):
        begin -= report.seconds
    dead = _dead(coder, since_N, dead_tokens) if report.steps else []

    at = saved.position if saved else None
    with fast_products(source.device), source.draw(config.batch, config.steps, seed, report.steps, at) as draw:
        if not warm and not report.steps:
            _normalise(coder, draw.sample(), config.batch)
        for step, h_B2d in zip(range(report.steps, config.steps), draw.batches, strict=False):
            x_BD = coder.normalise(h_B2d)
            if step == 0 and not warm:
                coder.fit_bias(x_BD)
            rise = min(1.0, (step + 1) / warmup)
            optimiser.param_groups[0]["lr"] = lr * min(rise, (config.steps - step) / decay)
            out = coder.losses(x_BD, replace(objective, l1=objective.l1 * rise), dead, schedule.k_factor(step))
            move(coder, optimiser, out.loss, config.clip)
            coder.update_threshold(out.lowest_G, first=step == 0 and not warm)
            since_N += config.batch
            since_N.masked_fill_(out.fired_N, 0)

            done = step + 1
            if done % CHECK_EVERY and done < config.steps:
                continue
            names = ("loss", "reconstruction", "sparsity", "delta", "aux")
            report.loss = {name: float(getattr(out, name).detach()) for name in names}
            report.curve.append(report.loss["reconstruction"])
            report.steps, report.tokens, report.seconds = done, done * config.batch, time.monotonic() - begin
            if not torch.isfinite(out.loss):
                raise TrainingError(
                    f"the loss is {report.loss['loss']} at step {done} of {config.steps}: training diverged; "
                    f"the learning rate {lr:.2g} is probably too high; set a lower lr or a longer warmup_share"
                )
            dead = _dead(coder, since_N, dead_tokens)
            progress(done, config.steps)
            if saved and done < config.steps:
                saved.save_if_due(coder, optimiser, since_N, report, draw.position())
            if report.seconds > limit_s() and done < config.steps:
                report.budget_exhausted = True
                break
    if report.loss["reconstruction"] > 1 and not report.budget_exhausted:
        raise TrainingError(
            f"after {report.steps} steps the explained variance is {1 - report.loss['reconstruction']:.3f}: worse than the mean of the "
            "activations; the learning rate or the price of the codes is too high, or k too small; lower them, or train longer"
        )
    return report


def move(coder: SparseCoder, optimiser: torch.optim.Adam, loss: Tensor, clip: float) -> None:
    """One step of the optimiser along a loss, its gradients rescaled if their norm is above `clip`.

    Args:
        optimiser: fused; on an accelerator it rescales while it reads them, which spares a pass over all of them.
    """
    optimiser.zero_grad()
    loss.backward()  # pyright: ignore[reportUnknownMemberType]
    coder.project_gradients()
    if loss.is_cuda:
        rescale_in_step(optimiser, clip)
    else:
        torch.nn.utils.clip_grad_norm_(coder.parameters(), clip)
    optimiser.step()


def rescale_in_step(optimiser: torch.optim.Adam, clip: float) -> None:
    """What `clip_grad_norm_` does, left to the next step of a fused optimiser, by what a loss scaler tells it to divide by.

    Args:
        clip: norm of all gradients together above which they are rescaled to it.
    """
    parameters = optimiser.param_groups[0]["params"]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    optimiser.grad_scale = (norm / clip).clamp_min(1)  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def fast_products(device: torch.device) -> Generator[None]:
    """On an accelerator, fp32 products of TF32 operands (10 bits), as published runs train: 29 ms a step for 52 at d 2304, n 73,728."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _normalise(coder: SparseCoder, sample_T2d: Tensor, batch: int) -> None:
    """Fit the normaliser. Raises TrainingError if there is nothing to code."""
    if coder.fit_normaliser(sample_T2d) <= 1e-12 * float(sample_T2d[:batch].square().sum(dim=(1, 2)).mean()):
        raise TrainingError(
            "activations are constant: every token has the same residual, so there is nothing to code; "
            "the hook probably reads the wrong tensor or one repeated token; harvest real text at the hooked layer"
        )


def _fingerprint(coder: SparseCoder, source: Held | Stream, *settings: object) -> str:
    """Hash of everything that decides a run: a checkpoint of another one is never loaded. A stream is told by what is asked of it;
    its texts are those of the cell whose folder the checkpoint is in."""
    said = (coder.groups, coder.kinds, coder.inputs, coder.selection, settings)
    held = [source.residuals_T2d] if isinstance(source, Held) else []
    asked = () if isinstance(source, Held) else (source.wanted, source.capacity, source.d_model)
    digest = hashlib.sha256(repr((*said, *asked)).encode())
    for tensor in (*coder.state_dict().values(), *held):
        digest.update(tensor.detach().cpu().contiguous().numpy().reshape(-1).data)
    return digest.hexdigest()


def _dead(coder: SparseCoder, since_N: Tensor, tokens: float) -> list[Tensor]:
    """For each group, the latents that have not fired for so many tokens."""
    return [chunk.nonzero()[:, 0] + start for chunk, start in _by_group(coder, since_N >= tokens)]


def _by_group(coder: SparseCoder, flags_N: Tensor) -> list[tuple[Tensor, int]]:
    sizes = [g.size for g in coder.groups]
    return [(chunk, sum(sizes[:i])) for i, chunk in enumerate(flags_N.split(sizes))]


def _check_fits(coder: SparseCoder, source: Held | Stream, config: TrainConfig, schedule: Schedule) -> None:
    """What can be known before a token is drawn; a stream is checked as it is read."""
    if isinstance(source, Held):
        check_shape(source.residuals_T2d, coder.d_model)
        if len(source.residuals_T2d) < config.batch:
            raise TrainingError(too_few(len(source.residuals_T2d), config.batch))
        if not torch.isfinite(source.residuals_T2d).all():
            raise TrainingError(
                "activations contain NaN or infinity: one of the two models overflowed at the hooked layer; "
                "run the models in fp32 (or bf16 instead of fp16) and check the adapter"
            )
    factor = max(1.0, schedule.k_start) if schedule.k_anneal_steps else 1.0
    for group in coder.groups:
        if coder.selection == "batch_topk" and group.k * factor > group.size:
            raise TrainingError(
                f"k = {group.k * factor:g} active latents per token are asked of {group.size} latents: "
                "more than the dictionary has; set a smaller k (or k_start) or a larger expansion"
            )
