"""Packs: all records of an organism in one file, and their findings in another, for publishing. A table is built from packs as from
run folders.

A record holds its per-prompt samples, so thousands of records as files of their own weigh more than a repository should; the records
of one organism share most of their numbers (the oracle's samples, the random controls'), which xz finds. Findings are kept byte for
byte, a line a record, so that their hash stays the one that was scored.
"""

import base64
import hashlib
import json
import lzma
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from ...organisms.errors import PrerequisiteError, ValidationFailed
from ...organisms.hub.files import read_bytes
from ..files import atomic_write_bytes
from ..protocol.consistency import counted
from ..records.loading import MOST_RECORD, each_key_once, read_result
from ..records.result import Result
from .provenance import portable

PACKED, PACKED_FINDINGS = ".jsonl.xz", ".findings.xz"
MOST_PACKED, MOST_UNPACKED, MOST_RECORDS = 2**25, 2**27, 10_000
"""Bytes of a pack, bytes and records in it: a file of 150 kB may unpack to a gigabyte."""
MOST_FINDINGS = 2**25
"""Bytes of a findings file: 16 directions with gates of the widest model there is have 9 MiB."""
LONGEST = MOST_FINDINGS * 4 // 3 + 1000
"""Bytes of a line of findings, and what stands beside them."""
MEMORY = 2**27
"""Most bytes that xz may ask for; its presets need 65 MiB."""


def lines(path: Path, most: int = MOST_RECORD) -> list[str]:
    """The records of a pack as JSON, each of `most` bytes at most.

    Raises:
        ValueError: no regular file, not a whole xz file of UTF-8 text, one that unpacks to more than a pack may hold, or a line too long.
    """
    text = _text(path).removesuffix(b"\n")
    if (n := text.count(b"\n") + 1) > MOST_RECORDS:
        raise ValueError(f"it holds {n} lines; a pack has at most {MOST_RECORDS} records")
    rows = text.split(b"\n")
    for number, row in enumerate(rows, 1):
        if len(row) > most:
            raise ValueError(f"line {number} has {len(row):,} bytes, at most {most:,} are read of one")
    return [row.decode() for row in rows]


def _text(path: Path) -> bytes:
    """The text of an xz file."""
    try:
        xz = lzma.LZMADecompressor(lzma.FORMAT_XZ, MEMORY)
        text = xz.decompress(read_bytes(path, MOST_PACKED), MOST_UNPACKED + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"not a whole xz file ({error}): fetch it again") from error
    if len(text) > MOST_UNPACKED:
        raise ValueError(f"it unpacks to more than {MOST_UNPACKED >> 20} MiB, which no pack of ours does")
    if not xz.eof or xz.unused_data:
        raise ValueError("not a whole xz file (it ends early, or goes on after its end): fetch it again")
    return text


def outcome(result: Result) -> tuple[object, ...]:
    """What two records of one cell must agree on; cost and provenance may differ."""
    r = result
    return r.status, r.scores, r.samples, r.false_discovery, r.localisation, r.identification


def public(result: Result) -> Result:
    """A record as it is published: the command, the method and the pair it was made with without absolute paths, which no id covers."""
    p = result.provenance
    told = {
        "command": [portable(word) for word in p.command],
        "source": {what: portable(given) for what, given in p.source.items()},
        "method_origin": portable(p.method_origin),
    }
    return result.model_copy(update={"provenance": p.model_copy(update=told)})


def findings_beside(path: Path) -> dict[str, bytes]:
    """The findings files of a pack's records by id, from the file beside it; empty if there is none.

    Raises:
        ValueError: as `lines`, or a line that is not findings with their hash. OSError: not to be read.
    """
    beside = findings_path(path)
    found = dict[str, bytes]()
    try:
        rows = lines(beside, LONGEST) if beside.exists() else []
    except ValueError as error:
        raise ValueError(f"{beside.name}: {error}") from error
    for line in rows:
        try:
            row = each_key_once(line)
            id_, data = str(row["id"]), base64.b64decode(row["findings"], validate=True)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{beside.name}: a line that is not findings ({type(error).__name__}): fetch it again"
            ) from error
        found[id_] = data
    return found


def findings_path(path: Path) -> Path:
    """The file of findings beside a pack."""
    return path.with_name(path.name.removesuffix(PACKED) + PACKED_FINDINGS)


def pack(results: list[Result], out: Path, findings: Mapping[str, bytes] | None = None) -> list[Path]:
    """Add records to the packs in a folder: one file an organism, records by method, seeds and id; the same records give the same bytes.

    A record that is there already is kept if it says the same.

    Args:
        findings: findings files by id of their record; they stand in a file beside the pack, with those that are there.

    Raises:
        ValidationFailed: two records of one cell with different numbers, findings of some records alone, more than a pack may hold, or a
            damaged pack; nothing was written then.
        PrerequisiteError: no records.
    """
    if not results:
        raise PrerequisiteError(
            "there is no record to pack: give a folder that `bench run --out` wrote to, and filters that take some"
        )
    files: dict[Path, dict[str, Result]] = {}
    for result in results:
        if why := result.unpublished:
            raise ValidationFailed(f"{result.id[:12]} of {result.identity.method} is {why}, which is not published")
        path = out / f"{result.identity.organism}{PACKED}"
        if not path.resolve().is_relative_to(out.resolve()):
            raise ValidationFailed(f"the pack {path} would lie outside {out}: remove the link, or choose another --out")
        if path not in files:
            files[path] = {r.id: r for r in _read(path)} if path.exists() else {}
        known = files[path].setdefault(result.id, result)
        if outcome(known) != outcome(result):
            raise ValidationFailed(
                f"{path} holds the cell {result.id[:12]} of {result.identity.method} with other numbers; on one machine a cell is "
                "deterministic, so one was edited or made on another: keep one"
            )
    texts = dict[Path, str]()
    for path, of in files.items():
        ordered = sorted(of.values(), key=lambda r: (r.identity.method, sorted(r.identity.seeds.items()), r.id))
        texts[path] = "".join(
            json.dumps(public(r).model_dump(mode="json"), separators=(",", ":")) + "\n" for r in ordered
        )
        known_findings = _findings_of(path) | {id_: f for id_, f in (findings or {}).items() if id_ in of}
        rows = [_packed_findings(r.id, known_findings[r.id]) for r in ordered if r.id in known_findings]
        without = [r for r in ordered if counted(r) and r.id not in known_findings]
        if rows and without:
            raise ValidationFailed(
                f"there are no findings of {without[0].id[:12]} ({without[0].identity.method}), and of other records of {path.name} there "
                "are: give its run folder, or pack it into another folder"
            )
        texts |= {findings_path(path): "".join(rows)} if rows else {}
    files_of = {path: _compressed(path, text) for path, text in texts.items()}
    for path, data in files_of.items():
        atomic_write_bytes(path, data)
    return list(files_of)


def _compressed(path: Path, text: str) -> bytes:
    """The bytes of a file of a pack; raises `ValidationFailed` if no reader would take them."""
    raw = text.encode()
    data = lzma.compress(raw, preset=9)
    longest = LONGEST if path.name.endswith(PACKED_FINDINGS) else MOST_RECORD
    for what, found, most in (
        ("lines", raw.count(b"\n"), MOST_RECORDS),
        ("bytes in a line", max(map(len, raw.split(b"\n"))), longest),
        ("bytes", len(raw), MOST_UNPACKED),
        ("bytes packed", len(data), MOST_PACKED),
    ):
        if found > most:
            raise ValidationFailed(
                f"{path} would have {found:,} {what}, and {most:,} are read at most: pack fewer records (-m, --seed), the others into "
                "another folder; tables take several; nothing was written"
            )
    return data


def _packed_findings(id_: str, data: bytes) -> str:
    row = {"id": id_, "sha256": hashlib.sha256(data).hexdigest(), "findings": base64.b64encode(data).decode()}
    return json.dumps(row, separators=(",", ":")) + "\n"


def _findings_of(path: Path) -> dict[str, bytes]:
    try:
        return findings_beside(path)
    except (OSError, ValueError) as error:
        raise ValidationFailed(f"the pack {path} cannot be added to: {reason(error)}") from error


def _read(path: Path) -> list[Result]:
    try:
        return [read_result(line) for line in lines(path)]
    except (OSError, ValueError) as error:
        raise ValidationFailed(f"the pack {path} cannot be read: {reason(error)}") from error


def reason(error: Exception) -> str:
    """One line, without the input values and links of pydantic's own message."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False, include_context=False)
        places = [".".join(map(str, e["loc"])) + ": " if e["loc"] else "" for e in found]
        parts = [place + e["msg"].removeprefix("Value error, ") for place, e in zip(places[:3], found, strict=False)]
        return "; ".join(parts) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"{type(error).__name__}: not valid UTF-8 text" if isinstance(error, UnicodeError) else str(error)
