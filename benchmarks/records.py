"""What a benchmark measures and where: the records in docs/performance.json, and the one way of timing."""

import os
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from diffbench.harness.runs.provenance import cpu_name
from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Unknown fields are refused; attribute docstrings are the schema."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Machine(Record):
    """Where and with what it was measured."""

    cpu: str
    threads: int
    """Threads torch computes with."""
    cores: int
    load: float
    """Processes running on the machine in the minute before: well above 0 means that others disturbed the measurement."""
    torch: str
    gpu: str | None


class Timing(Record):
    """Milliseconds per unit of work over the repetitions."""

    median_ms: float
    low_ms: float
    high_ms: float


class Row(Record):
    """One piece of work, in our formulation and in others."""

    name: str
    unit: str
    """What one unit of work is, e.g. `step`."""
    tokens: int
    """Tokens in a unit."""
    timings: dict[str, Timing]
    """By variant; ours is the first, the one the goal speaks of the second."""
    speedup: dict[str, float]
    """Median time of each other variant over ours."""
    goal: float
    """Speed-up asked of the second variant."""
    agreement: dict[str, float]
    """Largest relative difference between the variants, by quantity; checked before anything is timed."""


class GpuRow(Record):
    """The training step at the shape of a published run."""

    row: Row
    floor_ms: Timing
    """One bf16 encode product and one fused Adam step on as many parameters, measured on the same device."""
    tokens_per_s: float
    share_of_floor: float
    """Floor over step: 1 would mean that nothing but those two takes time."""


class Performance(Record):
    """Everything one run measured."""

    machine: Machine
    quick: bool
    """Tiny shapes: for tests, not for the table."""
    repetitions: int
    """Interleaved repetitions of every variant, after one that is not counted."""
    rows: list[Row]
    profile: dict[str, dict[str, float]]
    """Share of our step's processor time by operation, the largest first; by row."""
    gpu: GpuRow | None
    """None without a GPU."""
    skipped: dict[str, str] = {}
    """Why a piece of work against a real peer was left out."""


class Disagreement(AssertionError):
    """Two variants that must compute the same do not."""


def machine() -> Machine:
    """This machine, now."""
    return Machine(
        cpu=cpu_name(),
        threads=torch.get_num_threads(),
        cores=os.cpu_count() or 1,
        load=round(os.getloadavg()[0], 2),
        torch=torch.__version__,
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    repetitions: int,
    units: int = 1,
    wait: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Time variants in turn (A B A B …), so that a slow minute of the machine hits all of them.

    Args:
        variants: what to call; the first call of each is not counted.
        repetitions: counted calls of each.
        units: units of work in a call.
        wait: called before the clock is read (an accelerator's synchronisation).
    """
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repetitions + 1):
        for name, work in variants.items():
            wait()
            begin = time.perf_counter()
            work()
            wait()
            taken[name].append(1000 * (time.perf_counter() - begin) / units)
    return {
        name: Timing(median_ms=statistics.median(ms[1:]), low_ms=min(ms[1:]), high_ms=max(ms[1:]))
        for name, ms in taken.items()
    }


def row(name: str, unit: str, tokens: int, timings: dict[str, Timing], goal: float, agreement: dict[str, float]) -> Row:
    """A row; the first timing is ours."""
    ours, *others = timings
    speedup = {other: timings[other].median_ms / timings[ours].median_ms for other in others}
    return Row(name=name, unit=unit, tokens=tokens, timings=timings, speedup=speedup, goal=goal, agreement=agreement)


def agree(what: str, difference: float, tolerance: float) -> float:
    """`difference`, or Disagreement if it is above the tolerance (or not a number)."""
    if not difference <= tolerance:
        raise Disagreement(f"{what} differs by {difference:.2g}, more than {tolerance:g}: a timing would mean nothing")
    return difference


def relative(ours: torch.Tensor, other: torch.Tensor) -> float:
    """‖ours − other‖ / ‖other‖, in float64; 0 if both are zero."""
    a, b = ours.detach().double().flatten(), other.detach().double().flatten()
    gap = float((a - b).norm())
    return gap / float(b.norm()) if gap else 0.0
