"""A bundle: one safetensors file that holds everything a method claims, as data.

The one idea: the header is a function of the manifest, so a reader computes what the header has to be and compares bytes. There is no
archive: members have fixed names that are never paths, and nothing is linked, packed twice, or longer than the manifest says.

| member | bytes |
|---|---|
| `records.jsonl.xz` | a pack, as `bench results pack` writes it |
| `findings/ID.safetensors` | the findings that the record ID counts, as its run folder holds them |
| `dictionary/ID.safetensors` | what the method trained there, if it trained anything |

Each is a tensor of bytes (U8), so that any safetensors library opens a bundle. The same runs and card give the same bytes.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ...harness.files import atomic_write_bytes
from ...harness.records.identity import Count, Hash, Line, Name, Record
from ...harness.runs.packs import MOST_PACKED, reason
from ...methods.formats.findings import is_pickle
from ...organisms.errors import PrerequisiteError, ValidationFailed
from .card import MethodCard

FORMAT = "diffbench bundle 1"
ENDING = ".bundle.safetensors"
RECORDS = "records.jsonl.xz"
MOST_HEADER, MOST_BUNDLE = 2**22, 2**31
"""Bytes of a header (10,000 members need 3 MB), and of a bundle."""
MOST = {"records": MOST_PACKED, "findings": 2**24, "dictionary": 2**28}
"""Most bytes of a member of each kind; sixteen findings of the widest model have 9 MB."""
MemberName = Annotated[str, Field(pattern=r"^(records\.jsonl\.xz|(findings|dictionary)/[0-9a-f]{64}\.safetensors)$")]
ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")


class BundleError(ValidationFailed):
    """A bundle that is refused: which file, which field of it, why, and what to do."""

    def __init__(self, path: Path, where: str, cause: str, fix: str):
        super().__init__(f"{path}: {where}: {cause}; {fix}")
        self.where, self.cause = where, cause


class Member(Record):
    """A file of a bundle."""

    size: Count
    """Bytes."""
    sha256: Hash


class Manifest(Record):
    """What a bundle holds."""

    format: Literal["diffbench bundle 1"] = FORMAT
    diffbench: Line
    """Version that built it."""
    card: MethodCard
    organism_set: Name | None
    """The frozen set of organisms that it covers whole; None: those that it has."""
    members: dict[MemberName, Member] = Field(min_length=1, max_length=20_000)

    @property
    def text(self) -> str:
        """The one way of writing it."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def header(self) -> bytes:
        """The bytes before the members: the length of what follows, and a safetensors header that says where each lies."""
        parts: dict[str, Any] = {"__metadata__": {"bundle": self.text, "sha256": _sha256(self.text.encode())}}
        end = 0
        for name, member in sorted(self.members.items()):
            start, end = end, end + member.size
            parts[name] = {"dtype": "U8", "shape": [member.size], "data_offsets": [start, end]}
        text = json.dumps(parts, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text


def findings_member(id_: str, kind: Literal["findings", "dictionary"] = "findings") -> str:
    """Name of what a record found, or trained."""
    return f"{kind}/{id_}.safetensors"


@dataclass(frozen=True)
class Bundle:
    """An open bundle, its header checked; members are read when they are asked for."""

    path: Path
    manifest: Manifest

    def __contains__(self, name: str) -> bool:
        return name in self.manifest.members

    def read(self, name: str) -> bytes:
        """A member.

        Raises:
            BundleError: its bytes are not those that the manifest names.
        """
        member = self.manifest.members[name]
        with self.path.open("rb") as file:
            file.seek(self.starts[name])
            data = file.read(member.size)
        if _sha256(data) != member.sha256:
            raise BundleError(self.path, name, "has other bytes than the manifest names", DAMAGED)
        return data

    @cached_property
    def starts(self) -> dict[str, int]:
        """Where each member begins in the file."""
        starts, at = dict[str, int](), len(self.manifest.header)
        for name, member in sorted(self.manifest.members.items()):
            starts[name], at = at, at + member.size
        return starts

    @property
    def sha256(self) -> str:
        """Hash of the manifest, and so of everything in it."""
        return _sha256(self.manifest.text.encode())


DAMAGED = "the file was changed or damaged on its way: fetch it again, or build it again with `bench submit`"


def write_bundle(
    path: Path, card: MethodCard, organism_set: str | None, files: Mapping[str, bytes], diffbench: str
) -> Bundle:
    """Write a bundle, whole or not at all.

    Args:
        files: members by name.

    Raises:
        BundleError: a member is too large, or a name that no bundle has.
    """
    members = {name: Member(size=len(data), sha256=_sha256(data)) for name, data in files.items()}
    try:
        manifest = Manifest(diffbench=diffbench, card=card, organism_set=organism_set, members=members)
    except ValidationError as error:
        raise BundleError(path, "manifest", reason(error), "this is a fault of diffbench: report it") from error
    _check_sizes(path, manifest)
    atomic_write_bytes(path, manifest.header + b"".join(files[name] for name in sorted(files)))
    return Bundle(path, manifest)


def open_bundle(path: Path) -> Bundle:
    """Open a bundle; no member is read.

    Raises:
        PrerequisiteError: there is no such file.
        BundleError: not a bundle, or not a whole one.
    """
    if not path.exists():
        raise PrerequisiteError(f"there is no bundle {path}; `bench submit RUNS --card CARD` builds one")
    if not path.is_file():
        raise BundleError(path, "file", "is no regular file", f"give the NAME{ENDING} that `bench submit` wrote")
    size = path.stat().st_size
    if size > MOST_BUNDLE:
        raise BundleError(
            path,
            "file",
            f"has {size:,} bytes, a bundle at most {MOST_BUNDLE:,}",
            "leave dictionaries out: --no-dictionaries",
        )
    with path.open("rb") as file:
        first = file.read(9)
        packed = is_pickle(first) or first.startswith(ARCHIVES)
        if len(first) < 9 or packed:
            what = "is an archive or a pickle, which is never opened" if packed else "is no safetensors file"
            raise BundleError(path, "file", what, "build it with `bench submit`")
        (length,) = struct.unpack("<Q", first[:8])
        if not 2 <= length <= min(MOST_HEADER, size - 8):
            raise BundleError(path, "header", f"would have {length:,} bytes of a file of {size:,}", DAMAGED)
        file.seek(8)
        header = file.read(length)
    manifest = _manifest(path, header)
    if manifest.header != first[:8] + header:
        raise BundleError(
            path, "header", "is not the one that its manifest has: tensors were added, moved or renamed", DAMAGED
        )
    whole = len(manifest.header) + sum(m.size for m in manifest.members.values())
    if size != whole:
        raise BundleError(path, "file", f"has {size:,} bytes, its manifest is of {whole:,}", DAMAGED)
    _check_sizes(path, manifest)
    if RECORDS not in manifest.members:
        raise BundleError(path, "manifest.members", f"has no {RECORDS}", "build it with `bench submit`")
    return Bundle(path, manifest)


def _manifest(path: Path, header: bytes) -> Manifest:
    try:
        about = json.loads(header.decode("utf-8"), parse_constant=_no_constant)["__metadata__"]
        text, sha256 = about["bundle"], about["sha256"]
        if not isinstance(text, str):
            raise TypeError("bundle is no text")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else f"{type(error).__name__}"
        raise BundleError(
            path, "header", f"is not that of a bundle ({why})", "build the file with `bench submit`"
        ) from error
    try:
        if _sha256(text.encode()) != sha256:
            raise BundleError(path, "manifest", "is not the one that the header's sha256 names", DAMAGED)
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(path, "manifest", reason(error), "build the bundle again with `bench submit`") from error
    except UnicodeError as error:
        raise BundleError(path, "manifest", "holds half a character", DAMAGED) from error


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _check_sizes(path: Path, manifest: Manifest) -> None:
    for name, member in manifest.members.items():
        most = MOST[name.replace(".", "/").split("/")[0]]
        if member.size > most:
            raise BundleError(
                path, name, f"has {member.size:,} bytes, at most {most:,} are read", "leave it out, or make it smaller"
            )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
