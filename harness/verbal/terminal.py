"""What `bench verbal` shows: what was claimed, then a line for each method. A judge's column stands apart and says whose it is."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .scoring import Cell, Standing, Track, Verdicts, standings


def view(track: Track, verdicts: Verdicts | None = None) -> RenderableType:
    """Claims by cell, the table, what its columns mean."""
    said = [line for cell in track.cells for line in _lines(cell)]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    heads = ["method", "value", "first", "recall", "chance", "precise", "silent", "unread", "null: claims", "silent"]
    heads += ["judged*"] if verdicts else []
    for head in heads:
        shown.add_column(head, justify="left" if head == "method" else "right")
    for s in standings(track.cells, verdicts):
        shown.add_row(*_row(s), *([_judged(s)] if verdicts else []))
    notes = [
        "value: the right answer named, above what naming as many at random gives; 0: silence or guessing, 1: the right one alone;",
        "[95 % interval over organisms]. first: by the surest claim alone. precise: right among claims that can be read, null claims",
        "counted as false. unread: claims that name no answer, which no rule can call right or wrong. No judge had a say in these.",
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


def _row(s: Standing) -> list[str]:
    value = _number(s.value) + (f" [{s.low:.2f}, {s.high:.2f}]" if s.low is not None and s.high is not None else "")
    numbers = (_number(x) for x in (s.first, s.recall, s.chance, s.precision, s.silent))
    return [s.method, value, *numbers, str(s.unread), _number(s.null_claims), _number(s.null_silent)]


def _number(x: float | None) -> str:
    return "–" if x is None else f"{x:.2f}"


def _judged(s: Standing) -> str:
    return _number(s.judged) + (f" ({s.unjudged} without)" if s.unjudged else "")
