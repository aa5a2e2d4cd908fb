"""Records from one place into another: run folders from packs, and several places into one.

A run folder is written beside its final place and renamed into it, so a folder that is there is whole; nothing that is there is changed.
Only files that a run folder has are copied, and no link is followed.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...organisms.errors import PrerequisiteError, ValidationFailed
from ..files import public_mode
from ..protocol.consistency import counted
from ..records.loading import load_result
from ..records.result import Result
from ..runs.folder import DICTIONARY, FINDINGS, LOG, RESULT, run_folder
from ..runs.packs import outcome
from ..runs.records import FINDINGS_FILE, Record, findings_of, packed_faults

COPIED = (RESULT, FINDINGS, DICTIONARY, LOG)
DRAWN = (".png", ".csv")
"""Endings of what is drawn of a run."""


def place(record: Record, out: Path) -> Path:
    """Make the run folder of a record below `out`, with the findings that lie beside it or in its pack.

    Raises:
        PrerequisiteError: the disk refuses, or a pack that holds no findings of it. ValidationFailed: another outcome is there.
    """
    result = record.result
    assert result is not None
    folder = run_folder(out, result.identity.organism, result.identity.method, result.id)
    if not folder.resolve().is_relative_to(out.resolve()):
        raise ValidationFailed(f"{folder} would lie outside {out}: remove the link, or choose another --out")
    if (folder / RESULT).is_file():
        _same(folder, result)
        return folder
    if record.line is not None and record.findings is None and counted(result):
        raise PrerequisiteError(
            f"{record.path} holds no findings of {result.id[:12]}: pack its run folder (`bench results pack`), or run the cell again"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _fill(scratch, record, result)
            scratch.chmod(0o755)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise PrerequisiteError(
            f"cannot write {folder}: {error.strerror}; free space or choose another --out"
        ) from error
    return folder


def _fill(scratch: Path, record: Record, result: Result) -> None:
    if record.line is None:
        source = record.path.parent
        beside = (
            [f for f in source.iterdir() if f.name in COPIED or f.suffix in DRAWN] if record.path.name == RESULT else []
        )
        for file in beside or [record.path]:
            if file.is_file() and not file.is_symlink():
                shutil.copyfile(file, scratch / (file.name if beside else RESULT))
    else:
        (scratch / RESULT).write_text(result.model_dump_json(indent=1) + "\n")
        (scratch / LOG).write_text(f"fetched from {record.path.name}\n")
        if record.findings is not None:
            (scratch / FINDINGS_FILE).write_bytes(record.findings)
        if record.dictionary is not None:
            (scratch / DICTIONARY).write_bytes(record.dictionary())
    for file in scratch.iterdir():
        file.chmod(public_mode())


def _same(folder: Path, result: Result) -> None:
    try:
        there = load_result(folder / RESULT)
    except (OSError, ValueError) as error:
        raise ValidationFailed(
            f"{folder} is there and damaged ({type(error).__name__}): remove it, or choose another --out"
        ) from error
    if outcome(there) != outcome(result):
        raise ValidationFailed(
            f"{folder} holds the cell {result.id[:12]} with other numbers; on one machine a cell is deterministic, so one was edited or "
            "made on another: `bench verify` says which one its findings support; move the other away"
        )


def packable(found: Sequence[Record], out: Path) -> tuple[list[Result], Path, dict[str, bytes]]:
    """What `pack` takes: the records, and their findings by id.

    Raises:
        ValidationFailed: a damaged record, or findings that are not its own.
    """
    results, findings = list[Result](), dict[str, bytes]()
    for record in found:
        result = _sound(record, len(found))
        results.append(result)
        if (data := findings_of(record)) is not None:
            findings[result.id] = data
    return results, out, findings


def _sound(record: Record, of: int) -> Result:
    wrong = list(record.problems)
    if not wrong and record.result and record.line is None and (data := findings_of(record)) is not None:
        wrong += packed_faults(data, record.result)
    if record.result is None or wrong:
        raise ValidationFailed(
            f"{record.path}: {wrong[0]} (one of {of} records that is not valid; nothing was written)"
        )
    return record.result


def merge(found: Sequence[Record], out: Path, first_wins: bool = False) -> list[Path]:
    """The run folders of many records below `out`, each cell once.

    Args:
        first_wins: of a cell with two outcomes, the record that was found first.

    Raises:
        PrerequisiteError: no records. ValidationFailed: a damaged record, or a cell with two outcomes; nothing was written then.
    """
    first: dict[str, Record] = {}
    for record in found:
        result = _sound(record, len(found))
        known = first.setdefault(result.id, record).result
        assert known is not None
        if outcome(known) != outcome(result) and not first_wins:
            raise ValidationFailed(
                f"{first[known.id].where} and {record.where} are the same cell ({known.id[:12]}) with different numbers; keep one "
                "(`bench verify` says which one its findings support), or take the first with --first-wins; nothing was written"
            )
    if not first:
        raise PrerequisiteError(
            "there is no record to merge: give folders that `bench run --out` or `bench results pack` wrote to, and filters that take some"
        )
    for record in first.values():
        result = record.result
        there = result and run_folder(out, result.identity.organism, result.identity.method, result.id)
        if result and there and (there / RESULT).is_file():
            _same(there, result)
    return [place(record, out) for record in first.values()]
