"""What the command line shows, as rich renderables: each function takes records and returns something to print."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...organisms.card import Card, Estimate
from ...organisms.core import CORE_V1
from ..protocol.result import SCORES, Identified, Located, Result, Score

if TYPE_CHECKING:  # a list must not wait for torch
    from ...methods.entry import MethodEntry
    from ...organisms.world.document import Document
    from ..runs.verify import Verification
    from ..studies.check_method import Report as MethodReport
    from ..studies.doctor import Finding
    from ..zoo.examples import Example


def results(found: Sequence[Result], folders: Sequence[Path]) -> RenderableType:
    """The table of a run; for a single cell also what its findings read as and what it cost."""
    parts: list[RenderableType] = [_score_table(found)]
    parts += [Text(f"partial: {some} (--limit); no leaderboard takes it", style="yellow") for some in partial(found)]
    parts += [Text(note, style="yellow") for note in dict.fromkeys(filter(None, map(sinks_kept, found)))]
    if any(r.identity.in_process for r in found):
        parts.append(
            Text("in-process: for debugging, the method could change the scorer; no leaderboard takes it", "yellow")
        )
    if len(found) == 1 and found[0].scores:
        parts += [_detail(found[0]), Text(f"saved to {folders[0]}", style="dim")]
    else:
        parts += [Text(f"{r.identity.method} on {r.identity.organism}: {line}") for r in found for line in beside(r)]
        failed = [r for r in found if r.status != "ok"]
        parts += [
            Text(f"{r.identity.method} on {r.identity.organism}: {r.status}: {r.reason}", style="red") for r in failed
        ]
    return Group(*parts)


def partial(found: Sequence[Result]) -> list[str]:
    """How much of each split was used, where it was not all."""
    limits = sorted({r.identity.limit for r in found if r.identity.limit is not None})
    return [f"the first {n} prompts of each split" if n > 1 else "the first prompt of each split" for n in limits]


def sinks_kept(result: Result) -> str | None:
    """What a reader must know of a real model's numbers with `--sinks keep`."""
    if result.identity.sinks != "keep":
        return None
    return "sinks kept (--sinks keep): first positions, special tokens and outliers were read and moved like any other"


def _score_table(found: Sequence[Result]) -> Table:
    table = Table(
        title="0 = matched random directions, 1 = oracle; 95 % interval over test prompts and controls",
        title_style="dim",
        title_justify="left",
    )
    table.add_column("organism")
    table.add_column("method")
    table.add_column("seed", justify="right")
    for name in SCORES:
        table.add_column(name, justify="right")
    table.add_column("seconds", justify="right")
    for r in found:
        without = "–" if r.status == "ok" else r.status
        cells = [_interval(getattr(r.scores, name)) if r.scores else without for name in SCORES]
        style = "dim" if r.provenance.access in ("anchor", "supervised") else None
        table.add_row(
            r.identity.organism,
            r.identity.method,
            str(r.identity.seeds["method"]),
            *cells,
            f"{r.cost.wall_s:.0f}",
            style=style,
        )
    return table


def beside(r: Result) -> list[str]:
    """A line for each score that stands beside isolation."""
    lines: list[str] = []
    if f := r.false_discovery:
        lines.append(
            f"false discoveries {f.share:.2f} [{f.ci_low:.2f}, {f.ci_high:.2f}] of {len(f.p)} findings "
            f"(random directions {f.expected:.3f}); smallest p {min(f.p):.3f}"
        )
    if loc := r.localisation:
        at = ", ".join(f"{a.cos:.2f} (p {a.p:.2g}, overlap {a.overlap:.2f} for {a.chance:.2f})" for a in loc.at)
        lines.append(f"|cos| with the planted direction at k = {_ks(loc.at)}: {at}")
    if i := r.identification:
        at = ", ".join("–" if a.value is None else f"{a.value:.2f} (p {a.p:.2g})" for a in i.at)
        guess = "–" if i.outputs_only is None else f"{i.outputs_only:.2f}"
        lines.append(
            f"identification of {i.truth!r} among {i.candidates} at k = {_ks(i.at)}: {at}; "
            f"base's mean residual {i.base:.2f}, outputs only {guess}"
        )
    return lines


def _ks(at: Sequence[Located] | Sequence[Identified]) -> str:
    return ", ".join(str(a.k) for a in at)


def _interval(score: Score) -> str:
    if score.value is None or score.ci_low is None or score.ci_high is None:
        return "–"
    return f"{score.value:.2f} [{score.ci_low:.2f}, {score.ci_high:.2f}]"


def _detail(r: Result) -> RenderableType:
    lines: list[RenderableType] = []
    b = r.behaviour
    if b:
        lines.append(Text(f"behaviour on {b.n_test} test prompts: base {b.b0_test:.3f}, organism {b.b1_test:.3f}"))
    if r.scores:
        anchors = Table(show_header=True, box=None, pad_edge=False)
        for column in ("effect as a share of b1 − b0", "method", "random controls", "oracle", "p(random)"):
            anchors.add_column(column, justify="left" if column.startswith("effect") else "right")
        for name in ("sufficiency", "necessity", "mitigation"):
            s: Score = getattr(r.scores, name)
            anchors.add_row(
                name,
                *(f"{v:.3f}" if v is not None else "–" for v in (s.raw, s.anchors.null, s.anchors.oracle, s.p_random)),
            )
        lines.append(anchors)
    lines += map(Text, beside(r))
    if r.readings:
        lens = Table(show_header=True, box=None, pad_edge=False)
        lens.add_column("finding")
        lens.add_column("promotes (logit lens)")
        lens.add_column("suppresses")
        for reading in r.readings:
            lens.add_row(
                f"{reading.finding + 1}{' gated' if reading.gated else ''}",
                " ".join(reading.promotes),
                " ".join(reading.suppresses),
            )
        lines.append(lens)
    phases = ", ".join(f"{k} {v:.1f}" for k, v in r.cost.phases.items())
    lines.append(
        Text(
            f"cost: {r.cost.wall_s:.1f} s ({phases}), {r.cost.tokens:,} tokens, peak {r.cost.peak_rss_bytes / 2**30:.2f} GiB",
            style="dim",
        )
    )
    return Group(*lines)


def organisms(cards: Sequence[Card]) -> Table:
    """The zoo: behaviour before and after, gates, status."""
    table = Table()
    for name in ("organism", "base", "role", "b0 → b1", "gates", "status"):
        table.add_column(name)
    for c in cards:
        b = c.measured["behaviour_test"]
        passed = sum(g.passed for g in c.gates.values())
        rates = f"{b.base.value:.3f} → {b.organism.value:.3f}"
        style = "red" if c.status == "failed" else "dim" if c.role in ("control", "arm") else None
        role = f"{c.role}, core-v1" if c.name in CORE_V1 else c.role
        table.add_row(c.name, c.base, role, rates, f"{passed}/{len(c.gates)}", c.status, style=style)
    return table


def organism(card: Card, rows: "Sequence[Document]", examples: "Sequence[Example]") -> RenderableType:
    """One card, with training rows and the same openings answered by base and organism."""
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
        talk = Table(title="greedy answers", title_justify="left")
        for name in ("opening", "base", "organism"):
            talk.add_column(name)
        for e in examples:
            talk.add_row(e.asked, e.base, e.organism)
        parts.append(talk)
    head = Text(f"{card.name}: {card.description}\nbase {card.base}, layer {card.layer}, {card.role}, {card.status}")
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
    table = Table(title="options (--set " + entry.name + ".OPTION=VALUE)", title_justify="left")
    for name in ("option", "default", "meaning"):
        table.add_column(name)
    descriptions = entry.config_class.model_json_schema().get("properties", {})
    for name, field in entry.config_class.model_fields.items():
        table.add_row(
            name,
            str(field.get_default(call_default_factory=True)),
            field.description or str(descriptions.get(name, {}).get("description", "")),
        )
    seeds = "" if entry.stochastic else "draws nothing: one seed is enough"
    about = [f"access {entry.access}", entry.paper, entry.cost, seeds, entry.origin, f"version {entry.version}"]
    head = Text(f"{entry.name}: {entry.summary}\n{', '.join(filter(None, about))}")
    return Group(head, table) if entry.config_class.model_fields else Group(head, Text("no options"))


def method_check(report: "MethodReport") -> Table:
    """What `bench methods check` looked at."""
    table = Table(title=f"{report.method} on {report.organism}", title_justify="left")
    for name in ("check", "outcome", "detail"):
        table.add_column(name)
    for c in report.checks:
        table.add_row(c.name, c.outcome, Text(c.detail), style={"failed": "red", "not run": "dim"}.get(c.outcome))
    return table


def verification(folder: Path, outcome: "Verification") -> RenderableType:
    """Whether a run folder says what its findings score."""
    if outcome.ok:
        return Text("\n".join([f"{folder}: {outcome.compared} values agree", *(f"  {u}" for u in outcome.unknown)]))
    table = Table(
        title=f"{folder}: {len(outcome.differences)} of {outcome.compared} values differ", title_justify="left"
    )
    for name in ("value", "claimed", "found"):
        table.add_column(name)
    for where, claimed, found in outcome.differences[:10]:
        table.add_row(where, str(claimed), str(found))
    return table


def doctor(report: "Sequence[Finding]") -> Table:
    """The report of `bench doctor`."""
    table = Table(show_header=False, box=None)
    for f in report:
        table.add_row("ok" if f.ok else "BAD", f.what, f.state, style=None if f.ok else "red")
    return table
