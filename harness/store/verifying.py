"""Re-scores every record of some places, whether its findings lie beside it or in a pack."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...organisms.errors import DiffbenchError, PrerequisiteError, ValidationFailed
from ...organisms.organism import Organism
from ..runs.records import RESULT_FILE, Record
from ..runs.verify import Verification, verify
from ..terminal import silenced
from .moving import place
from .selection import stored


@dataclass(frozen=True)
class Checked:
    """What came of one record."""

    where: str
    outcome: Verification | None
    why: str = ""
    """Why there is no outcome."""
    refused: bool = False
    """Whether the record is wrong, and not merely impossible to score here."""

    @property
    def bad(self) -> bool:
        """Whether the record claims something that its findings do not score, or nothing that can be believed."""
        return self.refused or (self.outcome is not None and not self.outcome.ok)

    @property
    def line(self) -> str:
        """The outcome in one line."""
        if self.outcome is None:
            return f"{self.where}: {'refused' if self.refused else 'not verified'}: {self.why}"
        if self.outcome.differences:
            return f"{self.where}: {len(self.outcome.differences)} of {self.outcome.compared} values differ"
        unknown = "".join(f"; {u}" for u in self.outcome.unknown)
        return f"{self.where}: {self.outcome.compared} values agree{unknown}"

    def data(self) -> dict[str, Any]:
        """As plain values."""
        o = self.outcome
        return {
            "folder": self.where,
            "ok": o is not None and o.ok,
            "compared": o.compared if o else 0,
            "differences": o.differences if o else [],
            "unknown": o.unknown if o else [],
            "why": self.why,
        }


def verify_all(places: Sequence[Path], organism: Organism | None) -> Iterator[Checked]:
    """Verify every record at or below some places, one after another.

    A place that is one run folder alone raises what `verify` does; of several records each gets its answer.

    Raises:
        PrerequisiteError: a place that is not there, or holds no record.
    """
    for path in places:
        if (path / RESULT_FILE).is_file() or not path.exists():
            yield Checked(str(path), _verify(path, organism))
            continue
        found = list(stored([path], judge=False))
        if not found:
            raise PrerequisiteError(f"there is no {RESULT_FILE} below {path}; give a folder that `bench run` wrote to")
        yield from (_checked(record, organism) for record in found)


def _checked(record: Record, organism: Organism | None) -> Checked:
    try:
        if record.result is None or record.problems:
            raise ValidationFailed("; ".join(record.problems))
        if record.line is None:
            return Checked(record.where, _verify(record.path.parent, organism))
        with tempfile.TemporaryDirectory() as scratch:
            return Checked(record.where, _verify(place(record, Path(scratch)), organism))
    except ValidationFailed as error:
        return Checked(record.where, None, str(error), refused=True)
    except DiffbenchError as error:
        return Checked(record.where, None, str(error))


def _verify(folder: Path, organism: Organism | None) -> Verification:
    with silenced(False):
        return verify(folder, organism)
