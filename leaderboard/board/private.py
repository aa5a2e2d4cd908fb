"""Scores on organisms that only a maintainer has: a column of its own, from which no rank follows.

The one idea: of a private set nothing is written that says anything of one of its organisms. A record holds a method's means with their
intervals, over how many organisms, and a hash of all their weights, which tells two sets apart and names nobody. Such records lie in
`private/NAME.json` beside the packs of a board (`bench leaderboard private` writes them) and every table of that board shows them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ...harness.files import atomic_write_text
from ...harness.records.identity import Amount, Count, Hash, Identity, Line, Name, Record, Said, sha256_json
from ...harness.records.loading import each_key_once
from ...harness.runs.packs import reason
from ...methods.catalogue import row_of
from ...organisms.hub.files import MOST_YAML, read_text
from ..statistics.rows import Estimate, Problem, SetAside, Table
from .cell import Cell

FOLDER = "private"
FEWEST = 4
"""Organisms of a set; a mean over fewer says too much of each."""


class Mean(Record):
    """A mean over organisms with its 95 % interval."""

    value: float
    low: float | None
    high: float | None


class PrivateScore(Record):
    """What is published of one method on one private set."""

    format: Literal["diffbench private 1"] = "diffbench private 1"
    method: Name
    method_version: Line
    """Of the code that ran, as the identity of a cell has it."""
    config: dict[str, Any]
    """Options that it ran with."""
    budget: dict[str, Amount]
    dtype: Line
    """Of the residual stream."""
    layers: Annotated[list[Count], Field(min_length=1)]
    """Of its cells, each once, rising."""
    protocol_sha256: Hash
    isolation: Mean
    isolation_constant: Mean | None
    organisms: Annotated[int, Field(ge=FEWEST, lt=10**6)]
    """Organisms in the mean of isolation."""
    seeds: Count
    """Seeds of the method."""
    failed: Count
    """Cells that ended without a score, which count as 0."""
    set_sha256: Hash
    """Hash over the weights of all its organisms."""
    by: Said = Field(min_length=1, max_length=200)
    """Who ran it."""
    at_utc: Line
    diffbench: Line
    commit: Line | None
    """Of the diffbench source that scored."""

    @property
    def row(self) -> str:
        """As `Identity.row`."""
        return row_of(self.method, self.config)

    @property
    def code(self) -> str:
        """What ran: version, options, budget and precision."""
        return code_of(self)

    def stands_beside(self, cells: Sequence[Cell]) -> bool:
        """Whether cells are of this method and code, on every layer that it ran on."""
        mine, code = (c.identity for c in cells if c.identity.method == self.method), self.code
        return {*self.layers} <= {i.layer for i in mine if code_of(i) == code}


def write_private(score: PrivateScore, board: Path) -> Path:
    """Put a record beside the packs of a board, in the place of an older one."""
    path = board / FOLDER / f"{score.row}.json"
    atomic_write_text(path, score.model_dump_json(indent=1) + "\n")
    return path


def code_of(ran: PrivateScore | Identity) -> str:
    """A hash of `PrivateScore.code`, of a score or of a cell."""
    return sha256_json([ran.method_version, ran.config, ran.budget, ran.dtype])


def with_private(table: Table, cells: Sequence[Cell], sources: Sequence[Path]) -> Table:
    """A table with the private scores that lie in its sources; of several sets that of the newest score is shown.

    Args:
        cells: all records of the sources, of which the table may show some: a score without a row in it is no mistake.
    """
    problems, found = list[Problem](), list[tuple[str, PrivateScore]]()
    rows = {row.method: [c for r in table.cells if r.method == row.method for c in r.cells] for row in table.overall}
    for where, score in _read(sources):
        if isinstance(score, str):
            problems.append(Problem(where, score))
        elif score.protocol_sha256 != table.protocol_sha256:
            problems.append(
                Problem(where, "is of another protocol than the table; run `bench leaderboard private` again")
            )
        elif not score.stands_beside(cells):
            said = (
                f"is of other code, options, budget, precision or layers than the records of {score.row}; run "
                "`bench leaderboard private` again"
            )
            problems.append(Problem(where, said))
        elif any(score.stands_beside(of) for of in rows.values()):
            found.append((where, score))
    if not found:
        return replace(table, problems=(*table.problems, *problems))
    newest = max((s for _, s in found), key=lambda s: (s.at_utc, s.row))
    shown = [s for _, s in found if s.set_sha256 == newest.set_sha256]
    aside = [
        SetAside(where, s.row, f"of another private set than {newest.row}'s, which is newer")
        for where, s in found
        if s.set_sha256 != newest.set_sha256
    ]
    by_label = {label: s for label, of in rows.items() for s in shown if s.stands_beside(of)}
    overall = [
        replace(row, private=Estimate(**s.isolation.model_dump())) if (s := by_label.get(row.method)) else row
        for row in table.overall
    ]
    return replace(
        table,
        overall=tuple(overall),
        private=_said(shown),
        problems=(*table.problems, *problems),
        set_aside=(*table.set_aside, *aside),
    )


def _read(sources: Sequence[Path]) -> Iterator[tuple[str, PrivateScore | str]]:
    """Every record with where it lies, or why it is none."""
    for source in dict.fromkeys(sources):
        for path in sorted((source / FOLDER).glob("*.json")):
            try:
                text = read_text(path, MOST_YAML)
                each_key_once(text)
                score = PrivateScore.model_validate_json(text)
            except (OSError, ValueError) as error:
                yield path.as_posix(), f"is no private score: {reason(error)}; restore it, or run it again"
                continue
            named = path.name == f"{score.row}.json"
            yield path.as_posix(), score if named else f"is a score of {score.row}; restore its name"


def _said(shown: Sequence[PrivateScore]) -> str:
    """What the column is."""
    least, most = (each(s.organisms for s in shown) for each in (min, max))
    sizes = f"{most}" if least == most else f"{least} to {most}"
    who = ", ".join(sorted({s.by for s in shown}))
    last = max(s.at_utc for s in shown)[:10]
    return (
        f"Isolation, private: mean over {sizes} organisms that only a maintainer has (set {shown[0].set_sha256[:12]}), on which the "
        f"methods' own code was run by {who}, last on {last}. The scale is isolation's; no rank follows from it."
    )
