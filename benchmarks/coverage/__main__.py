"""`python -m benchmarks.coverage`: how often the intervals of simulated cells and tables contain the truth.

Numbers go to docs/coverage.json, the tables of docs/coverage.md stand between its markers; the rule above them was there first.
"""

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
from diffbench.harness.files import atomic_write_text

from ..table import insert
from . import cells, tables
from .tables import Grid
from .world import SCORES, Layout, Truth

LOW, HIGH = 0.92, 0.98
ENOUGH, ENOUGH_FAMILIES = 12, 7
"""Templates and families from which the goal must be met."""
LAYOUTS = (
    *(Layout(n, (1, 8), icc) for n in (12, 20, 40) for icc in (0.0, 0.5, 0.9)),
    *(Layout(20, sizes, icc) for sizes in ((1, 1), (8, 8)) for icc in (0.0, 0.9)),
    *(Layout(n, (1, 8), 0.9, 64) for n in (12, 40)),
    *(Layout(n, (1, 8), icc) for n in (2, 3, 5, 8) for icc in (0.0, 0.9)),
)
TABLE = Layout(16, (1, 4), 0.9)
GRIDS = (
    Grid(7, (2, 7), 3, TABLE),
    Grid(14, (2, 2), 1, TABLE),
    Grid(14, (2, 2), 3, TABLE),
    Grid(14, (1, 4), 3, TABLE),
    Grid(20, (2, 3), 3, TABLE),
)
Row = dict[str, Any]


def main(
    out: Annotated[Path, typer.Option(help="Record; the page beside it gets the tables.")] = Path("docs/coverage.json"),
    repetitions: Annotated[int, typer.Option(help="Of every cell and table.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
) -> None:
    """Simulate, count, write."""
    began, truth = time.process_time(), Truth()
    record = {
        "repetitions": repetitions,
        "seed": seed,
        "cells": [row for i, x in enumerate(LAYOUTS) for row in cells.measured(x, truth, repetitions, 1000 * seed + i)],
        "tables": [row for i, x in enumerate(GRIDS) for row in tables.measured(x, truth, repetitions, 1000 * seed + i)],
    }
    record["cpu_s"] = round(time.process_time() - began)
    atomic_write_text(out, json.dumps(packed(record), separators=(",", ":")).replace("]]]", "]]]\n") + "\n")
    page, text = out.with_suffix(".md"), markdown(record)
    if page.is_file():
        atomic_write_text(page, insert(page.read_text(), text))
    typer.echo(text)


def packed(record: Row) -> Row:
    """With each list of rows as the values that a column has and, by row, which of them: a fifth of the size."""
    found = dict(record)
    for part in ("cells", "tables"):
        rows: list[Row] = record[part]
        keys = {name: list(dict.fromkeys(json.dumps(r[name]) for r in rows)) for name in rows[0]}
        table = [[values.index(json.dumps(r[name])) for name, values in keys.items()] for r in rows]
        found[part] = {"values": {n: [json.loads(v) for v in of] for n, of in keys.items()}, "rows": table}
    return found


def unpacked(found: Row) -> Row:
    """The record that was `packed`."""
    record = dict(found)
    for part in ("cells", "tables"):
        values = found[part]["values"]
        record[part] = [
            {n: of[i] for (n, of), i in zip(values.items(), row, strict=True)} for row in found[part]["rows"]
        ]
    return record


def markdown(record: Row) -> str:
    """The choice, the chosen interval in every scenario, too few templates, tables."""
    enough = [r for r in record["cells"] if r["templates"] >= ENOUGH]
    few = [r for r in record["cells"] if r["templates"] < ENOUGH]
    deciding = [r for r in enough if decides(r)]
    floor = [r for r in enough if not decides(r)]
    used = chosen(deciding, cells.CANDIDATES)
    tabled = [r for r in record["tables"] if r["interval"] in tables.CANDIDATES]
    beside = [r for r in record["tables"] if r["interval"] not in tables.CANDIDATES]
    return (
        "\n\n".join(
            [
                f"{record['repetitions']:,} repetitions each (standard error at 95 %: half a point), {record['cpu_s']:,} s on one core.",
                f"**Cells.** By the rule: {used}.",
                candidates_table(deciding, cells.CANDIDATES),
                f"{used[0].upper()}{used[1:]}, lowest and highest coverage over the methods:",
                scenario_table([r for r in deciding if r["interval"] == used]),
                f"Isolation of a method that finds nothing, whose truth is 0: {span([r for r in floor if r['interval'] == used])}.",
                f"Fewer templates than {ENOUGH}, the same interval:",
                scenario_table([r for r in few if r["interval"] == used and decides(r)]),
                f"**Tables.** By the rule: {chosen(tabled, tables.CANDIDATES)}.",
                candidates_table(tabled, tables.CANDIDATES),
                grid_table(tabled, tables.CANDIDATES),
                "Beside them, the interval of a contrast (`contrasts.flip_interval`) and the interval on this set:",
                grid_table(beside, tuple(dict.fromkeys(r["interval"] for r in beside))),
            ]
        )
        + "\n"
    )


def decides(row: Row) -> bool:
    """Whether the truth is not 0 by definition."""
    return (row["method"], row["score"]) != ("none", "isolation")


def chosen(rows: Sequence[Row], candidates: Sequence[str]) -> str:
    """The first candidate that meets the goal everywhere, else the one that comes nearest; of two within half a point, the narrower."""
    for name in candidates:
        if all(LOW <= r["coverage"] <= HIGH for r in rows if r["interval"] == name):
            return name
    nearest = min(worst(rows, name) for name in candidates)
    return min((c for c in candidates if worst(rows, c) <= nearest + 0.005), key=lambda c: width(rows, c))


def worst(rows: Sequence[Row], name: str) -> float:
    """The largest distance of a coverage from 95 %."""
    return max(abs(r["coverage"] - 0.95) for r in rows if r["interval"] == name)


def width(rows: Sequence[Row], name: str) -> float:
    """Mean width."""
    return fmean(r["width"] for r in rows if r["interval"] == name)


def candidates_table(rows: Sequence[Row], candidates: Sequence[str]) -> str:
    """One row a candidate."""
    body: list[tuple[str, ...]] = []
    for name in candidates:
        own = [r for r in rows if r["interval"] == name]
        met = sum(LOW <= r["coverage"] <= HIGH for r in own)
        body.append(
            (
                name,
                span(own),
                percent(fmean(r["coverage"] for r in own)),
                f"{met} of {len(own)}",
                f"{width(own, name):.3f}",
            )
        )
    return table(("interval", "lowest – highest coverage", "mean", "within 92–98 %", "mean width"), body)


def scenario_table(rows: Sequence[Row]) -> str:
    """One row a layout, one column a score."""
    keys = ("templates", "sizes", "icc", "controls")
    layouts = list(dict.fromkeys(tuple(map(str, (r[k] for k in keys))) for r in rows))
    body: list[tuple[str, ...]] = []
    for layout in layouts:
        own = [r for r in rows if tuple(map(str, (r[k] for k in keys))) == layout]
        low, high = own[0]["sizes"]
        prompts = str(low) if low == high else f"{low}–{high}"
        body.append((layout[0], prompts, *layout[2:], *(span([r for r in own if r["score"] == s]) for s in SCORES)))
    return table(("templates", "prompts in each", "ICC", "controls", *SCORES), body)


def grid_table(rows: Sequence[Row], names: Sequence[str]) -> str:
    """One row a table, one column an interval and score."""
    keys = ("families", "organisms", "seeds")
    columns = [(n, s) for n in names for s in dict.fromkeys(r["score"] for r in rows if r["interval"] == n)]
    body: list[tuple[str, ...]] = []
    for grid in dict.fromkeys(tuple(r[k] for k in keys) for r in rows):
        own = {(r["interval"], r["score"]): percent(r["coverage"]) for r in rows if tuple(r[k] for k in keys) == grid}
        body.append((*map(str, grid), *(own.get(c, "–") for c in columns)))
    return table((*keys, *(f"{n}: {s}" for n, s in columns)), body)


def table(heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *body))


def span(rows: Sequence[Row]) -> str:
    """Lowest and highest coverage."""
    found = [r["coverage"] for r in rows]
    low, high = percent(min(found)), percent(max(found))
    return low if low == high else f"{low} – {high}"


def percent(share: float) -> str:
    """One decimal, bold outside the goal."""
    text = f"{100 * share:.1f}"
    return text if LOW <= share <= HIGH else f"**{text}**"


if __name__ == "__main__":
    typer.run(main)
