"""Every cell of a bundle scored again from its findings, a line a cell. The submitted method is never run, nor even looked for."""

import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...harness.runs.verify import TOLERANCE, Loaded, Verification, verify
from ...organisms.errors import DiffbenchError
from .bundle import Bundle
from .cells import SubmittedCell
from .check import check

Outcome = Literal["agrees", "differs", "refused", "no scores"]


@dataclass(frozen=True)
class CheckedCell:
    """What a fresh scoring says of one cell."""

    cell: SubmittedCell
    outcome: Outcome
    detail: str
    values: int = 0
    """Values compared."""

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against it. A cell that failed has no scores, and counts as null."""
        return self.outcome in ("agrees", "no scores")

    @property
    def line(self) -> str:
        """One line."""
        return f"{self.cell.name}: {self.outcome}: {self.detail}"

    def data(self) -> dict[str, object]:
        """As JSON."""
        c = self.cell
        return {
            "organism": c.identity.organism,
            "seed": c.seed,
            "id": c.id,
            "outcome": self.outcome,
            "detail": self.detail,
            "values": self.values,
        }


def verify_bundle(bundle: Bundle, folder: Path | None = None) -> Generator[CheckedCell, None, None]:
    """Check a bundle, then score its cells again, organism by organism.

    Args:
        folder: where its cells are unpacked; None: a scratch folder, gone afterwards.

    Raises:
        BundleError: before anything is scored.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield from verify_bundle(bundle, Path(scratch))
        return
    yield from score_again(check(bundle, folder))


def score_again(cells: Sequence[SubmittedCell]) -> Generator[CheckedCell, None, None]:
    """A fresh scoring of cells that were checked; a pair is loaded once for the cells on it that stand together."""
    loaded = Loaded()
    for cell in cells:
        yield _scored_again(cell, loaded)


def _scored_again(cell: SubmittedCell, loaded: Loaded) -> CheckedCell:
    if cell.status != "ok":
        return CheckedCell(
            cell, "no scores", f"{cell.status}: {cell.reason or 'no reason given'}; counts as the null score"
        )
    try:
        found = verify(cell.folder, None, loaded)
    except DiffbenchError as error:
        return CheckedCell(cell, "refused", str(error).replace(f"{cell.folder}: ", ""))
    if not found.ok:
        return CheckedCell(cell, "differs", _differences(found), found.compared)
    return CheckedCell(cell, "agrees", f"{found.compared:,} values within {TOLERANCE:g}", found.compared)


def _differences(found: Verification) -> str:
    where, claimed, fresh = found.differences[0]
    more = f", and {len(found.differences) - 1} more" if len(found.differences) > 1 else ""
    return f"{where} is {_short(claimed)} in the record and {_short(fresh)} when scored again{more} of {found.compared:,} values"


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:80]
