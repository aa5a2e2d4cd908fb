"""A sweep of layers: what each layer carries, and what is found there; a table, and the figure that one looks at first.

The oracle's numbers are shares of the gap that exchanging the whole residual closes: what the layer carries at most. The others are scores,
0 = random directions and 1 = that layer's oracle. A layer that carries too little has no scores, and its oracle is shown all the same.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ..records.identity import sha256_json
from ..records.result import Result, Score
from ..records.settings import PROTOCOL_V2
from .cell import ORACLE

MEASURES = ("sufficiency", "necessity", "isolation")
FIGURE = "by_layer"
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of methods, the labelled anchor first (Okabe-Ito, distinguishable without colour vision)."""
SIZE = (10, 3.9)
"""Inches."""
LABELLED = "supervised"


@dataclass(frozen=True)
class Point:
    """One measure of one method at one layer."""

    value: float | None
    low: float | None = None
    high: float | None = None
    """95 % interval; of several seeds, the mean has none, and where a seed has no value, there is no mean."""


def swept(found: Sequence[Result]) -> list[tuple[str, str]]:
    """Pairs that were run at several layers, as (name, hash)."""
    layers = defaultdict[tuple[str, str], set[int]](set)
    for r in found:
        layers[r.identity.pair].add(r.identity.layer)
    return [pair for pair, some in layers.items() if len(some) > 1]


def points(found: Sequence[Result], measure: str) -> dict[str, dict[int, Point]]:
    """{method: {layer: point}} of one organism, the oracle first, then the labelled anchor."""
    values = defaultdict[str, dict[int, list[Point]]](lambda: defaultdict(list))
    for r in sorted(
        found,
        key=lambda r: (ORACLE, LABELLED).index(r.identity.method) if r.identity.method in (ORACLE, LABELLED) else 2,
    ):
        values[r.identity.row][r.identity.layer].append(_point(r, measure))
    return {m: {layer: _mean(some) for layer, some in sorted(at.items())} for m, at in values.items()}


def table(found: Sequence[Result]) -> Table:
    """A row a layer and method."""
    t = Table(
        title="oracle: share of the gap that the layer carries; others: 0 = random directions, 1 = the layer's oracle; [95 % interval]",
        title_style="dim",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    t.add_column("organism", overflow="fold")
    t.add_column("layer", justify="right")
    t.add_column("method", overflow="fold")
    for name in ("isolation", "S", "N"):
        t.add_column(name, justify="right", no_wrap=True)
    t.add_column("", overflow="fold")
    pairs = list(dict.fromkeys(r.identity.pair for r in found))
    for pair in pairs:
        of = [r for r in found if r.identity.pair == pair]
        shared = [name for name, _ in pairs].count(pair[0]) > 1
        name = f"{pair[0]} ({pair[1][:8]})" if shared else pair[0]
        sides = {m: points(of, m) for m in MEASURES}
        for i, layer in enumerate(sorted({r.identity.layer for r in of})):
            if i:
                t.add_section()
            for method in sides["isolation"]:
                if layer not in sides["isolation"][method]:
                    continue
                cells = [sides[m][method][layer] for m in ("isolation", "sufficiency", "necessity")]
                states = {r.status for r in of if (r.identity.row, r.identity.layer) == (method, layer)} - {"ok"}
                style = "dim" if method in (ORACLE, LABELLED) else None
                t.add_row(
                    name,
                    str(layer),
                    method,
                    _interval(cells[0]),
                    *map(_number, cells[1:]),
                    ", ".join(sorted(states)),
                    style=style,
                )
    return t


def save(found: Sequence[Result], folder: Path) -> list[Path]:
    """Write `by_layer-HASH.png` and `.svg` of one organism into `folder`; returns their paths.

    The hash is that of the results' ids: the figure of other results is another file.
    """
    mark = sha256_json(sorted(r.id for r in found))[:8]
    paths = [folder / f"{FIGURE}-{mark}.{suffix}" for suffix in ("png", "svg")]
    if all(path.is_file() for path in paths):
        return paths
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    draw(found, figure)
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "diffbench"}):
        for path in paths:
            figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def draw(found: Sequence[Result], figure: Any) -> None:
    """Draw one organism into an empty figure: a panel a measure, a line a method."""
    panels = figure.subplots(1, len(MEASURES), sharex=True, sharey=True)
    layers = sorted({r.identity.layer for r in found})
    lowest = 0.0
    for axes, measure in zip(panels, MEASURES, strict=True):
        lines = points(found, measure)
        styles = _styles(list(lines))
        for i, (method, at) in enumerate(lines.items()):
            known = {layer: p for layer, p in at.items() if p.value is not None}
            x = [layer + 0.06 * (i - len(lines) / 2) for layer in known] if method != ORACLE else list(known)
            y = [float(p.value or 0) for p in known.values()]
            lowest = min([lowest, *y])
            label = "oracle: share of the gap" if method == ORACLE else method
            axes.plot(x, y, label=label, clip_on=False, **styles[method])
            for at_x, p in zip(x, known.values(), strict=True):
                if p.low is not None and p.high is not None:
                    axes.plot(
                        [at_x] * 2, [max(p.low, -1), min(p.high, 1.1)], color=styles[method]["color"], lw=0.9, alpha=0.6
                    )
        axes.axhline(0, color="0.6", lw=0.8)
        if measure != "isolation":
            least = PROTOCOL_V2.min_oracle
            axes.axhline(least, color="0.6", lw=0.8, ls=(0, (1, 2)), label=f"the oracle must reach {least:g}")
        axes.set_title(measure, fontsize=10)
        axes.set_xlabel("hooked layer")
        axes.set_xticks(layers)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("score (0 random directions, 1 oracle)")
    panels[0].set_ylim(min(lowest - 0.05, -0.05), 1.08)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), fontsize=8, frameon=False)
    figure.suptitle(f"{found[0].identity.organism} by layer", fontsize=11)


def _styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The oracle in grey squares, the labelled anchor in the first colour."""
    colours = iter(COLOURS * (1 + len(methods) // len(COLOURS)))
    if LABELLED not in methods:
        next(colours)
    return {
        m: {"color": "0.25", "ls": (0, (5, 2)), "marker": "s", "ms": 4.5, "lw": 1.4}
        if m == ORACLE
        else {"color": next(colours), "marker": "o", "ms": 4, "lw": 1.6 if m == LABELLED else 1.2}
        for m in methods
    }


def _point(r: Result, measure: str) -> Point:
    if r.identity.method == ORACLE:
        return Point(_carried(r, measure))
    score: Score | None = getattr(r.scores, measure) if r.scores else None
    return Point(None) if score is None else Point(score.value, score.ci_low, score.ci_high)


def _carried(r: Result, measure: str) -> float | None:
    """Share of the gap that the whole residual closes; of isolation, the harmonic mean of the two sides."""
    known = r.failure.oracle if r.failure else None
    sides = {m: getattr(r.scores, m).anchors.oracle if r.scores else (known or {}).get(m) for m in MEASURES[:2]}
    if measure != "isolation":
        return sides[measure]
    s, n = sides.values()
    return None if s is None or n is None else 0.0 if min(s, n) <= 0 else 2 * s * n / (s + n)


def _mean(some: Sequence[Point]) -> Point:
    if len(some) == 1:
        return some[0]
    values = [p.value for p in some if p.value is not None]
    return Point(sum(values) / len(values) if len(values) == len(some) else None)


def _number(p: Point) -> str:
    return "–" if p.value is None else f"{p.value:.2f}"


def _interval(p: Point) -> str:
    return (
        _number(p)
        if p.value is None or p.low is None or p.high is None
        else f"{p.value:.2f} [{p.low:.2f}, {p.high:.2f}]"
    )


def by_organism(found: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    """Each pair that was swept, by its name, with its results."""
    for pair in swept(found):
        yield pair[0], [r for r in found if r.identity.pair == pair]
