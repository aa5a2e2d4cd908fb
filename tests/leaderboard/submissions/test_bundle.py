"""A bundle is one file of bytes that say themselves what they are: the same runs give the same ones, and others are refused."""

import json
import lzma
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffbench.leaderboard.submissions.build import build
from diffbench.leaderboard.submissions.bundle import (
    MOST_HEADER,
    RECORDS,
    Bundle,
    BundleError,
    Manifest,
    findings_member,
    open_bundle,
    write_bundle,
)
from diffbench.leaderboard.submissions.check import check
from diffbench.organisms.errors import PrerequisiteError
from safetensors import safe_open

from .bundles import CARD, ORGANISMS, make_cell, write_cell, write_one, write_runs


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two organisms, three seeds."""
    folder = tmp_path_factory.mktemp("six")
    return build([write_runs(folder / "runs")], CARD, folder / "six.bundle.safetensors")[0]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_one(tmp_path_factory.mktemp("one"))


def test_it_holds_the_cells_their_findings_and_their_dictionaries(six: Bundle, tmp_path: Path) -> None:
    cells = check(open_bundle(six.path), tmp_path)
    assert {(c.identity.organism, c.seed) for c in cells} == {(o, s) for o in ORGANISMS for s in (0, 1, 2)}
    for cell in cells:
        assert {p.name for p in cell.folder.iterdir()} == {
            "result.json",
            "findings.safetensors",
            "dictionary.safetensors",
        }
        assert cell.folder.is_relative_to(tmp_path)
    lean, _ = build([six.path.parent / "runs"], CARD, tmp_path / "lean.bundle.safetensors", dictionaries=False)
    assert sum("dictionary" in m for m in six.manifest.members) == 6 and len(lean.manifest.members) == 7


def test_the_same_runs_give_the_same_bytes_in_any_order(six: Bundle, tmp_path: Path) -> None:
    runs = six.path.parent / "runs"
    parts = [p for organism in reversed(ORGANISMS) for p in sorted((runs / organism).iterdir(), reverse=True)]
    again, _ = build(parts, CARD, tmp_path / "again.bundle.safetensors")
    assert again.path.read_bytes() == six.path.read_bytes()


def test_any_safetensors_library_opens_it(six: Bundle) -> None:
    with safe_open(six.path, framework="np") as file:
        assert set(file.keys()) == set(six.manifest.members)
        records = lzma.decompress(file.get_tensor(RECORDS).tobytes()).decode().splitlines()
        ids = {json.loads(line)["id"] for line in records}
        assert {findings_member(i) for i in ids} < set(file.keys())
        assert all(file.get_tensor(n).tobytes() == six.read(n) for n in file.keys())  # noqa: SIM118


def test_other_methods_are_left_out_and_other_files_refused(tmp_path: Path) -> None:
    write_cell(tmp_path / "runs", make_cell(stochastic=False))
    write_cell(tmp_path / "runs", make_cell(method="other"))
    bundle, cells = build([tmp_path / "runs"], CARD, tmp_path / "b.bundle.safetensors")
    assert len(cells) == 1 and len(bundle.manifest.members) == 2
    with pytest.raises(PrerequisiteError, match=r"no cell of 'absent', the card's method.*there are other, theirs"):
        build([tmp_path / "runs"], CARD.model_copy(update={"name": "absent"}), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def resealed(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + n]), raw[8 + n :]


def moved(path: Path) -> bytes:
    header, data = parts(path)
    header[RECORDS]["data_offsets"][0] += 1
    return resealed(header, data)


def added(path: Path) -> bytes:
    header, data = parts(path)
    header["more"] = {"dtype": "U8", "shape": [3], "data_offsets": [len(data), len(data) + 3]}
    return resealed(header, data + b"abc")


def doubled(path: Path) -> bytes:
    """A name that stands twice: most readers take the second."""
    raw = path.read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    text = raw[8 : 8 + n].rstrip()[:-1] + b',"records.jsonl.xz":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    return struct.pack("<Q", len(text)) + text + raw[8 + n :]


def renamed(to: str) -> Callable[[Path], bytes]:
    """A manifest that names a member so, with its hash."""

    def change(path: Path) -> bytes:
        header, data = parts(path)
        manifest = json.loads(header["__metadata__"]["bundle"])
        name = next(n for n in manifest["members"] if n.startswith("findings"))
        manifest["members"][to] = manifest["members"].pop(name)
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
        header["__metadata__"] = {"bundle": text, "sha256": __import__("hashlib").sha256(text.encode()).hexdigest()}
        header[to] = header.pop(name)
        return resealed(header, data)

    return change


def pickled(path: Path) -> bytes:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(path.parent / "ran"),)

    return pickle.dumps(Evil())


def zipped(path: Path) -> bytes:
    with zipfile.ZipFile(path.parent / "z.zip", "w") as file:
        file.writestr("../../evil.py", "boom")
    return (path.parent / "z.zip").read_bytes()


DAMAGE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty": (lambda p: b"", "is no safetensors file"),
    "text": (lambda p: b"hello, this is no bundle", "header: would have"),
    "pickle": (pickled, "an archive or a pickle, which is never opened"),
    "zip": (zipped, "an archive or a pickle, which is never opened"),
    "xz": (lambda p: lzma.compress(b"a" * 100), "an archive or a pickle"),
    "a header of 2^60 bytes": (
        lambda p: struct.pack("<Q", 2**60) + b"{}",
        "would have 1,152,921,504,606,846,976 bytes",
    ),
    "a header longer than any": (lambda p: struct.pack("<Q", MOST_HEADER + 1) + b" " * (MOST_HEADER + 9), "would have"),
    "deep JSON": (
        lambda p: resealed({}, b"")[:0] + struct.pack("<Q", 200_000) + b"[" * 200_000,
        "is not that of a bundle",
    ),
    "NaN": (lambda p: struct.pack("<Q", 24) + b'{"__metadata__":{"a":NaN}}'[:24], "is not that of a bundle"),
    "no metadata": (lambda p: resealed({"a": {}}, b""), "it has no '__metadata__'"),
    "cut off": (lambda p: p.read_bytes()[:-1], "file: has"),
    "gone on": (lambda p: p.read_bytes() + b"x", "file: has"),
    "an offset": (moved, "header: is not the one that its manifest has"),
    "a tensor more": (added, "header: is not the one that its manifest has"),
    "a name twice": (doubled, "header: is not the one that its manifest has"),
    "a path upwards": (renamed("findings/../../../etc/x.safetensors"), "manifest: members"),
    "an absolute path": (renamed("/etc/passwd"), "manifest: members"),
    "a control character": (renamed("findings/\x1b]0;x\x07"), "manifest: members"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_no_whole_bundle_is_refused(one: Path, tmp_path: Path, kind: str) -> None:
    damage, says = DAMAGE[kind]
    path = tmp_path / "bad.bundle.safetensors"
    path.write_bytes(one.read_bytes())
    path.write_bytes(damage(path))
    with pytest.raises(BundleError) as refused:
        check(open_bundle(path), tmp_path / "cells")
    assert str(refused.value).startswith(f"{path}: ") and says in str(refused.value)
    assert "; " in str(refused.value) and refused.value.exit_code == 4
    assert not (tmp_path / "ran").exists() and not list(tmp_path.rglob("evil*"))


def test_a_pipe_a_folder_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(BundleError, match="is no regular file"):
            open_bundle(path)
    with pytest.raises(PrerequisiteError, match="there is no bundle"):
        open_bundle(tmp_path / "nothing")


def test_records_that_unpack_to_a_gigabyte_are_refused(one: Path, tmp_path: Path) -> None:
    there = open_bundle(one)
    bomb = lzma.compress(b"\0" * 2**28, preset=0)
    assert len(bomb) < 2**20
    files = {name: there.read(name) for name in there.manifest.members} | {RECORDS: bomb}
    bad = write_bundle(tmp_path / "bomb", CARD, None, files, "0")
    with pytest.raises(BundleError, match="unpacks to more than 128 MiB"):
        check(open_bundle(bad.path), tmp_path / "cells")


def test_a_record_that_would_take_gigabytes_is_refused_before_it_is_read(one: Path, tmp_path: Path) -> None:
    """16 million numbers in 32 MB of text that pack into a few kB."""
    there = open_bundle(one)
    text = lzma.decompress(there.read(RECORDS)).rstrip()[:-1] + b',"claims":[' + b"1," * 2**24 + b"1]}\n"
    files = {name: there.read(name) for name in there.manifest.members} | {RECORDS: lzma.compress(text, preset=0)}
    bad = write_bundle(tmp_path / "long", CARD, None, files, "0")
    with pytest.raises(
        BundleError, match=r"records.jsonl.xz: line 1 has 33,\d+,\d+ bytes, at most 16,777,216 are read of one"
    ):
        check(open_bundle(bad.path), tmp_path / "cells")


def test_a_member_larger_than_any_is_refused_before_it_is_read(one: Path, tmp_path: Path) -> None:
    """The file is sparse: it says to hold 32 MiB of findings."""
    manifest = open_bundle(one).manifest
    name = next(n for n in manifest.members if n.startswith("findings"))
    large = {
        **manifest.model_dump(),
        "members": {**manifest.model_dump()["members"], name: {"size": 2**25, "sha256": "0" * 64}},
    }
    changed = Manifest.model_validate(large)
    path = tmp_path / "large"
    path.write_bytes(changed.header)
    os.truncate(path, len(changed.header) + sum(m.size for m in changed.members.values()))
    with pytest.raises(BundleError, match=r"findings/.*has 33,554,432 bytes, at most 16,777,216"):
        open_bundle(path)


def test_a_header_of_any_length_is_opened(tmp_path: Path) -> None:
    """Of one length in 32 the first byte is the one that a pickle begins with."""
    write_cell(tmp_path / "runs", make_cell(stochastic=False))
    first = set[int]()
    for more in range(0, 256, 8):
        card = CARD.model_copy(update={"summary": "x" * (1 + more)})
        bundle, _ = build([tmp_path / "runs"], card, tmp_path / f"{more}.bundle.safetensors")
        first.add(bundle.path.read_bytes()[0])
        assert open_bundle(bundle.path).manifest.card == card
    assert first == set(range(0, 256, 8))
