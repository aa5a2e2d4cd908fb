"""What streaming costs: BatchTopK training on a stream of synthetic residuals against the same steps on tensors that are held.

    python -m benchmarks.streaming                          # 200,000 tokens, all of them trained on
    python -m benchmarks.streaming --draw 10000000          # 10M tokens drawn, the first 200,000 trained on

Both train the same shape for the same number of steps, in turns of `--turn` steps (A B A B …) in one process, so that a slow minute of
the machine hits both. The source costs next to nothing (slices of one block), so what is measured is the stream's own work: rounding
to bf16, the gather, the thread. `--draw` then draws so many tokens in batches without training on them, which says what reading alone
takes and what memory it keeps. Memory is the peak of the process, and its peak before the stream began.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from diffbench.harness.terminal import say
from diffbench.methods.coder.sparse_coder import Group, Objective, SparseCoder
from diffbench.methods.coder.stream import TURN, Stream
from diffbench.methods.coder.training import Held, move
from diffbench.methods.contract import Batch, Text
from torch import Tensor

from .features import paired
from .records import machine

BLOCK = 16 * TURN
"""Different tokens of the source, which goes round them."""


def source(block_T2d: Tensor, tokens: int) -> Any:
    """A text of `tokens` tokens from a block in memory."""
    ids_T = torch.arange(len(block_T2d))

    def read(text: Text, start: int) -> Iterator[Batch]:
        for first in range(start, tokens, TURN):
            at = first % len(block_T2d)
            here = slice(at, at + min(TURN, tokens - first))
            yield Batch(block_T2d[here], ids_T[here], ids_T[here])

    return read


def trainer(coder: SparseCoder, batches: Iterator[Tensor]) -> Callable[[], None]:
    """One step of `methods.coder.training.train` on the next batch, without its schedule."""
    coder.fit_bias(coder.normalise(next(batches)))
    optimiser = torch.optim.Adam(coder.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        out = coder.losses(coder.normalise(next(batches)), Objective())
        move(coder, optimiser, out.loss, 1.0)
        coder.update_threshold(out.lowest_G, first=False)

    return step


def measure(
    tokens: int, draw: int, d_model: int, expansion: float, batch: int, k: float, memory_bytes: int, turn: int
) -> dict[str, Any]:
    """Seconds of both, their ratio, and memory in bytes."""
    block_T2d = paired(BLOCK, d_model)
    steps, n = tokens // batch, round(expansion * d_model)
    before_bytes = peak_bytes()
    stream = Stream(source(block_T2d, tokens), {"neutral": tokens}, d_model, memory_bytes)
    sources = {"held": Held(block_T2d), "streamed": stream}
    seconds = {name: list[float]() for name in sources}
    with ExitStack() as stack:
        work = dict[str, Callable[[], None]]()
        for name, what in sources.items():
            coder = SparseCoder(d_model, [Group(n, k)])
            coder.fit_normaliser(block_T2d)
            work[name] = trainer(coder, stack.enter_context(what.draw(batch, steps, 0, 0, None)).batches)
        for done in range(1, steps, turn):
            for name, step in work.items():
                began = time.perf_counter()
                for _ in range(min(turn, steps - done)):
                    step()
                seconds[name].append(time.perf_counter() - began)
    settled = {name: sum(parts[1:] or parts) for name, parts in seconds.items()}
    alone = drawn_alone(block_T2d, draw, batch, memory_bytes) if draw else None
    return {
        "tokens": tokens,
        "steps": steps,
        "shape": {"d_model": d_model, "n_latents": n, "batch": batch, "k": k},
        "memory_bytes": memory_bytes,
        "buffer_tokens": 2 * stream.capacity,
        "seconds": settled,
        "overhead": settled["streamed"] / settled["held"] - 1,
        "waited_s": stream.waited_s,
        "drawn_alone": alone,
        "peak_bytes": peak_bytes(),
        "peak_before_bytes": before_bytes,
        "machine": machine().model_dump(),
    }


def drawn_alone(block_T2d: Tensor, tokens: int, batch: int, memory_bytes: int) -> dict[str, float]:
    """Seconds, wall and processor, to draw tokens in batches and do nothing with them."""
    stream = Stream(source(block_T2d, tokens), {"neutral": tokens}, block_T2d.shape[2], memory_bytes)
    steps, began, cpu = tokens // batch, time.perf_counter(), time.process_time()
    with stream.draw(batch, steps, 0, 0, None) as opened:
        for _ in range(steps):
            next(opened.batches)
    return {"tokens": tokens, "wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}


def peak_bytes() -> int:
    """Most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure and write or print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--draw", type=int, default=0)
    parser.add_argument("--d-model", type=int, default=576)
    parser.add_argument("--expansion", type=float, default=8)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("-k", type=float, default=32)
    parser.add_argument("--memory-bytes", type=int, default=2**30)
    parser.add_argument("--turn", type=int, default=5, help="Steps of each before the other has its turn.")
    parser.add_argument("--out", type=Path)
    args = vars(parser.parse_args())
    out = args.pop("out")
    text = json.dumps(measure(**args), indent=1)
    if out:
        out.write_text(text + "\n")
    say(text)


if __name__ == "__main__":
    main()
