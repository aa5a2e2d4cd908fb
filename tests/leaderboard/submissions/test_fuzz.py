"""Bundles changed at random: every change that docs/reliability.md calls detectable is refused in words, and no other one is a traceback.

A forger who recomputes every hash is assumed; raw damage is tried as well. `make test-all` tries 10,000.
"""

import hashlib
import json
import lzma
import re
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diffbench.harness.protocol.consistency import fault
from diffbench.harness.records.result import Result
from diffbench.leaderboard.submissions.bundle import (
    ENDING,
    RECORDS,
    BundleError,
    Manifest,
    findings_member,
    open_bundle,
)
from diffbench.leaderboard.submissions.card import read_card
from diffbench.leaderboard.submissions.check import check
from diffbench.organisms.card import sha256_text
from diffbench.organisms.errors import DiffbenchError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .bundles import new_id, write_one

DETECTABLE = re.compile(
    r"(schema_version|id|status|findings_sha256|identity\..*|scores\..*|behaviour\.(b0_test|b1_test|n_test)|diagnostics\.findings"
    r"|samples\.(gap|b0|b1)\.\d+|samples\.(constant|gated)\.\w+\.(effect|null)\.\d+)"
)
"""Fields of a record that follow from others, or that its id covers."""
MOST_S, MOST_BYTES = 10, 2**30
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a dictionary, whose bytes nothing names but the manifest."""
    return write_one(tmp_path_factory.mktemp("one"), trained=True)


def refused(path: Path) -> bool:
    """Whether a bundle is refused; anything but a refusal in words is a failure of the test."""
    began, said, code = time.perf_counter(), "", 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(open_bundle(path), Path(folder))
        except DiffbenchError as error:
            said, code = str(error), error.exit_code
    assert time.perf_counter() - began < MOST_S
    if said:
        assert code == 4 and said.startswith(f"{path}: ") and said.count(": ") >= 2 and "; " in said, said
    return bool(said)


def leaves(tree: Any, lead: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the values of a JSON tree stand."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None or not tree:
        yield lead
    else:
        for key, value in items:
            yield from leaves(value, (*lead, key))


def draw_leaf(tree: Any, data: st.DataObject) -> tuple[str | int, ...]:
    """A leaf, drawn level by level: a long list is as likely as a single field beside it."""
    if not tree or not isinstance(tree, dict | list):
        return ()
    key = data.draw(st.sampled_from(sorted(tree) if isinstance(tree, dict) else range(len(tree))))
    return (key, *draw_leaf(tree[key], data))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


JUNK = st.one_of(
    st.sampled_from(
        [None, True, "", "x" * 3000, "\x1b[2J", "\u202e", "../../etc/passwd", 10**30, -1, 1e308, -1e308, 5e-324, {}, []]
    ),
    st.integers(2, 150).map(nested),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


def another(old: Any, data: st.DataObject) -> Any:
    """A value that is not the old one by more than rounding."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int | float) and data.draw(st.integers(0, 3)):
        return old + data.draw(st.sampled_from([-0.5, -1e-3, 1e-3, 0.25, 1, 1e6]))
    new = data.draw(JUNK)
    near = isinstance(new, int | float) and isinstance(old, int | float) and abs(new - old) < 1e-3
    return nested(3) if new == old or near else new


def changed_record(row: dict[str, Any], data: st.DataObject) -> bool:
    """Edit one value of a record; returns whether that must be refused."""
    part = data.draw(st.sampled_from([*sorted(row), *["scores", "samples"] * 8]))
    place = (part, *draw_leaf(row[part], data))
    holder: Any = row
    for key in place[:-1]:
        holder = holder[key]
    how = data.draw(st.sampled_from([*["replace"] * 6, "remove", "add"]))
    if how == "add":
        if isinstance(holder, list):
            holder.append(data.draw(JUNK))
            return False
        holder["surplus"] = data.draw(JUNK)
        free = place[0] in ("diagnostics",) or place[:2] in (("identity", "config"), ("provenance", "packages"))
        return not free and not {"source", "phases", "by", "budget", "seeds", "git"} & set(place)
    if how == "remove":
        del holder[place[-1]]
        return False
    holder[place[-1]] = another(holder[place[-1]], data)
    if place[0] == "identity" and data.draw(st.booleans()):
        new_id(row)
        return False  # a record about something else, whose findings say otherwise
    return DETECTABLE.fullmatch(".".join(map(str, place))) is not None


def members(files: dict[str, bytes]) -> dict[str, Any]:
    """What a manifest says of them."""
    return {n: {"size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in sorted(files.items())}


def changed_members(about: dict[str, Any], data: st.DataObject) -> None:
    """Say something else of one member: another size or hash, none, or nothing at all."""
    name = data.draw(st.sampled_from(sorted(about)))
    field = data.draw(st.sampled_from(["size", "sha256", None]))
    if field is None:
        del about[name]
    elif data.draw(st.booleans()):
        del about[name][field]
    elif field == "size":
        about[name][field] = another(about[name][field], data)
    else:
        about[name][field] = data.draw(st.one_of(st.just("0" * 64), st.just(about[name][field].upper()), JUNK))


def written(path: Path, files: dict[str, bytes], about: dict[str, Any]) -> None:
    """A bundle with these members and this manifest, all its hashes right, whether a manifest may say so or not."""
    about.setdefault("members", members(files))
    try:
        head = Manifest.model_validate(about).header
    except ValueError:
        text = json.dumps(about, sort_keys=True, separators=(",", ":"))
        header = json.dumps({"__metadata__": {"bundle": text, "sha256": sha256_text(text)}}).encode()
        head = len(header).to_bytes(8, "little") + header
    path.write_bytes(head + b"".join(files[name] for name in sorted(files)))


def tried(one: Path, folder: Path, data: st.DataObject) -> None:
    """One change of one kind."""
    there, path = open_bundle(one), folder / f"changed{ENDING}"
    files = {name: there.read(name) for name in there.manifest.members}
    about = there.manifest.model_dump(mode="json", exclude={"members"})
    must = False
    kinds = [*["record"] * 6, "bytes", "text", "findings", "manifest", "members", "hashes"]
    kind = data.draw(st.sampled_from(kinds))
    if kind == "bytes":
        raw = one.read_bytes()
        start = data.draw(st.integers(0, len(raw) - 1))
        end = data.draw(st.integers(start, min(len(raw), start + 64)))
        new = raw[:start] + data.draw(st.binary(max_size=64)) + raw[end:]
        path.write_bytes(new)
        assert refused(path) == (new != raw)
        return
    if kind == "record":
        row = json.loads(lzma.decompress(files[RECORDS]))
        must = changed_record(row, data)
        files[RECORDS] = lzma.compress(json.dumps(row).encode(), preset=0)
    elif kind == "text":
        text = lzma.decompress(files[RECORDS])
        at = data.draw(st.integers(0, len(text) - 1))
        put = data.draw(
            st.one_of(st.binary(max_size=8), st.sampled_from([b"NaN", b"1e999", b"\0", b"\n", b"[" * 9999]))
        )
        files[RECORDS] = lzma.compress(text[:at] + put + text[at + data.draw(st.integers(0, 8)) :], preset=0)
    elif kind == "findings":
        name = next(n for n in files if n.startswith("findings"))
        old = files[name]
        at = data.draw(st.integers(0, len(old) - 1))
        files[name] = (
            old[:at] + data.draw(st.binary(min_size=1, max_size=16)) + old[at + data.draw(st.integers(0, 16)) :]
        )
        must = files[name] != old
    elif kind == "hashes":
        about["members"] = members(files)
        changed_members(about["members"], data)
        must = True
    elif kind == "manifest":
        place = data.draw(st.sampled_from(sorted(leaves(about), key=str)))
        holder: Any = about
        for key in place[:-1]:
            holder = holder[key]
        old = holder[place[-1]]
        holder[place[-1]] = another(old, data)
        must = (place[0] in ("format", "organism_set") and holder[place[-1]] is not None) or place == ("card", "name")
    else:
        new = data.draw(
            st.one_of(
                st.just(findings_member("ab" * 32)),
                st.just(findings_member("ab" * 32, "dictionary")),
                st.text(max_size=30),
            )
        )
        files[new] = data.draw(st.binary(max_size=40))
        must = True
    written(path, files, about)
    said = refused(path)
    assert said or not must


def test_every_byte_of_every_member_is_held_to_its_hash(one: Path, tmp_path: Path) -> None:
    """Those of a dictionary, too, which no record names."""
    bundle = open_bundle(one)
    assert len(bundle.manifest.members) == 3
    for name, member in bundle.manifest.members.items():
        for at in (0, member.size // 2, member.size - 1):
            raw = bytearray(one.read_bytes())
            raw[bundle.starts[name] + at] ^= 1
            path = tmp_path / f"changed{ENDING}"
            path.write_bytes(raw)
            with pytest.raises(BundleError, match=f"{re.escape(name)}: has other bytes than the manifest names"):
                check(open_bundle(path), tmp_path / f"{name[:4]}-{at}")


@pytest.mark.parametrize("field", ["size", "sha256"])
def test_a_manifest_says_size_and_hash_of_every_member(one: Path, tmp_path: Path, field: str) -> None:
    there, path = open_bundle(one), tmp_path / f"changed{ENDING}"
    files = {name: there.read(name) for name in there.manifest.members}
    for name in files:
        about = there.manifest.model_dump(mode="json")
        del about["members"][name][field]
        written(path, files, about)
        with pytest.raises(BundleError, match=rf"manifest: members\..*{field}: Field required; build the bundle again"):
            open_bundle(path)


def test_every_field_that_is_called_detectable_is_detected(one: Path) -> None:
    """Each of them once, of long lists the first entry, by an edit that keeps its type and range."""
    text = lzma.decompress(open_bundle(one).read(RECORDS)).decode()
    tried_ = 0
    for place in leaves(json.loads(text)):
        if not DETECTABLE.fullmatch(".".join(map(str, place))) or (isinstance(place[-1], int) and place[-1]):
            continue
        row = json.loads(text)
        holder = row
        for key in place[:-1]:
            holder = holder[key]
        old = holder[place[-1]]
        if isinstance(old, float) or old is None:
            holder[place[-1]] = (old or 0.0) + (1e-3 if (old or 0.0) < 0.5 else -1e-3)
        elif isinstance(old, int):
            holder[place[-1]] = old + 1
        else:
            holder[place[-1]] = f"{old[1:]}{old[:1]}" if isinstance(old, str) else "x"
        if holder[place[-1]] == old or place == ("findings_sha256",):  # which the findings beside it contradict
            continue
        tried_ += 1
        try:
            found = fault(Result.model_validate(row))
        except ValueError as error:
            found = str(error)
        assert found, place
    assert tried_ > 100


@settings(max_examples=100, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(st.data())
def test_a_changed_bundle_is_refused_or_sound(one: Path, tmp_path: Path, data: st.DataObject) -> None:
    tried(one, tmp_path, data)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=QUIET)
@given(st.data())
def test_ten_thousand_changed_bundles(one: Path, tmp_path: Path, data: st.DataObject) -> None:
    tried(one, tmp_path, data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MOST_BYTES + 2**30  # of which torch has most


YAML = st.lists(st.sampled_from(["name: a", "authors: [b]", "&x [*x]", "access: 1", "- -", "? {"])).map("\n".join)


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(st.one_of(st.text(), st.binary(), YAML))
def test_a_card_is_read_or_refused(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "card.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DiffbenchError) as refused_:
        read_card(path)
    assert refused_.value.exit_code == 4 and str(path) in str(refused_.value)
