"""What `bench verbal` shows: what was claimed, then a line for each method. A judge's column stands apart and says whose it is."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .scoring import Cell, Standing, Track, Verdicts, standings


def view(track: Track, verdicts: Verdicts | None = None) -> RenderableType:
    """Claims by cell, cells that failed, the table, what its columns mean."""
    said = [line for cell in track.cells for line in _lines(cell)]
    said += [f"{f.organism}, {f.method}, seed {f.seed}: failed: {f.reason}" for f in track.failed]
    if track.left_out:
        said.append(f"Left out, for there are no answers to choose from: {', '.join(track.left_out)}.")
    found = standings(track.cells, verdicts)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("", overflow="fold")
    for s in found:
        shown.add_column(s.method, justify="right", overflow="fold")
    rows = [_row(s) for s in found]
    for name in rows[0] if rows else ():
        shown.add_row(name, *(row[name] for row in rows))
    if verdicts:
        shown.add_row("judged right*", *(_judged(s) for s in found))
    notes = [
        (
            "value: the right answer named, above what naming as many at random gives. 0 is silence or guessing, 1 the right one alone. "
            "precision: right claims among those that can be read, claims on nulls counted as false. unread: claims that name no answer, "
            "which no rule can call right or wrong. No judge had a say in these."
        )
    ]
    if verdicts:
        notes.append(f"* recorded verdicts of {verdicts.judge}, not ours: share of judged claims called right.")
    return Group(*(Text(line) for line in said), Text(), shown, Text(), *(Text(n, style="dim") for n in notes))


def _lines(cell: Cell) -> list[str]:
    truth = "nothing is hidden" if cell.null else f"{cell.right!r} among {cell.answers}"
    head = f"{cell.organism}, {cell.method}, seed {cell.seed} ({truth}): "
    if cell.silent:
        return [head + "silent"]
    return [head, *(f"  {c.outcome}: {c.text}" + _sure(c.confidence) for c in cell.claims)]


def _sure(confidence: float | None) -> str:
    return "" if confidence is None else f" ({confidence:.2f})"


def _row(s: Standing) -> dict[str, str]:
    between = "–"
    if s.low is not None and s.high is not None:
        between = f"{max(s.low, -1):.2f} to {min(s.high, 1):.2f}"
    return {
        "organisms, cells, cells on nulls": f"{s.organisms}, {s.cells}, {s.null_cells}",
        "value": _number(s.value),
        "95 % interval over organisms": between,
        "value of the surest claim": _number(s.first),
        "right answer named": _number(s.recall),
        "by chance": _number(s.chance),
        "precision": _number(s.precision),
        "silent on organisms": _number(s.silent),
        "claims unread": str(s.unread),
        "claims on a null, all false": _number(s.null_claims),
        "silent on nulls": _number(s.null_silent),
    }


def _number(x: float | None) -> str:
    return "–" if x is None else f"{x:.2f}"


def _judged(s: Standing) -> str:
    return _number(s.judged) + (f" ({s.unjudged} without)" if s.unjudged else "")
