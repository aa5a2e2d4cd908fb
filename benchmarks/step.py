"""A BatchTopK training step, sparse and dense: same weights, same batches, same loss and gradients, different time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import cycle

import torch
from diffbench.methods.coder.sparse_coder import Group, Objective, SparseCoder
from diffbench.methods.coder.training import move
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from .dense import DenseCrosscoder
from .features import paired
from .records import Row, Timing, agree, interleaved, relative, row

CLIP, LR = 1.0, 1e-3
BATCHES = 4
"""Different batches the steps go round."""
WARM_UP = 150
"""Steps before the clock starts: most of a run is spent after its thresholds have settled."""


@dataclass(frozen=True)
class Shape:
    """How large a step is."""

    d_model: int
    n_latents: int
    batch: int
    k: float
    steps: int = 1
    """Steps in one timed repetition."""

    @property
    def name(self) -> str:
        """As the table says it."""
        return f"d {self.d_model}, n {self.n_latents}, B {self.batch}, k {self.k:g}"


def sparse_step(
    coder: SparseCoder, batches: Iterable[Tensor], objective: Objective | None = None
) -> Callable[[], None]:
    """One step of `methods.training.train` on the next batch [B, D], without its schedule."""
    optimiser = torch.optim.Adam(coder.parameters(), lr=LR, fused=True)
    since_N = torch.zeros(coder.n_latents, dtype=torch.int64, device=coder.encoder_ND.device)
    stream, first = cycle(batches), True

    def step() -> None:
        nonlocal since_N, first
        x_BD = next(stream)
        out = coder.losses(x_BD, objective or Objective())
        move(coder, optimiser, out.loss, CLIP)
        coder.update_threshold(out.lowest_G, first=first)
        since_N = torch.where(out.fired_N, 0, since_N + len(x_BD))
        first = False

    return step


def several(step: Callable[[], None], times: int) -> Callable[[], None]:
    """So many steps in one call."""

    def work() -> None:
        for _ in range(times):
            step()

    return work


def dense_step(peer: DenseCrosscoder, batches: Iterable[Tensor]) -> Callable[[], None]:
    """One step of the dense formulation on the next batch [B, D]."""
    optimiser = torch.optim.Adam(peer.parameters(), lr=LR)
    since_N = torch.zeros_like(peer.encoder_bias_N, dtype=torch.int64)
    stream, theta = cycle(batches), torch.zeros((), device=since_N.device)

    def step() -> None:
        nonlocal since_N, theta
        x_BMd = next(stream).unflatten(1, peer.models)
        out = peer.losses(x_BMd)
        optimiser.zero_grad()
        out.loss.backward()
        nn.utils.clip_grad_norm_(peer.parameters(), CLIP)
        optimiser.step()
        theta = 0.999 * theta + 0.001 * out.lowest
        since_N = torch.where(out.fired_N, 0, since_N + len(x_BMd))

    return step


def prepare(shape: Shape, device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[SparseCoder, list[Tensor]]:
    """A fresh coder and normalised batches [B, D]."""
    h_T2d = paired(BATCHES * shape.batch, shape.d_model).to(device, dtype)
    coder = SparseCoder(shape.d_model, [Group(shape.n_latents, shape.k)]).to(device, dtype)
    coder.fit_normaliser(h_T2d)
    batches = list(coder.normalise(h_T2d).split(shape.batch))
    coder.fit_bias(batches[0])
    return coder, batches


def agreement(shape: Shape, device: str = "cpu") -> dict[str, float]:
    """Relative differences of loss (fp32, and fp64) and of every gradient (fp64) at the same weights and batch.

    Gradients are compared in fp64: in fp32 a pair at the selection's boundary may fall on either side by rounding.

    Raises:
        Disagreement: the two formulations do not compute the same.
    """
    found: dict[str, float] = {}
    for dtype, name, tolerance in ((torch.float32, "fp32", 1e-5), (torch.float64, "fp64", 1e-10)):
        coder, (x_BD, *_) = prepare(shape, device, dtype)
        peer = DenseCrosscoder(coder)
        ours, theirs = coder.losses(x_BD, Objective()).loss, peer.losses(x_BD.unflatten(1, peer.models)).loss
        found[f"loss ({name})"] = agree(f"{shape.name}: the {name} loss", relative(ours, theirs), tolerance)
    ours.backward()
    theirs.backward()
    gradients = {name: p.grad for name, p in coder.named_parameters() if p.grad is not None}
    worst = max(relative(gradients[name], g) for name, g in peer.gradients().items())
    return found | {"gradients (fp64)": agree(f"{shape.name}: a gradient", worst, tolerance)}


def times(shape: Shape, repetitions: int, device: str = "cpu") -> dict[str, Timing]:
    """Milliseconds per step of both formulations."""
    coder, batches = prepare(shape, device)
    peer = DenseCrosscoder(coder)
    steps = {"sparse": sparse_step(coder, batches), "dense": dense_step(peer, batches)}
    for _ in range(WARM_UP if repetitions > 1 else 1):
        steps["sparse"]()
    with torch.no_grad():  # the dense coder starts the clock where the sparse one has come to
        peer.load_state_dict(DenseCrosscoder(coder).state_dict())

    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    return interleaved(
        {name: several(step, shape.steps) for name, step in steps.items()}, repetitions, shape.steps, wait
    )


def measure(shape: Shape, repetitions: int, goal: float, device: str = "cpu", check: Shape | None = None) -> Row:
    """Agreement at `check` (by default the same shape), then times."""
    found = agreement(replace(check or shape), device)
    return row(f"BatchTopK step, {shape.name}", "step", shape.batch, times(shape, repetitions, device), goal, found)


def hot_spots(shape: Shape, steps: int = 10, top: int = 9) -> dict[str, float]:
    """Where our step's processor time goes: share by operation (`aten::addmm` is the encode product), the largest first."""
    coder, batches = prepare(shape)
    step = sparse_step(coder, batches)
    for _ in range(steps):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        for _ in range(steps):
            step()
    spent = {event.key: event.self_cpu_time_total for event in prof.key_averages()}
    total = sum(spent.values())
    return {name: round(spent[name] / total, 4) for name in sorted(spent, key=spent.__getitem__, reverse=True)[:top]}
