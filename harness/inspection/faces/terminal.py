"""A report on a terminal: readable at 80 columns and without colour, where strong tokens stand in « »."""

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..report import KINDS, MARKED, Answer, Answers, Context, Histogram, Report, Shown, Token
from ..trial import Trial
from .words import at_work, curve_lines, explained_lines, four, how_active, parted, won_line

SHADES = ("", "black on #fff3c4", "black on #ffd873", "black on #ffab40", "bold black on #ff7f11")
BARS = " ▁▂▃▄▅▆▇█"
INDENT = (0, 0, 0, 2)


def view(report: Report, numbers: Sequence[int]) -> RenderableType:
    """The report with some of its findings.

    Args:
        numbers: of the findings, from 1.
    """
    r = report
    seed = "" if r.seed is None else f", seed {r.seed}"
    parts: list[RenderableType] = [Text(f"{r.method} on {r.organism}, layer {r.layer}{seed}", style="dim")]
    parts += [Text(line, style="bold" if i == 0 else "") for i, line in enumerate(r.sentences)]
    parts += [Text(note, style="yellow") for note in r.notes]
    parts += [Text(f"claims: {claim}") for claim in r.claims]
    parts += [Text(line, style="dim") for line in map(won_line, r.won)]
    for shown in r.findings:
        if shown.number in numbers:
            parts += [Text(""), finding(shown)]
    if r.curves:
        parts += [Text(""), _heading("dose–response on dev prompts: share of the gap that is closed, by strength")]
        parts += [Padding(Text(line), INDENT) for line in curve_lines(r.curves)]
    if r.answers:
        parts += [Text(""), answers(r.answers)]
    if rest := [f.number for f in r.findings if f.number not in numbers]:
        more = (
            f"{len(rest)} more finding{'s' * (len(rest) > 1)}: --finding {rest[0]}-{rest[-1]}"
            if len(rest) > 1
            else f"--finding {rest[0]}"
        )
        parts += [Text(""), Text(f"not shown: {more}", style="dim")]
    return Group(*parts)


def finding(f: Shown) -> RenderableType:
    """One finding."""
    gated = "gated" if f.gated else "without a gate"
    parts: list[RenderableType] = [_heading(f"finding {f.number}, {gated}, score {f.score:.3g}")]
    parts += [Padding(Text(line), INDENT) for line in how_active(f)]
    parts += [Padding(Text(line), INDENT) for e in f.explanations for line in explained_lines(e)]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("read as", "promotes", "suppresses"):
        table.add_column(name, overflow="fold")
    for reading in f.readings:
        table.add_row(reading.name, " ".join(reading.promotes), " ".join(reading.suppresses))
    parts.append(Padding(table, INDENT))
    if f.facts:
        parts.append(Padding(Text("  ".join(f"{name} {value:.4g}" for name, value in f.facts.items())), INDENT))
    if f.histogram:
        parts += _occurring(f.histogram)
    if f.places:
        places = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for name in ("in chat, active on", "tokens", "base", "organism"):
            places.add_column(name, justify="left" if name.startswith("in") else "right", overflow="fold")
        for p in f.places:
            places.add_row(p.token, f"{p.tokens:,}", f"{100 * p.base:.1f}%", f"{100 * p.organism:.1f}%")
        parts.append(Padding(places, INDENT))
    for kind, title in KINDS.items():
        if some := [c for c in f.contexts if c.kind == kind]:
            parts.append(Text(f"  {title}", style="underline"))
            parts += [Padding(context(c), (0, 0, 0, 4)) for c in some]
    return Group(*parts)


def _occurring(h: Histogram) -> list[RenderableType]:
    """Both histograms, a line each."""
    most = max([*h.base, *h.organism])
    low, high = h.edges[0], h.edges[-1]
    rows = [f"{name:>8} {_bars(counts, most)}" for name, counts in (("base", h.base), ("organism", h.organism))]
    head = f"how often each activation occurs, {low:.3g} to {high:.3g}, log scale"
    return [Padding(Text(line), INDENT) for line in (head, *rows)]


def context(c: Context) -> Text:
    """A window: its strongest activation in the organism and in the base, and its tokens coloured by the organism's."""
    where = f"q{100 * c.quantile:.0f}" if c.sample else f"#{c.rank}"
    line = Text().append(f"{where:>4} {c.organism:.3g} (base {c.base:.3g}) ", style="dim")
    line.append("…" if c.cut[0] else "")
    line.append_text(coloured(c.tokens, "organism"))
    return line.append("…" if c.cut[1] else "")


def coloured(tokens: Sequence[Token], side: str) -> Text:
    """Tokens in the colours of one side."""
    line, strongest = Text(), max((t.shade_organism if side == "organism" else t.shade_base for t in tokens), default=0)
    for t in tokens:
        step = t.shade_organism if side == "organism" else t.shade_base
        space, word = parted(t.text)
        mark = step >= min(MARKED, strongest) and step > 0 and word
        line.append(space, style="")
        line.append(f"«{word}»" if mark else word, style=SHADES[step])
    return line


def answers(a: Answers) -> RenderableType:
    """Prompts answered by both models, with and without."""
    head = f"answers, sampled (seed {a.seed} and on, at most {a.tokens} tokens), to prompts of the {a.split} split"
    parts: list[RenderableType] = [_heading(head)]
    for row in a.rows:
        parts.append(Padding(Text(row.asked, style="bold"), INDENT))
        parts.append(Padding(_said(row), (0, 0, 0, 4)))
    return Group(
        *parts[:1], *(Padding(Text(line, style="dim"), INDENT) for line in at_work(a.added, a.removed)), *parts[1:]
    )


def _said(a: Answer) -> Table:
    """The answers that there are."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, said in four(a):
        table.add_row(name, said or "(nothing)")
    return table


def tried(t: Trial) -> RenderableType:
    """A prompt of one's own."""
    how = "greedy" if t.seed is None else f"sampled with seed {t.seed}"
    parts: list[RenderableType] = [
        Text(f"{t.method} on {t.organism}, layer {t.layer}; {how}; {'plain text' if t.raw else 'chat'}", style="dim"),
        *(Text(note, style="yellow") for note in t.notes),
        *(Text(line, style="dim") for line in at_work(t.added, t.removed, t.given)),
        Text(""),
        Text(t.prompt, style="bold"),
        Padding(_said(t.answer), INDENT),
    ]
    for r in t.read:
        if r.scale <= 0:
            continue
        what = "above the gate's threshold" if r.gated else "projection, from the base's mean"
        parts += [Text(""), _heading(f"finding {r.number} along the prompt ({what}; largest {r.scale:.3g})")]
        for side in ("base", "organism"):
            named = Text().append(f"{side:>8} ", style="dim")
            parts.append(Padding(named.append_text(coloured(r.tokens, side)), INDENT))
    if silent := [str(r.number) for r in t.read if r.scale <= 0]:
        parts += [Text(""), Text(f"not active anywhere along the prompt: finding {', '.join(silent)}", style="dim")]
    return Group(*parts)


def _bars(counts: Sequence[int], most: int) -> str:
    """Heights by the logarithm of a count, so that rare activations are seen."""
    top = math.log1p(most)
    return "".join(BARS[0 if n == 0 else max(1, round((len(BARS) - 1) * math.log1p(n) / top))] for n in counts)


def _heading(text: str) -> Text:
    return Text(text, style="bold underline")
