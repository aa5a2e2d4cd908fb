"""Findings made elsewhere: what a file may hold is read as it was meant, and whatever else is refused with what to do."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.methods.contract import DiffResult, Finding, Gate
from diffbench.methods.formats.findings import (
    KEPT,
    MOST_WIDTH,
    entry_from_file,
    entry_from_findings,
    halved,
    pack,
    read_file,
)
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from safetensors.torch import save_file
from torch import Tensor

D = 6
GOOD = {"directions": torch.eye(D)[:3], "gate_read": torch.ones(3, D), "gate_threshold": torch.tensor([0.5, 0.0, -1.0])}
KEPT_TENSORS = pack([Finding(torch.ones(D), Gate(torch.ones(D), 0.5), 2.0), Finding(torch.ones(D))])


def save(path: Path, tensors: dict[str, Tensor], **about: str) -> Path:
    save_file({name: t.contiguous() for name, t in tensors.items()}, path, about or None)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.safetensors"


def test_a_file_is_read_as_it_was_meant(path: Path) -> None:
    closed = GOOD["gate_threshold"].clone()
    closed[1] = -torch.inf
    about = {"name": "axes", "layer": "2", "method": "by eye", "claims": json.dumps(["It says gold."]), "format": "pt"}
    tensors = GOOD | {"gate_threshold": closed, "score": torch.tensor([3, 2.5, 2.5])}
    file = read_file(save(path, tensors, **about))
    assert (file.name, file.layer, file.method, file.result.claims) == ("axes", 2, "by eye", ["It says gold."])
    first, ungated, _ = file.result.findings
    assert torch.equal(first.direction, GOOD["directions"][0]) and first.score == 3
    assert first.gate is not None and first.gate.threshold == 0.5 and torch.equal(first.gate.read, torch.ones(D))
    assert ungated.gate is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_any_floating_type_is_read(path: Path, dtype: torch.dtype) -> None:
    (found,) = read_file(save(path, {"directions": torch.full((1, D), 0.5, dtype=dtype)})).result.findings
    assert found.direction.dtype == torch.float32 and torch.equal(found.direction, torch.full((D,), 0.5))


def test_what_a_run_folder_keeps_is_read_too(path: Path) -> None:
    gated, plain = read_file(save(path, KEPT_TENSORS, result="abc", layer="2")).result.findings
    assert gated.gate is not None and gated.score == 2 and plain.gate is None


def test_a_zero_row_says_that_nothing_was_found(path: Path) -> None:
    assert len(read_file(save(path, {"directions": torch.zeros(1, D)})).result.findings) == 1


WIDE = torch.ones(1, 1).expand(1, MOST_WIDTH + 1)
NAN = torch.eye(D)[:3].clone()
NAN[1, 2] = torch.nan
TENSORS: dict[str, tuple[dict[str, Tensor], str]] = {
    "NaN": ({"directions": NAN}, "finding 1: direction contains NaN or infinity; drop that finding"),
    "an overflow": ({"directions": torch.full((1, D), 1e300, dtype=torch.float64)}, "contains NaN or infinity"),
    "too many": ({"directions": torch.ones(17, D)}, "holds 17 directions of width 6; keep the best 16"),
    "none": ({"directions": torch.ones(0, D)}, "holds no directions; a row of zeros is how to say"),
    "no width": ({"directions": torch.ones(2, 0)}, "directions of width 0; give directions in the residual stream"),
    "too wide": ({"directions": WIDE}, "directions of width 65,537"),
    "one vector": ({"directions": torch.ones(D)}, r"directions of shape \[6\]; give one direction a row"),
    "whole numbers": ({"directions": torch.ones(2, D, dtype=torch.int64)}, "of type I64; save it as float32"),
    "gates without thresholds": (
        {k: GOOD[k] for k in ("directions", "gate_read")},
        "has gate_read and no gate_threshold, and a gate is open where .* add gate_threshold, or leave both out",
    ),
    "thresholds without gates": ({k: GOOD[k] for k in ("directions", "gate_threshold")}, "add gate_read, or leave"),
    "gates of another width": (GOOD | {"gate_read": torch.ones(3, 5)}, r"make it \[3, 6\]"),
    "a threshold for all": (GOOD | {"gate_threshold": torch.ones(1)}, r"gate_threshold of shape \[1\].*make it \[3\]"),
    "a threshold that is none": (GOOD | {"gate_threshold": torch.tensor([0, torch.nan, 1])}, "gate.threshold is nan"),
    "never open": (GOOD | {"gate_threshold": torch.tensor([0, torch.inf, 1])}, "gate.threshold is inf"),
    "worst first": (
        {"directions": GOOD["directions"], "score": torch.tensor([1.0, 0.5, 0.7])},
        r"rises from row 1 \(0.5\) to the next \(0.7\); sort the rows by score, or leave score out",
    ),
    "both layouts": (GOOD | KEPT_TENSORS, r"two layouts \(directions.* and direction.*\); keep one of them"),
    "half of the other layout": ({"direction": torch.ones(1, D)}, "has no read, threshold, score"),
    "a typing error": ({"direcions": torch.ones(1, D)}, "holds 'direcions'.*did you mean 'directions'\\?"),
    "something else": ({"W_dec": torch.ones(4, D)}, "holds 'W_dec', which is no part of a findings file; its tensors"),
    "something beside": (GOOD | {"bias": torch.ones(D)}, "holds 'bias'"),
    "nothing": ({}, "has no directions"),
}


@pytest.mark.parametrize(("tensors", "says"), TENSORS.values(), ids=TENSORS)
def test_tensors_that_are_no_findings_are_refused(path: Path, tensors: dict[str, Tensor], says: str) -> None:
    with pytest.raises(ValidationFailed, match=says) as refused:
        read_file(save(path, tensors))
    assert str(refused.value).startswith(str(path)) and refused.value.exit_code == 4


WORDS: dict[str, tuple[dict[str, str], str]] = {
    "claims that are no list": ({"claims": '"gold"'}, "claims is str, not a list"),
    "claims that are no JSON": ({"claims": "it says gold"}, r"claims is not JSON .*write json.dumps\(\[…\]\)"),
    "claims without end": ({"claims": "[" * 100_000}, "claims is not JSON"),
    "an escape sequence": ({"claims": json.dumps(["\x1b[2J"])}, r"claim 0 holds the character U\+001B"),
    "a method of many lines": ({"method": "a\nb"}, r"method holds the character U\+000A"),
    "a layer that is none": ({"layer": "-1"}, "layer is '-1', not the number of a block"),
}


@pytest.mark.parametrize(("about", "says"), WORDS.values(), ids=WORDS)
def test_words_that_cannot_be_recorded_are_refused(path: Path, about: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationFailed, match=says):
        read_file(save(path, GOOD, **about))


def test_a_pickle_is_never_opened(path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("opened",)

    for write in (lambda: torch.save(GOOD, path), lambda: path.write_bytes(pickle.dumps({"directions": Trap()}))):
        write()
        with pytest.raises(ValidationFailed, match=r"is a pickle.*never opened; write it with safetensors"):
            read_file(path)


def test_a_header_that_begins_like_a_pickle_is_a_header(path: Path) -> None:
    """A pickle begins with the byte 128, and so does a header of 640 bytes."""
    save(path, GOOD)
    (size,), raw = struct.unpack("<Q", path.read_bytes()[:8]), path.read_bytes()[8:]
    path.write_bytes(struct.pack("<Q", 640) + raw[:size].ljust(640) + raw[size:])
    assert path.read_bytes()[:1] == b"\x80" and len(read_file(path).result.findings) == 3


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_half_a_file_is_refused(path: Path, kept: int) -> None:
    raw = save(path, GOOD).read_bytes()
    path.write_bytes(raw[:kept])
    with pytest.raises(ValidationFailed, match="is no whole safetensors file"):
        read_file(path)


def test_ten_gigabytes_are_refused_by_their_header(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 10**10 // (4 * 64)
    entry = {"dtype": "F32", "shape": [rows, 64], "data_offsets": [0, 4 * 64 * rows]}
    header = json.dumps({"directions": entry}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 4 * 64 * rows)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read"))
    with pytest.raises(ValidationFailed, match=f"holds {rows:,} directions of width 64; keep the best 16"):
        read_file(path)


def test_what_is_no_file_is_told_from_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match=r"is a folder; give a file in it, such as .*findings\.safetensors"):
        read_file(tmp_path)
    with pytest.raises(PrerequisiteError, match=r"there is no findings file .*docs/scoring-findings\.md"):
        read_file(tmp_path / "nothing")


NAMES: list[tuple[dict[str, str], str | None, str]] = [
    ({"name": "delta"}, None, "built-in.*did you mean 'delta-findings'"),
    ({}, "oracle", "did you mean 'oracle-findings'"),
    ({"name": "../../etc"}, None, "names a folder; use lower-case letters.*; --name gives it another"),
    ({"name": "Mine"}, None, "names a folder"),
    ({}, "a" * 101, "at most 100"),
]


@pytest.mark.parametrize(("about", "name", "says"), NAMES)
def test_a_row_has_a_name_of_its_own(path: Path, about: dict[str, str], name: str | None, says: str) -> None:
    save(path, GOOD, **about)
    with pytest.raises(UsageError, match=says):
        entry_from_file(path, name)


def test_the_name_given_goes_before_the_files_own_and_that_before_its_stem(path: Path) -> None:
    assert entry_from_file(save(path, GOOD)).name == "mine"
    assert entry_from_file(save(path, GOOD, name="axes")).name == "axes"
    assert entry_from_file(path, "other").name == "other"


def test_another_byte_is_another_version(path: Path) -> None:
    one, same = (entry_from_file(save(path, GOOD)).version for _ in range(2))
    other = entry_from_file(save(path, GOOD, layer="2")).version
    assert one == same != other and one.startswith("findings ")
    claimed = [entry_from_findings(DiffResult([Finding(torch.ones(D))], claims=c), "mine").version for c in ([], ["a"])]
    assert len({one, *claimed}) == 3


def test_access_is_recorded_as_somebodys_word(path: Path) -> None:
    entry = entry_from_file(save(path, GOOD, method="pca"), access="supervised")
    assert entry.access == "supervised"
    assert entry.origin == f"findings file {path}, found by pca; access supervised is declared, not enforced"


def test_a_run_folder_is_read_in_its_own_layout_only(path: Path) -> None:
    with pytest.raises(ValidationFailed, match="holds 'directions'"):
        read_file(save(path, GOOD), (KEPT,))


@pytest.mark.parametrize("size", [1e-12, 1e-9, 2.0**-6, 1.0, 3e4, 1e6, 1e11])
def test_what_is_scored_is_half_precision_whatever_its_length(size: float, tmp_path: Path) -> None:
    """Directions and gates say the same: cosine 1 to eleven bits, and a gate open at the same tokens."""
    torch.manual_seed(0)
    direction, read, h_TD = torch.randn(64), torch.randn(64), torch.randn(500, 64)
    given = DiffResult([Finding(direction * size, Gate(read * size, 0.7 * size), 2.5), Finding(read)], {"loss": 1.0})
    first, second = halved(given).findings
    for kept in (first.direction, first.gate.read, second.direction):  # pyright: ignore[reportOptionalMemberAccess]
        assert torch.equal(kept.half().float(), kept) and kept.isfinite().all()
    assert torch.cosine_similarity(first.direction.double(), direction.double(), dim=0) > 1 - 1e-6
    assert first.gate is not None and first.score == 2.5 and second.gate is None
    margins = (h_TD @ read - 0.7).abs()
    open_ = h_TD @ first.gate.read > first.gate.threshold
    assert torch.equal(open_[margins > 0.02], (h_TD @ read > 0.7)[margins > 0.02]) and 50 < int(open_.sum()) < 450
    again = halved(halved(given)).findings[0]
    assert torch.equal(again.direction, first.direction) and again.gate.threshold == first.gate.threshold  # pyright: ignore[reportOptionalMemberAccess]
    save_file(pack([first, second]), tmp_path / "findings.safetensors")
    read_back = read_file(tmp_path / "findings.safetensors").result.findings
    assert torch.equal(read_back[0].direction, first.direction) and torch.equal(read_back[0].gate.read, first.gate.read)  # pyright: ignore[reportOptionalMemberAccess]
    assert (
        pack([first])["direction"].dtype == torch.float16 and pack(given.findings)["direction"].dtype == torch.float32
    )
    zero = halved(DiffResult([Finding(torch.zeros(4))])).findings[0]
    assert not zero.direction.any()
