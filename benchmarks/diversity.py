"""`python -m benchmarks.diversity RECORDS`: how many different questions a set of organisms asks of methods.

Thirty organisms on which the same methods win are one organism thirty times. With X [methods, organisms] the isolation of each method on
each organism (mean over its seeds), C = cov(X) over methods, each organism centred at its own mean, and l the eigenvalues of C, the
participation ratio is

    (sum l)^2 / sum l^2 = (tr C)^2 / tr(C^2)

(Gao et al. 2017, "A theory of multineuronal dimensionality, dynamics and measurement"): n if n organisms order methods independently and
spread them alike, 1 if all are one up to scale. It cannot exceed the number of methods less one. An organism that hardly spreads methods
counts little; `of equal spread` is the same of the correlation matrix, where every organism that spreads them at all counts alike.

An organism tells nothing apart if no method reaches .3 on it, or if three exceed .95. Anchors and labelled methods are no contestants.
Choosing organisms may look at this on the tuning set only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from diffbench.harness.records.result import Result
from diffbench.harness.terminal import handled
from diffbench.leaderboard.pages.text_formats import markdown_table
from diffbench.leaderboard.statistics.resample import family as family_of
from diffbench.organisms.errors import PrerequisiteError
from diffbench.organisms.sets import TUNING, members
from numpy.typing import NDArray

from .results import usable, whole

Array = NDArray[np.float64]
REACHED, SATURATED, SEVERAL = 0.3, 0.95, 3
"""Isolation that somebody should reach, and that not so many should exceed."""
NO_CONTESTANTS = ("anchor", "supervised")


@dataclass(frozen=True)
class Scores:
    """Isolation of methods on organisms."""

    methods: list[str]
    organisms: list[str]
    values: Array
    """[methods, organisms] mean over seeds; a cell that failed counts as 0."""

    @property
    def unreached(self) -> list[str]:
        """Organisms on which no method reaches .3."""
        return [o for o, best in zip(self.organisms, self.values.max(0), strict=True) if best < REACHED]

    @property
    def saturated(self) -> list[str]:
        """Organisms on which three methods exceed .95."""
        above = (self.values > SATURATED).sum(0)
        return [o for o, n in zip(self.organisms, above, strict=True) if n >= SEVERAL]


def participation_ratio(values: Array, equal: bool = False) -> float:
    """(sum l)^2 / sum l^2 over the eigenvalues l of the covariance of the columns of `values` [methods, organisms].

    Args:
        equal: of their correlations instead, over the columns that vary.

    Returns:
        nan if nothing varies.
    """
    centred = values - values.mean(0)
    if equal:
        spread = np.linalg.norm(centred, axis=0)
        centred = centred[:, spread > 1e-9] / spread[spread > 1e-9]
    small = (
        centred @ centred.T if len(centred) <= centred.shape[1] else centred.T @ centred
    )  # the same eigenvalues but for zeros
    total = float((small**2).sum())
    return float(np.trace(small)) ** 2 / total if total > 0 else float("nan")


def scores_of(results: Sequence[Result], organisms: Sequence[str]) -> Scores:
    """Isolation of every contestant that was run on all of these organisms; nulls, which have none, are left out.

    Raises:
        PrerequisiteError: fewer than three such methods.
    """
    found: dict[tuple[str, str], list[float]] = {}
    cells = whole(results, organisms)
    # a cell that failed on a null does not say that it is one
    nulls = {r.identity.organism for r in cells if r.false_discovery is not None}
    for r in cells:
        if r.identity.access not in NO_CONTESTANTS and r.identity.organism not in nulls:
            value = r.scores.isolation.value if r.scores else None
            found.setdefault((r.identity.row, r.identity.organism), []).append(value or 0.0)
    methods, asked = (sorted({key[i] for key in found}) for i in (0, 1))
    if len(methods) < SEVERAL:
        raise PrerequisiteError(
            f"{len(methods)} methods have a seed on all of the {len(organisms)} organisms, and with fewer than {SEVERAL} nothing can be "
            "said of how organisms differ; run `bench run -m all` on the set, and name its folder"
        )
    return Scores(methods, asked, np.array([[np.mean(found[m, o]) for o in asked] for m in methods]))


def markdown(scores: Scores) -> str:
    """A row a family, and all."""
    rows: list[list[str]] = []
    families = list(dict.fromkeys(map(family_of, scores.organisms)))
    for family in (*families, None):
        mine = [family in (None, family_of(o)) for o in scores.organisms]
        names = {o for o, m in zip(scores.organisms, mine, strict=True) if m}
        ratios = [f"{participation_ratio(scores.values[:, mine], equal):.1f}" for equal in (False, True)]
        counts = [str(len(names & set(some))) for some in (scores.unreached, scores.saturated)]
        rows.append([family or "**all**", str(len(names)), *counts, *ratios])
    head = ("family", "organisms", "nobody reaches .3", "three exceed .95", "participation ratio", "of equal spread")
    dull = sorted({*scores.unreached, *scores.saturated})
    said = f"{len(scores.methods)} methods. {len(dull)} of {len(scores.organisms)} organisms tell nothing apart"
    return f"{markdown_table(head, rows)}\n{said}{': ' if dull else ''}{', '.join(dull)}.\n"


def main(
    records: Annotated[Path, typer.Argument(help="Run folders or packs.")],
    set_: Annotated[str, typer.Option("--set", help="Set of organisms.")] = TUNING,
) -> None:
    """Print the participation ratio of a set, and the organisms that tell nothing apart, by family."""
    with handled(False):
        typer.echo(markdown(scores_of(usable(records), members(set_))))


if __name__ == "__main__":
    typer.run(main)
