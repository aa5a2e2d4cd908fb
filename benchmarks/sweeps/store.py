"""Whether a store holds every cell of a sweep, once and whole, and nothing else that a listing shows.

    python -m benchmarks.sweeps.store --processes 8

Eight processes on one store at once, sweeps and `bench run` by turns, none of which loses, repeats or damages a cell.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffbench.harness.records.loading import load_result
from diffbench.harness.runs.folder import FINDINGS, RESULT
from diffbench.harness.runs.records import records, validate
from safetensors.torch import load_file

from . import fake

ORGANISMS = ("taboo/gold-narrow", "taboo/gold-mixed", "subliminal/fox-narrow", "false_facts/velden-narrow-gemma2")


def cells_of(out: Path, cache: Path, *args: str) -> set[str]:
    """Ids of the cells that a sweep means."""
    asked = fake.command("sweep", *args, "--out", str(out), "--dry-run", "--json")
    said = subprocess.run(asked, env=fake.environment(cache), capture_output=True, text=True, check=True)
    return {c["id"] for c in json.loads(said.stdout)["cells"]}


def whole(out: Path) -> dict[str, bytes]:
    """{id: bytes of the record} of every run folder that a resumed sweep would take."""
    found = dict[str, bytes]()
    for path in out.glob(f"*/*/*/*/{RESULT}") if out.is_dir() else ():
        if not any(part.startswith(".") for part in path.relative_to(out).parts):
            found[load_result(path).id] = path.read_bytes()
    return found


def faults(out: Path, ids: set[str], kept: dict[str, bytes] | None = None, made_up: bool = True) -> list[str]:
    """What is wrong with a store; empty if nothing is.

    Args:
        ids: cells that have to be in it.
        kept: records that were in it before, and have to be the same.
        made_up: whether cells are those of `fake`, whose findings are known.
    """
    wrong, seen = list[str](), list[str]()
    for record in validate([out]):
        wrong += [f"{record.path}: {problem}" for problem in record.problems]
        if record.result is None:
            continue
        seen.append(record.result.id)
        path = record.path.parent / FINDINGS
        if made_up and not torch.equal(load_file(path)["direction"][0], fake.expected(record.result.id)):
            wrong.append(f"{path}: findings of another cell")
    wrong += [f"lost: {id_}" for id_ in sorted(ids - set(seen))]
    wrong += [f"not asked for: {id_}" for id_ in sorted(set(seen) - ids)]
    wrong += [f"twice: {id_}" for id_ in sorted(set(seen)) if seen.count(id_) > 1]
    now = whole(out)
    wrong += [f"run again though it was finished: {id_}" for id_, was in (kept or {}).items() if now.get(id_) != was]
    if len(listed := list(records(out))) != len(ids):
        wrong.append(f"a listing shows {len(listed)} records of {len(ids)} cells")
    wrong += [f"left behind: {p}" for p in out.rglob("*") if not p.is_dir() and _scratch(out, p)]
    return wrong


def _scratch(out: Path, path: Path) -> bool:
    """Whether a file is the scratch of a writer or of a cell; notes of finished runs are not."""
    parts = path.relative_to(out).parts
    return parts[:2] != (".work", "finished") and any(part.startswith(".") for part in parts)


def rivals(n: int, out: Path, cache: Path, args: Sequence[str]) -> dict[str, Any]:
    """`n` processes at once, sweeps and runs by turns."""
    ids, began = cells_of(out, cache, *args), time.perf_counter()
    lines = [("sweep", "--jobs", "1") if i % 2 == 0 else ("run",) for i in range(n)]
    seeds = ["--seed" if a == "--seeds" else a for a in args]
    seeds = [
        ",".join(map(str, range(int(a)))) if b == "--seed" else a for a, b in zip(seeds, ["", *seeds], strict=False)
    ]
    started = [
        subprocess.Popen(
            fake.command(*line, *(args if line[0] == "sweep" else seeds), "--out", str(out), "-q"),
            env=fake.environment(cache),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in lines
    ]
    said = [(p.communicate()[1], p.returncode) for p in started]
    wrong = [f"process {i} ended with {code}: {err[-500:]}" for i, (err, code) in enumerate(said) if code]
    took = round(time.perf_counter() - began, 1)
    return {"processes": n, "cells": len(ids), "seconds": took, "faults": wrong + faults(out, ids)}


def main(
    processes: Annotated[int, typer.Option(min=1, help="At once.")] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="Of `random`, on four organisms.")] = 50,
) -> None:
    """Print what came of it; exit 1 if anything is wrong."""
    with tempfile.TemporaryDirectory(prefix="sweep-store-") as folder:
        args = ("-m", "random", "-o", ",".join(ORGANISMS), "--seeds", str(seeds))
        found = rivals(processes, Path(folder) / "runs", Path(folder) / "cache", args)
    typer.echo(json.dumps(found, indent=1))
    if found["faults"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
