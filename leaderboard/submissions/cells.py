"""From a bundle to run folders, as `bench run` would have written them: what else reads cells then reads these.

A folder is named by what the record's own schema lets through and by its id; no name of a bundle becomes a path.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from ...harness.protocol.consistency import counted
from ...harness.records.identity import Identity
from ...harness.records.result import Result
from ...harness.runs.folder import DICTIONARY, FINDINGS, RESULT, run_folder
from ...harness.runs.records import Record, findings_faults, is_of_zoo, records
from .bundle import RECORDS, Bundle, BundleError, findings_member, open_bundle

AGAIN = "run the cell again and build the bundle again with `bench submit`"


@dataclass(frozen=True)
class SubmittedCell:
    """One cell of a bundle, lying in a run folder."""

    folder: Path
    id: str
    identity: Identity
    status: str
    reason: str | None
    stochastic: bool | None
    of_zoo: bool
    """Whether its organism is one that everybody has by name."""
    unpublished: str | None
    """Why no table takes it."""
    findings_sha256: str | None

    @property
    def seed(self) -> int:
        """The method's seed."""
        return self.identity.seeds["method"]

    @property
    def name(self) -> str:
        """Organism and seed, as a message names the cell."""
        return f"{self.identity.organism} seed {self.seed}"


def unpack(bundle: Bundle, folder: Path) -> list[SubmittedCell]:
    """Write every cell of a bundle below a folder.

    Raises:
        BundleError: a record that is damaged, contradicts itself or is there twice; findings that are missing, of no cell, or not the
            record's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packed = folder / RECORDS
    packed.write_bytes(bundle.read(RECORDS))
    cells = list[SubmittedCell]()
    for number, record in enumerate(records(packed), 1):
        result = record.result
        where = f"records, line {number}" if record.line is not None else RECORDS
        if result is not None:
            where += f" ({result.identity.organism} seed {result.identity.seeds['method']})"
        if result is None or record.problems:
            raise BundleError(bundle.path, where, "; ".join(record.problems), AGAIN)
        cells.append(_cell(bundle, where, result, folder))
    unclaimed = set(bundle.manifest.members) - {RECORDS} - {n for c in cells for n in _members(bundle, c.id)}
    if unclaimed:
        raise BundleError(
            bundle.path,
            min(unclaimed),
            "belongs to no record of the bundle: findings of another cell",
            "build the bundle again with `bench submit`",
        )
    return cells


def records_of(path: Path) -> list[Record]:
    """The records of a bundle with their findings, as a pack's are; raises as `open_bundle` and `unpack`."""
    bundle = open_bundle(path)
    with tempfile.TemporaryDirectory() as scratch:
        unpack(bundle, Path(scratch))
        found = list(records(Path(scratch) / RECORDS, judge=False))

    def member(record: Record, kind: Literal["findings", "dictionary"]) -> str | None:
        assert record.result is not None
        name = findings_member(record.result.id, kind)
        return name if name in bundle else None

    return [
        replace(
            record,
            path=path,
            findings=bundle.read(name) if (name := member(record, "findings")) else None,
            dictionary=partial(bundle.read, trained) if (trained := member(record, "dictionary")) else None,
        )
        for record in found
    ]


def _members(bundle: Bundle, id_: str) -> Iterator[str]:
    return (name for kind in ("findings", "dictionary") if (name := findings_member(id_, kind)) in bundle)


def _cell(bundle: Bundle, where: str, result: Result, folder: Path) -> SubmittedCell:
    i = result.identity
    place = run_folder(folder / "cells", i.organism, i.method, result.id)
    if place.exists():
        raise BundleError(bundle.path, where, f"the record {result.id[:12]} stands twice", "keep one of them")
    try:
        text = json.dumps(result.model_dump(mode="json"), allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise BundleError(bundle.path, where, f"holds what JSON cannot ({error})", AGAIN) from error
    place.mkdir(parents=True)
    (place / RESULT).write_text(text, encoding="utf-8")
    for name in _members(bundle, result.id):
        file = place / (FINDINGS if name.startswith("findings") else DICTIONARY)
        file.write_bytes(bundle.read(name))
    if counted(result) and result.status == "ok" and result.findings_sha256 is None:
        raise BundleError(
            bundle.path, f"{where}.findings_sha256", "the record does not say which findings were scored", AGAIN
        )
    if faults := findings_faults(place, result):
        raise BundleError(bundle.path, findings_member(result.id), f"{faults[0]} ({where})", AGAIN)
    if (place / DICTIONARY).exists():
        _check_dictionary(bundle, findings_member(result.id, "dictionary"), place / DICTIONARY)
    return SubmittedCell(
        folder=place,
        id=result.id,
        identity=i,
        status=result.status,
        reason=result.reason,
        stochastic=result.provenance.stochastic,
        of_zoo=is_of_zoo(result),
        unpublished=result.unpublished,
        findings_sha256=result.findings_sha256,
    )


def _check_dictionary(bundle: Bundle, name: str, path: Path) -> None:
    """Only its header is read: whether it is tensors at all. Nobody scores it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise BundleError(bundle.path, name, f"is no safetensors file ({error})", AGAIN) from error
