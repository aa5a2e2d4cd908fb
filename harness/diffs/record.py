"""What one method found in a pair that nobody knows: a folder with `diff.json`, which no board reads, and the findings beside it.

Its id is the hash of all that decides the findings, as a scored record's is; there is nothing in it that could be taken for a score.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from safetensors.torch import save

from ...methods.contract import DiffResult
from ...methods.formats.findings import pack
from ...organisms.errors import ValidationFailed
from ...organisms.hub.files import read_bytes
from ..records.identity import Amount, Count, Hash, Name, Record, Said, sha256_json
from ..records.making import Cost, LeftOut, Provenance, TextRead
from ..runs.folder import DICTIONARY, FINDINGS, LOG, put_run, run_folder
from ..runs.packs import reason

DIFF = "diff.json"
NOT_SCORED = (
    "Nothing is scored: nobody knows what changed between these models, so nothing says whether a finding is right."
)
MOST_DIFF = 2**24
"""Bytes of a `diff.json`."""


class What(Record):
    """Everything that decides the findings."""

    pair: Name
    organism_sha256: Hash
    """Over every file of both models that is read."""
    texts_sha256: Hash
    """Over the ordinary text and how it is shown to the models."""
    method: Name
    method_version: str
    access: str
    code_sha256: Hash
    config: dict[str, Any]
    layer: Count
    seed: Count
    budget: dict[str, Amount]
    dtype: str
    sinks: Literal["drop", "keep"]


class Diff(Record):
    """One method's findings in one pair; nothing of it is scored."""

    format: Literal["diffbench diff 1"] = "diffbench diff 1"
    id: Hash
    what: What
    findings: Count
    findings_sha256: Hash | None
    """Of the file beside it; None: the method found nothing."""
    diagnostics: dict[str, Any]
    claims: list[Said] = Field(default_factory=list[str])
    cost: Cost
    provenance: Provenance
    left_out: LeftOut | None = None
    text: TextRead | None = None


def id_of(what: What) -> str:
    """Hash of what decides the findings."""
    return sha256_json(what.model_dump())


def write(out: Path, diff: Diff, found: DiffResult, data: bytes | None, log: str) -> Path:
    """The folder of a diff below `out`, whole or not at all; one that was there is replaced.

    Args:
        data: the findings file.
    """
    files = {DIFF: (diff.model_dump_json(indent=1) + "\n").encode(), LOG: log.encode()}
    if data is not None:
        files[FINDINGS] = data
    if found.dictionary:
        files[DICTIONARY] = save({k: v.detach().cpu().contiguous() for k, v in found.dictionary.items()})
    folder = run_folder(out, diff.what.pair, diff.what.method, diff.id)
    put_run(folder, files)
    return folder


def packed(found: DiffResult, id_: str, layer: int) -> bytes | None:
    """The findings file; None without findings."""
    if not found.findings:
        return None
    said = {"claims": json.dumps(found.claims)} if found.claims else {}
    return save(pack(found.findings), metadata={"result": id_, "layer": str(layer), **said})


def read(folder: Path) -> Diff:
    """The `diff.json` of a folder.

    Raises:
        ValidationFailed: damaged, or edited.
    """
    try:
        diff = Diff.model_validate_json(read_bytes(folder / DIFF, MOST_DIFF))
    except ValidationError as error:
        raise ValidationFailed(
            f"{folder / DIFF} is no diff of ours: {reason(error)}; run `bench diff` again"
        ) from error
    if diff.id != id_of(diff.what):
        raise ValidationFailed(
            f"{folder / DIFF} was edited: its id is not the hash of what it says; run `bench diff` again"
        )
    return diff
