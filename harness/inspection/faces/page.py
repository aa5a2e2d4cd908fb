"""A report as one self-contained page: no script, no font and no picture from elsewhere, and every text escaped.

Which model colours the tokens is a choice on the page, made in the style sheet: each token carries its step in both.
"""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from ...escape import plain
from ...records.result import Curve
from ..report import KINDS, Histogram, Report
from .words import at_work, curve_lines, curve_name, explained_lines, four, how_active, parted, won_line

WIDTH, HEIGHT, LEFT, BOTTOM = 520, 150, 34, 18
"""Of a plot, in its own units, and its margins."""

FOLDER = Path(__file__).parent
STYLE = "report.css"
"""Of a report; the colours are the page's."""


def page(report: Report, numbers: Sequence[int]) -> str:
    """The report with some of its findings (numbers from 1) as HTML."""
    css = "".join((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", STYLE))
    return _environment().get_template("page.html").render(css=Markup(css), **_told(report, numbers))


def body(report: Report, numbers: Sequence[int]) -> Markup:
    """The same without a page around it, for an element of class `report` on a page that has the style (`STYLE`) and its colours."""
    return Markup(_environment().get_template("report.html").render(**_told(report, numbers)))


@functools.cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(FOLDER), autoescape=True, finalize=_shown, trim_blocks=True)


def _told(report: Report, numbers: Sequence[int]) -> dict[str, Any]:
    rest = [str(f.number) for f in report.findings if f.number not in numbers]
    sides = {"added to the base": ("add",), "taken out of the organism": ("subtract", "ablate")}
    return {
        "r": report,
        "findings": [f for f in report.findings if f.number in numbers],
        "rest": "-".join(dict.fromkeys((rest[0], rest[-1]))) if rest else "",
        "kinds": KINDS,
        "panels": [(title, [c for c in report.curves if c.op in ops]) for title, ops in sides.items()],
        "how_active": how_active,
        "explained_lines": explained_lines,
        "won_line": won_line,
        "at_work": at_work,
        "four": four,
        "parted": parted,
        "curve_lines": curve_lines,
        "histogram": histogram,
        "dose": dose,
    }


def _shown(value: Any) -> Any:
    """Text with its controls written out, before it is escaped."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def histogram(h: Histogram) -> Markup:
    """Both models in the same bins, heights by the logarithm of the count."""
    n, most = len(h.base), math.log1p(max([*h.base, *h.organism, 1]))
    width, high = (WIDTH - LEFT) / n, HEIGHT - BOTTOM

    def top(count: int) -> float:
        return high * (1 - math.log1p(count) / most)

    bars = "".join(
        f'<rect class="base" x="{LEFT + i * width:.1f}" y="{top(c):.1f}" width="{width:.1f}" height="{high - top(c):.1f}"/>'
        for i, c in enumerate(h.base)
    )
    steps = " ".join(f"{LEFT + (i + d) * width:.1f},{top(c):.1f}" for i, c in enumerate(h.organism) for d in (0, 1))
    labels = "".join(
        f'<text x="{LEFT + i * width:.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">{h.edges[i]:.3g}</text>'
        for i, anchor in ((0, "start"), (n // 2, "middle"), (n, "end"))
    )
    scale = f'<text x="0" y="10">{max([*h.base, *h.organism]):,}</text><text x="0" y="{high}">0 (log)</text>'
    return _svg(f'{bars}<polyline class="tuned" points="{steps}"/>{labels}{scale}', "How often each activation occurs")


def dose(curves: Sequence[Curve]) -> Markup:
    """Share of the gap that is closed by strength, a line a curve; an ablation, which has one strength, is a point."""
    if not curves:
        return Markup('<p class="soft">none</p>')
    far = max([s for c in curves for s in c.strengths] + [1e-9])
    low, high = min([0.0, *(g for c in curves for g in c.gain)]), max([1.0, *(g for c in curves for g in c.gain)])
    floor, ks = HEIGHT - BOTTOM, sorted({c.k for c in curves})

    def place(strength: float, gain: float) -> tuple[float, float]:
        return LEFT + (WIDTH - LEFT - 8) * strength / far, floor - (floor - 6) * (gain - low) / (high - low)

    drawn = list[str]()
    for level in (0.0, 0.5, 1.0):
        y = place(0, level)[1]
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="0" y="{y + 3:.1f}">{100 * level:.0f}%</text>')
    for c in curves:
        name = f"curve k{min(ks.index(c.k), 2)}{' gated' * c.gated}"
        points = [place(s, g) for s, g in zip(c.strengths, c.gain, strict=True)]
        said = f"<title>{Markup.escape(curve_name(c))}</title>"
        if c.op == "ablate":
            drawn += [f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="4">{said}</circle>' for x, y in points]
        else:
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            drawn.append(f'<polyline class="{name}" points="{line}">{said}</polyline>')
    for share, anchor in ((0.5, "middle"), (1.0, "end")):
        x, _ = place(share * far, 0)
        drawn.append(f'<text x="{x:.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">strength {share * far:.2g}</text>')
    keys = "".join(
        f'<span class="key"><i style="background:var(--{colour})"></i>{"finding 1" if k == 1 else f"findings 1–{k}"}</span>'
        for k, colour in zip(ks, ("own", "two", "soft"), strict=False)
    )
    ablated = '<span class="key">○ ablated</span>' * any(c.op == "ablate" for c in curves)
    return _svg("".join(drawn), "Share of the gap that is closed, by strength") + Markup(keys + ablated)


def _svg(inside: str, label: str) -> Markup:
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{inside}</svg>')
