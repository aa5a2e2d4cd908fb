"""The published table of line-ups: Markdown, CSV, JSON and the figure of accuracy by workplace. The same records give the same bytes."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from ...harness.files import atomic_write_bytes, atomic_write_text
from ...harness.lineup.record import LineupRecord
from ...harness.lineup.scores import Scores
from ...harness.lineup.view import TOLD, data, estimate, ranked, told
from ...organisms.errors import UsageError, ValidationFailed
from ...organisms.lineup.pairs import lineup_sets
from ..pages.text_formats import markdown_table
from .claims import PAPER, outcomes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, FIGURE = "lineup", "lineup.png"
ANCHORS = ("ceiling", "random")
"""Grey in the figure, as all are that see the misbehaviour."""
CLAIMED = ["in the paper", "difference", "p (Holm)", "verdict"]


def restricted(found: Sequence[LineupRecord], set_: str) -> list[LineupRecord]:
    """Records with the verdicts on a set's pairs; those of a strategy that has not judged all of them are left out.

    Raises:
        UsageError: no record of a whole set. ValidationFailed: two records of one strategy, or two builds of one pair in a record.
    """
    names = set(lineup_sets()[set_].organisms)
    out = list[LineupRecord]()
    for record in found:
        kept = [v for v in record.verdicts if names.issuperset(v.lineup.split("="))]
        if again := sorted(name for name, n in Counter(v.lineup for v in kept).items() if n > 1):
            raise ValidationFailed(
                f"{record.identity.strategy} judged two builds of {again[0]}, of other weights; give folders of one machine"
            )
        if {v.lineup for v in kept if not v.identical} == names:
            out.append(record.model_copy(update={"verdicts": kept}))
    if not out:
        raise UsageError(
            f"no strategy has judged all {len(names)} pairs of {set_}; run `bench lineup run -s all -o {set_}`"
        )
    strategies = [r.identity.strategy for r in out]
    if twice := sorted({s for s in strategies if strategies.count(s) > 1}):
        raise ValidationFailed(
            f"there are two records of {twice[0]} on {set_}, of other options, seeds or source; give a folder with one of them"
        )
    return out


def workplaces(found: Sequence[LineupRecord]) -> Table:
    """Accuracy by workplace, a row a strategy."""
    rows = [*ranked(found), *told(found)]
    out = Table(title="Accuracy by workplace", box=None, padding=(0, 1, 0, 0))
    for column in ("strategy", *(names := _places(rows))):
        out.add_column(column, overflow="fold")
    for r, s in rows:
        out.add_row(r.identity.strategy, *(_share(s, n) for n in names))
    return out


def contrasts(found: Sequence[LineupRecord]) -> Table:
    """The paper's order of strategies."""
    out = Table(title="The order of strategies in the paper")
    for column in CLAIMED:
        out.add_column(column)
    for row in _claims(found):
        out.add_row(*row)
    return out


def markdown(found: Sequence[LineupRecord]) -> str:
    """Scores, those of strategies that see the misbehaviour in a table of their own; accuracy by workplace, and the paper's order."""
    best, apart = ranked(found), told(found)
    rows = [*best, *apart]
    domains = _places(rows)
    by = [[r.identity.strategy, *(_share(s, d) for d in domains)] for r, s in rows]
    return "\n".join(
        [
            *([_scores(best, "strategy")] if best else []),
            *([_scores(apart, "not ranked: sees the misbehaviour")] if apart else []),
            markdown_table(["strategy", *domains], by),
            markdown_table(CLAIMED, _claims(found)),
        ]
    )


def _places(rows: Sequence[tuple[LineupRecord, Scores]]) -> list[str]:
    return sorted({d for _, s in rows for d in s.by_domain})


def _share(s: Scores, place: str) -> str:
    return f"{s.by_domain.get(place, float('nan')):.2f}"


def _claims(found: Sequence[LineupRecord]) -> list[list[str]]:
    return [
        [
            *(f"{o.better} > {o.worse}", "–" if o.difference is None else f"{round(o.difference, 3) + 0.0:+.3f}"),
            *("–" if o.p is None else f"{o.p:.3f}", o.verdict),
        ]
        for o in outcomes({r.identity.strategy: s.by_domain for r, s in ranked(found)})
    ]


def _scores(rows: Sequence[tuple[LineupRecord, Scores]], of: str) -> str:
    head = [of, "access", "accuracy", "Brier", "p", "sure of twins", "failed", "in the paper"]
    cells = [
        [
            *(r.identity.strategy, r.identity.access, estimate(s.accuracy), estimate(s.brier)),
            *("–" if x is None else f"{x:.3f}" for x in (s.p, s.sure)),
            *(f"{s.failed}", f"{PAPER[r.identity.strategy]:.2f}" if r.identity.strategy in PAPER else "–"),
        ]
        for r, s in rows
    ]
    return markdown_table(head, cells)


def csv_text(found: Sequence[LineupRecord]) -> str:
    """A line a strategy."""
    rows = data(found)
    plain = [
        {
            k: v
            for row_k, row_v in row.items()
            for k, v in (
                [(f"{row_k}_{n}", x) for n, x in row_v.items()] if isinstance(row_v, dict) else [(row_k, row_v)]
            )
        }
        for row in rows
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(plain[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    return out.getvalue()


def json_text(found: Sequence[LineupRecord]) -> str:
    """Every number, and the paper's order."""
    claims = outcomes({r.identity.strategy: s.by_domain for r, s in ranked(found)})
    return json.dumps({"strategies": data(found), "claims": [o._asdict() for o in claims]}, indent=1) + "\n"


def figure(found: Sequence[LineupRecord]) -> bytes:
    """PNG: accuracy of each strategy, a point a workplace, the interval over workplaces beside it."""
    from matplotlib.figure import Figure

    rows = [*ranked(found), *told(found)][::-1]
    page = Figure((7.5, 0.42 * len(rows) + 1.4), layout="constrained")
    axes = page.add_subplot()
    for y, (record, s) in enumerate(rows):
        _line(axes, y, s, "0.45" if record.identity.strategy in ANCHORS or record.identity.access in TOLD else "C0")
    axes.axvline(0.5, color="0.7", linewidth=1, linestyle="--", zorder=0)
    axes.set_yticks(range(len(rows)), [r.identity.strategy for r, _ in rows])
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("share of line-ups in which the faker was named\na point is a workplace, dashed is chance")
    axes.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    page.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return out.getvalue()


def _line(axes: "Axes", y: int, s: Scores, colour: str) -> None:
    a = s.accuracy
    spread = sorted(s.by_domain.values())
    seen = dict[float, int]()
    for value in spread:  # equal points stand above each other
        seen[value] = seen.get(value, -1) + 1
        axes.plot(value, y - 0.12 - 0.07 * seen[value], "o", ms=3.5, color=colour, alpha=0.6, mew=0)
    if a.low is not None and a.high is not None:
        axes.plot([a.low, a.high], [y + 0.1] * 2, color=colour, linewidth=2)
    axes.plot(a.value, y + 0.1, "D", ms=5, color=colour)


WRITERS = {"md": markdown, "csv": csv_text, "json": json_text}


def write(found: Sequence[LineupRecord], out: Path, formats: Sequence[str]) -> list[Path]:
    """Write the table in some formats, and the figure."""
    paths = list[Path]()
    for name in formats:
        path = out / f"{TABLE}.{name}"
        atomic_write_text(path, WRITERS[name](found))
        paths.append(path)
    atomic_write_bytes(out / FIGURE, figure(found))
    return [*paths, out / FIGURE]
