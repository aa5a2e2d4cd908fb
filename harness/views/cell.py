"""What one cell found: a sentence a side, then the numbers, each with its zero and its one.

A sentence speaks of the headline column and of the middle budget, the same for every cell, so that sentences can be set side by side.
Scores are means over all budgets, so that mean and the random directions' stand beside it.
"""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..records.result import Choice, FalseDiscovery, Identified, Located, Result, Samples, Score, SideName

DOES = {
    "add": "Adding {} to the base",
    "subtract": "Subtracting {} from the organism",
    "ablate": "Ablating {} in the organism",
}
ORACLE = "oracle"
OUTCOME: dict[SideName, str] = {"sufficiency": "brings back", "necessity": "takes away"}
ROWS = ("isolation", "sufficiency", "necessity")
EXPLAINED = {
    "score": "(findings − random) / (oracle − random), random below 0 as 0",
    "isolation": "harmonic mean of sufficiency and necessity; 0 if one is not above 0",
    "sufficiency": "how much nearer adding the findings brings base to organism",
    "necessity": "how much nearer taking them out brings organism to base",
    "everywhere": "the same, every token edited; above: only where gates are open",
    "mitigation": "area of nearness to the base against capability that is kept",
    "[low, high]": "95% of draws of templates, prompts and controls; may pass 1",
    "findings": "share of the gap closed on scored test prompts, mean over budgets",
    "random": "the same of random directions, chosen and measured the same way",
    "mixture": "the same of mixed differences at random tokens; never the zero",
    "oracle": "the same of the other model's whole residual, without a budget",
    "p": "(1 + random sets at least as good) / (1 + random sets)",
    "spill": "how far prompts on which the models agree move from the other",
    "nats": "KL a token of ordinary text (the prompts' kind) to the nearer model",
    "logit lens": "tokens whose logits a finding raises and lowers most",
    "cost": "seconds by phase, tokens read, most memory of the process",
}
"""A line for each number, under the name it has on the screen."""


def view(r: Result, verbose: bool = False) -> RenderableType:
    """A scored cell.

    Args:
        verbose: also a line for each number.
    """
    parts: list[RenderableType] = [Text(line, style="bold") for line in sentences(r)]
    if r.samples and r.scores:
        parts += [Text(""), _numbers(r), *(Text(line, style="dim") for line in _footnotes(r, r.samples))]
    parts += map(Text, beside(r))
    if r.readings:
        parts += [Text(""), _lens(r)]
    if r.claims:
        parts.append(Text("what the method says has changed (recorded, not scored)"))
        parts += [Padding(Text(claim), (0, 0, 0, 2)) for claim in r.claims]
    parts.append(Text(_cost(r), style="dim"))
    return Group(*parts, *([Text(""), _explained(r)] if verbose else []))


def sentences(r: Result) -> list[str]:
    """What was found, in words."""
    if r.false_discovery:
        return [_discoveries(r.false_discovery)]
    if not (r.samples and r.scores):
        return []
    s, n = r.scores.sufficiency, r.scores.necessity
    if r.identity.method == ORACLE:
        there, back = (percent(x.anchors.oracle) for x in (s, n))
        whole = f"Exchanging the whole residual at layer {r.identity.layer}"
        return [f"{whole} brings back {there} of the behaviour in the base, and takes away {back} in the organism."]
    return [_sentence(r, "sufficiency", s), _sentence(r, "necessity", n)] if r.choices else []


def _sentence(r: Result, side: SideName, score: Score) -> str:
    column = "gated" if r.samples and r.samples.gated else "constant"
    choice = middle([c for c in r.choices if (c.column, c.side) == (column, side)])
    beside = f"over all budgets {percent(score.raw)}, random directions {percent(score.anchors.null)}"
    where = " where gates are open" if choice.gated else ""
    share = "nothing" if choice.op == "none" else percent(choice.test_gain)
    of_it = f"{OUTCOME[side]} {share} of the behaviour at {nats(choice.tau_nats)} nats a token"
    return f"{_doing(side, choice)}{where} {of_it}; {beside}."


def middle(choices: Sequence[Choice]) -> Choice:
    """The choice of the middle budget, of one column and side: what a sentence is about."""
    return sorted(choices, key=lambda c: c.tau_nats)[len(choices) // 2]


def _doing(side: SideName, choice: Choice) -> str:
    if choice.op == "none":
        return "Adding findings to the base" if side == "sufficiency" else "Taking findings out of the organism"
    return DOES[choice.op].format("finding 1" if choice.k == 1 else f"findings 1–{choice.k}")


def percent(share: float | None) -> str:
    """`38%`."""
    return "–" if share is None else f"{round(100 * share):d}%"


def nats(amount: float) -> str:
    """`.03`."""
    return f"{amount:g}".removeprefix("0") if amount else "0"


def _discoveries(f: FalseDiscovery) -> str:
    found = round(f.share * len(f.p))
    return (
        f"{found} of {len(f.p)} findings do more than random directions to behaviours that nobody trained: "
        f"{percent(f.share)} [{percent(f.ci_low)}, {percent(f.ci_high)}]; random directions {100 * f.expected:.1f}%."
    )


def differs(r: Result) -> bool:
    """Whether edits under gates stand beside edits everywhere."""
    return r.samples is not None and r.samples.gated is not None


def _numbers(r: Result) -> Table:
    """Scores and what they are made of; edits under gates and everywhere where these differ."""
    assert r.scores is not None
    table = Table(box=None, pad_edge=False)
    for name in ("", "score", "findings", "random", "mixture", "oracle", "p"):
        table.add_column(name, justify="right" if name else "left", overflow="fold")

    def add(name: str, s: Score) -> None:
        shares = (s.raw, s.anchors.null, s.anchors.mixture, s.anchors.oracle)
        p = "–" if s.p_random is None else f"{s.p_random:.3f}"
        table.add_row(name, interval(s), *("–" if v is None else f"{v:.3f}" for v in shares), p)

    for name in ROWS:
        add(name, getattr(r.scores, name))
    if differs(r):
        table.add_row("everywhere", style="dim")
        for name in ROWS:
            add(f" {name}", getattr(r.scores, f"{name}_constant"))
    add("mitigation", r.scores.mitigation)
    return table


def _footnotes(r: Result, samples: Samples) -> list[str]:
    """Zero and one of each column, what p can be, and what stands behind the intervals."""
    scored = [t for t, of in zip(samples.templates, samples.scored, strict=True) if of]
    notes = [
        "score: 0 = random directions, 1 = oracle (mitigation: fine-tuning off)",
        "others: share of the gap closed, 0 = no nearer, 1 = the other model",
        f"{len(scored)} of {len(samples.scored)} test prompts scored, of {_count(len(set(scored)), 'template')}; [95% interval]",
    ]
    if r.identity.method != ORACLE:
        headline = samples.gated or samples.constant
        first, rest = (len(c.sufficiency.null_controls) for c in (headline, samples.constant))
        also = f"; {rest} everywhere: 1/{rest + 1}" * (first != rest)
        notes.append(f"p: {first} random sets allow no less than 1/{first + 1} = {1 / (first + 1):.3f}{also}")
    if r.scores and r.scores.sufficiency.spill is not None and r.scores.necessity.spill is not None:
        other = _count(len(samples.scored) - len(scored), "other prompt")
        added, taken = (round(s.spill or 0.0, 3) + 0.0 for s in (r.scores.sufficiency, r.scores.necessity))  # no -0.000
        notes.append(f"spill: {other} moved away by {added:.3f} (added), {taken:.3f} (taken out)")
    if r.behaviour:
        b = r.behaviour
        notes.append(f"behaviour on {b.n_test} test prompts: base {b.b0_test:.3f}, organism {b.b1_test:.3f}")
    return notes


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")


def beside(r: Result) -> list[str]:
    """A line for each score that stands beside isolation."""
    lines: list[str] = []
    if f := r.false_discovery:
        lines.append(
            f"false discoveries {f.share:.2f} [{f.ci_low:.2f}, {f.ci_high:.2f}] of {_count(len(f.p), 'finding')}, random directions "
            f"{f.expected:.3f}; smallest p {min(f.p):.3f}, {f.controls} random directions allow no less than 1/{f.controls + 1}"
        )
    if loc := r.localisation:
        at = ", ".join(f"{a.cos:.2f} (p {a.p:.2g}, overlap {a.overlap:.2f} for {a.chance:.2f})" for a in loc.at)
        lines.append(f"|cos| with the planted direction at k = {_ks(loc.at)}: {at}")
    if i := r.identification:
        at = ", ".join("–" if a.value is None else f"{a.value:.2f} (p {a.p:.2g})" for a in i.at)
        guess = "–" if i.outputs_only is None else f"{i.outputs_only:.2f}"
        lines.append(
            f"identification of {i.truth!r} among {i.candidates} at k = {_ks(i.at)}: {at}; "
            f"base's mean residual {i.base:.2f}, outputs only {guess}"
        )
    return lines


def _ks(at: Sequence[Located] | Sequence[Identified]) -> str:
    return ", ".join(str(a.k) for a in at)


def interval(score: Score) -> str:
    """`0.38 [0.20, 0.55]`; the ends are cut to the range of a score, as its value is."""
    if score.value is None or score.ci_low is None or score.ci_high is None:
        return "–"
    low, high = (min(1.0, max(-1.0, end)) for end in (score.ci_low, score.ci_high))
    return f"{score.value:.2f} [{low:.2f}, {high:.2f}]"


def _lens(r: Result) -> Table:
    lens = Table(box=None, pad_edge=False)
    for name in ("finding", "promotes (logit lens)", "suppresses"):
        lens.add_column(name, overflow="fold")
    for reading in r.readings:
        name = f"{reading.finding + 1}{' gated' if reading.gated else ''}"
        lens.add_row(name, " ".join(reading.promotes), " ".join(reading.suppresses))
    return lens


def _cost(r: Result) -> str:
    phases = ", ".join(f"{k} {v:.1f}" for k, v in r.cost.phases.items())
    return f"cost: {r.cost.wall_s:.1f} s ({phases}), {r.cost.tokens:,} tokens, peak {r.cost.peak_rss_bytes / 2**30:.2f} GiB"


def _explained(r: Result) -> Table:
    """A line for each number that is shown."""
    shown = dict(EXPLAINED)
    if not differs(r):
        del shown["everywhere"]
    if not r.readings:
        del shown["logit lens"]
    if r.scores is None or r.scores.sufficiency.spill is None:
        del shown["spill"]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, meaning in shown.items():
        table.add_row(name, meaning)
    return table
