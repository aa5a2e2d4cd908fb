"""What `bench dictionary compare` shows: the dictionaries by letter, then one line for every two."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .comparing import WHAT, Both, Comparison, Listed

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letter(number: int) -> str:
    """A, B, … Z, A1, B1, …"""
    round_, at = divmod(number, len(LETTERS))
    return LETTERS[at] + (str(round_) if round_ else "")


def view(c: Comparison) -> RenderableType:
    """Legend, table of pairs, what the columns mean."""
    legend = Text("\n".join(f"{letter(i)}  {_said(d)}" for i, d in enumerate(c.dictionaries)))
    shown = Table(box=None, pad_edge=False, header_style="bold")
    heads = ("", "cosine →", "cosine ←", "matched", "≥ .7", *(("firing →", "firing ←") if c.text_tokens else ()))
    for head in heads:
        shown.add_column(head, justify="right" if head else "left", no_wrap=True)
    for p in c.pairs:
        cells = [_above(p.cosine_ab), _above(p.cosine_ba), _above(p.matched), f"{p.same.value:.0%}"]
        if c.text_tokens:
            cells += [_above(p.firing_ab), _above(p.firing_ba)]
        shown.add_row(f"{letter(p.a)}–{letter(p.b)}", *cells)
    return Group(legend, Text(), shown, Text(), *(Text(line, style="dim") for line in _notes(c)))


def _said(d: Listed) -> str:
    facts = [
        d.method,
        d.organism,
        None if d.layer is None else f"layer {d.layer}",
        f"{WHAT[d.codes]}, {d.compared} of {d.n_latents} latents",
    ]
    return f"{d.name}: {', '.join(f for f in facts if f)}"


def _above(both: Both | None) -> str:
    """`.61 +.20 +.11`: the value, then what it is above either chance."""
    if both is None:
        return "–"
    over = [both.above, *([both.above_alike] if both.above_alike is not None else [])]
    return " ".join([_short(both.value), *(_short(x, "+") for x in over)])


def _short(x: float, sign: str = "") -> str:
    return format(x, f"{sign}.2f").replace("0.", ".", 1) if abs(x) < 1 else format(x, f"{sign}.2f")


def _notes(c: Comparison) -> list[str]:
    matching = sorted({p.matching for p in c.pairs})
    how = " or ".join(matching)
    said = (
        f"cosine →: mean over A's latents of the largest cosine with one of B's; ←: the reverse; matched: one to one ({how}); "
        "≥ .7: matched with at least that."
    )
    lines = [
        said,
        "After a value with +: above random rows of the same shape, and above random rows with the same second moment.",
    ]
    if c.text_tokens:
        lines.append(
            f"firing: mean largest activation correlation on {c.text_tokens:,} held-out tokens; with +: above the same with one text moved."
        )
    return [*lines, *c.notes]
