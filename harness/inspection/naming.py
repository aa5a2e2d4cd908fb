"""What a command names, wherever it lies: a run folder, a file, or a record by an id, in a pack or in a bundle.

A record that is not in a run folder is put into one for as long as it is looked at; what is not there of it is said.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...organisms.errors import DiffbenchError, PrerequisiteError
from ...organisms.organism import Organism
from ..diffs.record import DIFF
from ..holders import holders
from ..protocol.consistency import counted
from ..runs.folder import DICTIONARY, RESULT
from ..runs.records import Record, records
from ..store.moving import place
from ..store.selection import find
from .subject import Subject, subject


def named(
    selector: str,
    scratch: Path,
    places: Sequence[Path] | None = None,
    organism: Organism | None = None,
    layer: int | None = None,
) -> Subject:
    """What a command names: anything that `subject` takes, or a record wherever it lies (see `store.selection.find`).

    Args:
        scratch: where the run folder of a record in a pack or a bundle is made; kept as long as the subject is used.
        places: where a selector is looked up; None: the user's runs and the published records.

    Raises:
        As `subject` and `find`.
    """
    path = Path(selector)
    if path.exists() and not _may_hold(path):
        return subject(path, organism, layer)
    record = find(selector, places)
    if record.line is not None:
        return _of_pack(record, scratch, organism)
    return subject(record.path.parent if record.path.name == RESULT else record.path, organism, layer)


def all_named(
    selectors: Sequence[str],
    scratch: Path,
    places: Sequence[Path] | None = None,
    organism: Organism | None = None,
    layer: int | None = None,
) -> tuple[list[Subject], list[str]]:
    """What each selector names, and of a folder or a pack of many records all that have findings.

    Returns:
        The subjects, and why others of such a folder are left out.

    Raises:
        As `named`, for what is named itself; PrerequisiteError if nothing is left.
    """
    found, left_out = list[Subject](), list[str]()
    for selector in selectors:
        inside = _inside(Path(selector))
        for where in inside or [selector]:
            try:
                of = named(where, scratch, places, organism, layer)
                of.chosen([1])
                found.append(of)
            except DiffbenchError as error:
                if not inside:
                    raise
                left_out.append(str(error))
    if not found:
        raise PrerequisiteError(f"no run has findings that could be shown: {'; '.join(left_out[:3])}")
    return found, left_out


def _inside(path: Path) -> list[str]:
    """Selectors of the records in a place of several, or of what `bench diff` left there; empty: it is no such place."""
    if not path.exists() or (path / RESULT).is_file() or not _may_hold(path):
        return []
    below = sorted(p.relative_to(path) for p in path.rglob(f"*/{DIFF}"))
    diffs = [str(path / p.parent) for p in below if not any(part.startswith(".") for part in p.parts)]
    several = [r for r in records(path, judge=False) if r.result is not None]
    runs = [r.where for r in several if r.result and r.result.status == "ok"]
    return [*diffs, *runs] if diffs or len(several) > 1 else []


def _may_hold(path: Path) -> bool:
    """Whether a place is one of records, not a file of findings or a dictionary."""
    if path.is_dir():
        return not (any(path.glob("*.safetensors")) or (path / DIFF).is_file())
    return path.suffix not in (".safetensors", ".json") or path.name.endswith(tuple(holders))


def _of_pack(record: Record, scratch: Path, organism: Organism | None) -> Subject:
    """A record from a pack or a bundle, and what is not there of it."""
    result = record.result
    assert result is not None
    if record.findings is None and counted(result):
        folder = Path(tempfile.mkdtemp(dir=scratch))
        (folder / RESULT).write_text(result.model_dump_json(), encoding="utf-8")
        note = f"{record.path.name} holds no findings of this record: only the record is shown."
        return replace(subject(folder, organism), notes=[note])
    found = subject(place(record, scratch), organism)
    trained = any("latent" in said for said in found.diagnostics)
    if not trained or record.dictionary:
        return found
    lacks = f"{record.path.name} holds no {DICTIONARY} of this record: decoder norms are not shown."
    return replace(found, notes=[*found.notes, lacks])
