"""`python -m benchmarks.ablation`: Delta's four ingredients as published, each switched off alone, all off, and all on.

Cells run as `bench run` runs them, into run folders, so an interrupted study goes on where it stopped. The table is written between
the markers of docs/ablation.md, the numbers behind it to docs/ablation.json.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.protocol.intervals import interval
from diffbench.harness.records.result import Result
from diffbench.harness.runs.run import plan, run
from diffbench.harness.terminal import silenced
from diffbench.harness.views.progress import RunDisplay
from diffbench.leaderboard.statistics.resample import organism_draws, point_scores
from diffbench.methods.catalogue import PUBLISHED
from diffbench.methods.registry import load_method
from diffbench.organisms.registry import load_organism

from .table import insert

ORGANISMS = (
    "taboo/gold-narrow",
    "taboo/gold-mixed",
    "emergent_misalignment/remedies-narrow",
    "false_facts/arlen-narrow",
    "subliminal/fox-narrow",
)
OFF: dict[str, dict[str, Any]] = {
    "delta": {},
    "no Dual-K": {"dual_k": False},
    "no masking": {"mask_shared": False},
    "no delta loss": {"delta": 0.0},
    "no contrastive text": {"contrastive_share": 0.0},
    "none of the four": {"dual_k": False, "mask_shared": False, "delta": 0.0, "contrastive_share": 0.0},
}
"""Variants by what is switched off. The last is a BatchTopK crosscoder with the same total budget of codes."""
DRAWS = 10_000


def main(
    runs: Annotated[Path, typer.Option(help="Folder of run folders; finished cells are not run again.")] = Path(
        "runs/ablation"
    ),
    organisms: Annotated[str, typer.Option(help="Comma list.")] = ",".join(ORGANISMS),
    seeds: Annotated[str, typer.Option(help="Comma list of method seeds.")] = "0,1,2",
    settings: Annotated[str, typer.Option(help="JSON of options that all variants share.")] = "{}",
    out: Annotated[Path, typer.Option(help="Record; the page beside it gets the table.")] = Path("docs/ablation.json"),
) -> None:
    """Run what is missing and write the table."""
    names, numbers = organisms.split(","), [int(s) for s in seeds.split(",")]
    entry = load_method("delta")
    whole = {**PUBLISHED["delta"], **json.loads(settings)}
    variants = {name: entry.configure({**whole, **off}) for name, off in OFF.items()}
    cells: dict[tuple[str, str], list[Result]] = {}
    todo = plan([load_organism(n) for n in names], [(entry, c) for c in variants.values()], numbers, runs)
    which = {json.dumps(c.model_dump(mode="json"), sort_keys=True): name for name, c in variants.items()}
    with silenced(False), RunDisplay(todo, quiet=False) as display:
        for result in run(todo, display, lambda: ""):
            name = which[json.dumps(result.identity.config, sort_keys=True)]
            cells.setdefault((result.identity.organism, name), []).append(result)
    record = {
        "protocol": next(r.identity.protocol for of in cells.values() for r in of),
        "settings": json.loads(settings),
        "seeds": numbers,
        "rows": list(_rows(cells, names)),
    }
    atomic_write_text(out, json.dumps(record, indent=1) + "\n")
    page = out.with_suffix(".md")
    if page.is_file():
        atomic_write_text(page, insert(page.read_text(), markdown(record)))
    typer.echo(markdown(record))


def _rows(cells: dict[tuple[str, str], list[Result]], names: list[str]) -> Iterator[dict[str, Any]]:
    """For each organism and over all: isolation of every variant, and its difference from the whole method, with intervals.

    The bootstrap draws prompts, controls and method seeds, the same for all variants, so differences are paired. Over all
    organisms it is the mean of these few: they are not drawn, so the interval speaks of them alone.
    """
    values = {o: {v: point_scores(cells[o, v])[0] for v in OFF} for o in names}
    draws = {
        o: {v: d.drawn[0] for v, d in organism_draws({v: cells[o, v] for v in OFF}, o, DRAWS, 0).items()} for o in names
    }
    if len(names) > 1:
        values["mean"] = {v: float(np.mean([values[o][v] for o in names])) for v in OFF}
        draws["mean"] = {v: np.mean([draws[o][v] for o in names], axis=0) for v in OFF}
    for where, of in values.items():
        for variant, value in of.items():
            apart = draws[where][variant] - draws[where]["delta"]
            yield {
                "organism": where,
                "variant": variant,
                "isolation": float(value),
                "interval": interval(draws[where][variant]),
                "difference": float(value - of["delta"]),
                "difference_interval": interval(apart),
            }


def markdown(record: dict[str, Any]) -> str:
    """One row an organism, one column a variant: isolation, and below it the paired difference from the whole method."""
    rows = record["rows"]
    lines = ["| organism | " + " | ".join(OFF) + " |", "|---" * (len(OFF) + 1) + "|"]
    for name in dict.fromkeys(r["organism"] for r in rows):
        of = {r["variant"]: r for r in rows if r["organism"] == name}
        cells = [
            f"{_bracketed(r['isolation'], r['interval'])}"
            + (f"<br>{_bracketed(r['difference'], r['difference_interval'], '+')}" if v != "delta" else "")
            for v, r in of.items()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    seeds = f"method seeds {', '.join(map(str, record['seeds']))}; second line: difference from delta, paired."
    return "\n".join([*lines, "", f"Protocol {record['protocol']}, {seeds}", ""])


def _bracketed(value: float, ends: list[float], sign: str = "") -> str:
    return f"{value:{sign}.2f} [{ends[0]:{sign}.2f}, {ends[1]:{sign}.2f}]"


if __name__ == "__main__":
    logging.getLogger("diffbench").setLevel(logging.WARNING)
    typer.run(main)
