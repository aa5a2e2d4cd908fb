"""What a run will cost: cells, tokens, passes, memory, disk and time, and whether this machine can do it.

Counts are those of the objects that will be used: texts as the tokenizer makes them, prompts as the rows that are run, ladders as the
protocol writes them. Seconds are those of a rehearsal on this machine, scaled by counts. What cannot fit is refused before anything is run.
"""

import shutil
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from ...methods.coder.fitting import DictionaryConfig
from ...methods.coder.stream import STORED_BYTES
from ...methods.saes import SAEConfig
from ...organisms.errors import DiffbenchError, PrerequisiteError
from ..pairs.preflight import free_on, free_on_host
from ..runs.cell import Cell, peak_rss_bytes
from ..runs.harvest import MEMORY_BYTES
from ..runs.run import Plan as Work
from ..runs.run import Watcher, finished_before
from ..runs.stage import Stage
from .passes import scored_positions
from .rehearsal import Rehearsal, rehearse, small

RECORD_BYTES = 400_000
"""A record with its plot and its log."""
STATES = 4
"""Numbers for each weight in training: itself, its gradient, and Adam's two averages."""
REHEARSED = 2
"""Seeds of a method that are rehearsed on a pair; further ones cost what the last of them costs."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CellPlan(_Part):
    """One cell."""

    organism: str
    layer: int | None = None
    """Hooked layer; None: chosen when the pair is loaded."""
    method: str
    seed: int
    finished: bool = False
    """Run before: it costs nothing."""
    reason: str | None = None
    """Why it will not be run to its end, as far as that is known now."""
    tokens: int = 0
    """Tokens harvested."""
    passes: int = 0
    """Token passes: through the blocks up to the layer where text is read, through those above it where findings are scored (at most)."""
    host_bytes: int = 0
    """Most memory of the process, up to and with this cell, and of the method's own."""
    device_bytes: int | None = None
    """Most memory on the accelerator; None on a CPU."""
    disk_bytes: int = 0
    """Left on the disk; a method that trains also needs `checkpoint_bytes` while it does."""
    checkpoint_bytes: int = 0
    seconds: dict[str, float] = Field(default_factory=dict[str, float])
    """By phase, as a record has them."""

    @property
    def wall_s(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())


class Plan(_Part):
    """A run."""

    cells: list[CellPlan]
    out: str
    device: str
    free_host_bytes: int
    """Memory that this process can have in all."""
    free_device_bytes: int | None
    free_disk_bytes: int
    spared_s: float = 0.0
    """Seconds that cells do not take because an earlier one has read the same text."""
    rehearsal_s: float = 0.0
    """Seconds that it took to find out."""

    @property
    def to_run(self) -> list[CellPlan]:
        """Cells that are not finished."""
        return [c for c in self.cells if not c.finished]

    @property
    def wall_s(self) -> float:
        """Seconds of the run."""
        return max(0.0, sum(c.wall_s for c in self.cells) - self.spared_s)

    def data(self) -> dict[str, Any]:
        """For JSON, with what is needed in all."""
        total = {
            "cells": len(self.cells),
            "finished": len(self.cells) - len(self.to_run),
            "tokens": sum(c.tokens for c in self.cells),
            "passes": sum(c.passes for c in self.cells),
            "host_bytes": max((c.host_bytes for c in self.cells), default=0),
            "device_bytes": max((c.device_bytes or 0 for c in self.cells), default=0) or None,
            "disk_bytes": self.disk_bytes,
            "seconds": round(self.wall_s, 1),
        }
        return self.model_dump(mode="json") | {"total": total}

    @property
    def disk_bytes(self) -> int:
        """What is left on the disk, and the largest checkpoint."""
        return sum(c.disk_bytes for c in self.cells) + max((c.checkpoint_bytes for c in self.cells), default=0)

    def check(self) -> None:
        """Refuse what cannot fit.

        Raises:
            PrerequisiteError: with what is needed, what is there, and what would fit.
        """
        for kind, need, free in (
            ("memory", max((c.host_bytes for c in self.to_run), default=0), self.free_host_bytes),
            (
                f"memory of {self.device}",
                max((c.device_bytes or 0 for c in self.to_run), default=0),
                self.free_device_bytes,
            ),
        ):
            if free is not None and need > free:
                worst = max(self.to_run, key=lambda c: (c.host_bytes if kind == "memory" else c.device_bytes) or 0)
                raise PrerequisiteError(
                    f"{worst.method} on {worst.organism} needs {_gib(need)} of {kind} and {_gib(free)} can be had; "
                    f"give it fewer tokens (--tokens, now {worst.tokens:,}), a smaller method (--set {worst.method}.expansion=…, where it "
                    "has one), or --dtype bfloat16"
                )
        if self.disk_bytes > self.free_disk_bytes:
            raise PrerequisiteError(
                f"the run needs {_gib(self.disk_bytes)} in {self.out} and {_gib(self.free_disk_bytes)} are free; choose another folder "
                "with --out, or run fewer cells or smaller dictionaries at a time"
            )


def forecast(work: Work, watch: Watcher) -> Plan:
    """Rehearse the cells of a run that are not finished, and say what it will cost.

    Raises:
        PrerequisiteError: a dictionary that cannot even be tried in little. DiffbenchError: a pair that does not load.
    """
    began = time.perf_counter()
    device = next((c.machine.device for c in work.cells), "cpu")
    on_gpu = device.startswith("cuda")
    found = Plan(
        cells=[],
        out=str(work.out),
        device=device,
        free_host_bytes=free_on_host() + _resident(),
        free_device_bytes=free_on(device) if on_gpu else None,
        free_disk_bytes=shutil.disk_usage(_there(work.out)).free,
    )
    index = 0
    for _, group in groupby(work.cells, key=lambda c: id(c.organism)):
        stage: Stage | None = None
        little: Stage | None = None
        done = dict[tuple[str, str], list[CellPlan]]()
        read = dict[tuple[str, int], int]()
        begin = len(found.cells)
        for cell in group:
            index += 1
            layer = cell.organism.layer if stage is None else stage.pair.layer
            if layer is not None and finished_before(work, cell, cell.identity(layer).id()):
                found.cells.append(_named(cell, finished=True))
                continue
            if stage is None:
                watch.loading(cell.organism.name)
                stage = Stage.load(cell.organism, cell.machine, cell.protocol, cell.drops, work.cache)
                little = small(stage)
                if finished_before(work, cell, cell.identity(stage.pair.layer).id()):
                    found.cells.append(_named(cell, finished=True))
                    continue
            assert little is not None
            watch.cell(cell, index, len(work.cells))
            same = done.setdefault((cell.method.name, cell.config.model_dump_json()), [])
            if len(same) >= REHEARSED:
                found.cells.append(same[-1].model_copy(update={"seed": cell.seed}))
                continue
            _check_dictionary(cell, stage, found.free_device_bytes or found.free_host_bytes)
            first = all(c.finished for c in found.cells[begin:])  # of its group: each layer of a sweep is loaded anew
            kept = MEMORY_BYTES + (work.cache.most_bytes // 2 if work.cache else 0)
            try:
                planned, spared = _cell(
                    cell, little, rehearse(cell, little, watch.progress, stage.kept_of_prompts), read, first, kept
                )
            except DiffbenchError as error:
                planned, spared = _named(cell, reason=str(error)), 0.0
            found.spared_s += spared
            found.cells.append(planned)
            same.append(planned)
    found.rehearsal_s = round(time.perf_counter() - began, 1)
    return found


def _cell(
    cell: Cell, little: Stage, r: Rehearsal, read: dict[tuple[str, int], int], first: bool, kept: int
) -> tuple[CellPlan, float]:
    """A cell's plan, and the seconds of it that an earlier cell of the run spares.

    Args:
        read: tokens of each text that earlier cells read; generated text depends on the seed.
        first: whether it is the pair's first, which measures it.
        kept: bytes of residuals that will be kept, in memory and on disk.
    """
    tokens = sum(t.asked for t in r.reads.values())
    harvest = sum(t.wall_s for t in r.reads.values())
    spared = 0.0
    for text, t in r.reads.items():
        key = (text, cell.seed if text == "contrastive" else 0)
        spared += t.pace * min(read.get(key, 0), t.asked)
        read[key] = max(read.get(key, 0), t.asked)
    per_token = 2 * 4 * little.pair.d_model
    # what is kept costs no pass however often it is read again, and no answer is written twice
    again = round(r.read_again * max(0.0, 1 - kept / (per_token * max(1, tokens))))
    given = sum(t.given for t in r.reads.values())
    harvest += again * sum(t.seconds for t in r.reads.values()) / max(1, given)
    room = MEMORY_BYTES / (per_token * max(1, sum(read.values())))
    seconds = {"load": little.load_s if first else 0.0, "measure": r.setup_s + r.controls_s}
    seconds |= {"start": r.start_s, "harvest": harvest, "fit": r.fit_s, "score": r.score_s}
    share = r.kept_bytes / (given * per_token) if given else 0.0
    # held in parts and then as one, or in a buffer; beside it what is remembered for the next method
    buffer = r.buffer_tokens * per_token * STORED_BYTES // 4
    more = int(2 * share * max(0, tokens - given) * per_token) + buffer + min(MEMORY_BYTES, tokens * per_token)
    on_gpu = little.pair.device.type == "cuda"
    dictionary = sum(t.nbytes for t in (r.diff.dictionary or {}).values())
    findings = sum(f.direction.nbytes * 2 for f in r.diff.findings)
    plan = _named(
        cell,
        tokens=tokens,
        passes=2 * (tokens + again) + scored_positions(little, cell.protocol, r.diff, first, r.controls_s > 0),
        host_bytes=peak_rss_bytes() + r.worker_bytes + (0 if on_gpu else more),
        device_bytes=int(torch.cuda.max_memory_allocated()) + more if on_gpu else None,
        disk_bytes=RECORD_BYTES + findings + dictionary,
        checkpoint_bytes=3 * dictionary,
        seconds={k: round(v, 3) for k, v in seconds.items()},
    )
    return plan, spared * min(1.0, room)


def _check_dictionary(cell: Cell, stage: Stage, free: int) -> None:
    """Refuse a dictionary that cannot be trained here, before it is made."""
    config = cell.config
    if not isinstance(config, DictionaryConfig):
        return
    d = stage.pair.d_model * (1 if isinstance(config, SAEConfig) else 2)
    each = 2 * d * stage.pair.d_model * STATES * 4
    if (need := int(config.expansion * each)) > free:
        fits = f"{most:.0f}" if (most := 0.8 * free / each) >= 1 else f"{most:.2g}"
        raise PrerequisiteError(
            f"{cell.method.row} with expansion {config.expansion:g} trains {config.expansion * stage.pair.d_model:,.0f} latents of "
            f"{d:,} numbers, which takes {_gib(need)}, and {_gib(free)} can be had; "
            f"--set {cell.method.row}.expansion={fits} fits"
        )


def _named(cell: Cell, **fields: Any) -> CellPlan:
    o = cell.organism
    return CellPlan(organism=o.name, layer=o.layer, method=cell.method.row, seed=cell.seed, **fields)


def _resident() -> int:
    """Bytes that this process has now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _there(out: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(p for p in (out.absolute(), *out.absolute().parents) if p.is_dir())


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"
