"""What `bench leaderboard power` prints: the components, what can be seen with them, and what it takes to see more."""

import math
from dataclasses import replace
from typing import Any

from ..statistics.power import ALPHA, NESTED, POWER, TARGET, Components, Size
from ..statistics.rows import count
from .cells import number
from .text_formats import markdown_table, md

SEEDS = (1, 2, 3, 5, 10)


def power_markdown(c: Components) -> str:
    """As `power_tables`, under a heading."""
    return f"# Where the noise of {c.score} comes from\n\n{power_tables(c)}"


def power_tables(c: Components) -> str:
    """The components, what can be seen with them, and what it takes to see `TARGET`."""
    names = [*NESTED, "template", "method seed", "method seed × template"]
    parts = [[n, _deviation(c.main.get(n)) if n in c.main else "", _deviation(c.interaction[n])] for n in names]
    seeds = sorted({*SEEDS, c.size.seeds})
    templates = [max(2, round(c.size.templates * f)) for f in (0.5, 1, 2, 4)]
    grid = [
        [
            str(s),
            *(" · ".join(number(d, 3) for d in _both(c, replace(c.size, seeds=s, templates=t))) for t in templates),
            _many(_templates_needed(c, s)),
        ]
        for s in seeds
    ]
    asks = ("seeds", "templates", "organisms")
    answers = [[w, _now(c.size, w), _many(c.needed(w)), _many(c.needed(w, pairs=c.pairs))] for w in asks]
    unknown_ = "– : these runs cannot tell it apart, and it is part of the row above it. " if _has_none(c) else ""
    left = f" Left out, undefined, never finished or of one template: {', '.join(c.left_out)}." if c.left_out else ""
    left += f" Not counted in {c.score}: {', '.join(c.not_counted)}." if c.not_counted else ""
    groups = f" in {count(n, 'cluster')}" if (n := c.size.clusters) else ""
    return (
        f"{count(len(c.methods), 'ranked method')}, {c.seeded} of them with several seeds ({c.size.seeds}); "
        f"{count(len(c.size.organisms), 'organism')}{groups}, {c.size.templates:.0f} templates of test prompts each (harmonic mean)."
        f"{md(left)}\n\n"
        f"Standard deviations, in units of the score; what is common to all methods cancels when two are compared. {unknown_}\n\n"
        + markdown_table(("Source", "Common to methods", "× method"), parts)
        + "\nMinimum detectable difference between two methods (80 % power, α = .05, one comparison): on this set of "
        "organisms · for organisms like these. Last: templates an organism that separate two methods by "
        f"{number(TARGET)} on this set.\n\n"
        + markdown_table(
            ("Method seeds", *(f"{t} templates" for t in templates), f"Templates for {number(TARGET)}"), grid
        )
        + f"\nTo separate two methods by {number(TARGET)}, changing one number and nothing else; seeds and templates on this "
        "set of organisms, organisms for organisms like these.\n\n"
        + markdown_table(("What", "Now", "Needed", f"Needed, one of {count(c.pairs, 'pair')}"), answers)
        + "\nAn average over the methods, those that find nothing included: methods whose seeds scatter more need more. Last column: with "
        "Bonferroni's correction for all pairs of ranked methods, which Holm's is close to for the first few.\n"
    )


def power_data(c: Components) -> dict[str, Any]:
    """`power_markdown` as plain values; variances untruncated."""
    here, like = _both(c, c.size)
    return {
        "score": c.score,
        "methods": c.methods,
        "methods_with_several_seeds": c.seeded,
        "organisms": c.size.organisms,
        "left_out": c.left_out,
        "not_counted": c.not_counted,
        "clusters": c.size.clusters,
        "seeds": c.size.seeds,
        "templates": c.size.templates,
        "variance_common": c.main,
        "variance_by_method": c.interaction,
        "alpha": ALPHA,
        "power": POWER,
        "detectable_on_this_set": here,
        "detectable_for_organisms_like_these": like,
        "target": TARGET,
        "needed": {what: c.needed(what) for what in ("seeds", "templates", "organisms")},
        "needed_among_all_pairs": {what: c.needed(what, pairs=c.pairs) for what in ("seeds", "templates", "organisms")},
        "templates_needed_with_seeds": {s: _templates_needed(c, s) for s in SEEDS},
    }


def _both(c: Components, size: Size) -> tuple[float | None, float | None]:
    return c.detectable(size, True), c.detectable(size, False)


def _templates_needed(c: Components, seeds: int) -> int | None:
    """Templates an organism that detect `TARGET` on this set with so many method seeds; None: no number."""
    return replace(c, size=replace(c.size, seeds=seeds)).needed("templates")


def _many(n: int | None) -> str:
    return "no number is enough" if n is None else str(n)


def _now(size: Size, what: str) -> str:
    return f"{len(size.organisms) if what == 'organisms' else getattr(size, what):.0f}"


def _has_none(c: Components) -> bool:
    return None in c.main.values() or None in c.interaction.values()


def _deviation(variance: float | None) -> str:
    return "–" if variance is None else number(math.sqrt(max(variance, 0.0)), 3)
