"""`python -m benchmarks.tiers A B RECORDS`: does the order of methods on one set of organisms tell their order on another?

The embedded tier is worth something to a reader if what is better there is better on a real model. Every method's score is its isolation
averaged over the families of a set, over the organisms that count there, as on the board; what is compared is the order of the methods
that both sets have. Spearman's rank correlation stands with a percentile interval for which families are drawn with replacement, in each
set by itself: with other behaviours the order would have been another. How well a set tells its own order is the correlation between two
random halves of its families, and no other set can be expected to tell more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.terminal import handled
from diffbench.leaderboard.board.build import settled
from diffbench.leaderboard.pages.cells import number
from diffbench.leaderboard.pages.text_formats import markdown_table
from diffbench.leaderboard.statistics.resample import family
from diffbench.leaderboard.statistics.rows import SORT_KEY, Table
from diffbench.leaderboard.statistics.tables import build_table
from diffbench.organisms.errors import PrerequisiteError
from diffbench.organisms.sets import members
from numpy.typing import NDArray
from scipy.stats import spearmanr

from .results import usable, whole
from .table import insert

Array = NDArray[np.float64]
LEAST = 4
"""Methods below which an order says nothing: three agree by chance in one of six cases."""
DRAWS = 10_000


@dataclass(frozen=True)
class Tier:
    """Scores of methods on one set."""

    name: str
    methods: list[str]
    families: list[str]
    values: Array
    """[methods, families] isolation, mean over the organisms of a family that count."""

    @classmethod
    def of(cls, table: Table) -> "Tier":
        """Of the methods that are ranked there."""
        ranked = [m.method for m in table.overall if m.kind == "method"]
        named = sorted({family(o) for o in table.counted[SORT_KEY]})
        at = {(row.method, row.organism): row.scores[SORT_KEY].value for row in table.cells}
        means = [
            [np.mean([at[m, o] or 0.0 for o in table.counted[SORT_KEY] if family(o) == f]) for f in named]
            for m in ranked
        ]
        return cls(table.organism_set, ranked, named, np.array(means, dtype=float).reshape(len(ranked), len(named)))

    def only(self, methods: Sequence[str]) -> "Tier":
        """These methods, in this order."""
        return Tier(self.name, [*methods], self.families, self.values[[self.methods.index(m) for m in methods]])


@dataclass(frozen=True)
class Agreement:
    """How far two sets have one order."""

    a: Tier
    b: Tier
    rho: float
    """Spearman's."""
    low: float
    high: float
    """95 % over families; nan where a set has one family, which cannot be drawn."""
    p: float
    """Two-sided, of no relation between the orders, every method being one draw."""
    halves: tuple[float, float]
    """Mean Spearman between random halves of a set's families; nan with one family."""


def compare(a: Tier, b: Tier, draws: int = DRAWS, seed: int = 0) -> Agreement:
    """The orders of the methods that both have.

    Raises:
        PrerequisiteError: fewer than `LEAST` of them, or a set with no family that counts.
    """
    both = [m for m in a.methods if m in b.methods]
    if len(both) < LEAST or not (a.families and b.families):
        raise PrerequisiteError(
            f"{a.name} and {b.name} have {len(both)} methods on all of their organisms, and {len(a.families)} and {len(b.families)} "
            f"families count: an order needs {LEAST} methods and a family; run `bench sweep -m all` on both"
        )
    a, b = a.only(both), b.only(both)
    rng = np.random.default_rng(seed)
    at = spearmanr(a.values.mean(1), b.values.mean(1))
    several = min(len(a.families), len(b.families)) > 1
    drawn = [_rho(_drawn(a.values, rng), _drawn(b.values, rng)) for _ in range(draws if several else 0)]
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if drawn else (np.nan, np.nan)
    return Agreement(
        a, b, float(at.statistic), float(low), float(high), float(at.pvalue), (_halves(a, rng), _halves(b, rng))
    )


def _drawn(values: Array, rng: np.random.Generator) -> Array:
    return values[:, rng.integers(values.shape[1], size=values.shape[1])].mean(1)


def _rho(x: Array, y: Array) -> float:
    """Spearman's, nan where one of them has no order."""
    return float("nan") if np.ptp(x) == 0 or np.ptp(y) == 0 else float(spearmanr(x, y).statistic)


def _halves(tier: Tier, rng: np.random.Generator, draws: int = 1000) -> float:
    n = len(tier.families)
    if n < 2:
        return float("nan")
    found = list[float]()
    for _ in range(draws):
        order = rng.permutation(n)
        found.append(_rho(*(tier.values[:, half].mean(1) for half in (order[: n // 2], order[n // 2 :]))))
    return float(np.nanmean(found))


def markdown(found: Agreement) -> str:
    """One sentence, and the methods with score and place on both sets."""
    a, b = found.a, found.b
    halves = " and ".join(map(_known, found.halves))
    said = (
        f"Spearman's rank correlation between {a.name} ({len(a.families)} families) and {b.name} ({len(b.families)}: "
        f"{', '.join(b.families)}), over {len(a.methods)} methods: **{number(found.rho)}** [{_known(found.low)}, {_known(found.high)}], "
        f"p {found.p:.2g}. Between halves of one set's own families: {halves}."
    )
    scores = [tier.values.mean(1) for tier in (a, b)]
    places = [(-s).argsort(kind="stable").argsort() + 1 for s in scores]
    rows = [
        [
            f"`{a.methods[i]}`",
            *(text for s, p in zip(scores, places, strict=True) for text in (number(s[i]), str(p[i]))),
        ]
        for i in np.argsort(places[0])
    ]
    return f"{said}\n\n{markdown_table(('method', a.name, 'place', b.name, 'place'), rows)}"


def _known(value: float) -> str:
    return number(None if np.isnan(value) else value)


def main(
    one: Annotated[str, typer.Argument(help="Set of organisms.")] = "core-v2",
    other: Annotated[str, typer.Argument(help="Set that its order is to tell.")] = "small-v2",
    records: Annotated[Path, typer.Argument(help="Run folders or packs.")] = Path("leaderboard/published"),
    page: Annotated[Path | None, typer.Option(help="Page whose table is replaced.")] = None,
) -> None:
    """Print how far two sets have one order of methods."""
    with handled(False):
        results = usable(records)
        tables = [
            build_table(whole(results, members(s)), members(s), s, settled=settled(results), pairs=False)
            for s in (one, other)
        ]
        text = markdown(compare(*map(Tier.of, tables)))
    if page:
        atomic_write_text(page, insert(page.read_text(), text))
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
