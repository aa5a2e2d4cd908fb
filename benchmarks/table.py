"""`python -m benchmarks.table docs/performance.json`: the record as Markdown, written between the markers of the page beside it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from .records import Performance, Row, Timing

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def markdown(measured: Performance) -> str:
    """Where, the table, the profile."""
    here = measured.machine
    head = (
        f"{here.cpu}, {here.cores} cores, torch {here.torch} on {here.threads} thread{'s' * (here.threads != 1)}; "
        f"{here.gpu or 'no GPU'}; load at the start {here.load:.2f}; medians of {measured.repetitions} interleaved "
        "repetitions, lowest and highest in brackets, milliseconds per unit."
    )
    rows = [*measured.rows, *([measured.gpu.row] if measured.gpu else [])]
    parts = [head, _table(("work", "ours", "against", "ms", "speed-up", "goal", "met", "largest difference"), rows)]
    if gpu := measured.gpu:
        parts.append(
            f"GPU: {gpu.tokens_per_s:,.0f} tokens/s; the floor (bf16 encode and fused Adam alone) is {_ms(gpu.floor_ms)} ms, "
            f"{gpu.share_of_floor:.0%} of the step."
        )
    else:
        parts.append("The step at Gemma-2-2B shape needs a GPU: not measured.")
    if measured.skipped:
        parts.append("Left out: " + "; ".join(f"{name} ({reason})" for name, reason in measured.skipped.items()) + ".")
    parts += [
        f"Where our step's processor time goes, {name}: "
        + ", ".join(f"`{op}` {share:.0%}" for op, share in ops.items())
        for name, ops in measured.profile.items()
    ]
    return "\n\n".join(parts) + "\n"


def _table(columns: Iterable[str], rows: Iterable[Row]) -> str:
    lines = [tuple(columns), ("---",) * 8]
    for row in rows:
        (ours, own), *others = row.timings.items()
        differences = ", ".join(f"{what} {gap:.0e}" for what, gap in row.agreement.items())
        for i, (name, timing) in enumerate(others):
            speedup = row.speedup[name]
            goal, met = (f"≥ {row.goal:g}×", "yes" if speedup >= row.goal else "**no**") if i == 0 else ("", "")
            first = (f"{row.name} (per {row.unit})", f"{ours}: {_ms(own)}") if i == 0 else ("", "")
            lines.append((*first, name, _ms(timing), f"{speedup:.1f}×", goal, met, differences if i == 0 else ""))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ms(timing: Timing) -> str:
    return f"{timing.median_ms:.3g} [{timing.low_ms:.3g}, {timing.high_ms:.3g}]"


def insert(page: str, table: str, first: str = BEGIN, last: str = END) -> str:
    """`page` with the table between its markers.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end) or first in after or last in before + after:
        raise ValueError(f"the page must hold {first} and, after it, {last}, once each")
    return f"{before}{first}\n{table}{last}{after}"


def main(record: Annotated[Path, typer.Argument(help="What `python -m benchmarks.run` wrote.")]) -> None:
    """Print the table and write it into the page of the same name (performance.md), if there is one."""
    table = markdown(Performance.model_validate_json(record.read_text()))
    page = record.with_suffix(".md")
    if page.exists():
        page.write_text(insert(page.read_text(), table))
    typer.echo(table)


if __name__ == "__main__":
    typer.run(main)
