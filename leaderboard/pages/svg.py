"""The two drawings of the page as inline SVG: a score with its interval, and dose-response curves.

Colours come from the page's style by class; every drawing carries its numbers as a text alternative.
"""

import math
from collections.abc import Sequence

from ...harness.escape import html as escape
from ...harness.records.result import Curve
from ..statistics.rows import Estimate
from .text_formats import estimate_text, number

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 230, 140, 18, 8, 30, 26
KL_RANGE = (1e-3, 4.0)
"""Ends of the logarithmic KL axis, nats; values beyond are drawn at the end."""


def interval_bar(name: str, estimate: Estimate, kind: str) -> str:
    """A point and its 95 % interval on a scale with ticks at 0 (random) and 1 (oracle). Empty without a value."""
    value, low, high = estimate
    if value is None:
        return ""

    def x(score: float) -> str:
        return f"{20 + 90 * min(max(score, -0.2), 1.1):.1f}"

    ends = (
        f'<line class="ci" x1="{x(low)}" x2="{x(high)}" y1="6" y2="6"/>' if low is not None and high is not None else ""
    )
    return (
        f'<svg class="bar" viewBox="0 0 120 12" role="img" aria-label="{escape(name)} {estimate_text(estimate)}">'
        '<line class="base" x1="2" x2="119" y1="6" y2="6"/><line class="mark" x1="20" x2="20" y1="1" y2="11"/>'
        '<line class="mark" x1="110" x2="110" y1="1" y2="11"/>'
        f'<g class="{kind.split()[0]}">{ends}<circle cx="{x(value)}" cy="6" r="2.6"/></g></svg>'
    )


def dose_response(title: str, curves: Sequence[Curve], b0: float, b1: float) -> str:
    """Behaviour rate against KL, one line per intervention; dotted levels at the base's and the organism's rate."""
    lines: list[str] = []
    for curve in curves:
        points = [(_x(kl), _y(rate)) for kl, rate in zip(curve.kl_nats, curve.rate, strict=False)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        alone = len(points) == 1  # an exchanged residual has one strength
        shape = (
            f'circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3"' if alone else f'polyline points="{path}"'
        )
        label = f"{curve.op}, k = {curve.k}, {'gated' if curve.gated else 'constant'}"
        style = curve.op + (" gated" if curve.gated else "")
        opacity = {1: 0.4, 3: 0.7}.get(curve.k, 1)
        tag = "circle" if alone else "polyline"
        lines.append(f'<{shape} class="{style}" opacity="{opacity}"><title>{label}</title></{tag}>')
    grid = [f'<line class="grid" x1="{_x(t):.1f}" x2="{_x(t):.1f}" y1="{TOP}" y2="{_y(0)}"/>' for t in (0.01, 0.1, 1.0)]
    grid += [f'<text x="{_x(t):.1f}" y="{_y(0) + 11}" text-anchor="middle">{t:g}</text>' for t in (0.01, 0.1, 1.0)]
    grid += [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(r)}" y2="{_y(r)}"/>' for r in (0.0, 0.5, 1.0)
    ]
    grid += [f'<text x="{LEFT - 4}" y="{_y(r) + 3}" text-anchor="end">{r:g}</text>' for r in (0.0, 0.5, 1.0)]
    for name, level in (("base", b0), ("tuned", b1)):
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


def _y(rate: float) -> float:
    return TOP + (1 - rate) * (HEIGHT - TOP - BOTTOM)


def _summary(title: str, curves: Sequence[Curve], b0: float, b1: float) -> str:
    """The picture in words."""
    added = [rate for c in curves if c.op == "add" for rate in c.rate]
    taken = [rate for c in curves if c.op in ("subtract", "project") for rate in c.rate]
    text = f"{title}: behaviour rate of the base {number(b0)}, of the fine-tuned model {number(b1)}"
    text += f"; adding reaches {number(max(added))}" if added else ""
    return text + (f"; taking out reaches {number(min(taken))}" if taken else "")
