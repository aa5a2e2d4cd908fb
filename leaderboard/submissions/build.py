"""From run folders to a bundle: the cells of one method, with its card."""

import json
import lzma
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ...harness.records.result import Result
from ...harness.runs.folder import DICTIONARY, FINDINGS
from ...harness.runs.packs import PACKED, public
from ...harness.runs.records import RESULT_FILE, file_faults, records
from ...organisms.errors import PrerequisiteError, ValidationFailed
from ...organisms.hub.files import read_bytes
from .bundle import MOST, RECORDS, Bundle, findings_member, write_bundle
from .card import MethodCard
from .cells import SubmittedCell
from .check import check


def build(
    runs: Sequence[Path], card: MethodCard, out: Path, organism_set: str | None = None, dictionaries: bool = True
) -> tuple[Bundle, list[SubmittedCell]]:
    """Write the bundle of every cell of the card's method below some folders; the bundle is checked before it takes its place.

    Raises:
        PrerequisiteError: no cell of that method. ValidationFailed: a cell that no board takes, with where, why and what to do.
    """
    found: dict[str, tuple[Result, Path]] = {}
    others = set[str]()
    for path in runs:
        for record in records(path):
            if record.path.name.endswith(PACKED) and (
                record.result is None or record.result.identity.method == card.name
            ):
                raise PrerequisiteError(f"{record.path} is a pack; give the run folders, which hold what was found")
            if record.result is None or record.problems:
                raise ValidationFailed(
                    f"{record.path}: {'; '.join(record.problems)}; run the cell again, or move it away"
                )
            if record.result.identity.method != card.name:
                others.add(record.result.identity.method)
            elif record.path.name == RESULT_FILE:
                found.setdefault(record.result.id, (record.result, record.path.parent))
    if not found:
        there = f" (there are {', '.join(sorted(others))})" if others else ""
        raise PrerequisiteError(
            f"no cell of {card.name!r}, the card's method, lies in {', '.join(map(str, runs))}{there}; "
            f"run it first: bench run -m {card.name} -o ORGANISMS --seed 0,1,2"
        )
    files = {RECORDS: _packed([result for result, _ in found.values()])}
    for id_, (result, folder) in found.items():
        if faults := file_faults(folder, result):
            raise ValidationFailed(f"{folder}: {faults[0]}; run the cell again with --overwrite")
        wanted = {"findings": FINDINGS, **({"dictionary": DICTIONARY} if dictionaries else {})}
        for kind, name in wanted.items():
            if (folder / name).is_file():
                files[findings_member(id_, "findings" if kind == "findings" else "dictionary")] = read_bytes(
                    folder / name, MOST[kind]
                )
    with tempfile.TemporaryDirectory() as scratch:
        trial = write_bundle(Path(scratch) / out.name, card, organism_set, files, version("diffbench"))
        try:
            cells = check(trial, Path(scratch) / "cells")
        except ValidationFailed as error:
            raise ValidationFailed(str(error).replace(str(trial.path), str(out))) from error
    return write_bundle(out, card, organism_set, files, version("diffbench")), cells


def _packed(results: Sequence[Result]) -> bytes:
    """A pack of all of them, in the order that packs have."""
    ordered = sorted(results, key=lambda r: (r.identity.organism, sorted(r.identity.seeds.items()), r.id))
    text = "".join(json.dumps(public(r).model_dump(mode="json"), separators=(",", ":")) + "\n" for r in ordered)
    return lzma.compress(text.encode(), preset=9)
