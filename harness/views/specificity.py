"""How specificity is shown: a table of summaries, both matrices in small, files of all entries, and a heat map."""

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..escape import csv_field
from ..figure import save_png
from ..files import atomic_write_text
from ..studies.specificity_record import Half, Row, Specificity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RECORD, TABLE, PLOT = "specificity.json", "specificity.csv", "specificity.png"
TITLES = {"added": "added to the base", "removed": "taken out of the organism"}
CELL_IN = 0.4
"""Width of a cell of the heat map in inches."""


def write(folder: Path, found: Specificity) -> list[Path]:
    """Record, entries and heat map, in `folder`."""
    atomic_write_text(folder / RECORD, found.model_dump_json(indent=1) + "\n")
    atomic_write_text(folder / TABLE, entries(found))
    heat_map(found, folder / PLOT)
    return [folder / name for name in (RECORD, TABLE, PLOT)]


def render(found: Specificity) -> RenderableType:
    """Summaries first, then the entries; behaviours are numbered."""
    parts: list[RenderableType] = [_summaries(found)]
    parts += [_matrix(found, half) for half in TITLES]
    parts.append(Text("; ".join(f"{i} {c.name}" for i, c in enumerate(found.columns, 1)) + "\n", style="dim"))
    parts += [Text(f"note: {note}") for note in found.notes]
    return Group(*parts)


def entries(found: Specificity) -> str:
    """CSV, one line an entry; a behaviour that could not be asked has empty fields."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "seed", "organism", "behaviour", "half", "kind", "effect", "random", "gap"])
    for row, half in itertools.product(found.rows, TITLES):
        for i, column in enumerate(found.columns):
            own = column.name == row.behaviour
            kind = "own" if own else "other" if row.other[i] else "kin"
            effect, random = _half(row, half).effects[i], _half(row, half).random[i]
            gap = row.gap if own else column.gap
            writer.writerow(
                [
                    *map(csv_field, (found.method, found.seed, row.organism, column.name)),
                    *(half, kind, *map(_exact, (effect, random, gap))),
                ]
            )
    return text.getvalue()


def heat_map(found: Specificity, path: Path) -> None:
    """Both matrices side by side: colour from -1 to 1, the number in the cell, own behaviours framed, families apart."""
    from matplotlib.figure import Figure

    n, m = len(found.rows), len(found.columns)
    figure = Figure(figsize=(2 * m * CELL_IN + 4.2, n * 0.26 + 3.0), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 2, sharey=True)  # pyright: ignore[reportAssignmentType]
    for axes, half in zip(panels, TITLES, strict=True):
        _panel(axes, found, half)
    panels[0].set_yticks(range(n), [row.organism for row in found.rows], fontsize=8)
    panels[0].set_ylabel("intervention of")
    bar = figure.colorbar(panels[0].images[0], ax=list(panels), aspect=30, pad=0.01)
    bar.set_label("effect / gap", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(
        f"{found.method}, seed {found.seed}: interventions of organisms on behaviours "
        "(framed: own; italic: own family or own prompts, not counted among the others)",
        fontsize=10,
    )
    save_png(figure, path)


def _panel(axes: "Axes", found: Specificity, half: str) -> None:
    from matplotlib.patches import Rectangle

    values = [[float("nan") if e is None else e for e in _half(row, half).effects] for row in found.rows]
    axes.set_facecolor("0.85")
    axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    for (y, row), (x, column) in itertools.product(enumerate(found.rows), enumerate(found.columns)):
        effect = _half(row, half).effects[x]
        dark = effect is not None and abs(effect) > 0.65
        own, kin = column.name == row.behaviour, not row.other[x]
        style, colour = "italic" if kin and not own else "normal", "white" if dark else "0.15"
        axes.text(x, y, _short(effect), ha="center", va="center", fontsize=6, color=colour, style=style)
        if own:
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="black", lw=1.6, zorder=3))
    for at in _ends([column.name for column in found.columns]):
        axes.axvline(at, color="0.3", lw=0.8)
    for at in _ends([row.behaviour for row in found.rows]):
        axes.axhline(at, color="0.3", lw=0.8)
    axes.set_xticks(range(len(found.columns)), [c.name for c in found.columns], rotation=90, fontsize=8)
    axes.set_xlabel("behaviour")
    axes.set_title(TITLES[half], fontsize=10)
    axes.tick_params(length=0)


def _ends(names: Sequence[str]) -> list[float]:
    """Positions between neighbours of different families."""
    families = [name.partition("/")[0] for name in names]
    return [i + 0.5 for i, (a, b) in enumerate(itertools.pairwise(families)) if a != b]


def _summaries(found: Specificity) -> Table:
    table = Table(
        title=f"{found.method}, seed {found.seed}: effects as shares of each behaviour's gap, mean over the KL budgets",
        title_justify="left",
        caption="own: the organism's behaviour; others: mean |effect| on other families' behaviours; random: the same of random "
        "directions at the same strengths; specificity: 1 - others / |own|; 95 % intervals over test prompts",
        caption_justify="left",
    )
    for name in ("organism", "", "own", "others", "random", "specificity"):
        table.add_column(name, justify="left" if name in ("organism", "") else "right")
    for row, half in itertools.product(found.rows, TITLES):
        h = _half(row, half)
        table.add_row(
            row.organism if half == "added" else "",
            half,
            _interval(h.own, h.own_low, h.own_high, 2),
            _interval(h.others, h.others_low, h.others_high, 3),
            "–" if h.others_random is None else f"{h.others_random:.3f}",
            f"– ({h.reason})" if h.specificity is None else f"{h.specificity:.2f}",
        )
    return table


def _matrix(found: Specificity, half: str) -> Table:
    table = Table(title=TITLES[half], title_justify="left", padding=(0, 0), box=None)
    table.add_column("", overflow="fold")
    for i in range(len(found.columns)):
        table.add_column(str(i + 1), justify="right", min_width=6, no_wrap=True)
    for row in found.rows:
        cells = [
            Text(_short(e), style="bold" if c.name == row.behaviour else "" if other else "dim")
            for e, c, other in zip(_half(row, half).effects, found.columns, row.other, strict=True)
        ]
        table.add_row(row.organism, *cells)
    return table


def _half(row: Row, half: str) -> Half:
    return row.added if half == "added" else row.removed


def _interval(value: float | None, low: float | None, high: float | None, digits: int) -> str:
    if value is None or low is None or high is None:
        return "–"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _short(effect: float | None) -> str:
    """As few characters as tell it apart: .05, −.12, 1.02; 0 is exact, .00 is small."""
    if effect is None:
        return "–"
    if effect == 0:
        return "0"
    size = f"{abs(effect):.2f}".removeprefix("0") if abs(effect) < 1 else f"{abs(effect):.2f}"
    return f"−{size}" if effect < 0 and size != ".00" else size


def _exact(value: float | None) -> str:
    return "" if value is None else f"{value:.7f}"
