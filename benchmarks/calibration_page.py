"""The calibration study as a page: its record, and its figures and tables between the markers of docs/calibration.md."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from diffbench.harness.figure import save_png
from diffbench.harness.protocol.intervals import interval
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .records import Record as _Record

Study = Literal["angle", "noise", "rank", "dose"]
GATES = {"absent": "no gate", "right": "right gate", "wrong": "wrong gate"}
FIGURES = {
    "calibration": "Isolation against causal share",
    "calibration-angle": "Isolation against the angle",
    "calibration-noise-rank": "Noise and distractors",
    "calibration-dose": "Share of the gap closed against the strength",
}
"""By file name, with what each shows."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe-Ito."""
MARKS = ("o", "s", "^")


class Point(_Record):
    """One set of findings, scored."""

    organism: str
    study: Study
    x: float
    """Cosine of finding and truth, length of the noise, rank of the truth, or strength, the best one being 1."""
    series: str
    """Gate, number of findings, the k the protocol was held to, or what is done."""
    seed: int
    causal_share: float
    """Share of the gap that closes when only the part of the difference in the span of the findings is exchanged."""
    isolation: float | None
    """None where one strength was looked at, of which `sufficiency` or `necessity` is the share of the gap that it closes."""
    low: float | None
    """95 % interval of the isolation, over prompts and controls."""
    high: float | None
    sufficiency: float | None
    necessity: float | None


class Record(_Record):
    """The whole study."""

    protocol: dict[str, Any]
    score_seed: int
    points: list[Point]


def mean_interval(values: Sequence[float], draws: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval over values."""
    x = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).choice(x, (draws, len(x))).mean(1)
    return float(x.mean()), *interval(drawn)


def _isolation(p: Point) -> float:
    """A score without a scale counts as nothing found."""
    return p.isolation or 0.0


def _share(p: Point) -> float:
    return p.causal_share


def _closed(p: Point) -> float:
    """Share of the gap that a strength closes on its side."""
    closed = p.necessity if p.sufficiency is None else p.sufficiency
    return closed or 0.0


def markdown(record: Record) -> str:
    """The figures, where it was measured and the tables."""
    points, names = record.points, list(dict.fromkeys(p.organism for p in record.points))
    seeds = len({p.seed for p in points if p.study == "noise"})
    p = record.protocol
    head = (
        f"{len(points)} sets of findings on {', '.join(f'`{n}`' for n in names)}; {p['controls']} random controls (seed "
        f"{record.score_seed}), {p['draws']:,} bootstrap draws within a cell. Every entry is a mean over organisms and {seeds} "
        f"seed{'s' * (seeds != 1)} of the random part (0 to {seeds - 1}), with a 95 % bootstrap interval over these values."
    )
    figures = "\n".join(f"![{what}](figures/{name}.png)" for name, what in FIGURES.items())
    parts = [figures, head, "**Angle.** One finding at an angle to the truth."]
    parts.append(_table(points, "angle", "cosine", GATES, share="absent"))
    for name in names:
        parts += [
            f"The same on `{name}`:",
            _table([q for q in points if q.organism == name], "angle", "cosine", GATES, share="absent"),
        ]
    ten = list(dict.fromkeys(q.series for q in points if q.study == "noise"))
    parts += [
        "**Noise.** The truth (length 1) with noise at right angles: one such finding, or ten with independent noise, no gate.",
        _table(points, "noise", "length of the noise", {s: s for s in ten}, share=ten[0]),
    ]
    held = list(dict.fromkeys(q.series for q in points if q.study == "rank"))
    parts += [
        "**Distractors.** Ten findings without a gate, nine of them random, the truth at a rank; one k alone, or all.",
        _table(points, "rank", "rank of the truth", {s: s for s in held}),
        "**Dose.** The truth without a gate, at a multiple of the strength that closes most; no budget.",
        _table(points, "dose", "dose", {s: s for s in dict.fromkeys(q.series for q in points if q.study == "dose")}),
    ]
    return "\n\n".join(parts) + "\n"


def _table(points: Sequence[Point], study: Study, x: str, series: dict[str, str], share: str | None = None) -> str:
    """One line an x; a column for the causal share of one series, and one for the isolation of each."""
    own = [p for p in points if p.study == study]
    what, get = ("share of the gap closed", _closed) if study == "dose" else ("isolation", _isolation)
    columns: list[tuple[str, str, Callable[[Point], float]]] = [
        (s, f"{what}, {label}", get) for s, label in series.items()
    ]
    if share:
        columns.insert(0, (share, "causal share" if study == "angle" else f"causal share, {share}", _share))
    lines = [(x, *(title for _, title, _ in columns)), ("---:",) * (len(columns) + 1)]
    for value in dict.fromkeys(p.x for p in own):
        entries = [_entry([get(p) for p in own if (p.x, p.series) == (value, s)]) for s, _, get in columns]
        lines.append((f"{value:g}", *entries))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _entry(values: Sequence[float]) -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:.2f}" if len(values) == 1 else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def draw(points: Sequence[Point], folder: Path) -> list[Path]:
    """Write the figures; returns their paths."""
    paths = [folder / f"{name}.png" for name in FIGURES]
    for path, drawn in zip(paths, (_against_share, _angles, _noise_and_rank, _doses), strict=True):
        save_png(drawn(points), path)
    return paths


def _against_share(points: Sequence[Point]) -> Figure:
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    names = list(dict.fromkeys(p.organism for p in points))
    for axes, gate in zip(figure.subplots(1, 2, sharey=True), ("absent", "right"), strict=True):
        axes.plot([0, 1], [0, 1], ":", color="0.5", lw=1)
        for name, colour, mark in zip(names, COLOURS, MARKS, strict=False):
            own = [p for p in points if (p.organism, p.study, p.series) == (name, "angle", gate)]
            axes.plot(
                [_share(p) for p in own], [_isolation(p) for p in own], mark, color=colour, ms=5, alpha=0.7, label=name
            )
        _dress(axes, f"one finding, {GATES[gate]}", "causal share of the finding")
    figure.axes[0].set_ylabel("isolation (protocol v2)")
    figure.axes[1].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _angles(points: Sequence[Point]) -> Figure:
    names = list(dict.fromkeys(p.organism for p in points))
    figure = Figure(figsize=(3.4 * len(names) + 1, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        own = [p for p in points if (p.organism, p.study) == (name, "angle")]
        _lines(axes, own, {s: GATES[s] for s in GATES}, _isolation)
        shares = [p for p in own if p.series == "absent"]
        x = sorted({p.x for p in shares})
        axes.plot(
            x,
            [np.mean([_share(p) for p in shares if p.x == v]) for v in x],
            "--",
            color="0.35",
            lw=1.2,
            label="causal share",
        )
        _dress(axes, name, "cosine of finding and truth")
    figure.axes[0].set_ylabel("isolation")
    figure.axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _noise_and_rank(points: Sequence[Point]) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, study, x, title in (
        (left, "noise", "length of the noise (the truth has length 1)", "noisy findings, no gate"),
        (right, "rank", "rank of the truth among ten findings", "nine random distractors, no gate"),
    ):
        own = [p for p in points if p.study == study]
        _lines(axes, own, {s: s for s in dict.fromkeys(p.series for p in own)}, _isolation)
        _dress(axes, title, x)
        axes.set_xscale("log")
        ticks = sorted({p.x for p in own})
        axes.set_xticks(ticks, [f"{v:g}" for v in ticks])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=8)
    left.set_ylabel("isolation")
    return figure


def _doses(points: Sequence[Point]) -> Figure:
    own = [p for p in points if p.study == "dose"]
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    _lines(axes, own, {s: s for s in dict.fromkeys(p.series for p in own)}, _closed)
    _dress(axes, "the truth, no gate, no budget", "dose (1: the best strength)")
    axes.axhline(0, color="0.5", lw=0.8)
    axes.set_ylim(-1.05, 1.05)
    axes.set_xscale("log")
    ticks = sorted({p.x for p in own})
    axes.set_xticks(ticks, [f"{v:g}" for v in ticks])
    axes.minorticks_off()
    axes.set_ylabel("share of the gap closed")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _lines(axes: Axes, points: Sequence[Point], series: dict[str, str], get: Callable[[Point], float]) -> None:
    """Mean and interval over organisms and seeds, one line a series, thinner and thinner so that equal lines both show."""
    for i, (key, label) in enumerate(series.items()):
        colour, mark, width = COLOURS[i], (*MARKS, "D")[i], (3.2, 2.2, 1.3, 1.0)[i]
        x = sorted({p.x for p in points if p.series == key})
        found = np.array([mean_interval([get(p) for p in points if (p.series, p.x) == (key, v)]) for v in x])
        axes.fill_between(x, found[:, 1], found[:, 2], color=colour, alpha=0.15, lw=0)
        axes.plot(x, found[:, 0], f"{mark}-", color=colour, lw=width, ms=2.5 + 2 * width, label=label)


def _dress(axes: Axes, title: str, x: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylim(-0.03, 1.05)
    axes.spines[["top", "right"]].set_visible(False)
