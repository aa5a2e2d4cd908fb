"""What a sweep takes beside its bare cells, what a second job is worth, and what Ray costs. On a quiet machine.

    python -m benchmarks.sweeps.speed --repeats 3

The same cells four ways, by turns, each into a store and with a cache of its own: one after the other in the process of `bench run`; a
sweep of one job; of two; and on a Ray cluster of this machine with two cells at a time, where Ray is installed. Every way computes a cell
on one thread. Wall seconds are of the whole command, so a sweep's second start of Python is in them; `command_s` is what a command takes
that finds every cell finished.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

OVERHEAD, SPEEDUP, RAY = 0.05, 1.7, 1.10
"""Goals: most overhead of one job, least speed of two, most time on Ray, of that of two jobs."""
ORGANISMS = ("taboo/gold-narrow", "taboo/gold-mixed", "subliminal/fox-narrow", "false_facts/velden-narrow-gemma2")
BENCH = [sys.executable, "-c", "import sys; sys.argv[0] = 'bench'; from diffbench.cli import main; main()"]


@contextmanager
def ray_cluster() -> Iterator[str]:
    """The address of a cluster of this machine, of two cores."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def took(args: list[str], folder: Path) -> float:
    """Wall seconds of a command that has to succeed."""
    environment = os.environ | {"BENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    asked = [*BENCH, *args, "--out", str(folder / "runs"), "-q"]
    subprocess.run(asked, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def ways(cells: list[str], seeds: int) -> dict[str, Callable[[Path], float]]:
    """Each way, as a function of the folder that it may use."""
    listed = ",".join(map(str, range(seeds)))
    found: dict[str, Callable[[Path], float]] = {
        "run": lambda folder: took(["run", *cells, "--seed", listed], folder),
        "one job": lambda folder: took(["sweep", *cells, "--seeds", str(seeds)], folder),
        "two jobs": lambda folder: took(["sweep", *cells, "--seeds", str(seeds), "--jobs", "2"], folder),
    }

    def on_ray(folder: Path) -> float:
        # actors take the cluster's variables, not the command's
        os.environ |= {"BENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        with ray_cluster() as address:
            more = ["--engine", "ray", "--address", address, "--memory", "0"]
            return took(["sweep", *cells, "--seeds", str(seeds), *more], folder)

    return found | ({"ray": on_ray} if find_spec("ray") else {})


def measure(methods: str, organisms: str, seeds: int, limit: int | None, repeats: int) -> dict[str, Any]:
    """Seconds of every way, and what they come to beside each other."""
    cells = ["-m", methods, "-o", organisms, *(["--limit", str(limit)] if limit else [])]
    seconds, again = dict[str, list[float]](), list[float]()
    for _ in range(repeats):
        for name, way in ways(cells, seeds).items():
            with tempfile.TemporaryDirectory(prefix="sweep-speed-") as folder:
                seconds.setdefault(name, []).append(round(way(Path(folder)), 2))
                if name == "one job":
                    again.append(round(way(Path(folder)), 2))
    middle = {name: statistics.median(s) for name, s in seconds.items()}
    return {
        "cells": " ".join(cells) + f" --seeds {seeds}",
        "seconds": seconds,
        "command_s": statistics.median(again),
        "overhead of one job": round(middle["one job"] / middle["run"] - 1, 3),
        "speed of two jobs": round(middle["one job"] / middle["two jobs"], 2),
        "time on Ray beside two jobs": round(middle["ray"] / middle["two jobs"], 3) if "ray" in middle else None,
        "goals": {"overhead of one job": OVERHEAD, "speed of two jobs": SPEEDUP, "time on Ray beside two jobs": RAY},
    }


def main(
    methods: Annotated[str, typer.Option(help="As `-m`.")] = "random,mean_diff,supervised,batch_topk",
    organisms: Annotated[str, typer.Option(help="As `-o`.")] = ",".join(ORGANISMS),
    seeds: Annotated[int, typer.Option(min=1, help="As `--seeds`.")] = 2,
    limit: Annotated[int | None, typer.Option(help="As `--limit`.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Of every way.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Where the record goes as well.")] = None,
) -> None:
    """Print the record."""
    found = json.dumps(measure(methods, organisms, seeds, limit, repeats), indent=1)
    typer.echo(found)
    if out is not None:
        out.write_text(found + "\n")


if __name__ == "__main__":
    typer.run(main)
