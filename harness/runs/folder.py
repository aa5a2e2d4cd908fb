"""A run folder: `result.json`, `findings.safetensors`, `dictionary.safetensors`, dose-response plot, log.

It is written beside its final place and renamed into it when complete, so a run folder that exists is whole.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ...methods.contract import DiffResult, Finding, Gate
from ...organisms.errors import PrerequisiteError, ValidationFailed
from ..protocol.result import Result, load_result
from .plots import dose_response

RESULT, FINDINGS, DICTIONARY, LOG = "result.json", "findings.safetensors", "dictionary.safetensors", "run.log"


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
    """Write a whole run folder, replacing one of the same name.

    Raises:
        PrerequisiteError: the disk refuses; nothing half-written stays behind.
    """
    scratch: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        (scratch / RESULT).write_text(result.model_dump_json(indent=1) + "\n")
        (scratch / LOG).write_text(log_text)
        if diff is not None and diff.findings:
            save_file(
                pack_findings(diff.findings),
                scratch / FINDINGS,
                metadata={"result": result.id, "layer": str(result.identity.layer)},
            )
        if diff is not None and diff.dictionary:
            save_file({k: v.detach().cpu().contiguous() for k, v in diff.dictionary.items()}, scratch / DICTIONARY)
        if result.curves:
            dose_response(result, scratch)
        for path in scratch.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        scratch.chmod(0o755)
        if folder.exists():
            old = scratch.with_name(scratch.name + ".old")
            folder.rename(old)
            try:
                scratch.rename(folder)
            except BaseException:
                old.rename(folder)
                raise
            shutil.rmtree(old)
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


def finished(folder: Path, id_: str) -> Result | None:
    """The finished result of this identity in `folder`, or None if it is missing, failed, damaged or another one."""
    with contextlib.suppress(OSError, ValueError):
        result = load_result(folder / RESULT)
        if result.id == id_ and result.status in ("ok", "not_applicable"):
            return result
    return None


def pack_findings(findings: list[Finding]) -> dict[str, torch.Tensor]:
    """Findings as tensors: direction, read [n, d_model]; threshold (−inf without a gate), score [n]."""
    d = findings[0].direction
    return {
        "direction": torch.stack([f.direction for f in findings]),
        "read": torch.stack([f.gate.read if f.gate else torch.zeros_like(d) for f in findings]),
        "threshold": torch.tensor(
            [f.gate.threshold if f.gate else float("-inf") for f in findings], dtype=torch.float32
        ),
        "score": torch.tensor([f.score for f in findings], dtype=torch.float32),
    }


def read_findings(folder: Path) -> DiffResult:
    """The findings of a run folder; an oracle's folder has none and means a patch.

    Raises:
        ValidationFailed: a damaged file.
    """
    path = folder / FINDINGS
    if not path.is_file():
        return DiffResult([], patch=True)
    try:
        t = load_file(path)
        gates = [
            Gate(r, float(th)) if torch.isfinite(th) else None for r, th in zip(t["read"], t["threshold"], strict=True)
        ]
        return DiffResult([Finding(d, g, float(s)) for d, g, s in zip(t["direction"], gates, t["score"], strict=True)])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ValidationFailed(f"{path} is damaged: {error}; run the cell again with --overwrite") from error
