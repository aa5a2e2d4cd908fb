"""A plan on the terminal: a row a cell, what is needed in all, and what is there."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .progress import clock

if TYPE_CHECKING:  # a list must not wait for torch
    from ..plans.plan import CellPlan, Plan

UNITS = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


def table(plan: "Plan") -> RenderableType:
    """Fits into 80 columns."""
    t = Table(
        title_justify="left",
        title="what this run will cost, from a rehearsal on this machine",
        padding=(0, 1),
        box=None,
    )
    t.add_column("cell", overflow="fold", ratio=1)
    for name in ("tokens", "passes", "memory", "disk", "time"):
        t.add_column(name, justify="right", no_wrap=True)
    swept = len({c.layer for c in plan.cells}) > 1
    for c in plan.cells:
        at = f", layer {c.layer}" * (swept and c.layer is not None)
        name = f"{c.method} on {c.organism}{at}, seed {c.seed}"
        if c.finished:
            t.add_row(name, *[""] * 4, "finished", style="dim")
        elif c.reason is not None:
            t.add_row(Text(f"{name}: will not run: {c.reason}", style="red"), *[""] * 5)
        else:
            t.add_row(name, short(c.tokens), short(c.passes), size(_memory(c)), size(c.disk_bytes), clock(c.wall_s))
    done = len(plan.cells) - len(plan.to_run)
    total = [short(sum(c.tokens for c in plan.cells)), short(sum(c.passes for c in plan.cells))]
    total += [size(max((_memory(c) for c in plan.cells), default=0)), size(plan.disk_bytes), clock(plan.wall_s)]
    t.add_section()
    t.add_row(f"{len(plan.cells)} cells, {done} finished", *total, style="bold")
    free = [f"{size(plan.free_host_bytes)} of memory"]
    if plan.free_device_bytes is not None:
        free.append(f"{size(plan.free_device_bytes)} on {plan.device}")
    there = f"there are {', '.join(free)} and {size(plan.free_disk_bytes)} in {plan.out}"
    return Group(
        t, Text(there), Text("passes: at most; memory: of the process at its peak; time: as the machine was now")
    )


def _memory(cell: "CellPlan") -> int:
    return cell.host_bytes if cell.device_bytes is None else cell.device_bytes


def short(n: int) -> str:
    """`1.2M`."""
    return next((f"{n / unit:.1f}{name}" for unit, name in UNITS if n >= unit), str(n))


def size(n: int) -> str:
    """In GiB, or MiB below half a GiB."""
    return f"{n / 2**30:,.1f} GiB" if n >= 2**29 else f"{n / 2**20:,.1f} MiB"
