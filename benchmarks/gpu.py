"""The training step at the shape of a published run (Gemma-2-2B, layer 13), and the floor no formulation can go below.

The floor is measured, not computed: one encode product in bf16 and one fused Adam step over as many fp32 parameters,
alone on the same device. On an H200 arithmetic puts it at 1.4 + 4.0 ms.
"""

from dataclasses import replace

import torch
from torch import nn

from .records import GpuRow, Timing, interleaved, row
from .step import Shape, agreement, times

GEMMA_2_2B = Shape(d_model=2304, n_latents=73_728, batch=2048, k=100, steps=5)
GOAL = 3.0
CHECK_LATENTS = 4096
"""Latents of the dictionary on which agreement is checked: fp64 copies of the whole one would not fit on small devices."""


def measure(shape: Shape, repetitions: int, device: str = "cuda") -> GpuRow:
    """Both formulations with fp32 masters and TF32 products, and the floor; agreement is checked in full precision."""
    found = agreement(replace(shape, n_latents=min(CHECK_LATENTS, shape.n_latents)), device)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        timings = times(shape, repetitions, device)
    finally:
        torch.set_float32_matmul_precision(precision)
    floor_ms = floor(shape, repetitions, device)
    step_ms = next(iter(timings.values())).median_ms
    return GpuRow(
        row=row(f"BatchTopK step, {shape.name}, GPU", "step", shape.batch, timings, GOAL, found),
        floor_ms=floor_ms,
        tokens_per_s=1000 * shape.batch / step_ms,
        share_of_floor=floor_ms.median_ms / step_ms,
    )


def floor(shape: Shape, repetitions: int, device: str) -> Timing:
    """Encode in bf16 and fused Adam in fp32, nothing else."""
    width = 2 * shape.d_model
    rows_ND = torch.randn(shape.n_latents, width, device=device)
    x_BD, encoder_ND = torch.randn(shape.batch, width, device=device).bfloat16(), rows_ND.bfloat16()
    parameters = [nn.Parameter(rows_ND.clone()) for _ in ("encoder", "decoder")]
    for p in parameters:
        p.grad = torch.randn_like(p)
    optimiser = torch.optim.Adam(parameters, fused=True)

    def work() -> None:
        for _ in range(shape.steps):
            torch.mm(x_BD, encoder_ND.T)
            optimiser.step()

    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    return interleaved({"floor": work}, repetitions, shape.steps, wait)["floor"]
