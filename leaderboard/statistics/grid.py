"""Which cells a method's score stands on: the rules for missing, failed and inapplicable cells, in one place.

A failure counts as 0 (the null score) instead of leaving the mean; a cell that was not run takes the headline away; an
organism that nothing could be scored on (a behaviour or an oracle too weak to put a scale on) leaves the set for
everybody alike.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ...harness.records.result import Result
from .labels import row_labels
from .rows import FAILURES, KINDS, STATUSES, Kind, Standing


@dataclass(frozen=True)
class Grid:
    """The cells of one row label over the organism set."""

    method: str
    access: str
    cells: dict[str, tuple[Result, ...]]
    """By organism, all of the set."""
    scored: dict[str, tuple[Result, ...]]
    """Those that carry a score."""
    inapplicable: frozenset[str]
    """Organisms that are outside the set for every method."""

    @property
    def name(self) -> str:
        """The method's name, without the options that tell its row from others."""
        return next(c.identity.method for own in self.cells.values() for c in own)

    @property
    def seeds(self) -> int:
        """Fewest method seeds on any organism of the mean."""
        return min((len(self.scored[o]) for o in self.used), default=0)

    @property
    def kind(self) -> Kind:
        """Method, upper bound or anchor."""
        return KINDS.get(self.access, "method")

    @property
    def used(self) -> tuple[str, ...]:
        """Organisms with a scored cell: the mean is over these."""
        return tuple(o for o, cells in self.scored.items() if cells)

    def counts(self, organism: str) -> dict[str, int]:
        """Cells by status, in the order of `STATUSES`; holes of the grid count as `not_run`."""
        cells = self.cells[organism]
        if organism in self.inapplicable:
            return {"not_applicable": len(cells)} if cells else {}
        counts = Counter[str](map(status, cells))
        if not counts["not_applicable"]:
            counts["not_run"] += len({seed(c) for own in self.cells.values() for c in own} - set(map(seed, cells)))
        return {s: counts[s] for s in STATUSES if counts[s]}

    @property
    def standing(self) -> Standing:
        """Whether the row has a headline, and whether it is ranked."""
        counts = [self.counts(organism) for organism in self.cells]
        if not self.used or any(c.get("not_run") for c in counts):
            return "incomplete"
        whole = set(self.used) == self.cells.keys() - self.inapplicable
        return "ranked" if self.kind == "method" and whole else "unranked"


def grids(results: Sequence[Result], names: Sequence[str]) -> list[Grid]:
    """One grid per row label, by label, over the organisms `names`."""
    labels = row_labels(results)
    nowhere = frozenset(o for o in names if _inapplicable([r for r in results if r.identity.organism == o]))
    found: list[Grid] = []
    for label in sorted(set(labels.values())):
        own = [r for r in results if labels[r.id] == label]
        cells = {o: tuple(r for r in own if r.identity.organism == o) for o in names}
        scored = {
            o: tuple(c for c in cells[o] if status(c) in ("ok", *FAILURES)) if o not in nowhere else () for o in names
        }
        found.append(Grid(label, own[0].provenance.access, cells, scored, nowhere))
    return found


def status(cell: Result) -> str:
    """The record's status; a cell that ran but has nothing to score (a null organism) is not applicable."""
    return "not_applicable" if cell.status == "ok" and cell.samples is None else cell.status


def seed(cell: Result) -> str:
    """What tells cells of one method on one organism apart."""
    return repr(sorted(cell.identity.seeds.items()))


def _inapplicable(cells: Sequence[Result]) -> bool:
    """Whether an organism has no scale: somebody found it not applicable, and nobody scored on it."""
    found = set(map(status, cells))
    return "not_applicable" in found and "ok" not in found
