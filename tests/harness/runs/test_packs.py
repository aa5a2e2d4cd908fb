"""Packs hold the very records they were made from, and refuse what contradicts them."""

import json
import lzma
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from diffbench.cli import app
from diffbench.harness.records.loading import MOST_RECORD
from diffbench.harness.records.result import Localisation
from diffbench.harness.runs import packs
from diffbench.harness.runs.packs import PACKED, PACKED_FINDINGS, findings_path, lines, pack
from diffbench.harness.runs.records import records, validate
from diffbench.leaderboard.board.build import markdown
from diffbench.leaderboard.board.store import load
from diffbench.organisms.errors import PrerequisiteError, ValidationFailed
from typer.testing import CliRunner

from ...factories import make_result, write_result
from ...leaderboard.submissions.bundles import make_cell, new_id, write_cell

RESULTS = [make_result(m, o, s) for m in ("delta", "pca") for o in ("taboo/gold", "null/x") for s in (0, 1)]


def bench(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, args)))
    assert result.exit_code == code, result.output
    return result.output


def test_a_pack_holds_the_same_records_and_gives_the_same_table(tmp_path: Path) -> None:
    for result in RESULTS:
        write_result(tmp_path / "runs", result)
    shown = bench("results", "pack", tmp_path / "runs", "--out", tmp_path / "packs")
    assert sorted(p.relative_to(tmp_path / "packs").as_posix() for p in (tmp_path / "packs").rglob("*.xz")) == [
        "null/x.jsonl.xz",
        "taboo/gold.jsonl.xz",
    ]
    assert shown.count("kB") == 2
    assert "records of many runs" in bench("results", "show", tmp_path / "packs" / "null" / "x.jsonl.xz", code=3)
    packed = {r.result.id: r.result for r in records(tmp_path / "packs") if r.result}
    assert packed == {r.id: r for r in RESULTS}
    assert markdown(tmp_path / "packs") == markdown(tmp_path / "runs")
    assert not any(r.problems for r in validate([tmp_path / "packs"]))


def test_packing_is_idempotent_whatever_the_order_and_the_parts(tmp_path: Path) -> None:
    pack(RESULTS, tmp_path / "whole")
    pack(RESULTS[5:], tmp_path / "parts")
    pack(RESULTS[::-1][2:], tmp_path / "parts")
    for path in (tmp_path / "whole").rglob("*.xz"):
        assert path.read_bytes() == (tmp_path / "parts" / path.relative_to(tmp_path / "whole")).read_bytes()


def test_a_cell_with_other_numbers_is_refused_and_nothing_written(tmp_path: Path) -> None:
    pack(RESULTS[:1], tmp_path)
    (path,) = tmp_path.rglob("*.xz")
    before = path.read_bytes()
    other = RESULTS[0].model_copy(update={"samples": RESULTS[1].samples})
    with pytest.raises(ValidationFailed, match="other numbers"):
        pack([RESULTS[4], other], tmp_path)
    moved = RESULTS[0].model_copy(update={"localisation": Localisation(first_cos=0.5, at=[])})
    with pytest.raises(ValidationFailed, match="other numbers"):
        pack([moved], tmp_path)
    assert path.read_bytes() == before and len(list(tmp_path.rglob("*.xz"))) == 1


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"{}", lambda b: lzma.compress(b"\xff\xfe")])
def test_a_damaged_pack_is_named(tmp_path: Path, damage: object) -> None:
    pack(RESULTS, tmp_path)
    path = tmp_path / "taboo" / f"gold{PACKED}"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ValidationFailed, match="gold"):
        pack(RESULTS, tmp_path)
    assert "taboo/gold.jsonl.xz" in bench("results", "validate", tmp_path, code=4)


def twice(line: str) -> str:
    """The record with a second status, which most readers would take."""
    return line[:-1] + ',"status":"failed"}'


HOSTILE: dict[str, tuple[Callable[[str], bytes], str]] = {
    "a line longer than any record": (
        lambda line: lzma.compress(f'{line}\n{{"x":"'.encode() + b" " * MOST_RECORD + b'"}', preset=0),
        "line 2 has 16,777,224 bytes, at most 16,777,216 are read of one",
    ),
    "many lines": (lambda line: lzma.compress(b"{}\n" * 2_000_000, preset=0), "it holds 2000000 lines"),
    "a key twice": (lambda line: lzma.compress(twice(line).encode()), "the key 'status' stands twice"),
    "a key twice, deep inside": (
        lambda line: lzma.compress(line.replace('"raw":', '"raw":0.5,"raw":', 1).encode()),
        "the key 'raw' stands twice",
    ),
    "deep JSON": (
        lambda line: lzma.compress((line[:-1] + ',"claims":' + "[" * 10**6 + "]" * 10**6 + "}").encode()),
        "its JSON is nested too deeply",
    ),
}


def zeros(n: int) -> bytes:
    """A packed line of so many zeros."""
    packer, step = lzma.LZMACompressor(preset=0), bytes(2**24)
    return b"".join(packer.compress(step) for _ in range(n // len(step))) + packer.flush()


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_would_take_memory_or_be_read_in_two_ways_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    make, says = HOSTILE[kind]
    refused_everywhere(tmp_path, make, says)


@pytest.mark.slow
def test_a_line_of_two_gibibytes_is_refused_by_name(tmp_path: Path) -> None:
    refused_everywhere(tmp_path, lambda line: zeros(2**31), "it unpacks to more than 128 MiB")


def refused_everywhere(tmp_path: Path, make: Callable[[str], bytes], says: str) -> None:
    """Whatever reads packs refuses one that is made of a record's line, and stays within half a GiB."""
    (path,) = pack(RESULTS[:1], tmp_path)
    path.write_bytes(make(*lines(path)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = " ".join(bench("results", "validate", tmp_path, code=4).split())
    assert says in said and "gold.jsonl.xz" in said, said
    with pytest.raises(ValidationFailed, match=f"gold.jsonl.xz cannot be read: {says}"):
        pack(RESULTS[:1], tmp_path)
    (problem,) = load([tmp_path]).problems
    assert says in problem.reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**19  # kB: half a GiB


def test_findings_of_a_pack_are_of_its_records_and_of_every_one(tmp_path: Path) -> None:
    """A new id makes an edited identity right again, and leaves the findings that were scored without a record."""
    for seed in (0, 1):
        write_cell(tmp_path / "runs", make_cell(method="pca", seed=seed))
    bench("results", "pack", tmp_path / "runs", "--out", tmp_path / "packs")
    (path,) = (tmp_path / "packs").rglob(f"*{PACKED}")
    rows = [json.loads(line) for line in lines(path)]
    before = rows[0]["id"]
    rows[0]["identity"]["config"] = {"k": 1}
    new_id(rows[0])
    path.write_bytes(lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    short, said = path.name.removesuffix(PACKED), bench("results", "validate", tmp_path / "packs", code=4)
    assert f"{short}{PACKED_FINDINGS} holds no findings of {rows[0]['id'][:12]}, which counts 2" in said
    assert f"holds findings of {before[:12]}, which is no record of {path.name}" in said and said.count(": valid") == 1
    assert len(load([tmp_path / "packs"]).cells) == 1 and len(load([tmp_path / "packs"]).problems) == 2
    lines_left = lzma.decompress(findings_path(path).read_bytes()).splitlines(keepends=True)
    kept = [line for line in lines_left if before not in line.decode()]
    findings_path(path).write_bytes(lzma.compress(b"".join(kept)))  # and now no finding is without a record
    said = bench("verify", tmp_path / "packs", code=4)
    assert f"refused: {short}{PACKED_FINDINGS} holds no findings of" in " ".join(said.split())
    findings_path(path).unlink()
    assert bench("results", "validate", tmp_path / "packs").count(": valid") == 2, "a pack without any is believed"


def test_a_pack_takes_findings_of_all_its_records_or_of_none(tmp_path: Path) -> None:
    one, other = (make_cell(method="pca", seed=s) for s in (0, 1))
    write_cell(tmp_path / "runs", one)
    bench("results", "pack", tmp_path / "runs", "--out", tmp_path / "packs")
    with pytest.raises(ValidationFailed, match="there are no findings of"):
        pack([other], tmp_path / "packs")
    assert len(load([tmp_path / "packs"]).cells) == 1


@pytest.mark.parametrize("bound", ["MOST_RECORDS", "MOST_UNPACKED", "MOST_PACKED", "MOST_RECORD"])
def test_nothing_is_packed_that_could_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(packs, bound, 1)
    with pytest.raises(ValidationFailed, match="are read at most: pack fewer records"):
        pack(RESULTS, tmp_path)
    assert not list(tmp_path.rglob("*.xz"))


def test_a_damaged_record_is_one_problem_and_the_others_stay(tmp_path: Path) -> None:
    (path,) = pack(RESULTS[:2], tmp_path)
    first, second = lines(path)
    path.write_bytes(lzma.compress(f"{first}\n{second.replace('delta', 'dalte')}\n".encode()))
    found = list(records(tmp_path))
    assert [bool(r.problems) for r in found] == [False, True] and found[0].result == RESULTS[0]


def test_nothing_to_pack_says_so(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="no record"):
        pack([], tmp_path)
    write_result(tmp_path / "runs", RESULTS[0])
    for path in (tmp_path / "runs").rglob("result.json"):
        path.write_text("{}")
    assert "not valid; nothing was written" in bench(
        "results", "pack", tmp_path / "runs", "--out", tmp_path / "p", code=4
    )
