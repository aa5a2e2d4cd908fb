"""Where and with what a result was made. Recorded, never hashed; paths stand as they were given on the command line."""

import functools
import hashlib
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .result import Provenance

PACKAGES = ("torch", "transformers", "peft", "numpy", "safetensors", "tokenizers", "pydantic")


def provenance(access: str, device: str, source: dict[str, str], origin: str, started: datetime) -> Provenance:
    """Provenance of a result that began at `started` (UTC)."""
    return Provenance(
        diffbench=version("diffbench"),
        packages=package_versions(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu=cpu_name(),
        device=device,
        git=git_state(),
        command=["bench", *sys.argv[1:]],
        started_utc=started.isoformat(timespec="seconds"),
        finished_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        access=access,
        source=source,
        method_origin=origin,
    )


@functools.cache
def source_hash() -> str:
    """Hash of the source that makes numbers (organisms, harness, methods): a changed instrument is another identity."""
    root = Path(__file__).parent.parent
    parts = [p.read_bytes() for name in ("organisms", "harness", "methods") for p in sorted((root / name).glob("*.py"))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a number."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def cpu_name() -> str:
    """Model name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def git_state() -> dict[str, Any] | None:
    """Commit of the diffbench checkout and whether it is dirty; None for an installed package."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        status = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}
