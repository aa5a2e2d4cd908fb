"""Sentences of a report that both faces say."""

from collections.abc import Sequence

from ...records.result import Curve
from ..report import Answer, Explained, Shown, Use, Won, WordScore

DOES = {"add": "added to the base", "subtract": "subtracted from the organism", "ablate": "ablated in the organism"}


def how_active(f: Shown) -> list[str]:
    """On how much text a finding is active, in which model more."""
    a = f.active
    if a is None:
        return []
    if f.silent:
        nearest = f"{a.strongest_organism:.3g} (organism) and {a.strongest_base:.3g} (base)"
        where = "its gate is open on no token that was read, in neither model"
        return [
            f"never active: {where}; nearest to its threshold {nearest}. The contexts are the nearest, not examples."
        ]
    of = (
        "how far the residual is above the gate's threshold"
        if f.gated
        else "projection on the direction, from the base's mean"
    )
    share = f"{_percent(a.base)} of tokens in the base, {_percent(a.organism)} in the organism"
    return [
        f"active ({a.rule}) on {share}; strongest {a.strongest_base:.3g} and {a.strongest_organism:.3g}",
        f"activation: {of}",
    ]


def _percent(share: float) -> str:
    """Two digits: `0.31%`, `43%`, `100%`."""
    return f"{100 * share:.2g}%" if share < 0.995 else f"{100 * share:.0f}%"


def won_line(w: Won) -> str:
    """Which reading names the truth best."""
    by = ", ".join(f"{name} {value:.2f}" for name, value in w.by.items())
    first = "the first finding" if w.k == 1 else f"the first {w.k} findings"
    best = f"{w.readings[0]} does" if len(w.readings) == 1 else f"{' and '.join(w.readings)} do"
    return f"reading {first} for {w.truth!r}: {best} best ({by}; 1 = first of the candidates, −1 = last)"


def which(use: Use) -> str:
    """`finding 1`, `findings 1–3`, `findings 1, 4`."""
    n = use.findings
    if len(n) == 1:
        return f"finding {n[0]}"
    return f"findings {n[0]}–{n[-1]}" if n == list(range(n[0], n[-1] + 1)) else f"findings {', '.join(map(str, n))}"


def how_used(use: Use) -> str:
    """One use in words."""
    where = "where gates are open" if use.gated else "at every token"
    strength = (
        f"share {use.strength:.3g}" if use.op == "ablate" else f"strength {use.strength:.3g} (× mean residual norm)"
    )
    return f"{which(use)} {DOES[use.op]} {where}, {strength}; chosen by: {use.chosen}"


def at_work(added: Use | None, removed: Use | None, asked: Sequence[str] = ("base", "organism")) -> list[str]:
    """How findings are used on the sides that were asked for, or why they are not."""
    lines = [
        ("base", "+", added, "nothing is added: scoring found no strength that helps"),
        ("organism", "−", removed, "nothing is taken out: scoring found no strength that helps"),
    ]
    return [f"{sign} {how_used(use) if use else why}" for side, sign, use, why in lines if side in asked]


def four(a: Answer) -> list[tuple[str, str]]:
    """Who answers, and what; what was not asked is left out."""
    said = {
        "base": a.base,
        "base + finding": a.added,
        "organism": a.organism,
        "organism − finding": a.removed,
    }
    return [(who, text) for who, text in said.items() if text is not None]


def curve_name(c: Curve) -> str:
    """One curve's."""
    some = "finding 1" if c.k == 1 else f"findings 1–{c.k}"
    return f"{c.op} {some}{', gated' if c.gated else ''}"


def curve_lines(curves: Sequence[Curve]) -> list[str]:
    """A line a curve: strength → share of the gap that is closed."""
    return [
        f"{curve_name(c)}: " + "  ".join(f"{s:.2g}→{100 * g:.0f}%" for s, g in zip(c.strengths, c.gain, strict=True))
        for c in curves
    ]


def parted(token: str) -> tuple[str, str]:
    """The space that a token begins with, and the rest."""
    word = token.lstrip(" ")
    return token[: len(token) - len(word)], word


def explained_lines(e: Explained) -> list[str]:
    """One explanation and its scores, a line each."""
    if e.text is None:
        return [f"not explained by {e.explainer}: {e.coverage}"]
    lines = [f"explained by {e.explainer}: {e.text}"]
    if e.outputs:
        lines.append(f"what it makes the base say: {e.outputs}")
    return [*lines, f"({e.coverage})", *map(score_line, e.scores)]


def score_line(s: WordScore) -> str:
    """`detection .81 [.74, .88], balanced accuracy by its n-grams, chance .5; others' explanations .52`."""
    if s.value is None:
        return f"{s.scorer}: not scored, {s.why}"
    others = f"; others' explanations {sum(s.shuffled) / len(s.shuffled):.2f}" if s.shuffled else ""
    unread = f"; {s.failed} answers could not be read" if s.failed else ""
    graded = f", AUROC {s.auroc:.2f}" if s.auroc is not None else ""
    return (
        f"{s.scorer} {s.value:.2f} [{s.low:.2f}, {s.high:.2f}]: {s.metric} by {s.by}{graded}, chance {s.chance:g}, "
        f"{s.active} windows and {s.other} others{others}{unread}"
    )
