"""What `bench selftest` shows: the instrument table, and the curve of score against noise as PNG and CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..figure import save_png
from ..files import atomic_write_text
from ..studies.known_truth import Check
from ..studies.selftest import Noisy, Report

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")
"""By organism (Okabe-Ito)."""


def table(report: Report) -> RenderableType:
    """One line a check."""
    shown = Table(
        title=f"{report.protocol} protocol; 95 % intervals in brackets", title_style="dim", title_justify="left"
    )
    for name in ("check", "organism", "expected", "measured", "outcome"):
        shown.add_column(name, justify="right" if name == "measured" else "left")
    for c in report.checks:
        outcome = "ok" if c.ok else "FAILED"
        shown.add_row(c.name, c.organism, c.expected, _measured(c), outcome, style=None if c.ok else "red")
    passed = len(report.checks) - len(report.failed)
    return Group(shown, Text(f"{passed} of {len(report.checks)} checks passed in {report.wall_s:.0f} s", style="dim"))


def _measured(c: Check) -> str:
    if c.measured is None:
        return "no number"
    value = f"{c.measured:.3f}" if c.measured == 0 or abs(c.measured) >= 0.001 else f"{c.measured:.0e}"
    return value if c.low is None or c.high is None else f"{value} [{c.low:.3f}, {c.high:.3f}]"


def save(noise: Sequence[Noisy], folder: Path) -> list[Path]:
    """Write `monotonicity.csv` and `monotonicity.png`; returns their paths."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Noisy.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(n) for n in noise)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "monotonicity.csv", folder / "monotonicity.png"]
    atomic_write_text(paths[0], text.getvalue())
    _plot(noise, paths[1])
    return paths


def _plot(noise: Sequence[Noisy], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    levels = sorted({n.level for n in noise})
    for colour, organism in zip(COLOURS, dict.fromkeys(n.organism for n in noise), strict=False):
        own = [n for n in noise if n.organism == organism]
        means = [np.mean([n.isolation for n in own if n.level == level]) for level in levels]
        axes.plot([levels.index(n.level) for n in own], [n.isolation for n in own], ".", color=colour, alpha=0.4)
        axes.plot(range(len(levels)), means, "o-", color=colour, lw=1.6, ms=4, label=organism)
    axes.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("length of the noise added (the truth has length 1)")
    axes.set_ylabel("isolation")
    axes.set_title("truth without a gate, noise at right angles to it", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    save_png(figure, path)
