"""What a table holds: plain records that the renderers print and that become data frames."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

from ...harness.protocol.intervals import normalised
from ...harness.records.result import Samples
from ..board.cell import Cell

SORT_KEY = "isolation"
"""The score a table is sorted and ranked by unless another is asked for."""
CONSTANT = "isolation_constant"
"""The score that they are ranked by besides: edits everywhere, whatever gates the findings have."""
ALPHA = 0.05
"""A contrast has a verdict if its Holm-corrected p is below."""
FAILURES = ("failed", "oom", "timeout")
"""Statuses that score as 0."""
STATUSES = ("ok", *FAILURES, "not_applicable", "not_run")

SIDES = ("sufficiency", "necessity")
FALSE_DISCOVERY = ("false_discovery", "false_discovery_low", "false_discovery_high")
Kind = Literal["method", "upper bound", "anchor"]
KINDS: Mapping[str, Kind] = {"anchor": "anchor", "supervised": "upper bound"}
"""By access tier; every other tier is a method that is ranked."""
Standing = Literal["ranked", "unranked", "incomplete"]


class Place(NamedTuple):
    """A rank with the 5th to the 95th percentile of the ranks in draws of the scores."""

    rank: int
    """1 + number of ranked methods with a higher score."""
    low: int
    high: int


class Estimate(NamedTuple):
    """A score with its 95 % interval; None where it is undefined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def stated(self) -> "Estimate":
        """With its ends cut to the range of a score, as the score itself is: draws go on beyond it."""
        return Estimate(self.value, *(None if x is None else min(1.0, max(-1.0, x)) for x in self[1:]))


def height(row: "Row") -> float:
    """What rows are ordered by: the sort key's score, −1 where there is none."""
    value = row.scores[SORT_KEY].value
    return -1.0 if value is None else value


@dataclass(frozen=True)
class Row:
    """What both tables say about a method."""

    method: str
    kind: Kind
    access: str
    scores: Mapping[str, Estimate]
    """By score name; empty estimates where a cell is missing or none applies."""
    counts: Mapping[str, int]
    """Cells by status in the order of `STATUSES`, holes of the grid included as `not_run`."""
    wall_s: float | None
    """Median over the cells that ran."""

    @property
    def failed(self) -> bool:
        """Whether the score includes cells that count as 0."""
        return any(self.counts.get(status) for status in FAILURES)

    def columns(self) -> dict[str, object]:
        """One frame row: a score `s` has the columns `s`, `s_low`, `s_high`; then a column a status."""
        columns: dict[str, object] = {"method": self.method, "kind": self.kind, "access": self.access}
        for name, (value, low, high) in self.scores.items():
            columns |= {name: value, f"{name}_low": low, f"{name}_high": high}
        return columns | {s: self.counts.get(s, 0) for s in STATUSES} | {"wall_s": self.wall_s}


@dataclass(frozen=True)
class CellRow(Row):
    """One organism × method. Intervals: seed → templates, prompts and controls."""

    organism: str
    cells: tuple[Cell, ...]
    """The records behind the row, by seed."""
    not_counted: Mapping[str, str]
    """Scores that no mean over organisms counts, and why (`grid`); they are no method's doing."""
    false_discovery: Estimate = field(default_factory=Estimate)
    """On a null, where there is no score to give: share of the findings with p < `ALPHA`, as in `FindingRow`."""

    @property
    def seeds(self) -> int:
        """Cells that carry the score."""
        return sum(self.counts.get(status, 0) for status in ("ok", *FAILURES))

    @property
    def prompts(self) -> int:
        """Scored test prompts, 0 if no cell finished."""
        return max((c.prompts for c in self.cells), default=0)

    @property
    def templates(self) -> int:
        """Templates of these prompts."""
        return max((c.templates for c in self.cells), default=0)

    def mixture(self, score: str) -> float | None:
        """What mixtures of differences would get on a side, by the zero and the one of the row's own records."""
        at = [c.scores[score] for c in self.cells if c.scores and score in SIDES]
        at = [n for n in at if n["p_random"] is not None and n["mixture"] is not None]
        means = (
            [sum(n[what] or 0.0 for n in at) / len(at) for what in ("mixture", "null", "oracle")] if at else [0.0] * 3
        )
        return float(normalised(*map(np.asarray, means))) if at else None

    def columns(self) -> dict[str, object]:
        """As in `Row`, led by the organism."""
        sizes = {"seeds": self.seeds, "prompts": self.prompts, "templates": self.templates}
        null = dict(zip(FALSE_DISCOVERY, self.false_discovery, strict=True))
        return (
            {"organism": self.organism}
            | super().columns()
            | null
            | sizes
            | {"not_counted": ", ".join(self.not_counted)}
        )


@dataclass(frozen=True)
class MethodRow(Row):
    """One method over the organism set. Intervals: Student's over families (`resample.headline`); on one organism, that organism's."""

    standing: Standing
    """`ranked`; `unranked`: anchors, upper bounds, and methods that declare organisms not applicable, whose mean is
    over other organisms than their rivals'; `incomplete`: a cell is missing, so there is no headline."""
    organisms: int
    """Organisms in the mean of the sort key; `Table.counted` has those of each score."""
    seeds: tuple[int, int]
    """Fewest and most seeds on any of them."""
    place: Place | None = None
    """By the sort key."""
    place_constant: Place | None = None
    """By isolation without gates."""
    private: Estimate | None = None
    """Isolation on a private set (`board/private.py`); None: the method was not run there."""

    def columns(self) -> dict[str, object]:
        """As in `Row`, led by the rank."""
        lead: dict[str, object] = {}
        for name, place in (("rank", self.place), ("rank_constant", self.place_constant)):
            lead |= dict(zip((name, f"{name}_low", f"{name}_high"), place or (None, None, None), strict=True))
        sizes = {"organisms": self.organisms, "seeds_min": self.seeds[0], "seeds_max": self.seeds[1]}
        hidden = {
            f"isolation_private{end}": x for end, x in zip(("", "_low", "_high"), self.private or (), strict=False)
        }
        return lead | {"standing": self.standing} | super().columns() | hidden | sizes


@dataclass(frozen=True)
class FindingRow:
    """One method's findings where there is no score to give (`finding_measures`)."""

    method: str
    kind: Kind
    false_discovery: Estimate
    """Share of the findings on nulls with p < `ALPHA`; Clopper-Pearson, findings treated as independent."""
    findings: int
    """Findings that were tested."""
    nulls: int
    """Cells they come from."""
    nulls_failed: int
    """Cells on nulls that failed."""
    expected: float | None
    """The share that random directions would have."""
    floor: float | None
    """The smallest p that their controls allow."""
    located: tuple[Estimate, ...]
    """Largest |cos| of the first 1 and the first 10 findings with a planted truth."""
    identified: tuple[Estimate, ...]
    """Identification by the first 1 and the first 10 findings: 0 = random directions, 1 = the truth comes first."""


@dataclass(frozen=True)
class AnchorRow:
    """What a score's 0 and 1 are on one organism and side without gates, as shares of the gap between the two models that are closed."""

    organism: str
    side: str
    gap: float
    """Mean distance of the two models on scored test prompts."""
    null: float
    """By random directions: 0."""
    mixture: float | None
    """By mixtures of differences at random tokens: a harder null, never the zero."""
    oracle: float
    """By exchanging the whole residual: 1."""

    @property
    def mixture_score(self) -> float | None:
        """What mixtures would score."""
        if self.mixture is None:
            return None
        return float(normalised(np.asarray(self.mixture), np.asarray(self.null), np.asarray(self.oracle)))


@dataclass(frozen=True)
class CostRow:
    """What a finished cell of one method costs: medians, and the largest peaks."""

    method: str
    kind: Kind
    wall_s: float
    cpu_s: float
    tokens: float
    peak_rss_bytes: int
    peak_vram_bytes: int | None
    phases: Mapping[str, float]
    """Median wall seconds by phase."""


@dataclass(frozen=True)
class FailureRow:
    """Cells without a score, and why."""

    organism: str
    method: str
    seed: str
    """Empty where it stands for seeds that were not run."""
    status: str
    reason: str


@dataclass(frozen=True)
class Problem:
    """A file that is not a usable result."""

    path: str
    """As the user would find it, with forward slashes."""
    reason: str


@dataclass(frozen=True)
class SetAside:
    """A record that is in order and does not count, because another record of the same cell does."""

    path: str
    cell: str
    """`organism/method/id12`."""
    reason: str


@dataclass(frozen=True)
class Missing:
    """Cells that a table lacks, and the command that makes them."""

    command: str
    reason: str


@dataclass(frozen=True)
class Pair:
    """Two ranked methods on the same organisms, prompts and draws."""

    better: str
    """The one with the higher score."""
    worse: str
    difference: Estimate
    p: float
    """Two-sided, of no difference, of this pair alone: nothing corrects it for how many pairs there are, so it is no verdict."""


@dataclass(frozen=True, eq=False)
class Table:
    """The one data model of a board: every format renders this, and computes nothing of its own."""

    overall: tuple[MethodRow, ...]
    """By the sort key, highest first; rows without a headline last."""
    cells: tuple[CellRow, ...]
    """By organism, then in the order of `overall`."""
    pairs: tuple[Pair, ...]
    """Every pair of ranked methods, in the order of `overall`, for organisms like these."""
    here: tuple[Pair, ...]
    """Pairs on this set of organisms, families and organisms as they are (`fixed_set`); without `unknown_here`."""
    unknown_here: tuple[str, ...]
    """Ranked methods whose one seed does not show what another would give."""
    finding_measures: tuple[FindingRow, ...]
    """Methods with anything measured beside the scores, in the order of `overall`."""
    anchors: tuple[AnchorRow, ...]
    """By organism, then side."""
    costs: tuple[CostRow, ...]
    """Methods with a finished cell, in the order of `overall`."""
    failures: tuple[FailureRow, ...]
    """In the order of `cells`."""
    missing: tuple[Missing, ...]
    organisms: tuple[str, ...]
    inapplicable: tuple[str, ...]
    """Those of `organisms` that no method can be scored on; they are outside every mean."""
    counted: Mapping[str, tuple[str, ...]]
    """Score → the others, less those that do not count in it."""
    unsolvable: Mapping[str, Mapping[str, str]]
    """Score → organism that does not count in it → why (`grid`)."""
    untried: tuple[str, ...]
    """Organisms of which nobody knows whether they can be solved; they count."""
    organism_set: str
    clusters: int | None
    """Units behind the intervals of the headline: families, else organisms, else organism seeds; None: one organism."""
    key: str
    """The score that rows are sorted and compared by."""
    outside: int
    """Results on organisms that are not in the set; they count nowhere."""
    protocol: str
    protocol_sha256: str
    draws: int
    seed: int
    problems: tuple[Problem, ...] = ()
    """Files that could not be used."""
    set_aside: tuple[SetAside, ...] = ()
    private: str = ""
    """What the column of private scores is; empty: there are none."""

    @property
    def header(self) -> str:
        """The line every rendering states: sort key, protocol, sizes."""
        seeds = max((row.seeds for row in self.cells), default=0)
        return (
            f"Sorted by {self.key}, highest first · protocol {self.protocol} ({self.protocol_sha256[:12]}) · "
            f"organism set {self.organism_set}, {count(len(self.organisms), 'organism')}"
            + (f", {len(self.inapplicable)} of them not applicable to any method" if self.inapplicable else "")
            + (f", {len(left)} not counted in {self.key}" if (left := self.unsolvable[self.key]) else "")
            + (f", {self.clusters} clusters" if self.clusters else "")
            + f" · up to {count(seeds, 'seed')} · {self.draws} bootstrap draws, seed {self.seed}"
            + (f" · {count(self.outside, 'result')} outside the set left out" if self.outside else "")
        )

    def overall_frame(self) -> pd.DataFrame:
        """One row per method."""
        return pd.DataFrame([row.columns() for row in self.overall])

    def cells_frame(self) -> pd.DataFrame:
        """One row per organism × method."""
        return pd.DataFrame([row.columns() for row in self.cells])


def scored_templates(samples: Samples) -> list[int]:
    """The template of each scored prompt."""
    return [t for t, scored in zip(samples.templates, samples.scored, strict=True) if scored]


def count(n: int, what: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{n} {what}{'' if n == 1 else 's'}"
