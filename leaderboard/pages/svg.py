"""The two drawings of the page as inline SVG: a score with its interval, and dose-response curves.

A curve is drawn by the share of the gap that it closes, so that adding and taking out go the same way and overshoot is seen.

Colours come from the page's style by class; every drawing carries its numbers as a text alternative.
"""

import math
from collections.abc import Sequence

from ...harness.escape import html as escape
from ...harness.records.result import Curve
from ..statistics.rows import Estimate
from .cells import estimate_text, number

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 230, 140, 20, 8, 42, 26
BASE = HEIGHT - BOTTOM
SHARES = (-0.5, 0.0, 0.5, 1.0)
KL_RANGE = (1e-3, 4.0)
"""Ends of the logarithmic KL axis, nats; values beyond are drawn at the end."""
GAIN_RANGE = (-0.5, 1.0)
"""Ends of the axis of what a curve closes of the gap; as above."""
SCORE_RANGE = (-0.5, 1.1)
"""Ends of the scale of a score; as above."""


def interval_bar(name: str, estimate: Estimate, kind: str, mixture: float | None = None) -> str:
    """A point and its 95 % interval on a scale with ticks at 0 (random) and 1 (oracle). Empty without a value.

    `mixture`: what mixtures of differences would score; a dashed tick.
    """
    if estimate.value is None:
        return ""
    second, said = ("", "") if mixture is None else (_tick(mixture, 0, "mark mix"), f"; mixtures {number(mixture)}")
    mark = f'<g class="{kind.split()[0]}">{_ends(estimate)}<circle cx="{_at(estimate.value)}" cy="6" r="2.6"/></g>'
    return _bar(f"{name} {estimate_text(estimate)}{said}", second + mark)


def pair_bar(first: str, a: Estimate, second: str, b: Estimate) -> str:
    """Two scores on the scale of `interval_bar`, joined: the first a filled point, the second an open one."""
    if a.value is None or b.value is None:
        return ""
    line = f'<line class="ci" x1="{_at(a.value)}" x2="{_at(b.value)}" y1="6" y2="6"/>'
    points = f'<circle cx="{_at(a.value)}" cy="6" r="3"/><circle class="open" cx="{_at(b.value)}" cy="6" r="2.6"/>'
    return _bar(f"{first} {estimate_text(a)}, {second} {estimate_text(b)}", f'<g class="method">{line}{points}</g>')


def _bar(label: str, inside: str) -> str:
    return (
        f'<svg class="bar" viewBox="0 0 120 12" role="img" aria-label="{escape(label)}">'
        f'<line class="base" x1="2" x2="118" y1="6" y2="6"/>{_tick(0, 1)}{_tick(1, 1)}{inside}</svg>'
    )


def _ends(estimate: Estimate) -> str:
    _, low, high = estimate
    if low is None or high is None:
        return ""
    return f'<line class="ci" x1="{_at(low)}" x2="{_at(high)}" y1="6" y2="6"/>'


def _tick(at: float, top: int, style: str = "mark") -> str:
    return f'<line class="{style}" x1="{_at(at)}" x2="{_at(at)}" y1="{top}" y2="{12 - top}"/>'


def _at(score: float) -> str:
    first, last = SCORE_RANGE
    return f"{2 + 116 * (min(max(score, first), last) - first) / (last - first):.1f}"


def dose_response(title: str, curves: Sequence[Curve], b0: float, b1: float) -> str:
    """Share of the gap that is closed against KL, one line per intervention; dotted levels at the unedited and at the other model."""
    lines: list[str] = []
    for curve in curves:
        points = [(_x(kl), _y(gain)) for kl, gain in zip(curve.kl_nats, curve.gain, strict=False)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        alone = len(points) == 1  # ablation has one strength
        shape = (
            f'circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3"' if alone else f'polyline points="{path}"'
        )
        best, where = number(max(curve.gain, default=0.0)), "gated" if curve.gated else "constant"
        label = f"{curve.op}, k = {curve.k}, {where}: at most {best} of the gap"
        style = curve.op + (" gated" if curve.gated else "")
        opacity = {1: 0.4, 3: 0.7}.get(curve.k, 1)
        tag = "circle" if alone else "polyline"
        lines.append(f'<{shape} class="{style}" opacity="{opacity}"><title>{label}</title></{tag}>')
    grid = [f'<line class="grid" x1="{_x(t):.1f}" x2="{_x(t):.1f}" y1="{TOP}" y2="{BASE}"/>' for t in (0.01, 0.1, 1.0)]
    grid += [f'<text x="{_x(t):.1f}" y="{BASE + 11}" text-anchor="middle">{t:g}</text>' for t in (0.01, 0.1, 1.0)]
    grid += [f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(r):.1f}" y2="{_y(r):.1f}"/>' for r in SHARES]
    grid += [f'<text x="{LEFT - 4}" y="{_y(r) + 3:.1f}" text-anchor="end">{r:g}</text>' for r in SHARES]
    for name, level in (("unedited", 0.0), ("other", 1.0)):
        grid.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(level):.1f}" y2="{_y(level):.1f}"/>')
        grid.append(f'<text x="{WIDTH - RIGHT + 2}" y="{_y(level) + 3:.1f}">{name}</text>')
    axis = f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 3}" text-anchor="middle">KL, nats a token</text>'
    label = escape(_summary(title, curves, b0, b1))
    return (
        f'<svg class="dose" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(grid)}{axis}{''.join(lines)}</svg>"
    )


def _x(kl_nats: float) -> float:
    low, high = map(math.log10, KL_RANGE)
    share = (math.log10(min(max(kl_nats, KL_RANGE[0]), KL_RANGE[1])) - low) / (high - low)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(gain: float) -> float:
    low, high = GAIN_RANGE
    return BASE - (min(max(gain, low), high) - low) / (high - low) * (BASE - TOP)


def _summary(title: str, curves: Sequence[Curve], b0: float, b1: float) -> str:
    """The picture in words."""
    added = [gain for c in curves if c.op == "add" for gain in c.gain]
    taken = [gain for c in curves if c.op in ("subtract", "ablate") for gain in c.gain]
    text = f"{title}: behaviour rate of the base {number(b0)}, of the fine-tuned model {number(b1)}"
    text += f"; adding closes at most {number(max(added))} of the gap" if added else ""
    return text + (f"; taking out closes at most {number(max(taken))}" if taken else "")
