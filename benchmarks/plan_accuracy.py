"""What `bench run --dry-run` says against what the run then takes: tokens, seconds and peak memory of a few cells.

Every cell is planned and run in a process of its own, because a process keeps its peak. On a machine that others use, `--cpu` counts
processor seconds on both sides instead of wall seconds, on one thread.

    python -m benchmarks.plan_accuracy -m mean_diff -m delta -m random
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

CODE = """
import sys, time
if {cpu}:
    time.perf_counter = time.process_time
sys.argv = ["bench", *{arguments}]
from diffbench.cli import main
main()
"""


def bench(arguments: list[str], cpu: bool) -> dict[str, object]:
    """`bench … --json` in a process of its own."""
    code = CODE.format(cpu=cpu, arguments=[*arguments, "--json"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def compared(method: str, organism: str, more: list[str], cpu: bool) -> dict[str, object]:
    """Plan and record of one cell."""
    with tempfile.TemporaryDirectory() as out:
        arguments = ["run", "-m", method, "-o", organism, "--out", str(Path(out) / "runs"), "--no-cache", *more]
        said = bench([*arguments, "--dry-run"], cpu)
        cost: Any = bench(arguments, cpu)["cost"]
    cell = said["cells"][0]  # pyright: ignore
    took = sum(cost["phases"].values())
    if (
        cpu
    ):  # phases are of the scorer's process alone; `cpu_s` has the method's too, and begins when the pair is loaded
        took = cost["cpu_s"] + cost["phases"].get("load", 0.0)
    return {
        "method": method,
        "organism": organism,
        "rehearsal_s": said["rehearsal_s"],
        "tokens": [cell["tokens"], cost["tokens"]],  # pyright: ignore
        "seconds": [round(sum(cell["seconds"].values()), 2), round(took, 2)],  # pyright: ignore
        "phases": {k: [cell["seconds"].get(k), v] for k, v in cost["phases"].items()},  # pyright: ignore
        "host_bytes": [cell["host_bytes"], cost["peak_rss_bytes"]],  # pyright: ignore
    }


def main(
    method: Annotated[list[str], typer.Option("-m", help="Methods.")] = ["mean_diff", "delta@published", "random"],  # noqa: B006
    organism: Annotated[str, typer.Option("-o", help="One organism.")] = "taboo/gold-narrow",
    cpu: Annotated[bool, typer.Option("--cpu", help="Processor seconds instead of wall seconds.")] = False,
    more: Annotated[list[str] | None, typer.Argument(help="Further options of `bench run`.")] = None,
) -> None:
    """Print a line of JSON a cell, and ratios of planned to measured."""
    for name in method:
        found = compared(name, organism, more or [], cpu)
        typer.echo(json.dumps(found))
        s, m = found["seconds"], found["host_bytes"]
        typer.echo(f"{name}: tokens {found['tokens']}, time × {s[0] / s[1]:.2f}, peak memory × {m[0] / m[1]:.2f}")  # pyright: ignore


if __name__ == "__main__":
    typer.run(main)
