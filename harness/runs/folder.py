"""A run folder: `result.json`, `findings.safetensors`, `dictionary.safetensors`, dose-response plot, log.

It is written beside its final place and renamed into it when complete, so a run folder that exists is whole. What a killed writer left
behind is finished or cleared away when the cell is asked for again (`tidy`); whoever writes a cell has claimed it (`harness/claims.py`).
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from ...methods.contract import DiffResult
from ...methods.formats.findings import KEPT, FindingsFileError, pack, read_file
from ...organisms.card import sha256_file
from ...organisms.errors import PrerequisiteError, ValidationFailed
from ..files import public_mode
from ..records.result import Result
from . import plots

RESULT, FINDINGS, DICTIONARY, LOG = "result.json", "findings.safetensors", "dictionary.safetensors", "run.log"

OLD = ".old"
"""Ending of the hidden name of a folder that is being replaced."""


def run_folder(out: Path, organism: str, method: str, id_: str) -> Path:
    """`out/<organism>/<method>/<first 12 of the id>`."""
    return out / organism / method / id_[:12]


def check_writable(out: Path) -> None:
    """Refuse an output folder that cannot be written to, before anything is computed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise PrerequisiteError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from error


def write_run(folder: Path, result: Result, diff: DiffResult | None, log_text: str) -> None:
    """Write a whole run folder, replacing one of the same name. The result gets the hash of its findings.

    Raises:
        PrerequisiteError: the disk refuses; nothing half-written stays behind.
    """
    with _replacing(folder) as scratch:
        (scratch / LOG).write_text(log_text)
        if diff is not None and diff.findings:
            save_file(
                pack(diff.findings),
                scratch / FINDINGS,
                metadata={"result": result.id, "layer": str(result.identity.layer)}
                | ({"claims": json.dumps(diff.claims)} if diff.claims else {}),
            )
            result.findings_sha256 = sha256_file(scratch / FINDINGS)
        (scratch / RESULT).write_text(result.model_dump_json(indent=1) + "\n")
        if diff is not None and diff.dictionary:
            save_file({k: v.detach().cpu().contiguous() for k, v in diff.dictionary.items()}, scratch / DICTIONARY)
        if result.curves:
            plots.save(result, scratch)


def put_run(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a run folder from its files, as another machine made them; else as `write_run`."""
    with _replacing(folder) as scratch:
        for name, data in files.items():
            (scratch / Path(name).name).write_bytes(data)


@contextlib.contextmanager
def _replacing(folder: Path) -> Generator[Path, None, None]:
    """An empty folder that is put in the place of a run folder when the block has filled it."""
    scratch: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield scratch
        for path in scratch.iterdir():
            path.chmod(public_mode())
            with path.open("rb") as file:
                os.fsync(file.fileno())
        scratch.chmod(0o755)
        if folder.exists():
            old = scratch.with_name(scratch.name + OLD)
            folder.rename(old)
            try:
                scratch.rename(folder)
            except BaseException:
                old.rename(folder)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            scratch.rename(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PrerequisiteError(
            f"cannot write the run to {folder}: {reason}; free space or choose another --out"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Finish the replacement of a run folder that a kill interrupted, and clear away what killed writers left; for who has the cell.

    Between the two renames of a replacement neither folder stands at its place; the new one was whole by then, and takes it.
    """
    with contextlib.suppress(OSError):
        for old in folder.parent.glob(f".{folder.name}.*{OLD}"):
            new = old.with_name(old.name.removesuffix(OLD))
            if not folder.exists():
                (new if (new / RESULT).is_file() else old).rename(folder)
        for left in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(left, ignore_errors=True)


def read_findings(folder: Path) -> DiffResult:
    """The findings of a run folder; an oracle's folder has none and means a patch.

    Raises:
        ValidationFailed: a damaged file, or tensors that are not findings.
    """
    path = folder / FINDINGS
    if not path.is_file():
        return DiffResult([], patch=True)
    try:
        return read_file(path, (KEPT,)).result
    except ValidationFailed as error:
        what = f"it {error.fact}" if isinstance(error, FindingsFileError) else str(error).removeprefix(f"{path}: ")
        raise ValidationFailed(f"{path} is damaged: {what}; run the cell again with --overwrite") from error
