"""A run folder: `result.json`, `findings.safetensors`, `dictionary.safetensors`, dose-response plot, log.

It is written beside its final place and renamed into it when complete, so a run folder that exists is whole. What a killed writer left
behind is finished or cleared away when the cell is asked for again (`tidy`).
"""

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...methods.contract import MAX_FINDINGS, DiffResult, Finding, Gate
from ...organisms.card import sha256_file
from ...organisms.errors import PrerequisiteError, ValidationFailed
from ..files import public_mode
from ..records.result import Result
from . import plots

RESULT, FINDINGS, DICTIONARY, LOG = "result.json", "findings.safetensors", "dictionary.safetensors", "run.log"

OLD = ".old"
"""Ending of the hidden name of a folder that is being replaced."""
ABANDONED_S = 3600
"""Age of scratch that no living writer can still be busy with; a folder is written in seconds."""


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
    scratch: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        (scratch / LOG).write_text(log_text)
        if diff is not None and diff.findings:
            save_file(
                pack_findings(diff.findings),
                scratch / FINDINGS,
                metadata={"result": result.id, "layer": str(result.identity.layer)},
            )
            result.findings_sha256 = sha256_file(scratch / FINDINGS)
        (scratch / RESULT).write_text(result.model_dump_json(indent=1) + "\n")
        if diff is not None and diff.dictionary:
            save_file({k: v.detach().cpu().contiguous() for k, v in diff.dictionary.items()}, scratch / DICTIONARY)
        if result.curves:
            plots.save(result, scratch)
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


def tidy(folder: Path) -> None:
    """Finish the replacement of a run folder that a kill interrupted, and clear away scratch that is long abandoned.

    Between the two renames of a replacement neither folder stands at its place; the new one was whole by then, and takes it.
    """
    with contextlib.suppress(OSError):
        for old in folder.parent.glob(f".{folder.name}.*{OLD}"):
            new = old.with_name(old.name.removesuffix(OLD))
            if not folder.exists():
                (new if (new / RESULT).is_file() else old).rename(folder)
            for left in (new, old):
                shutil.rmtree(left, ignore_errors=True)
        for scratch in folder.parent.glob(f".{folder.name}.*"):
            if time.time() - scratch.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(scratch, ignore_errors=True)


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
        ValidationFailed: a damaged file, or tensors that are not findings.
    """
    path = folder / FINDINGS
    if not path.is_file():
        return DiffResult([], patch=True)
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in ("direction", "read", "threshold", "score")}
            shape = {name: part.get_shape() for name, part in slices.items()}
            n, d = shape["direction"]
            if not 0 < n <= MAX_FINDINGS or shape != {
                "direction": [n, d],
                "read": [n, d],
                "threshold": [n],
                "score": [n],
            }:
                raise ValueError(f"shapes {shape} are not those of 1 to {MAX_FINDINGS} findings")
            if other := {part.get_dtype() for part in slices.values()} - {"F32"}:
                raise ValueError(f"numbers of type {', '.join(sorted(other))} instead of F32")
            t = {name: file.get_tensor(name) for name in slices}
        gates = [
            Gate(r, float(th)) if torch.isfinite(th) else None for r, th in zip(t["read"], t["threshold"], strict=True)
        ]
        return DiffResult([Finding(d, g, float(s)) for d, g, s in zip(t["direction"], gates, t["score"], strict=True)])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ValidationFailed(f"{path} is damaged: {error}; run the cell again with --overwrite") from error
