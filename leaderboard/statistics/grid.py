"""Which cells a method's score stands on: the rules for missing, failed, inapplicable and unsolvable cells, in one place.

A failure counts as 0 (the null score) instead of leaving the mean; a cell that was not run takes the headline away; an
organism that nothing could be scored on (a behaviour or an oracle too weak to put a scale on) leaves the set for
everybody alike. An organism counts in a column and on a side only where directions fitted on labels reach `SOLVABLE` there:
what no direction can do at this layer says nothing of who looks for it. Where nobody ran these, it counts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...harness.store.labels import row_labels
from ..board.cell import Cell
from .null_adjusted import SCORES
from .rows import FAILURES, KINDS, STATUSES, Kind, Standing

LABELLED = "supervised"
"""The method whose directions are fitted on behaviour labels."""
SOLVABLE = 0.3
"""What it must reach for an organism to count."""
PARTS: Mapping[str, tuple[str, ...]] = {
    **{s: (s,) for s in SCORES},
    "isolation": ("sufficiency", "necessity"),
    "adjusted": ("sufficiency", "necessity"),
    "isolation_constant": ("sufficiency_constant", "necessity_constant"),
    "mitigation": ("necessity",),
}
"""The sides that each score is made of."""
Reasons = Mapping[str, Mapping[str, str]]
"""Score → organism that does not count in it → why."""


@dataclass(frozen=True)
class Grid:
    """The cells of one row label over the organism set."""

    method: str
    access: str
    cells: dict[str, tuple[Cell, ...]]
    """By organism, all of the set."""
    scored: dict[str, tuple[Cell, ...]]
    """Those that carry a score."""
    inapplicable: frozenset[str]
    """Organisms that are outside the set for every method."""
    unsolvable: Reasons

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
        """Organisms with a scored cell."""
        return tuple(o for o, cells in self.scored.items() if cells)

    def counted(self, score: str) -> tuple[str, ...]:
        """Those of them that the mean of a score is over."""
        return tuple(o for o in self.used if o not in self.unsolvable[score])

    def counts(self, organism: str) -> dict[str, int]:
        """Cells by status, in the order of `STATUSES`; holes of the grid count as `not_run`."""
        cells = self.cells[organism]
        if organism in self.inapplicable:
            return {"not_applicable": len(cells)} if cells else {}
        counts = Counter[str](map(status, cells))
        counts["not_run"] += len(self.all_seeds - set(map(seed, cells)))
        return {s: counts[s] for s in STATUSES if counts[s]}

    @cached_property
    def all_seeds(self) -> frozenset[str]:
        """Of any organism."""
        return frozenset(seed(c) for own in self.cells.values() for c in own)

    @cached_property
    def standing(self) -> Standing:
        """Whether the row has a headline, and whether it is ranked."""
        counts = [self.counts(organism) for organism in self.cells if organism not in self.inapplicable]
        if not self.used or any(c.get("not_run") for c in counts):
            return "incomplete"
        whole = set(self.used) == self.cells.keys() - self.inapplicable and not any(
            "not_applicable" in c for c in counts
        )
        return "ranked" if self.kind == "method" and whole else "unranked"


def grids(results: Sequence[Cell], names: Sequence[str]) -> list[Grid]:
    """One grid per row label, by label, over the organisms `names`."""
    labels = row_labels(results)
    by_organism: dict[str, list[Cell]] = {o: [] for o in names}
    by_label: dict[str, dict[str, list[Cell]]] = {}
    for r in results:
        if (o := r.identity.organism) in by_organism:
            by_organism[o].append(r)
        by_label.setdefault(labels[r.id], {}).setdefault(o, []).append(r)
    nowhere = frozenset(o for o, own in by_organism.items() if _inapplicable(own))
    unsolvable, found = _unsolvable(results, labels), list[Grid]()
    for label in sorted(by_label):
        own = by_label[label]
        cells = {o: tuple(own.get(o, ())) for o in names}
        scored = {
            o: tuple(c for c in cells[o] if status(c) in ("ok", *FAILURES)) if o not in nowhere else () for o in names
        }
        access = next(iter(own.values()))[0].identity.access
        found.append(Grid(label, access, cells, scored, nowhere, unsolvable))
    return found


def untried(results: Sequence[Cell], names: Sequence[str]) -> tuple[str, ...]:
    """Organisms of `names` with a score that no directions fitted on labels were tried on: they count everywhere."""
    tried = {r.identity.organism for r in results if r.identity.method == LABELLED and r.scores}
    scored = {r.identity.organism for r in results if r.scores}
    return tuple(o for o in names if o in scored - tried)


def _unsolvable(results: Sequence[Cell], labels: Mapping[str, str]) -> Reasons:
    """By the best row of `LABELLED` on each organism, the mean over its seeds; a failed cell says nothing."""
    rows: dict[str, dict[str, list[Cell]]] = {}
    for r in results:
        if r.identity.method == LABELLED and r.scores:
            rows.setdefault(r.identity.organism, {}).setdefault(labels[r.id], []).append(r)
    reasons: dict[str, dict[str, str]] = {score: {} for score in SCORES}
    for organism, of in rows.items():
        reached = {
            side: max(float(np.mean([r.scores[side]["value"] or 0.0 for r in own])) for own in of.values())
            for side in {side for sides in PARTS.values() for side in sides}
        }
        for score, sides in PARTS.items():
            low = [f"{reached[side]:.2f} in {side.replace('_', ', ')}" for side in sides if reached[side] < SOLVABLE]
            if low:
                reasons[score][organism] = f"{LABELLED} reaches {' and '.join(low)}"
    return reasons


def status(cell: Cell) -> str:
    """The record's status; a cell that ran but has nothing to score (a null organism) is not applicable."""
    return "not_applicable" if cell.status == "ok" and cell.points is None else cell.status


def seed(cell: Cell) -> str:
    """What tells cells of one method on one organism apart."""
    return ",".join(f"{name}={n}" for name, n in sorted(cell.identity.seeds.items()))


def _inapplicable(cells: Sequence[Cell]) -> bool:
    """Whether an organism has no scale: somebody found it not applicable, and nobody scored on it."""
    found = set(map(status, cells))
    return "not_applicable" in found and "ok" not in found
