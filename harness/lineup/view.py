"""What `bench lineup` prints: tables of strategies, of pairs and of scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from .card import PairCard
from .record import LineupRecord
from .scores import Estimate, Scores, scores

TOLD = ("supervised", "anchor")
"""Tiers that see the misbehaviour."""


def strategies(found: Sequence[Mapping[str, Any]]) -> Table:
    """Every strategy: what it may see, its source and cost, what it does."""
    table = Table()
    for column in ("name", "access", "what it does"):
        table.add_column(column, overflow="fold")
    for each in found:
        source = f" ({each['paper']})" if each["paper"] else ""
        table.add_row(str(each["name"]), str(each["access"]), f"{each['summary']}{source}")
    return table


def pairs(cards: Sequence[PairCard], missing: Sequence[str]) -> Table:
    """Pairs with their gates."""
    table = Table(caption=f"{len(cards)} built here, {len(missing)} not")
    for column in ("pair", "flips", "aligned", "alike within", "shown", "CPU s", "gates"):
        table.add_column(column, overflow="fold")
    for c in cards:
        m = c.measured
        table.add_row(
            *(c.name, f"{m['faker_poor']:.3f}", f"{m['aligned_poor']:.3f}", f"{m['shown_variation']:.4f}"),
            *(f"{m['shown']:.0f}", f"{c.cpu_s:.1f}", "; ".join(c.failures) or "hold"),
        )
    return table


def table(found: Sequence[LineupRecord]) -> Table:
    """Scores of strategies, the best first; below a line those that see the misbehaviour and are in no ranking."""
    both = [ranked(found), told(found)]
    every = [s for rows in both for _, s in rows]
    counts, failed = sorted({(s.lineups, s.identical) for s in every}), any(s.failed for s in every)
    on = f"{counts[0][0]} line-ups and {counts[0][1]} of two aligned twins. " if len(counts) == 1 else ""
    lower = "Below the line: sees the misbehaviour, in no ranking. " if all(both) else ""
    out = Table(
        caption=f"{on}{lower}Accuracy over line-ups, 95 % interval over workplaces; chance is .500 and a Brier score of .250. "
        "sure: mean |p − 1/2| on two aligned twins."
    )
    more = {"line-ups": len(counts) > 1, "failed": failed}
    for column in ("strategy", "accuracy", "Brier", "p", "sure", *(n for n, asked in more.items() if asked)):
        out.add_column(column, no_wrap=column == "strategy")
    for rows in both:
        for record, s in rows:
            out.add_row(
                *(record.identity.strategy, estimate(s.accuracy), estimate(s.brier)),
                "–" if s.p is None else f"{s.p:.3f}",
                "–" if s.sure is None else f"{s.sure:.3f}",
                *(str(n) for n, asked in zip((s.lineups, s.failed), more.values(), strict=True) if asked),
            )
        out.add_section()
    return out


def ranked(found: Sequence[LineupRecord]) -> list[tuple[LineupRecord, Scores]]:
    """Records with their scores, by accuracy, then Brier score; without those of `told`."""
    return _sorted([record for record in found if record.identity.access not in TOLD])


def told(found: Sequence[LineupRecord]) -> list[tuple[LineupRecord, Scores]]:
    """The same of strategies that see the misbehaviour: what can be reached at most, in no ranking."""
    return _sorted([record for record in found if record.identity.access in TOLD])


def _sorted(found: Sequence[LineupRecord]) -> list[tuple[LineupRecord, Scores]]:
    both = [(record, scores(record.verdicts)) for record in found if any(not v.identical for v in record.verdicts)]
    return sorted(both, key=lambda x: (-x[1].accuracy.value, x[1].brier.value, x[0].identity.strategy))


def estimate(e: Estimate) -> str:
    """`.938 [.870, 1.000]`."""
    ends = "" if e.low is None or e.high is None else f" [{e.low:.3f}, {e.high:.3f}]"
    return f"{e.value:.3f}{ends}".replace("0.", ".")


def data(found: Sequence[LineupRecord]) -> list[dict[str, Any]]:
    """The same as JSON; `ranked` is false where the misbehaviour was seen."""
    return [
        {
            "strategy": record.identity.strategy,
            "access": record.identity.access,
            "ranked": record.identity.access not in TOLD,
            "id": record.id,
            **{n: v._asdict() if isinstance(v, Estimate) else v for n, v in s._asdict().items()},
        }
        for record, s in (*ranked(found), *told(found))
    ]
