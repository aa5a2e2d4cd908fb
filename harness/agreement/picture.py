"""The heat map of a comparison: rows look for their best partner in columns, above what random rows with the same second moment give."""

from pathlib import Path
from typing import Any

from ..figure import save_png
from .comparing import Comparison
from .terminal import letter

NAMES = 60
"""Longest name beside the map; a longer one shows its end."""


def save(c: Comparison, path: Path) -> None:
    """Write a PNG; one map of cosines, and one of activation correlations if they were measured."""
    from matplotlib.figure import Figure

    n = len(c.dictionaries)
    maps = [("mean max cosine above alike rows", "cosine")]
    if c.text_tokens:
        maps.append(("mean max activation correlation above moved text", "firing"))
    side = 1.6 + 0.55 * n
    figure = Figure(figsize=(len(maps) * (side + 1.4), side + 0.6), layout="constrained")
    axes: Any = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, (title, what) in zip(axes, maps, strict=True):
        _map(ax, c, title, what, figure)
    names = [f"{letter(i)}  {_end(d.name)}" for i, d in enumerate(c.dictionaries)]
    wide = max(map(len, names)) + 3
    across = max(1, min(n, int(figure.get_figwidth() * 12 / wide)))
    legend = "\n".join("".join(x.ljust(wide) for x in names[i : i + across]) for i in range(0, n, across))
    figure.supxlabel(legend, x=0.01, ha="left", fontsize=8, family="monospace")
    save_png(figure, path, dpi=100)


def _map(ax: Any, c: Comparison, title: str, what: str, figure: Any) -> None:
    import numpy as np

    n = len(c.dictionaries)
    values = np.full((n, n), np.nan)
    for p in c.pairs:
        for i, j, both in ((p.a, p.b, getattr(p, f"{what}_ab")), (p.b, p.a, getattr(p, f"{what}_ba"))):
            if both is not None:
                values[i, j] = both.above if both.above_alike is None else both.above_alike
    top = max(0.01, float(np.nanmax(values)))
    image = ax.imshow(values, cmap="viridis", vmin=0, vmax=top)
    for i in range(n):
        for j in range(n):
            if i != j:
                dark = values[i, j] < 0.6 * top
                ax.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
    ticks = [letter(i) for i in range(n)]
    ax.set_xticks(range(n), ticks)
    ax.set_yticks(range(n), ticks)
    ax.set_xlabel("in the latents of", fontsize=8)
    ax.set_ylabel("best partner of the latents of", fontsize=8)
    ax.set_title(title, fontsize=9)
    figure.colorbar(image, ax=ax, fraction=0.046, pad=0.04)


def _end(name: str) -> str:
    return name if len(name) <= NAMES else f"(…) {name[-NAMES:]}"
