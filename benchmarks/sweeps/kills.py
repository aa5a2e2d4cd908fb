"""Sweeps that are killed at random moments, and what that loses.

    python -m benchmarks.sweeps.kills --kills 200

A sweep of cells that only write (`fake`) is started, met by SIGKILL, and started again, until its store is whole; then the next. A kill
takes the sweep's own process, one of those that run cells, or all of them. Checked after each: every process of the sweep ends; what was
finished stays as it was. Checked at the end of each store: every cell is there, once, whole, its own; nothing is left that a listing shows.
"""

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import psutil
import typer

from . import fake
from .store import ORGANISMS, cells_of, faults, whole

TARGETS = ("sweep", "process", "all")
STARTING = 0.25
"""Share of kills that may come before the first cell is given, in which a sweep spends most of a short life."""
STARTING_S, SOON_S = 8.0, 1.5
"""Longest until such a kill; longest that a sweep at work is let be."""
GONE_S = 10.0
"""Time for the processes of a killed sweep to end."""


@dataclass
class Found:
    """What kills did."""

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TARGETS, 0))
    while_working: int = 0
    """Kills after the first cell was begun."""
    stores: int = 0
    cells: int = 0
    adopted: int = 0
    """Cells that a killed sweep had finished and a later one found."""
    faults: list[str] = field(default_factory=list[str])


def one_life(args: list[str], out: Path, cache: Path, dice: random.Random, found: Found) -> bool:
    """Start a sweep and kill it, or parts of it first; whether it came to its end before that."""
    before, met = whole(out), set[psutil.Process]()
    sweep = subprocess.Popen(
        fake.command("sweep", *args, "--out", str(out), "--jobs", "2", "--retries", "9", "-q"),
        env=fake.environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    working = dice.random() >= STARTING
    if working:
        while sweep.poll() is None and not _writing(out, before):
            time.sleep(0.02)
    time.sleep(dice.uniform(0.0, SOON_S if working else STARTING_S))
    while sweep.poll() is None:
        target = dice.choice(TARGETS)
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(sweep.pid).children(recursive=True)
            met |= set(below)
            chosen = {"sweep": [], "process": below[:1], "all": below}[target]
            found.kills[target] += 1
            found.while_working += working
            for pid in [*(p.pid for p in chosen), *([sweep.pid] if target != "process" else [])]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(dice.uniform(0.0, SOON_S))
    said = sweep.communicate()[1]
    _, left = psutil.wait_procs(met, GONE_S)
    found.faults += [f"a process of a killed sweep lives on: {p}" for p in left if _lives(p)]
    now = whole(out)
    found.faults += [f"lost by a kill: {id_}" for id_, was in before.items() if now.get(id_) != was]
    if sweep.returncode not in (0, -signal.SIGKILL):
        found.faults.append(f"a sweep ended with {sweep.returncode}: {said[-500:]}")
    return sweep.returncode == 0


def _lives(process: psutil.Process) -> bool:
    """Whether a process runs: one that has ended stays a zombie until its new parent asks for its exit code."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _writing(out: Path, before: dict[str, bytes]) -> bool:
    """Whether a sweep has saved a cell."""
    return sum(1 for _ in out.glob("*/*/*/[!.]*/result.json")) > len(before)


def kills(n: int, seeds: int, seed: int) -> Found:
    """Stores are filled until `n` kills have met a sweep.

    Args:
        seeds: of `random` on each organism.
        seed: of when and what is killed.
    """
    found, dice = Found(), random.Random(seed)
    args = ["-m", "random", "-o", ",".join(ORGANISMS), "--seeds", str(seeds)]
    while sum(found.kills.values()) < n:
        with tempfile.TemporaryDirectory(prefix="sweep-kills-") as folder:
            out, cache = Path(folder) / "runs", Path(folder) / "cache"
            ids, kept = cells_of(out, cache, *args), dict[str, bytes]()
            while sum(found.kills.values()) < n and not one_life(args, out, cache, dice, found):
                kept = whole(out)
            last = fake.command("sweep", *args, "--out", str(out), "--jobs", "2", "-q")
            subprocess.run(last, env=fake.environment(cache), check=True, stdout=subprocess.DEVNULL)
            found.faults += faults(out, ids, kept)
            found.stores, found.cells, found.adopted = (
                found.stores + 1,
                found.cells + len(ids),
                found.adopted + len(kept),
            )
    return found


def main(
    n: Annotated[int, typer.Option("--kills", min=1, help="How many.")] = 200,
    seeds: Annotated[int, typer.Option(min=1, help="Of `random`, on four organisms.")] = 100,
    seed: Annotated[int, typer.Option(help="Of when and what is killed.")] = 0,
) -> None:
    """Print what came of it; exit 1 if anything is wrong."""
    began = time.perf_counter()
    found = kills(n, seeds, seed)
    typer.echo(json.dumps(asdict(found) | {"seconds": round(time.perf_counter() - began)}, indent=1))
    if found.faults:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
