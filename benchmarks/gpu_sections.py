"""What the GPU suite measures. A section takes the sizes and a device, and gives table rows and what has to be said with them."""

import copy
import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.pairs.sides import SIDES
from diffbench.harness.pairs.sinks import Sinks
from diffbench.harness.records.result import Result
from diffbench.harness.records.settings import PROTOCOL_V2, Protocol
from diffbench.harness.runs.cell import Cell, run_cell
from diffbench.harness.runs.stage import CALIBRATION_ROWS, Machine, Stage
from diffbench.harness.zoo.dry_run import pace
from diffbench.harness.zoo.natural import build_natural
from diffbench.harness.zoo.natural_plan import Asked, find, prepare, prepare_unfetched
from diffbench.methods.contract import Budget
from diffbench.methods.registry import load_method
from diffbench.organisms.registry import load_organism
from torch import Tensor

from . import gpu
from .gpu_models import GEMMA_2_2B, GEMMA_2_9B, LENGTH, SMALL, ModelShape, adapted, planted, save_base, tokenizer
from .records import agree, interleaved, relative
from .step import Shape

Row = dict[str, str | float | int | bool | None]
Found = tuple[list[Row], list[str]]
"""Rows of a table, and notes beside it."""
SCORES = ("isolation", "sufficiency", "necessity", "mitigation")
SHORT = Protocol(controls=2, ks=(1,), strengths=(0.3, 0.9), draws=200, dev_tokens=100, test_tokens=100)
HARVEST_GOAL, MEMORY_GOAL, STEP_GOAL, FLOOR_GOAL = 2.0, 0.55, 3.0, 0.6
TOKENS_GOAL = 10_000_000
TRAINED = "taboo/moon"
"""Organism of the training section."""
CELL_BYTES = 2 * 4 * 4
"""Bytes of a token and residual dimension while a method trains from memory: two sides in fp32, in parts, joined, and
two more while they are checked."""


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    models: tuple[ModelShape, ModelShape]
    """The smaller one is also what the cell is run on."""
    cells: tuple[tuple[str, str, dict[str, Any]], ...]
    """(method, organism, options) of the embedded tier."""
    protocol: Protocol
    rows: int
    """Texts in a pass of the harvest."""
    expansion: int
    batch: int
    k: float
    buffer: int
    """Tokens of the streaming buffer."""
    repetitions: int
    cell_s: float
    """Seconds that harvesting and training in the end-to-end cell may take."""
    training_steps: int
    training_length: int
    """Most tokens of a row that is trained on."""


FULL = Sizes(
    models=(GEMMA_2_2B, GEMMA_2_9B),
    cells=(
        ("mean_diff", "taboo/gold-narrow", {}),
        ("dw_svd", "false_facts", {}),
        ("batch_topk", "taboo/gold-narrow", {"steps": 200}),
    ),
    protocol=PROTOCOL_V2,
    rows=32,
    expansion=32,
    batch=2048,
    k=100,
    buffer=1_000_000,
    repetitions=5,
    cell_s=60,
    training_steps=30,
    training_length=512,
)
QUICK = Sizes(
    models=(SMALL, replace(SMALL, name="small, wider", hidden=96)),
    cells=(
        ("mean_diff", "taboo/gold-narrow", {"tokens": 1000}),
        ("dw_svd", "false_facts", {}),
        ("batch_topk", "taboo/gold-narrow", {"steps": 20, "expansion": 1, "batch": 128, "patching_tokens": 0}),
    ),
    protocol=SHORT,
    rows=2,
    expansion=4,
    batch=64,
    k=4,
    buffer=4096,
    repetitions=1,
    cell_s=2,
    training_steps=4,
    training_length=64,
)


def scores(sizes: Sizes, device: str) -> Found:
    """Cells of the embedded tier in fp32 on the device and on the processor."""
    rows: list[Row] = []
    for method, name, options in sizes.cells:
        organism, entry = load_organism(name), load_method(method)
        found: dict[str, Result] = {}
        for where in dict.fromkeys(("cpu", device)):
            machine = Machine(where, "float32")
            stage = Stage.load(organism, machine, sizes.protocol)
            cell = Cell(organism, entry, entry.configure(options), 0, sizes.protocol, Budget(20_000), machine)
            found[where] = run_cell(cell, stage).result
        here, there = found["cpu"], found[device]
        if here.scores is None or there.scores is None:
            raise RuntimeError(f"{method} on {name}: {here.reason or there.reason}")
        row: Row = {"cell": f"{method} on {organism.name}"}
        for score in SCORES:
            a, b = (getattr(s, score).value for s in (here.scores, there.scores))
            row[f"Δ {score}"] = None if a is None or b is None else abs(a - b)
        rows.append(row | {"cpu, s": here.cost.wall_s, f"{device}, s": there.cost.wall_s})
    return rows, [
        "A dictionary is trained in another order of sums on each device, so its scores may differ; the other methods' may not."
    ]


def harvest(sizes: Sizes, device: str, shape: ModelShape) -> Found:
    """Residuals of both sides: a `Pair` against forward passes of two whole models, which a hook reads at the same block."""
    model = adapted(shape, device)
    pair = Pair(model, tokenizer(shape.vocab), shape.layer)
    ids = torch.randint(7, shape.vocab, (sizes.rows, LENGTH), device=device)

    def ours() -> Tensor:
        return torch.stack([pair.residuals(ids, side) for side in SIDES], dim=2)

    own_bytes = _peak(device, ours)
    lora_bytes = sum(p.nbytes for n, p in model.named_parameters() if "lora_" in n)
    merged = copy.deepcopy(model).merge_and_unload()
    base: Any = model.get_base_model()

    def read(whole: Any, head: bool) -> Tensor:
        seen: list[Tensor] = []
        hook = whole.model.layers[shape.layer].register_forward_hook(
            lambda _, __, out: seen.append(out if isinstance(out, Tensor) else out[0])
        )
        try:
            with torch.inference_mode():
                (whole if head else whole.model)(input_ids=ids, use_cache=False)
        finally:
            hook.remove()
        return seen[0].float()

    def copies(head: bool) -> Tensor:
        # the base's copy is as large as the merged one and costs the same; the modules of ours carry LoRA
        return torch.stack([read(merged, head), read(merged, head)], dim=2)

    peer_bytes = _peak(device, lambda: copies(True))
    with pair.side("base"):
        plain = read(base, False)
    both = ours()
    gaps = [relative(both[:, :, 0], plain), relative(both[:, :, 1], read(merged, False))]
    for side, gap in zip(SIDES, gaps, strict=True):
        agree(f"the {side} side's residuals", gap, 0.1)
    timings = interleaved(
        {"ours": ours, "whole models": lambda: copies(True), "without logits": lambda: copies(False)},
        sizes.repetitions,
        wait=_wait(device),
    )
    tokens, own = ids.numel(), timings["ours"].median_ms
    ratio = timings["whole models"].median_ms / own
    own_b = own_bytes or _bytes(model)
    peer_b = peer_bytes - lora_bytes if peer_bytes else 2 * _bytes(merged)
    row: Row = {
        "shape": f"{shape.name}, block {shape.layer} of {shape.blocks}",
        "tokens/s": 1000 * tokens / own,
        "two whole models, tokens/s": 1000 * tokens / timings["whole models"].median_ms,
        "ratio": ratio,
        f"≥ {HARVEST_GOAL:g}×": ratio >= HARVEST_GOAL,
        "ratio without their logits": timings["without logits"].median_ms / own,
        "GB": own_b / 1e9,
        "two models, GB": peer_b / 1e9,
        f"≤ {MEMORY_GOAL:.0%}": own_b <= MEMORY_GOAL * peer_b,
        "base differs by": gaps[0],
        "fine-tuned differs by": gaps[1],
    }
    kind = "peak on the device" if own_bytes else "weights alone"
    why = "differences are of all residuals, relative: a merged adapter rounds otherwise"
    return [row], [f"bf16, {sizes.rows} rows of {LENGTH} tokens; memory: {kind}; {why}."]


def step(sizes: Sizes, device: str, shape: ModelShape) -> Found:
    """The crosscoder's step against the dense formulation, and the floor: encode and fused Adam alone."""
    wanted = sizes.expansion * shape.hidden
    n = min(wanted, _latents_that_fit(shape.hidden, sizes.batch, device))
    steps = 5 if sizes.repetitions > 1 else 1
    found = gpu.measure(Shape(shape.hidden, n, sizes.batch, sizes.k, steps), sizes.repetitions, device)
    dense = found.row.speedup["dense"]
    row: Row = {
        "shape": f"d {shape.hidden}, n {n:,}, B {sizes.batch}, k {sizes.k:g}",
        "ms a step": found.row.timings["sparse"].median_ms,
        "dense, ms": found.row.timings["dense"].median_ms,
        "floor, ms": found.floor_ms.median_ms,
        "tokens/s": found.tokens_per_s,
        "against dense": dense,
        f"≥ {STEP_GOAL:g}×": dense >= STEP_GOAL,
        "share of floor": found.share_of_floor,
        f"≥ {FLOOR_GOAL:.0%}": found.share_of_floor >= FLOOR_GOAL,
    }
    differ = ", ".join(f"{what} {gap:.0e}" for what, gap in found.row.agreement.items())
    notes = [f"{shape.name}: checked to agree on {min(n, gpu.CHECK_LATENTS):,} latents: {differ}."]
    if n < wanted:
        notes.append(
            f"{shape.name}: {n:,} of {wanted:,} latents, as many as memory holds of both formulations at once."
        )
    return [row], notes


def stream(sizes: Sizes, device: str) -> Found:
    """Batches gathered from bf16 activations on the device, and from pinned host memory."""
    d, rows = sizes.models[0].hidden, list[Row]()
    for where in dict.fromkeys((device, "cpu")):
        held = torch.empty(sizes.buffer, 2, d, dtype=torch.bfloat16, device=where)
        held[:] = torch.randn(2, d, device=where, dtype=torch.bfloat16)
        order = torch.randperm(sizes.buffer, device=where)[: 50 * sizes.batch].split(sizes.batch)
        pinned = torch.empty(sizes.batch, 2, d, dtype=torch.bfloat16, pin_memory=device.startswith("cuda"))

        def gather(held: Tensor = held, order: Any = order, pinned: Tensor = pinned, where: str = where) -> None:
            for index in order:
                if where == device:
                    held[index].float()
                else:
                    torch.index_select(held, 0, index, out=pinned[: len(index)])
                    pinned[: len(index)].to(device).float()

        tokens = sum(map(len, order))
        taken = interleaved({"gather": gather}, sizes.repetitions, wait=_wait(device))["gather"].median_ms
        kept = "on the device" if where == device else "on the host, pinned"
        rows.append({"buffer": f"{sizes.buffer:,} tokens, d {d}, bf16, {kept}", "tokens/s": 1000 * tokens / taken})
        del held
    return rows, [f"Shuffled batches of {sizes.batch} pairs of residuals, in fp32 on the device."]


def cell(sizes: Sizes, device: str) -> Found:
    """One cell, method `delta@published`, from a pair in memory to its scores; a planted word stands in for a taboo organism.

    Residuals of random weights have no features that a dictionary could learn: the oracle's score says that the cell is scored.
    """
    shape = sizes.models[0]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        organism, pair, texts = planted(shape, device, Path(folder))
        pair.sinks = Sinks.of(pair, list(islice(texts.rows("neutral", "harvest"), CALIBRATION_ROWS)))
        stage = Stage(organism, pair, texts, sizes.protocol, time.perf_counter() - began)
        tokens = _tokens_that_fit(sizes, pair, device)
        entry = load_method("delta@published")
        options = {
            "expansion": sizes.expansion,
            "k": sizes.k,
            "batch": sizes.batch,
            "steps": max(1, tokens // sizes.batch),
        }
        machine = Machine(device, "bfloat16")
        run = Cell(organism, entry, entry.configure(options), 0, sizes.protocol, Budget(tokens, 600), machine)
        outcome = run_cell(run, stage)
        if outcome.error is not None:
            raise outcome.error
        oracle = load_method("oracle")
        anchor = run_cell(
            Cell(organism, oracle, oracle.configure({}), 0, sizes.protocol, Budget(0), machine), stage
        ).result
    assert outcome.diff is not None
    result, told = outcome.result, outcome.diff.diagnostics
    phases, read = result.cost.phases, result.cost.tokens
    per_token = (phases["harvest"] + phases["fit"]) / read
    fixed = phases["load"] + phases["measure"] + phases["score"]
    whole_s = fixed + per_token * TOKENS_GOAL
    row: Row = {
        "cell": f"{entry.row} on {organism.name}",
        "tokens": read,
        **{f"{name}, s": phases[name] for name in ("load", "measure", "harvest", "fit", "score")},
        "all, s": sum(phases.values()),
        "training, s": told["seconds"],
        "of it waiting for text, s": told.get("stream", {}).get("waited_s"),
        "peak, GB": result.cost.peak_vram_bytes / 1e9 if result.cost.peak_vram_bytes else None,
        "isolation": result.scores.isolation.value if result.scores else None,
        "oracle's": anchor.scores.isolation.value if anchor.scores else None,
    }
    why = "the small shape" if sizes.repetitions == 1 else "time and memory"
    how = f"random words, bf16, {options['steps']:,} steps of {sizes.batch}"
    notes = [
        f"{read:,} tokens are what {why} allowed; {how}.",
        f"Extrapolated to {TOKENS_GOAL:,} tokens, harvest and fit in proportion: {whole_s:,.0f} s (goal 600 s). Not measured.",
    ]
    return [row], notes


def training(sizes: Sizes, device: str) -> Found:
    """One organism trained on a saved base, measured and put into a zoo, beside what its plan counts and rehearses."""
    shape = sizes.models[0]
    family, spec = find(TRAINED)
    said = (m["content"] for d in family.rows(spec) for m in d.messages)
    with tempfile.TemporaryDirectory() as folder:
        base, zoo = Path(folder) / shape.name.lower().replace(" ", "-"), Path(folder) / "zoo"
        save_base(shape, device, said, base)
        clean(device)
        changes: dict[str, Any] = {"steps": sizes.training_steps, "max_length": sizes.training_length}
        asked = Asked(TRAINED, str(base), zoo, device, None, None, tuple(changes.items()))
        counted = pace(replace(prepare_unfetched(asked), base=None))
        rehearsed = pace(prepare(asked))
        clean(device)
        began, lines = time.perf_counter(), list[str]()
        most = _peak(device, lambda: lines.append(str(build_natural(asked)[0].training)))
        whole_s = time.perf_counter() - began
    row: Row = {
        "organism": f"{TRAINED} on {shape.name}",
        "steps": sizes.training_steps,
        "s a step": rehearsed.seconds_a_step,
        "counted, s": counted.seconds_a_step,
        "tokens/s": rehearsed.tokens_a_second,
        "peak of the build, GB": None if most is None else most / 1e9,
        "of a step, GB": rehearsed.bytes / 1e9,
        "counted, GB": counted.bytes / 1e9,
        "trained, measured and kept, s": whole_s,
    }
    return [row], [
        f"A random base learns nothing of use; its card says {lines[0]}. Counted: what a plan says where nothing can be run."
    ]


def _tokens_that_fit(sizes: Sizes, pair: Pair, device: str) -> int:
    """Tokens that the cell's seconds allow at the rate of a short harvest, and that memory holds."""
    ids = torch.randint(7, sizes.models[0].vocab, (sizes.rows, LENGTH), device=device)
    passes = interleaved({"pass": lambda: [pair.residuals(ids, side) for side in SIDES]}, 2, wait=_wait(device))
    per_token_s = passes["pass"].median_ms / 1000 / ids.numel()
    # contrastive text (a tenth) is generated token by token, and training costs about what reading does
    most = int(sizes.cell_s / (4 * per_token_s))
    if device.startswith("cuda"):
        free = torch.cuda.mem_get_info(device)[0] - 8 * 2 * sizes.expansion * pair.d_model**2 * 4
        most = min(most, int(0.6 * free / (CELL_BYTES * pair.d_model)))
    else:
        most = min(most, 6000)
    return max(2 * sizes.batch, min(TOKENS_GOAL, most))


def _latents_that_fit(d: int, batch: int, device: str) -> int:
    """Latents of which both formulations fit at once: weights, gradients and two moments of each, and a copy."""
    if not device.startswith("cuda"):
        return 2**30
    each = 4 * (9 * 2 * 2 * d + 10 * batch)
    return max(1024, int(0.9 * torch.cuda.mem_get_info(device)[0] / each) // 1024 * 1024)


def _wait(device: str) -> Callable[[], None]:
    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None


def _peak(device: str, work: Callable[[], object]) -> int | None:
    """Most bytes on the device during some work; None where that is not known."""
    if not device.startswith("cuda"):
        work()
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated())


def _bytes(model: Any) -> int:
    return sum(p.nbytes for p in model.parameters())


def clean(device: str) -> None:
    """Give back what a section held."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
