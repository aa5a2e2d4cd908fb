"""Dose-response plots: behaviour against collateral damage, one panel a side, one line an intervention."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..records.result import Curve, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {1: "#0072b2", 3: "#009e73", 10: "#d55e00"}
"""By number of findings (Okabe-Ito, distinguishable without colour vision)."""
FLOOR = 1e-4
"""Collateral in nats a token at the left end; less is drawn there."""
SIZE = (9, 3.8)
"""Inches."""
STYLES = {"add": "-", "subtract": "-", "ablate": ":"}


def save(result: Result, folder: Path) -> None:
    """Write `dose_response.png` and `.svg` into `folder`."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    dose_response(result, figure)
    with matplotlib.rc_context({"svg.hashsalt": "diffbench"}):
        for suffix in ("png", "svg"):
            figure.savefig(
                folder / f"dose_response.{suffix}", dpi=130, metadata={"Date": None} if suffix == "svg" else None
            )


def dose_response(result: Result, figure: "Figure") -> None:
    """Draw both panels into an empty figure."""
    left, right = figure.subplots(1, 2, sharey=True)
    b = result.behaviour
    for axes, title, ops in (
        (left, "sufficiency: added to the base", ("add",)),
        (right, "necessity: taken out of the organism", ("subtract", "ablate")),
    ):
        for curve in result.curves:
            if curve.op in ops:
                _line(axes, curve)
        if b is not None:
            place = axes.get_yaxis_transform()
            for name, rate, dash in (("base", b.b0_dev, (1, 2)), ("organism", b.b1_dev, (5, 3))):
                axes.axhline(rate, color="0.45", lw=1, ls=(0, dash))
                axes.text(0.985, rate, name, transform=place, ha="right", va="bottom", fontsize=8, color="0.35")
        axes.set_xscale("log")
        axes.set_xlim(FLOOR, 1.3)
        axes.set_ylim(-0.02, 1.02)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("collateral: KL on neutral text (nats/token); at the left end: that or less", fontsize=10)
    left.set_ylabel("behaviour rate (dev prompts)")
    handles, labels = right.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right upper", fontsize=7, frameon=False)
    figure.suptitle(
        f"{result.identity.method} on {result.identity.organism}, seed {result.identity.seeds['method']}", fontsize=11
    )


def _line(axes: "object", curve: Curve) -> None:
    op = "ablate" if curve.op == "ablate" else "add or subtract"  # one legend for both panels
    label = f"{op}, k={curve.k}{', gated' if curve.gated else ''}"
    x = [max(v, FLOOR) for v in curve.kl_nats]
    axes.plot(  # pyright: ignore[reportAttributeAccessIssue]
        x,
        curve.rate,
        STYLES[curve.op],
        color=COLOURS.get(curve.k, "#56b4e9"),
        alpha=1.0 if curve.gated else 0.55,
        lw=1.6 if curve.gated else 1.1,
        marker="x" if curve.op == "ablate" else "o" if curve.gated else ".",
        ms=6 if curve.op == "ablate" else 3.5,
        label=label,
        clip_on=False,
    )
