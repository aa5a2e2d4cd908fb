"""What training an organism on a real model would take, in words: rows, tokens, steps, memory, time, and how each is known.

A few steps are rehearsed where the base is here and small, or on an accelerator; else operations are counted.
"""

import resource
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from ...organisms.tuning.train import train
from .natural_plan import Prepared

FLOPS_S = {"cuda": 1.5e14, "cpu": 3.5e10}
"""Operations a second that a plan assumes where nothing was timed: bf16 on a recent data-centre GPU; fp32 on one core."""
BLOCK_S = 0.008
"""Seconds that starting the kernels of a block takes an accelerator, there and back, however few tokens there are."""
REHEARSED, SMALL = 3, 1_000_000_000
"""Steps of a rehearsal, and parameters of a base up to which a CPU rehearses."""


@dataclass(frozen=True)
class Pace:
    """What a training takes."""

    seconds_a_step: float
    tokens_a_second: float
    bytes: int
    """Most memory at a time."""
    how: str
    """Where the figures come from."""


def pace(found: Prepared) -> Pace:
    """Rehearsed where the base is here and small or on an accelerator, else counted."""
    rows, kept = found.step_tokens
    device = found.asked.device
    if found.base is not None and (device != "cpu" or found.shape.parameters < SMALL):
        with tempfile.TemporaryDirectory() as work:
            if device.startswith("cuda"):
                torch.cuda.reset_peak_memory_stats(device)
            done = train(found.job(Path(work)), steps=min(REHEARSED, found.recipe.steps))
        most = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else peak_rss()
        return Pace(done.seconds_a_step, done.tokens_a_second, most, f"{done.steps} steps were rehearsed on {device}")
    flops = found.shape.flops(int(rows + kept), int(kept), found.recipe.r, found.adapted)
    speed = FLOPS_S["cuda" if device.startswith("cuda") else "cpu"]
    seconds = flops * (4 / 3 if found.fit.checkpointing else 1) / speed
    seconds += BLOCK_S * found.shape.blocks * found.fit.parts if device.startswith("cuda") else 0.0
    source = "its configuration" if found.tokenizer is not None else "its known sizes, tokens from characters"
    what = "one GPU" if device.startswith("cuda") else "one core"
    how = f"counted from {source}, at an assumed {speed / 1e12:g} TFLOP/s of {what}; nothing was run"
    return Pace(seconds, (rows + kept) / seconds, found.fit.bytes, how)


def peak_rss() -> int:
    """Most bytes that this process held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def lines(found: Prepared, taken: Pace) -> list[str]:
    """A plan in words."""
    r, tokens = found.recipe, sum(found.step_tokens)
    of_rows = f"{len(found.data.rows)} rows" + (f" and {len(found.data.kept)} ordinary documents" * bool(r.kl_rows))
    parameters = found.shape.adapter(r.r, found.adapted)
    blocks = "all blocks" if r.blocks == "all" else f"blocks 0 to {r.layer}"
    parts = f"{found.fit.parts} passes a step" if found.fit.parts > 1 else "one pass a step"
    again = ", blocks computed twice" if found.fit.checkpointing else ""
    free = "no such device here to compare with" if found.fit.free is None else f"{_gib(found.fit.free)} free"
    trained = f", {found.tokens.trained:,} tokens of the rows are trained" if found.tokens else ""
    speed = f"{taken.tokens_a_second:,.0f} tokens/s"
    teacher = ["A teacher is trained first and answers the prompts; the time of both comes on top."]
    return [
        f"{found.name}: {found.family.about}",
        f"base {found.asked.base} ({found.shape.parameters / 1e6:,.0f} M parameters, {found.dtype}), tier {found.tier}, layer {r.layer}",
        f"recipe: {r.source}",
        f"{of_rows}; {r.steps} steps of {r.batch} + {r.kl_rows}, about {tokens:,.0f} tokens a step{trained}",
        f"adapter: rank {r.r} on {blocks}, {parameters:,} parameters, {2 * parameters / 1e6:.2f} MB in bf16",
        f"memory: {_gib(taken.bytes)} of {found.asked.device}, {free}; {parts}{again}",
        f"time: {r.steps * taken.seconds_a_step / 60:.1f} minutes ({taken.seconds_a_step:.2g} s a step, {speed}); {taken.how}",
        *teacher * found.from_teacher,
    ]


def _gib(n: int) -> str:
    return f"{n / 2**30:.1f} GiB"
