"""The leaderboard as one HTML file that loads nothing: reads from disk, on a phone, in the dark, by a screen reader.

All text that comes from results passes through `escape`; drawings are inline SVG, sorting is a few lines of script
without which the page still says everything.
"""

from collections.abc import Iterable, Sequence

from ...harness.escape import html as escape
from ..statistics.contrasts import Outcome
from ..statistics.null_adjusted import SHOWN
from ..statistics.rows import CONSTANT, SORT_KEY, CellRow, Estimate, FindingRow, MethodRow, Place, Row, Table
from .cells import (
    CELL_HEADS,
    FINDING_HEADS,
    MARK,
    Dialect,
    bracketed,
    estimate_text,
    finding_cells,
    number,
    organisms_text,
    overall_heads,
    place_text,
    score_head,
    seeds_text,
    statuses,
)
from .legend import PARENTHESES, finding_note, not_counted, notes_of, protocol_facts
from .style import CSS, JS
from .svg import dose_response, interval_bar
from .verdicts import CONTRAST_HEADS, CONTRAST_NOTE, contrast_cells, verdicts

HOW_TO_READ = (
    "Each method looked at a base and a fine-tuned model and returned directions it believes to be the change. They are added to the "
    "base and taken out of the fine-tuned model, and a score says what share of the way they go. Bars show it with its 95&nbsp;% "
    "interval, on a scale with ticks at 0 and at 1; what these are stands below the table."
)
MOST_PANELS = 2000
"""Cells of a page that still draws dose-response curves: each is some kilobytes, and needs its whole record."""
SWATCH = '<svg viewBox="0 0 26 8" aria-hidden="true"><line class="{op}" x1="0" x2="26" y1="4" y2="4"/></svg>'
HTML = Dialect(escape, estimate_text)
LEGEND = (("add", "add to the base"), ("subtract", "subtract"), ("ablate", "ablate"))


def to_html(table: Table) -> str:
    """The whole page."""
    organisms = "".join(_organism(table, name, opened=i == 0) for i, name in enumerate(table.organisms))
    failures = _failures(table)
    finding_link = '<a href="#beyond">Beyond isolation</a>' if table.finding_measures else ""
    details = "".join(
        f"<dt>{escape(term)}</dt><dd><code>{escape(text)}</code></dd>" for term, text in protocol_facts(table)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>diffbench leaderboard</title><style>{CSS}</style></head>
<body><main>
<h1>diffbench leaderboard</h1>
<p class="soft">{escape(table.header)}</p>
<nav aria-label="Sections"><a href="#overall">Overall</a><a href="#verdicts">Verdicts</a>{finding_link}\
<a href="#organisms">By organism</a><a href="#cost">Cost</a>\
<a href="#failures">Failures</a><a href="#protocol">Protocol</a></nav>
<p>{HOW_TO_READ}</p>
<h2 id="overall">Overall</h2>
{_overall(table)}
<ul class="soft">{"".join(f"<li>{escape(note)}</li>" for note in notes_of(table))}</ul>
<h2 id="verdicts">Verdicts</h2>
{_verdicts(table)}
{_finding_measures(table)}
<h2 id="organisms">By organism</h2>
<p class="soft"><small>{PARENTHESES}</small></p>
{organisms}
<h2 id="cost">Cost</h2>
{_cost(table)}
<h2 id="failures">Failures and missing cells</h2>
{failures}
<h2 id="protocol">Protocol</h2>
<dl>{details}</dl>
</main><script>{JS}</script></body></html>
"""


def _overall(table: Table) -> str:
    first_below = next((row.method for row in table.overall if row.standing == "incomplete"), None)

    def line(row: MethodRow) -> str:
        style = "incomplete" if row.standing == "incomplete" else ""
        style += " below" if row.method == first_below and row is not table.overall[0] else ""
        places = {SORT_KEY: row.place, CONSTANT: row.place_constant}
        cells = [x for s in SHOWN for x in (_score(row, s), *([_place(places[s])] if s in places else []))]
        cells += [_td(escape(row.access), row.access), _td(organisms_text(table, row), row.organisms)]
        cells += [_td(seeds_text(row), row.seeds[0]), _status(row), _td(number(row.wall_s, 1), row.wall_s)]
        private = row.private or Estimate()
        cells += [_td(escape(estimate_text(private)), private.value)] if table.private else []
        return _tr([_name(row), *cells], style)

    return _table(
        "Methods over all organisms", overall_heads(table), map(line, table.overall), sort=score_head(table.key)
    )


def _place(place: Place | None) -> str:
    return _td(place_text(place), place and place.rank)


def _verdicts(table: Table) -> str:
    """The pre-registered contrasts, list by list."""
    found = verdicts(table)
    parts = [f"<p>{escape(found.said)}</p>"]
    for each in found.lists:
        lines = [_contrast(o, each.named) for o in each.outcomes]
        said = "".join(f"<li>{escape(text)}</li>" for text in each.said)
        parts.append(f"<h3>{escape(each.title)}</h3><ul>{said}</ul>{_table(each.title, CONTRAST_HEADS, lines)}")
    note = f'<p class="soft"><small>{escape(CONTRAST_NOTE)}</small></p>' if found.lists else ""
    return "\n".join([*parts, note])


def _contrast(o: Outcome, named: bool) -> str:
    name, *texts = contrast_cells(o, named, HTML)
    values = (o.difference.value, o.p, o.p_holm, o.verdict, o.families, o.resolvable)
    head = f'<th scope="row" data-v="{escape(o.contrast.method)}">{name}</th>'
    return _tr([head, *(_td(text, value) for text, value in zip(texts, values, strict=True))])


def _finding_measures(table: Table) -> str:
    """False discovery, localisation and identification."""
    if not table.finding_measures:
        return ""

    def line(row: FindingRow) -> str:
        estimates = (row.false_discovery, *row.located, *row.identified)
        name, *texts = finding_cells(row, HTML)
        values = [estimates[0].value, row.findings, row.nulls, *(e.value for e in estimates[1:])]
        head = f'<th scope="row" data-v="{escape(row.method)}">{name}</th>'
        return _tr([head, *(_td(text, value) for text, value in zip(texts, values, strict=True))])

    body = _table("Beyond isolation", FINDING_HEADS, map(line, table.finding_measures))
    return f'<h2 id="beyond">Beyond isolation</h2>\n{body}\n<p class="soft"><small>{escape(finding_note(table))}</small></p>'


def _organism(table: Table, organism: str, opened: bool) -> str:
    """One organism: its table and the dose-response curves of the first finished seed of each method."""
    rows = [row for row in table.cells if row.organism == organism]
    lines = [
        _tr(
            [
                _name(row),
                *(_score(row, s) for s in SHOWN),
                _td(estimate_text(row.false_discovery), row.false_discovery.value),
                _td(str(row.seeds), row.seeds),
                _status(row),
                _td(number(row.wall_s, 1), row.wall_s),
            ]
        )
        for row in rows
    ]
    panels = "".join(map(_panel, rows)) if len(table.cells) <= MOST_PANELS else ""
    legend = "".join(f'<span class="k">{SWATCH.format(op=op)}{text}</span>' for op, text in LEGEND)
    curves = (
        "<h3>Dose and response</h3><p class='soft'>Share of the gap between the two models that is closed on dev prompts as the "
        "intervention grows, against what it costs on neutral and chat text (KL to the nearer of the two models). Dashed: gated. A dot: "
        "one strength. Fainter: fewer findings (k).</p>"
        f"<div>{legend}</div><div class='panels'>{panels}</div>"
    )
    curves = curves if panels else ""
    body = _table(f"Methods on {organism}", CELL_HEADS[1:], lines) + _scale(table, organism)
    return f"<details{' open' * opened}><summary>{escape(organism)}</summary>{body}{curves}</details>"


def _scale(table: Table, organism: str) -> str:
    """What 0 and 1 are on this organism, and which of its scores count in no mean."""
    said = [
        f"{row.side.capitalize()}: of a gap of {number(row.gap)} random directions close {number(row.null)} (a score of 0), mixtures of "
        f"differences at random tokens {number(row.mixture)} (the dashed tick), the whole residual {number(row.oracle)} (1); without gates."
        for row in table.anchors
        if row.organism == organism
    ]
    said += [f"Not counted in {scores}: {why}." for o, scores, why in not_counted(table) if o == organism]
    return "".join(f'<p class="soft"><small>{escape(text)}</small></p>' for text in said)


def curves_of(row: CellRow) -> str:
    """Dose-response curves of the first finished seed; empty without any."""
    cell = next((c for c in row.cells if c.status == "ok" and c.points), None)
    result = cell and cell.result
    if result is None or not result.curves or result.behaviour is None:
        return ""
    b = result.behaviour
    return dose_response(f"{row.method} on {row.organism}", result.curves, b.b0_dev, b.b1_dev)


def _panel(row: CellRow) -> str:
    drawing = curves_of(row)
    name = f"{escape(row.method)} {_tag(row)}"
    return f"<figure><figcaption>{name}</figcaption>{drawing}</figure>" if drawing else ""


def _cost(table: Table) -> str:
    """Medians over the finished cells of each method."""
    lines: list[str] = []
    names = {row.method: row for row in table.overall}
    for c in table.costs:
        peak, vram = c.peak_rss_bytes / 2**30, c.peak_vram_bytes
        numbers = [_td(f"{v:,.{d}f}", v) for v, d in ((c.wall_s, 1), (c.cpu_s, 1), (c.tokens, 0), (peak, 2))]
        numbers.append(_td("–") if vram is None else _td(f"{vram / 2**30:.2f}", vram))
        phases = ", ".join(f"{name} {wall_s:.1f}" for name, wall_s in c.phases.items())
        lines.append(_tr([_name(names[c.method]), *numbers, _td(escape(phases), phases)]))
    heads = ("Method", "Wall s", "CPU s", "Tokens", "Peak RAM GiB", "Peak VRAM GiB", "Phases, s")
    return _table("Cost per cell: medians, peaks are the largest", heads, lines)


def _failures(table: Table) -> str:
    """Every cell that is not ok, every hole, every unusable file and every record that another stands for, with its reason."""
    lines = [_failure(f.organism, f.method, f.seed, f.status, f.reason) for f in table.failures]
    lines += [_failure("", a.path, "", "set aside", f"{a.cell}: {a.reason}") for a in table.set_aside]
    lines += [_failure("", p.path, "", "unusable file", p.reason) for p in table.problems]
    lines += [_failure("", m.command, "", "missing", m.reason) for m in table.missing]
    heads = ("Organism", "Method, file or command", "Seed", "Status", "Reason")
    return _table("Cells without a score and files that could not be used", heads, lines) if lines else "<p>None.</p>"


def _failure(organism: str, method: str, seed: str, status: str, reason: str) -> str:
    texts = (organism or "–", method, seed or "–", status.replace("_", " "))
    return _tr([*(_td(escape(t), t) for t in texts), _td(escape(reason), reason, "wrap")])


def _table(caption: str, heads: Sequence[str], lines: Iterable[str], sort: str = "") -> str:
    """A table that scrolls on its own on narrow screens; `caption` is its accessible name."""
    cells = "".join(
        f'<th scope="col"{" aria-sort=descending" if h == sort else ""}><button type="button">{escape(h)}</button></th>'
        for h in heads
    )
    label = escape(caption)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table aria-label="{label}">'
        f"<thead><tr>{cells}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _tr(cells: Iterable[str], style: str = "") -> str:
    return f"<tr class='{style.strip()}'>{''.join(cells)}</tr>\n"


def _td(content: str, value: object = None, style: str = "") -> str:
    """A cell; `content` is HTML, `value` the plain sort key."""
    key = "" if value is None else escape(str(value))
    return f'<td class="{style}" data-v="{key}">{content}</td>'


def _name(row: Row) -> str:
    return f'<th scope="row" data-v="{escape(row.method)}">{escape(row.method)}{MARK * row.failed} {_tag(row)}</th>'


def _tag(row: Row) -> str:
    return f'<span class="tag">{row.kind}</span>' if row.kind != "method" else ""


def _status(row: Row) -> str:
    text = statuses(row)
    return _td(f'<span class="bad">{text}</span>' if row.failed else text, text, "status")


def _score(row: Row, name: str) -> str:
    """A number with its interval and the bar below; in parentheses where it does not count."""
    value, _, rest = estimate_text(row.scores[name]).partition(" ")
    text = f"{value} <small>{rest}</small>"
    text = f"({text})" if bracketed(row, name) else text
    mixture = row.mixture(name) if isinstance(row, CellRow) else None
    return _td(text + interval_bar(name, row.scores[name], row.kind, mixture), row.scores[name].value)
