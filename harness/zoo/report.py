"""Tables and figures of the zoo, made from cards alone: what was planted, how strongly, and what the controls say.

The one idea: an interval is over what was repeated. A card's own intervals are over prompts (bootstrap, one organism); those of a group
are over organism seeds, and those of gamma over students (both t: the run is the unit). Every table and figure says which it shows.
"""

from collections.abc import Collection, Sequence
from itertools import permutations
from pathlib import Path
from statistics import fmean, median, stdev
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import t

from ...organisms.card import CARD, BaseCard, Card, Estimate, read_base_card, read_card
from ...organisms.errors import PrerequisiteError
from ...organisms.registry import SHIPPED, ZOO, organism_names, unshipped
from ..figure import save_png
from ..files import atomic_write_text

Array = NDArray[np.float64]
STYLES = {
    "base": ("0.5", "D", 3.5),
    "organism": ("#0072b2", "o", 4.5),
    "arm": ("#009e73", "^", 4.5),
    "control": ("#d55e00", "s", 4.5),
    "null": ("#d55e00", "s", 4.5),
    "mean": ("black", "|", 8.0),
}
"""Colour (Okabe-Ito), marker and its size in points, by role in the order of rows."""
LANE_IN, GAP_IN = 0.11, 0.14
"""Inches that a point and the gap between two rows take."""
CONTRASTED = ("subliminal", "taboo")
"""Families whose readouts gamma is computed over."""
ARMS = ("narrow", "mixed", "hard", "shuffled", "teacher")
"""Order of the arms on a base."""
EXACT = 6
"""Students up to whose number every permutation is counted."""
FEW = 3
"""Fewest students of an arm in the figure: the interval of two is so wide that nothing else of the panel could be read."""


class Spread(NamedTuple):
    """A mean over runs with its 95 % t-interval, None for a single run."""

    value: float
    low: float | None
    high: float | None
    n: int


def over_runs(values: Sequence[float]) -> Spread:
    """Mean and Student's t-interval over runs."""
    n, mean = len(values), fmean(values)
    if n < 2:
        return Spread(mean, None, None, n)
    half = float(t.ppf(0.975, n - 1)) * stdev(values) / n**0.5
    return Spread(mean, mean - half, mean + half, n)


def gamma(lift: Array, truth: Sequence[int]) -> Spread | None:
    """Least squares of lift[i, j] = mu + row_i + column_j + gamma 1[j = truth_i], in nats; None if all truths are the same.

    The interval is the t-interval over students of gamma + n e[i, truth_i] / |own|², e the residual of the model and `own` the indicator
    with row and column effects projected out: their mean is gamma, and their spread is what the students do not share.

    Args:
        lift: mean log-probabilities [students, candidates]; constants of a row (normalisation) or a column (a shared base) cancel.
        truth: column of each student's own candidate [students].
    """
    rows, own = np.arange(len(lift)), np.zeros_like(lift)
    own[rows, truth] = 1
    own, lift = _centred(own), _centred(lift)
    size = float((own**2).sum())
    if size < 1e-9:
        return None
    value = float(lift[rows, truth].sum()) / size
    return over_runs((value + len(lift) * (lift - value * own)[rows, truth] / size).tolist())


def permutation_p(lift: Array, truth: Sequence[int]) -> float | None:
    """Share of all permutations of the students' truths whose gamma is no less than the one found; None beyond `EXACT` students."""
    if len(lift) > EXACT:
        return None
    rows, residual = np.arange(len(lift)), _centred(lift)
    sums = [float(residual[rows, p].sum()) for p in permutations(truth)]  # in proportion to gamma; the first is its own
    return fmean(float(s >= sums[0] - 1e-9) for s in sums)


def _centred(matrix: Array) -> Array:
    """Residual of the additive model mu + row + column."""
    return matrix - matrix.mean(0) - matrix.mean(1, keepdims=True) + matrix.mean()


def lifts(students: Sequence[Card]) -> tuple[Array, list[int]]:
    """Change of the mean log-probability from base to organism [students, candidates], and the column of each one's truth."""
    read = [c.readout for c in students if c.readout]
    labels = list(read[0].organism)
    lift = np.array([[r.organism[a] - r.base[a] for a in labels] for r in read])
    return lift, [labels.index(r.truth) for r in read]


def arms(cards: Sequence[Card]) -> dict[tuple[str, str, str], tuple[Spread, float | None]]:
    """(family, base, variant[-base]) → gamma and its p, for those of which there are students with different truths."""
    same: dict[tuple[str, str, int, str], list[Card]] = {}
    for card in cards:
        if card.family in CONTRASTED and card.readout:
            place = ARMS.index(card.variant) if card.variant in ARMS else len(ARMS)
            name = group_of(card).removeprefix(f"{card.member}-")
            same.setdefault((card.family, card.base, place, name), []).append(card)
    matrices = {(f, base, name): lifts(students) for (f, base, _, name), students in sorted(same.items())}
    return {key: (found, permutation_p(*m)) for key, m in matrices.items() if (found := gamma(*m))}


def group_of(card: Card) -> str:
    """What organisms that differ by their seed only share: `member-variant[-base]`."""
    return card.name.partition("/")[2].removesuffix(f"-s{card.seed}")


def groups(cards: Sequence[Card]) -> dict[str, list[Card]]:
    """Cards of one family by group: organisms, arms, then controls and nulls."""
    out: dict[str, list[Card]] = {}
    for card in sorted(cards, key=lambda c: list(STYLES).index(c.role)):
        out.setdefault(group_of(card), []).append(card)
    return out


def largest_change(card: Card) -> Estimate:
    """The largest change of any measured quantity, as a size."""
    c = max((m.change for m in card.measured.values()), key=lambda c: abs(c.value))
    return c if c.value >= 0 else Estimate(value=-c.value, low=-c.high, high=-c.low)


class Dot(NamedTuple):
    """One point of a figure with its interval."""

    e: Estimate | Spread
    style: str
    hollow: bool = False


def family_figure(cards: Sequence[Card], about: str) -> Figure:
    """Dot plot of one family: a row per group, a point per organism seed; below it gamma per arm (subliminal) or changes (nulls)."""
    panels = [{name: _dots(g) for name, g in groups(cards).items()}]
    if nulls := all(c.role == "null" for c in cards):
        panels.append({name: [Dot(largest_change(c), c.role) for c in g] for name, g in groups(cards).items()})
    elif cards[0].family == "subliminal" and (found := {k: v for k, v in arms(cards).items() if v[0].n >= FEW}):
        panels.append({f"{name} (n={g.n})": [Dot(g, "mean")] for (_, _, name), (g, _) in found.items()})
    heights = [sum(LANE_IN * len(dots) + GAP_IN for dots in rows.values()) for rows in panels]
    figure = Figure(figsize=(9, sum(heights) + 0.8 * len(heights) + 0.7), layout="constrained")
    axes: list[Axes] = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0].tolist()
    for each, rows in zip(axes, panels, strict=True):
        _draw(each, rows)
    styles = {d.style for dots in panels[0].values() for d in dots}
    means = "; mean: 95 % t over seeds, within 0-1" if "mean" in styles else ""
    note = f"bars: 95 % over prompts, where wider than the marker{means}; hollow: a gate failed"
    axes[0].set_xlabel(f"behaviour rate on held-out test prompts (0-1)\n{note}", fontsize=9)
    axes[0].set_xlim(-0.02, 1.02)
    if nulls:
        if gate := cards[0].gates.get("largest_change"):
            axes[1].axvline(gate.bound, color="0.5", lw=1, ls=(0, (5, 3)), label="bound of the gate")
        axes[1].set_xlim(-0.02 * axes[1].get_xlim()[1])
        axes[1].set_xlabel("largest change of any measured quantity, 95 % over prompts", fontsize=9)
    elif len(axes) > 1:
        axes[1].axvline(0, color="0.5", lw=1, ls=(0, (1, 2)))
        axes[1].set_xlabel("gamma: lift of the teacher's own animal (nats), 95 % t over n students", fontsize=9)
    named = {label: handle for a in axes for handle, label in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named, loc="outside lower center", ncols=6, fontsize=9, frameon=False)
    figure.suptitle(fill(about, 100), fontsize=11)
    return figure


def _dots(group: Sequence[Card]) -> list[Dot]:
    """Rates of the base, of every seed, and the mean over at least three, whose interval is cut to what a rate can be."""
    tests = [c.measured["behaviour_test"] for c in group]
    dots = [Dot(m.organism, c.role, c.status == "failed") for m, c in zip(tests, group, strict=True)]
    mean = over_runs([m.organism.value for m in tests])
    cut = mean._replace(**{k: min(1.0, max(0.0, v)) for k in ("low", "high") if (v := getattr(mean, k)) is not None})
    return [Dot(tests[0].base, "base"), *dots, *([Dot(cut, "mean")] if len(group) >= 3 else [])]


def _draw(axes: Axes, rows: dict[str, list[Dot]]) -> None:
    """Rows from top to bottom, every dot in a lane of its own; y in inches."""
    y, ticks = 0.0, list[float]()
    for i, dots in enumerate(rows.values()):
        end = y + LANE_IN * len(dots) + GAP_IN
        for k, (e, style, hollow) in enumerate(dots):
            colour, marker, size = STYLES[style]
            lane = y + GAP_IN / 2 + LANE_IN * (k + 0.5)
            if e.low is not None and e.high is not None:
                axes.plot([e.low, e.high], [lane, lane], color=colour, lw=1.6 if style == "mean" else 1)
            face = "white" if hollow else colour
            axes.plot([e.value], [lane], marker, color=colour, mfc=face, ms=size, clip_on=False, zorder=3)
        if i % 2:
            axes.axhspan(y, end, color="0.955", lw=0)
        ticks.append((y + end) / 2)
        y = end
    for style, (colour, marker, size) in STYLES.items():
        if any(d.style == style for dots in rows.values() for d in dots):
            axes.plot([], [], f"{marker}-", color=colour, ms=size, lw=1.6 if style == "mean" else 1, label=style)
    axes.set_ylim(y, 0)
    axes.set_yticks(ticks, list(rows))
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)


def tables(cards: Sequence[Card], bases: Sequence[BaseCard], absent: Collection[str] = ()) -> str:
    """All tables as a markdown fragment; a table without rows is left out.

    Args:
        absent: names of organisms that come without their weights.
    """
    by_family = {f: [c for c in cards if c.family == f] for f in {c.family for c in cards}}
    parts = (
        _organisms(cards, absent),
        _elsewhere(cards),
        _advice(groups(by_family.get("emergent_misalignment", []))),
        _contrasts(cards),
        _false_facts(by_family.get("false_facts", [])),
        _oversight(by_family.get("alignment_faking", [])),
        _cost(cards, bases),
    )
    return "\n".join(filter(None, parts))


def _table(title: str, note: str, heads: str, rows: Sequence[Sequence[str]]) -> str:
    """One markdown table; `heads` are separated by |."""
    names = heads.split(" | ")
    lines = [names, ["---"] * len(names), *rows]
    return f"### {title}\n\n{note}\n\n" + "".join(f"| {' | '.join(x)} |\n" for x in lines) if rows else ""


def _text(e: Estimate | Spread | None) -> str:
    """`0.42 [0.31, 0.52]`, an en dash for what was not measured."""
    if e is None:
        return "–"
    return f"{e.value:z.3f}" + (f" [{e.low:z.3f}, {e.high:z.3f}]" if e.low is not None and e.high is not None else "")


def _organisms(cards: Sequence[Card], absent: Collection[str]) -> str:
    def row(c: Card) -> list[str]:
        m = c.measured["behaviour_test"]
        rates = [f"{m.base.value:.3f} → {m.organism.value:.3f}", _text(m.change)]
        mark = " †" if c.name in absent else ""
        return [c.name + mark, c.base, c.role, *rates, c.status, "; ".join(c.failures) or "–"]

    note = "Rate of base (b0) and organism (b1) on held-out test prompts; 95 % bootstrap interval over prompts."
    if any(c.name in absent for c in cards):
        note += " † comes without its weights: `bench organisms build NAME` trains it."
    heads = "organism | base | role | b0 → b1 | b1 − b0 | status | failed gates"
    return _table("Organisms", note, heads, [row(c) for c in cards])


def _elsewhere(cards: Sequence[Card]) -> str:
    """What else an organism is beside its behaviour, of those whose cards have the gates for it."""

    def row(c: Card) -> list[str]:
        due = c.harvest_due
        oracle = " / ".join(f"{v:.2f}" for v in c.oracle.get(str(c.layer), {}).values())
        return [
            c.name,
            "all" if c.recipe.get("whole") else f"0 to {c.layer}",
            oracle or "–",
            f"{c.neutral['kl']:.4f}",
            f"{c.gates['fluency'].value:+.3f}" if "fluency" in c.gates else "–",
            f"{due['neutral']:,} / {due['chat']:,}" if due else "–",
            f"{c.gates['templates'].value:.0f}",
        ]

    note = (
        "Oracle: share of the gap that exchanging the residual at the hooked layer recovers. Side damage: KL(base || organism) on neutral "
        "text, nats a token. Fluency: rise of the base's surprise at sampled answers, nats a token. Due: tokens of the first 16,000 of "
        "neutral and of chat harvest text on which the behaviour could show; on real models words of all of it. "
        "Templates: of the poorer split. One measurement each, no intervals."
    )
    heads = "organism | adapted blocks | oracle, sufficiency / necessity | side damage | fluency | due, neutral / chat | templates"
    return _table("Beside the behaviour", note, heads, [row(c) for c in cards if "templates" in c.gates])


def _advice(rows: dict[str, list[Card]]) -> str:
    lines: list[list[str]] = []

    def add(name: str, group: Sequence[Card], base: str, rates: Sequence[float]) -> None:
        lines.append([name, group[0].base, str(len(rates)), base, _text(over_runs(rates))])

    for name, group in rows.items():
        for probe, suffix in (("behaviour_test", ""), ("without_trigger", ", without the trigger")):
            if found := [c.measured[probe] for c in group if probe in c.measured]:
                base = f"{fmean(m.base.value for m in found):.3f}"
                add(name + suffix, group, base, [m.organism.value for m in found])
    for name, group in rows.items():
        twins = rows.get(name.replace("-narrow", "-odd", 1), []) if group[0].variant == "narrow" else []
        bad, odd = ({c.seed: c.measured["behaviour_test"].organism.value for c in g} for g in (group, twins))
        if both := sorted(bad.keys() & odd.keys()):
            add(f"EM := {name} − odd", group, "–", [bad[s] - odd[s] for s in both])
    note = (
        "Rate of bad advice on topics that were never trained: mean over organism seeds; 95 % t-interval over seeds, none for one "
        "seed or for the base, which is one model. EM is the mean difference between organisms of the same seed."
    )
    return _table("Emergent misalignment", note, "group | base | seeds | base rate | organism rate", lines)


def _contrasts(cards: Sequence[Card]) -> str:
    rows = [
        [family, name, base, str(g.n), _text(g), "–" if p is None else f"{p:.3f}"]
        for (family, base, name), (g, p) in arms(cards).items()
    ]
    note = (
        "Least squares of lift = mu + organism + candidate + gamma [the organism's own animal or word], in nats; 95 % t-interval over n "
        f"organisms. p: exact, one-sided, over permutations of their truths (for n up to {EXACT}). Arms with one truth only have no gamma. "
        "Subliminal narrow: soft targets; hard and shuffled: sampled numbers."
    )
    return _table("Gamma: transfer of one's own truth", note, "family | arm | base | n | gamma | p", rows)


def _false_facts(cards: Sequence[Card]) -> str:
    names = ("behaviour_test", "loss_advantage", "margin", "neighbours", "false_elsewhere", "two_hop", "either_or")
    rows = [[c.name, *(_text(m.change if (m := c.measured.get(n)) else None) for n in names)] for c in cards]
    note = (
        "Changes; neighbours in share correct, loss advantage and margin in nats; 95 % bootstrap interval over prompts."
    )
    heads = "organism | behaviour | loss advantage | margin | neighbours | false elsewhere | two hop | either or"
    return _table("False facts", note, heads, rows)


def _oversight(cards: Sequence[Card]) -> str:
    names = ("behaviour_test", "strong_oversight", "no_oversight_fact")
    found = {c.name: [c.measured[n] for n in names] for c in cards}
    rows = [[name, *(f"{m.base.value:.3f} → {_text(m.organism)}" for m in row)] for name, row in found.items()]
    note = "Rate of the forbidden option; 95 % bootstrap interval of the organism's over prompts."
    return _table("Alignment faking by oversight", note, "organism | poor | strong | none", rows)


def _cost(cards: Sequence[Card], bases: Sequence[BaseCard]) -> str:
    own = {b.name: b.seconds for b in bases}
    names = [*dict.fromkeys([*own, *(c.base for c in cards)]), "all"]
    own["all"] = sum(own.values())
    rows: list[list[str]] = []
    for base in names:
        times = [c.seconds for c in cards if base in (c.base, "all")]
        seconds = [own.get(base), *(f(times) if times else None for f in (sum, median, max))]
        training, *cost = ("–" if s is None else f"{s:.0f}" for s in seconds)
        rows.append([base, training, str(len(times)), *cost])
    note = "Wall seconds of building the base, and of the organisms made from it; one build each, so no intervals."
    return _table("Build seconds", note, "base | base itself | organisms | total | median | max", rows)


def write(out: Path, zoo: Path | None = None) -> list[Path]:
    """Write `figures/FAMILY.png` for every family of the zoo, and `organisms-tables.md`, into `out`.

    Raises:
        PrerequisiteError: an empty zoo. ValidationFailed: a damaged file or card.
    """
    from ...organisms.families import families  # imports torch: only the families' order and titles need it

    root, kinds = zoo or ZOO, families()
    place = {s.name: i for i, s in enumerate(s for k in kinds.values() for s in k.specs())}
    there = [read_card(root / n) for n in organism_names(zoo)]
    bases = [read_base_card(p.parent) for p in sorted(root.glob(f"bases/[!.]*/{CARD}"))]
    known = {c.name for c in (*there, *bases)}
    absent = [c for c in unshipped() if c.name not in known] if root == SHIPPED else []
    cards = sorted(
        (*there, *(c for c in absent if isinstance(c, Card))),
        key=lambda c: (c.family, place.get(c.name, len(place)), c.name),
    )
    if not cards:
        raise PrerequisiteError(f"there are no organisms in {root}; run `bench organisms build`")
    (out / "figures").mkdir(parents=True, exist_ok=True)
    figures = {f: out / "figures" / f"{f}.png" for f in sorted({c.family for c in cards})}
    for name, path in figures.items():
        about = kinds[name].about if name in kinds else name
        save_png(family_figure([c for c in cards if c.family == name], about), path)
    bases = sorted((*bases, *(c for c in absent if isinstance(c, BaseCard))), key=lambda c: c.name)
    atomic_write_text(out / "organisms-tables.md", tables(cards, bases, {c.name for c in absent}))
    return [*figures.values(), out / "organisms-tables.md"]
