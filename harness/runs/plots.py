"""Dose–response plots: a column a side, one line an intervention; above, how much of the gap is closed, below, the behaviour's rate.

Both rows are of dev prompts, where strengths and options are chosen; a ring is what a budget chose there and test text let stand.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records.result import Choice, Curve, Result, SideName

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {1: "#0072b2", 3: "#009e73", 10: "#d55e00"}
"""By number of findings (Okabe-Ito, distinguishable without colour vision)."""
FLOOR = 1e-3
"""Collateral in nats a token at the left end; less is drawn there."""
SIZE = (9, 6.4)
"""Inches."""
LEGEND_COLUMNS = 4
STYLES = {"add": "-", "subtract": "-", "ablate": ":"}
PANELS: tuple[tuple[SideName, str, tuple[str, ...]], ...] = (
    ("sufficiency", "sufficiency: added to the base", ("add",)),
    ("necessity", "necessity: taken out of the organism", ("subtract", "ablate")),
)


def save(result: Result, folder: Path) -> None:
    """Write `dose_response.png` and `.svg` into `folder`."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE)
    dose_response(result, figure)
    with matplotlib.rc_context({"svg.hashsalt": "diffbench"}):
        for suffix in ("png", "svg"):
            figure.savefig(
                folder / f"dose_response.{suffix}", dpi=130, metadata={"Date": None} if suffix == "svg" else None
            )


def dose_response(result: Result, figure: "Figure") -> None:
    """Draw all panels into an empty figure of `SIZE`.

    Places are set and not searched for, and there are no minor ticks: that would be half of the time that a picture takes.
    """
    panels: Any = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, (side, title, ops) in enumerate(PANELS):
        gain, rate = panels[:, column]
        for curve in result.curves:
            if curve.op in ops:
                _line(gain, curve, curve.gain)
                _line(rate, curve, curve.rate)
        for choice in result.choices:
            if choice.side == side and choice.op != "none":
                _ring(gain, choice)
        _level(gain, 0, "unchanged", (1, 2))
        _level(gain, 1, "the other model", (5, 3))
        if (b := result.behaviour) is not None:
            _level(rate, b.b0_dev, "base", (1, 2))
            _level(rate, b.b1_dev, "organism", (5, 3))
        gain.set_title(title, fontsize=10)
        rate.set_xscale("log")
        rate.minorticks_off()
        rate.xaxis.set_major_formatter("{x:g}")
        rate.set_xlim(FLOOR, 1.3)
        rate.set_ylim(-0.02, 1.02)
        rate.set_xlabel("collateral on dev text (KL to the nearer model, nats a token)", fontsize=8)
        for axes in (gain, rate):
            axes.spines[["top", "right"]].set_visible(False)
    gain, rate = panels[:, 0]
    gain.set_ylim(top=1.08)
    gain.set_ylabel("share of the gap closed")
    rate.set_ylabel("behaviour rate")
    named = {n: handle for axes in panels[0] for handle, n in zip(*axes.get_legend_handles_labels(), strict=True)}
    rows = -(-len(named) // LEGEND_COLUMNS)
    if named:
        figure.legend(named.values(), named.keys(), loc="lower center", ncols=LEGEND_COLUMNS, fontsize=7, frameon=False)
    bottom = (0.6 + 0.15 * rows) / SIZE[1]  # inches: ticks and labels, and each row of the legend
    figure.subplots_adjust(left=0.075, right=0.985, top=0.9, bottom=bottom, wspace=0.08, hspace=0.07)
    figure.suptitle(
        f"{result.identity.row} on {result.identity.organism}, seed {result.identity.seeds['method']}: dev prompts",
        fontsize=11,
    )


def _line(axes: Any, curve: Curve, values: list[float]) -> None:
    op = "ablate" if curve.op == "ablate" else "add or subtract"  # one legend for both columns
    axes.plot(
        [max(v, FLOOR) for v in curve.kl_nats],
        values,
        STYLES[curve.op],
        color=COLOURS.get(curve.k, "#56b4e9"),
        alpha=1.0 if curve.gated else 0.55,
        lw=1.6 if curve.gated else 1.1,
        marker="x" if curve.op == "ablate" else "o" if curve.gated else ".",
        ms=6 if curve.op == "ablate" else 3.5,
        label=f"{op}, k={curve.k}{', gated' if curve.gated else ''}",
        clip_on=False,
    )


def _ring(axes: Any, choice: Choice) -> None:
    at = max(choice.dev_kl_nats, FLOOR), choice.dev_gain
    name = f"chosen for a budget{', gated' if choice.gated else ''}"
    axes.plot(*at, "o", ms=9, mfc="none", mec="0.2" if choice.gated else "0.6", mew=0.9, label=name, clip_on=False)


def _level(axes: Any, at: float, name: str, dash: tuple[int, int]) -> None:
    axes.axhline(at, color="0.45", lw=1, ls=(0, dash))
    axes.text(0.985, at, name, transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=8, color="0.35")
