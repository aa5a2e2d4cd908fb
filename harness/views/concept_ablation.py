"""What `bench mitigate` shows: one line a training, the anchors first."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...organisms.card import Estimate
from ..studies.concept_ablation import Mitigation
from ..studies.whole_models import Retrained


def table(m: Mitigation) -> RenderableType:
    """Anchors, then for each k the findings and every control."""
    shown = Table(
        title=f"{m.organism} without the findings of {m.method} (seed {m.seed}) in reach at layer {m.layer} while it is trained; "
        f"95 % intervals over {m.n} test prompts",
        title_style="dim",
        title_justify="left",
    )
    for name in ("projected out", "rank", "behaviour", "reduction", "retention", "area", "rows, nats", "seconds"):
        shown.add_column(name, justify="left" if name == "projected out" else "right")
    shown.add_row("organism as it is", *_cells(m.tuned), style="dim")
    shown.add_row("adapter off", *_cells(m.off), style="dim")
    shown.add_row("nothing (no-op)", *_cells(m.nothing), style="dim")
    for a in m.at:
        shown.add_section()
        shown.add_row(f"findings, k = {a.k}", *_cells(a.findings))
        for c in a.controls:
            shown.add_row(f"random, k = {a.k}", *_cells(c), style="dim")
    exact = "to the bit" if m.same_bytes else "but not to the bit"
    lines = [f"trained with nothing projected out it is the organism again, {exact}; {m.seconds:.0f} s in all"]
    lines += [
        f"k = {a.k}: reduction {a.findings.reduction.value:.3f}, random directions {a.control_reduction:.3f} "
        f"(mean of {len(a.controls)})"
        for a in m.at
        if a.control_reduction is not None
    ]
    return Group(shown, Text("\n".join(lines), style="dim"))


def _cells(r: Retrained) -> tuple[str, ...]:
    return (
        str(r.rank),
        f"{r.rate.value:.3f}",
        _interval(r.reduction),
        f"{r.retention:.3f}",
        _interval(r.area),
        "–" if r.taught_nll is None else f"{r.taught_nll:.3f}",
        "–" if r.seconds is None else f"{r.seconds:.0f}",
    )


def _interval(e: Estimate | None) -> str:
    return "–" if e is None else f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"
