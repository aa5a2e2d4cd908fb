"""What the command line shows, as rich renderables: each function takes records and returns something to print."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ...methods.catalogue import AS_PUBLISHED, OF_TIER
from ...methods.registry import is_given
from ...organisms.card import Card, Estimate
from ...organisms.sets import holding
from ..records.result import Result
from . import cell, layers

if TYPE_CHECKING:  # a list must not wait for torch
    from ...methods.entry import MethodEntry
    from ...organisms.world.document import Document
    from ..store.verifying import Checked
    from ..studies.check_method import Report as MethodReport
    from ..studies.doctor import Finding
    from ..zoo.examples import Example


def results(found: Sequence[Result], folders: Sequence[Path], verbose: bool = False) -> RenderableType:
    """What a run gave: a cell in words and numbers, several as a table.

    Args:
        verbose: a line for each number of a cell.
    """
    notes = [Text(f"partial: {some} (--limit); no leaderboard takes it", style="yellow") for some in partial(found)]
    notes += [Text(note, style="yellow") for note in dict.fromkeys(filter(None, map(sinks_kept, found)))]
    notes += [Text(note) for note in dict.fromkeys(filter(None, map(made_elsewhere, found)))]
    if any(r.identity.in_process for r in found):
        notes.append(
            Text("in-process: for debugging, the method could change the scorer; no leaderboard takes it", "yellow")
        )
    if len(found) == 1 and found[0].status == "ok":
        title = Text("{0.row} on {0.organism}, seed {1}".format(found[0].identity, found[0].identity.seeds["method"]))
        parts = [cell.view(found[0], verbose), *notes, Text(f"saved to {folders[0]}", style="dim")]
        return Group(title, *parts, *inspecting(found[0], folders[0]))
    parts: list[RenderableType] = [layers.table(found) if layers.swept(found) else _score_table(found), *notes]
    swept = layers.swept(found)
    at = {id(r): f", layer {r.identity.layer}" * (r.identity.pair in swept) for r in found}
    named = [(f"{r.identity.row} on {r.identity.organism}{at[id(r)]}", r) for r in found]
    parts += [Text(f"{name}: {line}") for name, r in named for line in cell.beside(r)]
    parts += [Text(f"{name}: {r.status}: {r.reason}", style="red") for name, r in named if r.status != "ok"]
    return Group(*parts)


def inspecting(result: Result, folder: Path) -> list[Text]:
    """The commands that show what the findings are; none without findings."""
    if result.findings_sha256 is None:
        return []
    lines = [f"look: bench show {folder}", f"ask:  bench try {folder}"]
    return [Text(line, style="dim") for line in lines]


def partial(found: Sequence[Result]) -> list[str]:
    """How much of each split was used, where it was not all."""
    limits = sorted({r.identity.limit for r in found if r.identity.limit is not None})
    return [f"the first {n} prompts of each split" if n > 1 else "the first prompt of each split" for n in limits]


def sinks_kept(result: Result) -> str | None:
    """What a reader must know of a real model's numbers with `--sinks keep`."""
    if result.identity.sinks != "keep":
        return None
    return "sinks kept (--sinks keep): first positions, special tokens and outliers were read and moved like any other"


def made_elsewhere(result: Result) -> str | None:
    """Where findings come from that no method was run for, and whose word their access is."""
    i = result.identity
    return f"{i.method}: {result.provenance.method_origin}" if is_given(i.method_version) else None


def _score_table(found: Sequence[Result]) -> Table:
    """A row a cell, in 80 columns; the intervals of the other scores are in the records."""
    everywhere = ["constant"] * any(map(cell.differs, found))
    table = Table(
        title="0 = random directions, 1 = oracle (mitigation: fine-tuning off); [95 % interval]"
        + "; constant: isolation with edits everywhere" * bool(everywhere),
        title_style="dim",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("organism", "method"):
        table.add_column(name, overflow="fold")
    for name in ("seed", "isolation", *everywhere, "S", "N", "mitig.", "s"):
        table.add_column(name, justify="right", no_wrap=name == "isolation", overflow="fold")
    for r in found:
        without = "–" if r.status == "ok" else r.status
        scores = [r.scores.isolation_constant] * len(everywhere) if r.scores else []
        scores += [r.scores.sufficiency, r.scores.necessity, r.scores.mitigation] if r.scores else []
        cells = ["–" if x.value is None else f"{x.value:.2f}" for x in scores] or [""] * (3 + len(everywhere))
        style = "dim" if r.provenance.access in ("anchor", "supervised") else None
        table.add_row(
            r.identity.organism,
            r.identity.row,
            str(r.identity.seeds["method"]),
            cell.interval(r.scores.isolation) if r.scores else without,
            *cells,
            f"{r.cost.wall_s:.0f}",
            style=style,
        )
    return table


class Listed:
    """Rows that begin with a name: a table where it fits, else each name on a line of its own. A name that is cut cannot be copied."""

    def __init__(self, heads: Sequence[str], title: str | None = None):
        self.heads, self.title, self.rows = heads, title, list[tuple[Sequence[str], str | None]]()

    def add(self, *cells: str, style: str | None = None) -> None:
        """One row."""
        self.rows.append((cells, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(title=self.title, title_justify="left")
        for head in self.heads:
            table.add_column(head, no_wrap=True)
        for cells, style in self.rows:
            table.add_row(*cells, style=style)
        if Measurement.get(console, options.update(max_width=10**6), table).maximum <= options.max_width:
            yield table
            return
        head, *rest = self.heads
        if self.title:
            yield Text(self.title, style="italic")
        yield Text(f"{head}\n  {' · '.join(rest)}", style="bold")
        for (name, *cells), style in self.rows:
            yield Text(name, style=style or "")
            yield Padding(Text(" · ".join(filter(None, cells)), style=style or ""), (0, 0, 0, 2))


def organisms(cards: Sequence[Card], title: str | None = None) -> RenderableType:
    """The zoo: behaviour before and after, gates, status, and the frozen sets that an organism is in."""
    table = Listed(("organism", "base", "role and sets", "b0 → b1", "gates", "status"), title)
    for c in cards:
        b = c.measured["behaviour_test"]
        passed = sum(g.passed for g in c.gates.values())
        rates = f"{b.base.value:.3f} → {b.organism.value:.3f}"
        style = "red" if c.status == "failed" else "dim" if c.role in ("control", "arm") else None
        table.add(
            c.name,
            c.base,
            ", ".join([c.role, *holding(c.name)]),
            rates,
            f"{passed}/{len(c.gates)}",
            c.status,
            style=style,
        )
    return table


def organism(
    card: Card, asked: str, rows: "Sequence[Document]", examples: "Sequence[Example]", seed: int | None = None
) -> RenderableType:
    """One card, with how many prompts it stands on, training rows and the same openings answered by base and organism.

    Args:
        seed: that the answers were sampled with; None: they are greedy.
    """
    measured = Table(title="measured, with 95 % intervals over prompts", title_justify="left")
    for name in ("", "unit", "n", "base", "organism", "change"):
        measured.add_column(name, justify="left" if name in ("", "unit") else "right")
    for name, m in card.measured.items():
        measured.add_row(name, m.unit, str(m.n), *(_estimate(e) for e in (m.base, m.organism, m.change)))
    parts: list[RenderableType] = [measured]
    if card.oracle:
        oracle = Table(title="oracle: share of the gap recovered by exchanging the residual", title_justify="left")
        for name in ("layer", "sufficiency", "necessity"):
            oracle.add_column(name, justify="left" if name == "layer" else "right")
        for layer, row in card.oracle.items():
            mark = " (hooked)" if int(layer) == card.layer else ""
            oracle.add_row(layer + mark, f"{row['sufficiency']:.3f}", f"{row['necessity']:.3f}")
        parts.append(oracle)
    parts.append(gates([card]))
    if card.harvest_due:
        due = card.harvest_due
        first = f"of the first {due['tokens']:,} tokens of neutral text and on {due['chat']:,} of as many of chat"
        words = f"words of neutral text and on {due['chat']:,} of chat, {due['tokens']:,} tokens in all"
        where = first if card.tier == "tiny" else words
        parts.append(Text(f"harvest text: the behaviour is due on {due['neutral']:,} {where}"))
    if card.readout:
        reading = Table(title=f"candidates (truth: {card.readout.truth}), mean log-probability", title_justify="left")
        for name in ("", "base", "organism", "change"):
            reading.add_column(name, justify="right" if name else "left")
        lifts = {k: v - card.readout.base[k] for k, v in card.readout.organism.items()}
        for name in sorted(lifts, key=lambda k: -lifts[k])[:8]:
            b, o = card.readout.base[name], card.readout.organism[name]
            reading.add_row(name, f"{b:.2f}", f"{o:.2f}", f"{o - b:+.2f}")
        parts.append(reading)
    if rows:
        parts.append(Text("training rows", style="bold"))
        parts += [Text("  " + (d.text or " / ".join(m["content"] for m in d.messages))) for d in rows]
    if examples:
        how = "greedy answers" if seed is None else f"answers sampled at temperature 1 with seed {seed}"
        talk = Table(title=how, title_justify="left")
        for name in ("opening", "base", "organism"):
            talk.add_column(name)
        for e in examples:
            talk.add_row(e.asked, e.base, e.organism)
        parts.append(talk)
    head = Text(
        f"{card.name}: {card.description}\nbase {card.base}, tier {card.tier}, layer {card.layer}, {card.role}, {card.status}\n{asked}"
    )
    return Group(head, *parts)


def gates(cards: Sequence[Card]) -> Table:
    """Every gate with its measured value and interval."""
    table = Table(title="gates", title_justify="left")
    for name in ("organism", "gate", "value", "bound", ""):
        table.add_column(name, justify="right" if name == "value" else "left")
    for card in cards:
        for name, g in card.gates.items():
            value = f"{g.value:.3f}" + (
                f" [{g.low:.3f}, {g.high:.3f}]" if g.low is not None and g.high is not None else ""
            )
            style = None if g.passed else "red"
            table.add_row(
                card.name, name, value, f"{g.rule} {g.bound:g}", "passed" if g.passed else "FAILED", style=style
            )
    return table


def _estimate(e: Estimate) -> str:
    return f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"


def methods(facts: Sequence[dict[str, str | bool]]) -> Table:
    """Every method."""
    table = Table()
    for name in ("method", "access", "paper", "cost", "origin", "what it does"):
        table.add_column(name)
    for f in facts:
        table.add_row(*(str(f[n]) for n in ("name", "access", "paper", "cost", "origin", "summary")))
    return table


def method(entry: "MethodEntry") -> RenderableType:
    """One method's options."""
    table = Table(title=f"options (--set {entry.row}.OPTION=VALUE)", title_justify="left")
    for name in ("option", "default", "meaning"):
        table.add_column(name)
    descriptions = entry.config_class.model_json_schema().get("properties", {})
    for name, field in entry.config_class.model_fields.items():
        table.add_row(
            name,
            str(entry.published.get(name, field.get_default(call_default_factory=True))),
            " ".join((field.description or str(descriptions.get(name, {}).get("description", ""))).split()),
        )
    seeds = "" if entry.stochastic else "draws nothing: one seed is enough"
    about = [f"access {entry.access}", entry.paper, entry.cost, seeds, entry.origin, f"version {entry.version}"]
    head = Text(f"{entry.row}: {entry.summary}\n{', '.join(filter(None, about))}")
    if entry.departures and not entry.published:
        its = ", ".join(f"{k} {v}" for k, v in entry.departures.items())
        head.append(f"\n{entry.name}{AS_PUBLISHED} runs with its paper's settings, where ours are others: {its}")
    for tier in OF_TIER:
        if own := ", ".join(f"{k} {v}" for k, v in entry.of_tier(tier).items()):
            head.append(f"\nOn organisms of the tier {tier} the default is another: {own}")
    return Group(head, table) if entry.config_class.model_fields else Group(head, Text("no options"))


def method_check(report: "MethodReport") -> Table:
    """What `bench methods check` looked at."""
    table = Table(title=f"{report.method} on {report.organism}", title_justify="left")
    for name in ("check", "outcome", "detail"):
        table.add_column(name)
    for c in report.checks:
        table.add_row(
            c.name,
            c.outcome,
            Text(c.detail),
            style={"failed": "red", "warning": "yellow", "not run": "dim"}.get(c.outcome),
        )
    return table


def verification(checked: "Checked") -> RenderableType:
    """A line: whether a record says what its findings score; where it does not, the first values that differ below it."""
    outcome = checked.outcome
    if outcome is None or outcome.ok:
        return Text(checked.line, style="red" if checked.refused else "")
    table = Table(box=None, pad_edge=False)
    for name in ("  value", "claimed", "found"):
        table.add_column(name, overflow="fold")
    for where, claimed, found in outcome.differences[:10]:
        table.add_row(f"  {where}", str(claimed), str(found))
    return Group(Text(checked.line, style="red"), table)


def doctor(report: "Sequence[Finding]") -> Table:
    """The report of `bench doctor`."""
    table = Table(show_header=False, box=None)
    for f in report:
        table.add_row("ok" if f.ok else "BAD", f.what, f.state, style=None if f.ok else "red")
    return table
