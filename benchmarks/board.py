"""`python -m benchmarks.board`: how long the board's tables take, and how much memory, as records get many.

The records are made: published ones under new names (methods m00…, organisms f00/o00…), so that they are as large as real ones, their
scores follow from their samples, and no two are the same cell. The first build draws every interval; the second finds them kept
(`leaderboard/board/keep.py`), as every build does after the first one that met a record. Each runs in a process of its own.

The first build takes as long for each record however many there are, and a day of one core for a million. With `--fill` it is replaced by
one that believes the records and draws each interval from 200 draws instead of 10,000: what a later build does is the same.
"""

import json
import lzma
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from diffbench.harness.records.identity import Identity, sha256_json
from diffbench.harness.records.result import Result
from diffbench.harness.runs import records
from diffbench.harness.runs.packs import PACKED, lines
from diffbench.leaderboard.board.build import RENDERERS, Ask, build
from diffbench.leaderboard.statistics import tables
from diffbench.leaderboard.statistics.resample import Spread

PUBLISHED = Path("leaderboard/published")
FAMILIES = 14
"""As many as a headline set of version 2 has at least."""
FEW = 200
"""Draws of a build that only fills."""
GOAL_S, GOAL_BYTES = 60.0, 2 * 2**30
"""What tables of 50,000 records may take, once their intervals are kept."""


class Used(NamedTuple):
    """What a process took."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def main(
    methods: Annotated[int, typer.Option(help="Methods.")] = 100,
    organisms: Annotated[int, typer.Option(help="Organisms.")] = 100,
    seeds: Annotated[int, typer.Option(help="Method seeds.")] = 5,
    formats: Annotated[str, typer.Option(help="Formats of the tables.")] = ",".join(RENDERERS),
    folder: Annotated[
        Path | None, typer.Option(help="Where records and what is kept of them stay; default: nowhere.")
    ] = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Do not time the first build; make what it keeps quickly.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Records and what is kept of them are there: build twice more.")
    ] = False,
) -> None:
    """Make the records, build the tables twice, and print seconds and peak memory of each."""
    with tempfile.TemporaryDirectory() as scratch:
        at = folder or Path(scratch)
        if not again:
            made = make(at / "packs", methods, organisms, seeds)
            typer.echo(
                f"{made:,} records, {sum(p.stat().st_size for p in (at / 'packs').rglob('*.xz')) / 1e6:.0f} MB packed"
            )
        first = "again" if again else "fill" if fill else "first"
        for name in (first, "again"):
            used = measure(at, "fill" if name == "fill" else formats)
            said = "" if name != "again" else f" (goal {GOAL_S:.0f} s, {GOAL_BYTES >> 30} GiB)"
            typer.echo(f"{name}: {used.wall_s:.1f} s, {used.cpu_s:.1f} CPU s, {used.peak_bytes / 2**30:.2f} GiB{said}")


def measure(at: Path, formats: str) -> Used:
    """What a build takes, imports included."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.board_build", str(at), formats],
        env={**os.environ, "BENCH_CACHE": str(at / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    cpu_s, peak_bytes = done.stdout.split()[-2:]
    return Used(time.monotonic() - start, float(cpu_s), int(peak_bytes))


def one_build(at: Path, formats: str) -> None:
    """Build, then print CPU seconds and peak memory of this process in bytes."""
    if formats == "fill":
        quick_fill()
        formats = "json"
    build(at / "packs", at / "out", formats.split(","), Ask())
    used = resource.getrusage(resource.RUSAGE_SELF)
    typer.echo(f"{used.ru_utime + used.ru_stime:.1f} {used.ru_maxrss * 1024}")


def quick_fill() -> None:
    """Make this process believe every record, and draw little."""
    draw = tables.organism_draws

    def little(groups: Mapping[str, Sequence[Result]], organism: str, draws: int, seed: int) -> dict[str, Spread]:
        return draw(groups, organism, min(draws, FEW), seed)

    def believe(result: Result, redraw: bool = True) -> None:
        """Find nothing wrong."""

    tables.organism_draws, records.fault = little, believe


def make(out: Path, methods: int, organisms: int, seeds: int) -> int:
    """Write the packs; the number of records."""
    real = [[json.loads(line) for line in lines(path)] for path in sorted(PUBLISHED.rglob(f"*{PACKED}"))]
    for n in range(organisms):
        name = f"f{n % FAMILIES:02}/o{n // FAMILIES:02}"
        path = out / f"{name}{PACKED}"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(
            json.dumps(r, separators=(",", ":")) + "\n" for r in _cells(real[n % len(real)], name, methods, seeds)
        )
        path.write_bytes(lzma.compress(text.encode(), preset=1))
    return methods * organisms * seeds


def _cells(real: list[dict[str, Any]], organism: str, methods: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Records of one made organism; the oracle and labelled directions keep their names, which mean something."""
    built_in = {r["identity"]["method"]: r for r in real}
    kept = [built_in[name] for name in ("oracle", "supervised", "random", "random_difference", "mean_diff")]
    others = [r for r in real if r["identity"]["method"] != "oracle"]
    for m in range(methods):
        for seed in range(seeds):
            record = json.loads(json.dumps(kept[m] if m < len(kept) else others[(m * seeds + seed) % len(others)]))
            i = record["identity"]
            i |= {"organism": organism, "organism_sha256": sha256_json(organism), "tier": "tiny"}
            i["prompts_sha256"], i["controls_sha256"] = (
                sha256_json([organism, "prompts"]),
                sha256_json([organism, "controls"]),
            )
            i["seeds"] = {"method": seed, "scores": i["seeds"]["scores"]}
            if m >= len(kept):
                i |= {"method": f"m{m:02}", "method_version": "1", "access": "activations", "config": {}}
                record["provenance"] |= {"access": "activations", "method_origin": "package made", "stochastic": True}
            yield record | {"id": Identity.model_validate(i).id()}


if __name__ == "__main__":
    typer.run(main)
