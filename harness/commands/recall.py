"""A run that is finished, recognised without loading what ran it.

The idea: which records a command means follows from the command, the files it reads, this package's source and its libraries. The hash of
all these is written beside the records when a run is complete. Where it is found again the records are read, and torch is never imported;
where anything at all has changed, nothing is found and the run looks for itself.
"""

import contextlib
import hashlib
import json
import platform
from pathlib import Path
from typing import NamedTuple

from ...methods.catalogue import AS_PUBLISHED, BUILTIN
from ...organisms.errors import DiffbenchError
from ..files import atomic_write_text
from ..records.identity import sha256_json
from ..records.loading import finished
from ..records.result import Result
from ..runs.provenance import PACKAGES, ROOT, package_versions
from .settings import RunFile, find_organisms, names_of_methods

SOURCES = ("organisms", "methods", "harness")
"""Rooms whose source decides what a run gives."""


class Known(NamedTuple):
    """The records of a finished run."""

    results: list[Result]
    folders: list[Path]


def note_of(file: RunFile) -> Path | None:
    """Where the records of a run are noted. To be asked before it runs: what is read then may change meanwhile.

    Returns:
        None for methods of other packages, whose source is not known before they are imported, and for what cannot be read.
    """
    with contextlib.suppress(DiffbenchError, OSError, ValueError, TypeError):
        return _note(file)
    return None


def recall(file: RunFile, note: Path) -> Known | None:
    """The records of a run whose every cell is finished; None if that is not known."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        named = [(file.out / folder, str(id_)) for folder, id_ in json.loads(note.read_text())]
        found = [finished(folder / "result.json", id_) for folder, id_ in named]
        results = [r for r in found if r is not None and r.provenance.backend == file.backend]
        if results and len(results) == len(named):
            return Known(results, [folder for folder, _ in named])
    return None


def remember(file: RunFile, note: Path, known: Known) -> None:
    """Note the records of a run without a failed cell. A disk that refuses is no reason to stop."""
    with contextlib.suppress(OSError):
        named = [(str(f.relative_to(file.out)), r.id) for f, r in zip(known.folders, known.results, strict=True)]
        atomic_write_text(note, json.dumps(named))


def _note(file: RunFile) -> Path | None:
    methods = names_of_methods(file)
    if not all(name.removesuffix(AS_PUBLISHED) in BUILTIN or name.endswith(".py") for name in methods):
        return None
    read = [hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in methods if name.endswith(".py")]
    organisms = [
        [o.name, o.sha256, o.texts_id, o.behaviour.model_dump(mode="json"), o.pair.chat_template, o.layer, o.role]
        for o in find_organisms(file, {})
    ]
    libraries = [platform.python_version(), package_versions((*PACKAGES, "jinja2", "nnsight"))]
    asked = file.model_dump(mode="json", exclude={"out", "cache"})
    key = sha256_json([asked, methods, read, organisms, libraries, _source()])
    return file.out / ".work" / "finished" / f"{key[:32]}.json"


def _source() -> str:
    """Hash of this package's source."""
    files = sorted(path for room in SOURCES for path in (ROOT / room).rglob("*.py"))
    return sha256_json([[str(p.relative_to(ROOT)), hashlib.sha256(p.read_bytes()).hexdigest()] for p in files])
