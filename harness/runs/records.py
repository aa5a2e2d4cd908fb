"""Reads records back: whether a run folder can be believed, and how two of them differ.

The one idea: a record proves what it can about itself. Its id must be the hash of its identity, its scores must follow
from its own per-prompt samples (the id does not cover the scores), and the findings beside it must be the ones it
counted. Whether the findings really score that much is `verify`'s question, which needs the models; nothing here does.
"""

import json
import math
import tempfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from ...organisms.card import sha256_file
from ...organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from ...organisms.hub.files import read_bytes
from ...organisms.registry import organism_names
from ..holders import holders
from ..protocol.consistency import TOLERANCE, counted, fault
from ..records.loading import load_result, read_result
from ..records.result import SCORES, V1, Result
from .packs import MOST_FINDINGS, PACKED, findings_beside, findings_path, lines, reason

RESULT_FILE = "result.json"
FINDINGS_FILE = "findings.safetensors"
LOG_FILE = "run.log"
MOST_DAMAGED = 20
"""Damaged records of one pack that are listed before the rest of it is given up."""
Scored = tuple[float | None, float | None, float | None]
"""Value and ends of its interval."""


@dataclass(frozen=True)
class Record:
    """A record that was found, in a `result.json` or a pack: the result, or why there is none."""

    path: Path
    result: Result | None
    problems: tuple[str, ...]
    line: int | None = None
    """Which record of a pack it is; None: it is a file of its own."""
    findings: bytes | None = None
    """The findings file that a pack holds of it."""
    dictionary: Callable[[], bytes] | None = None
    """Reads the dictionary that a bundle holds of it; None: there is none."""

    @property
    def where(self) -> str:
        """Where it lies: its run folder or file, or its pack and the start of its id."""
        if self.line is not None:
            return f"{self.path}:{self.result.id[:12]}" if self.result else f"{self.path}:{self.line + 1}"
        return str(self.path.parent if self.path.name == RESULT_FILE else self.path)


@dataclass(frozen=True)
class Difference:
    """Two results side by side."""

    identity: dict[str, tuple[Any, Any]]
    """Fields of the identity that differ, by dotted name; a field that only one has is None in the other."""
    status: tuple[str, str]
    scores: dict[str, tuple[Scored, Scored]]
    """Every score of both, whether it differs or not."""
    provenance: dict[str, tuple[Any, Any]]
    """Where and by what they were made, where that differs; no part of the identity. Times and command are left out."""

    @property
    def same_identity(self) -> bool:
        """Whether they are the same cell."""
        return not self.identity

    @property
    def contradiction(self) -> bool:
        """Whether they are the same cell with other outcomes, which one machine cannot give (training differs between processors)."""
        return self.same_identity and (
            self.status[0] != self.status[1] or any(not _close(a, b) for a, b in self.scores.values())
        )


def records(path: Path, judge: bool = True) -> Generator[Record, None, None]:
    """The records at `path` (a file), or of every `result.json` and pack below it in path order, each judged by itself alone.

    Without `judge` only their form is looked at, which is quick: enough to find one, which is then judged (`judged`).

    Folders whose name begins with a dot are the scratch of a run that was killed, and are passed over.

    Raises:
        PrerequisiteError: there is nothing at `path`.
    """
    for found in record_files(path):
        if reader := next((read for ending, read in holders.items() if found.name.endswith(ending)), None):
            yield from reader(found)
        elif found.name.endswith(PACKED):
            yield from _packed(found, judge)
        else:
            yield _record(found, lambda f=found: load_result(f), judge)


def record_files(path: Path) -> list[Path]:
    """The file at `path`, or every `result.json` and pack below it in path order; raises as `records`."""
    if not path.exists():
        raise PrerequisiteError(f"there is no {path}; give a run folder, or the folder that `bench run --out` wrote to")
    if not path.is_dir():
        return [path]
    found = sorted([*path.rglob(RESULT_FILE), *path.rglob(f"*{PACKED}")])
    return [f for f in found if not any(part.startswith(".") for part in f.relative_to(path).parts)]


def _packed(path: Path, judge: bool) -> Generator[Record, None, None]:
    """Records of a pack. Where findings lie beside it, they are of its records and of every one that counts any."""
    damaged, named = 0, set[str]()
    try:
        beside, whole = findings_beside(path), findings_path(path).exists()
        for n, line in enumerate(lines(path)):
            record = replace(_record(path, lambda text=line: read_result(text), judge), line=n)
            if record.result is not None:
                named.add(record.result.id)
                wrong = list[str]()
                if (found := beside.get(record.result.id)) is not None:
                    wrong = packed_faults(found, record.result) if judge else []
                elif whole and counted(record.result):
                    wrong = [
                        f"{findings_path(path).name} holds no findings of {record.result.id[:12]}, which counts {counted(record.result)}"
                    ]
                record = replace(record, findings=found, problems=(*record.problems, *wrong))
            yield record
            if record.problems == (V1,):
                return  # and so are the others of that pack
            damaged += record.result is None
            if damaged > MOST_DAMAGED:
                raise ValueError(f"more than {MOST_DAMAGED} damaged records: the rest of the pack is not read")
        for id_ in sorted(beside.keys() - named) if not damaged else ():
            yield Record(
                findings_path(path), None, (f"holds findings of {id_[:12]}, which is no record of {path.name}",)
            )
    except (OSError, ValueError) as error:
        yield Record(path, None, (reason(error),))


def judged(record: Record, redraw: bool = True) -> Record:
    """A record that was found without being judged, with what is wrong with it.

    Args:
        redraw: draw its intervals again, which is most of the work.
    """
    wrong = fault(record.result, redraw) if record.result and not record.problems else None
    beside = packed_faults(record.findings, record.result) if record.findings and record.result else []
    return replace(record, problems=(*record.problems, *([wrong] if wrong else []), *beside))


def _record(path: Path, load: Callable[[], Result], judge: bool) -> Record:
    try:
        result = load()
    except (OSError, ValueError) as error:
        return Record(path, None, (reason(error).removeprefix(f"{path} "),))
    wrong = fault(result) if judge else None
    return Record(path, result, (wrong,) if wrong else ())


def validate(paths: Sequence[Path]) -> list[Record]:
    """Every record at or below `paths`, with all that is wrong: schema, id, scores, and the files of its run folder.

    A path that is itself a file is judged as a record alone, without the files around it, and so are the records of a pack.

    Raises:
        PrerequisiteError: a path that does not exist or holds no record.
    """
    checked: list[Record] = []
    for path in paths:
        below = list(records(path))
        if not below:
            raise PrerequisiteError(f"there is no {RESULT_FILE} below {path}; give a folder that `bench run` wrote to")
        for r in below:
            whole = path.is_dir() and r.path.name == RESULT_FILE
            files = file_faults(r.path.parent, r.result) if whole and r.result else []
            checked.append(replace(r, problems=(*r.problems, *files)))
    return checked


def read_run(path: Path) -> Result:
    """The result of one run folder, or of one file.

    Raises:
        PrerequisiteError: nothing there, or a folder of several runs. ValidationFailed: a damaged record.
    """
    file = path / RESULT_FILE if path.is_dir() else path
    if not file.is_file():
        raise PrerequisiteError(
            f"there is no {RESULT_FILE} in {path}; give a run folder (DIR/<organism>/<method>/<id>)"
        )
    if file.name.endswith(PACKED):
        raise PrerequisiteError(
            f"{file} holds the records of many runs; give a run folder, or `bench results list {file}`"
        )
    (record,) = records(file)
    if record.result is None or record.problems:
        raise ValidationFailed(f"{file}: {'; '.join(record.problems)}")
    return record.result


def is_of_zoo(result: Result) -> bool:
    """Whether a record is about an organism of the zoo by its name there: nothing else is loaded because a record says so."""
    name = result.identity.organism
    return result.provenance.source == {"organism": name} and name in organism_names()


def zoo_name(result: Result) -> str:
    """The organism of the zoo that a record is about, which is all that a record may have loaded.

    Raises:
        UsageError: a pair of the user's own, a family file, or a source that is not the record's organism.
    """
    name, source = result.identity.organism, result.provenance.source
    if not is_of_zoo(result):
        asked = source.get("organism") or source.get("tuned") or source.get("adapter") or "nothing"
        raise UsageError(
            f"the record of {name} was made on {asked!r}, which is no organism of the zoo, and a record never decides what is loaded: "
            "name the organism yourself (-o my.py:member or my.yaml, or --base, --adapter or --tuned, and --behaviour)"
        )
    return name


def difference(a: Result, b: Result) -> Difference:
    """Which identity fields two results differ in, and their scores."""
    left, right = (_flat(r.provenance.model_dump(exclude={"started_utc", "finished_utc", "command"})) for r in (a, b))
    return Difference(
        _unequal(_flat(a.identity.model_dump()), _flat(b.identity.model_dump())),
        (a.status, b.status),
        {name: (_scored(a, name), _scored(b, name)) for name in SCORES},
        _unequal(left, right),
    )


def file_faults(folder: Path, result: Result) -> list[str]:
    """What is missing or foreign among the files of a run folder; empty if it is whole."""
    return [*([] if (folder / LOG_FILE).is_file() else [f"{LOG_FILE} is missing"]), *findings_faults(folder, result)]


def findings_faults(folder: Path, result: Result) -> list[str]:
    """Why the findings of a run folder are not those of its record; empty if they are."""
    expected, path = counted(result), folder / FINDINGS_FILE
    if not path.is_file():
        return [f"{FINDINGS_FILE} is missing, but {expected} findings were scored"] if expected else []
    try:
        with safe_open(path, framework="np") as file:
            shape, about = file.get_slice("direction").get_shape(), file.metadata() or {}
        sha256 = sha256_file(path)
    except (SafetensorError, OSError) as error:
        return [f"{FINDINGS_FILE} cannot be read: {error}"]
    faults = list[str]()
    owner, layer = about.get("result"), about.get("layer")
    if layer != str(result.identity.layer):
        faults.append(f"{FINDINGS_FILE} is of layer {layer}, the record of layer {result.identity.layer}")
    if owner != result.id:
        faults.append(f"{FINDINGS_FILE} belongs to result {str(owner)[:12]}, not to {result.id[:12]}")
    if result.status == "ok" and shape[:1] != [expected]:
        faults.append(f"{FINDINGS_FILE} holds {shape[0] if shape else 'no'} findings, but {expected} were scored")
    if not faults and result.findings_sha256 not in (None, sha256):
        faults.append(f"{FINDINGS_FILE} has other bytes than the ones that were scored: it was edited")
    return faults


def findings_of(record: Record) -> bytes | None:
    """The findings file of a record, from its pack or from beside it; None if there is none. Its faults become the record's."""
    beside = record.path.parent / FINDINGS_FILE
    if record.line is not None or record.path.name != RESULT_FILE or not beside.is_file():
        return record.findings
    return read_bytes(beside, MOST_FINDINGS)


def packed_faults(findings: bytes, result: Result) -> list[str]:
    """Why findings that a pack holds are not those of their record; empty if they are."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FINDINGS_FILE).write_bytes(findings)
        return findings_faults(Path(folder), result)


def _scored(result: Result, name: str) -> Scored:
    if result.scores is None:
        return None, None, None
    score = getattr(result.scores, name)
    return score.value, score.ci_low, score.ci_high


def _close(a: Scored, b: Scored) -> bool:
    return all(
        x == y if x is None or y is None else math.isclose(x, y, rel_tol=0, abs_tol=TOLERANCE)
        for x, y in zip(a, b, strict=True)
    )


def _flat(tree: dict[str, Any], lead: str = "") -> dict[str, Any]:
    """Leaves by dotted name; a list is a leaf."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= (
            _flat(cast(dict[str, Any], value), f"{lead}{name}.") if isinstance(value, dict) else {lead + name: value}
        )
    return leaves


def _unequal(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Names in which two flat mappings differ. JSON text is compared, so that 1 and 1.0 and True stay apart."""
    both = {name: (a.get(name), b.get(name)) for name in [*a, *(n for n in b if n not in a)]}
    return {name: pair for name, pair in both.items() if json.dumps(pair[0]) != json.dumps(pair[1])}
