"""A record is the same in a run folder and in a pack: found by the same names, moved with its findings byte for byte."""

import base64
import json
import lzma
from pathlib import Path

import pytest
import torch
from diffbench.cli import app
from diffbench.harness.records.result import Result
from diffbench.harness.runs.folder import FINDINGS, write_run
from diffbench.harness.runs.packs import PACKED_FINDINGS
from diffbench.methods.contract import DiffResult, Finding
from typer.testing import CliRunner

from ...factories import make_result


def bench(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, args)))
    assert result.exit_code == code, result.output
    return result.output


def write(runs: Path, result: Result) -> Path:
    """A whole run folder with as many findings as the record counts, and no plots."""
    result = result.model_copy(deep=True, update={"curves": []})
    folder = runs / result.identity.organism / result.identity.method / result.id[:12]
    n = len(result.diagnostics.get("findings", []))
    write_run(folder, result, DiffResult([Finding(torch.randn(4)) for _ in range(n)]), "log")
    return folder


CELLS = [make_result(m, o, s) for m in ("delta", "sae_ft") for o in ("taboo/gold", "backdoor/x") for s in (0, 1)]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same records as run folders and as packs."""
    root = tmp_path_factory.mktemp("store")
    for cell in [*CELLS, make_result("pca", "taboo/gold", status="timeout")]:
        write(root / "runs", cell)
    bench("results", "pack", root / "runs", "--out", root / "packs")
    return root / "runs", root / "packs"


def listed(*args: object) -> set[str]:
    return {line["id"] for line in json.loads(bench("results", "list", *args, "--json"))}


@pytest.mark.parametrize(
    ("options", "many"),
    [
        ((), 9),
        (("-m", "sae_*"), 4),
        (("-m", "delta,pca", "-o", "taboo/*"), 3),
        (("--seed", "1"), 4),
        (("--status", "timeout"), 1),
        (("--tier", "small"), 0),
    ],
)
def test_filters_choose_alike_everywhere(places: tuple[Path, Path], options: tuple[str, ...], many: int) -> None:
    found = [listed(place, *options) for place in places]
    assert found[0] == found[1] == listed(*places, *options) and len(found[0]) == many


@pytest.mark.parametrize("command", ["list", "merge", "pack"])
@pytest.mark.parametrize(
    ("option", "name", "says"),
    [
        ("-m", "dleta", "no method 'dleta'; did you mean 'delta'? methods: delta, pca, sae_ft"),
        ("-o", "tabu/gold", "no organism 'tabu/gold'; did you mean 'taboo/gold'?"),
        ("-m", "delta,nope_*", "no method 'nope_*'"),
        ("-o", "core-v2", "no organism 'core-v2'"),
    ],
)
def test_a_name_that_no_record_has_is_refused(
    places: tuple[Path, Path], tmp_path: Path, command: str, option: str, name: str, says: str
) -> None:
    out = () if command == "list" else ("--out", tmp_path / "new")
    for place in places:
        assert says in bench("results", command, place, option, name, *out, code=2)
    assert not (tmp_path / "new").exists()


def test_filters_that_leave_nothing_are_told_from_folders_that_hold_nothing(
    places: tuple[Path, Path], tmp_path: Path
) -> None:
    for command in ("merge", "pack"):
        said = bench("results", command, places[0], "--status", "oom", "--out", tmp_path / "new", code=3)
        assert "and filters that take some" in said


def test_options_are_listed_where_nothing_else_tells_records_apart(tmp_path: Path) -> None:
    for gate, per_token in ((True, True), (True, False)):
        write(tmp_path, make_result("supervised", config={"gate": gate, "per_token": per_token, "k": 1}))
    write(tmp_path, make_result("pca", config={"k": 1}))
    said = "".join(bench("results", "list", tmp_path).split())
    assert "supervised[per_token=true]" in said and "supervised[per_token=false]" in said and "pca[" not in said


def test_a_record_is_found_by_where_it_lies_by_its_id_and_by_what_it_is(places: tuple[Path, Path]) -> None:
    cell = CELLS[1]
    for place in places:
        for name in (cell.id, cell.id[:8], "taboo/gold+delta+1"):
            assert json.loads(bench("results", "show", name, place, "--json"))["id"] == cell.id
    assert (
        json.loads(bench("results", "show", places[0] / "taboo/gold/delta" / cell.id[:12], "--json"))["id"] == cell.id
    )
    same = json.loads(bench("results", "diff", "taboo/gold+delta", "taboo/gold+delta+1", *places, "--json"))
    assert same["identity"] == {"seeds.method": [0, 1]}


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("ffffffffffff", 3, "no record in"),
        ("abc", 3, "at least 6 characters"),
        ("taboo/gold+dleta", 3, "did you mean taboo/gold+delta?"),
        ("taboo/gold+delta+x", 2, "is not ORGANISM+METHOD+SEED"),
        ("taboo/gold+delta+0+1", 2, "is not ORGANISM+METHOD+SEED"),
    ],
)
def test_a_name_that_means_nothing_is_explained(places: tuple[Path, Path], name: str, code: int, says: str) -> None:
    assert says in bench("results", "show", name, places[1], code=code)


def test_a_name_that_means_several_says_which(tmp_path: Path) -> None:
    for k in (1, 2):
        write(tmp_path, make_result(config={"k": k}))
    said = bench("results", "show", "taboo/gold-narrow+delta", tmp_path, code=2)
    assert "means 2 records" in said and make_result(config={"k": 1}).id[:12] in said


def test_findings_come_back_from_a_pack_byte_for_byte(places: tuple[Path, Path], tmp_path: Path) -> None:
    runs, packs = places
    folder = Path(bench("results", "fetch", "taboo/gold+delta+1", packs, "--out", tmp_path).strip())
    original = runs / "taboo/gold/delta" / CELLS[1].id[:12]
    assert (folder / FINDINGS).read_bytes() == (original / FINDINGS).read_bytes()
    assert "valid" in bench("results", "validate", folder)
    again = bench("results", "fetch", "taboo/gold+delta+1", packs, "--out", tmp_path)
    assert again.strip() == str(folder), "what is there is kept"


def test_runs_packed_and_merged_are_the_same_folders(places: tuple[Path, Path], tmp_path: Path) -> None:
    runs, packs = places
    assert "9 records" in bench("results", "merge", packs, runs, "--out", tmp_path / "whole")
    assert "5 records" in bench("results", "merge", packs, "--out", tmp_path / "some", "-o", "taboo/*")
    files = sorted(p.relative_to(runs) for p in runs.rglob(FINDINGS))
    assert files and all((tmp_path / "whole" / f).read_bytes() == (runs / f).read_bytes() for f in files)
    bench("results", "pack", tmp_path / "whole", "--out", tmp_path / "packs")
    for path in packs.rglob("*.xz"):
        assert (tmp_path / "packs" / path.relative_to(packs)).read_bytes() == path.read_bytes()


def test_two_outcomes_of_a_cell_are_not_merged_unasked(tmp_path: Path) -> None:
    write(tmp_path / "a", make_result(draw="x"))
    write(tmp_path / "b", make_result(draw="y"))
    said = bench("results", "merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c", code=4)
    assert "different numbers" in said and "--first-wins" in said and not (tmp_path / "c").exists()
    bench("results", "merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c", "--first-wins")
    assert listed(tmp_path / "c") == {make_result().id}
    assert "holds the cell" in bench("results", "merge", tmp_path / "b", "--out", tmp_path / "c", code=4)


def test_findings_of_another_cell_in_a_pack_are_refused(places: tuple[Path, Path], tmp_path: Path) -> None:
    _, packs = places
    for path in packs.rglob("*.xz"):
        (tmp_path / path.relative_to(packs)).parent.mkdir(exist_ok=True)
        (tmp_path / path.relative_to(packs)).write_bytes(path.read_bytes())
    other = packs / "backdoor" / f"x{PACKED_FINDINGS}"
    (tmp_path / "taboo" / f"gold{PACKED_FINDINGS}").write_bytes(other.read_bytes())
    said = bench("results", "validate", tmp_path, code=4)
    assert said.count("is no record of gold.jsonl.xz") == said.count("gold.findings.xz holds no findings of") == 4
    rows = [
        json.loads(line)
        for line in lzma.decompress((packs / "taboo" / f"gold{PACKED_FINDINGS}").read_bytes()).splitlines()
    ]
    rows[0]["findings"], rows[1]["findings"] = rows[1]["findings"], rows[0]["findings"]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "taboo" / f"gold{PACKED_FINDINGS}").write_bytes(lzma.compress(text.encode()))
    said = bench("results", "validate", tmp_path, code=4)
    assert "belongs to result" in said and said.count("belongs to result") == 2
    rows[0]["findings"] = base64.b64encode(b"\x80\x04").decode() + "!"
    (tmp_path / "taboo" / f"gold{PACKED_FINDINGS}").write_bytes(lzma.compress(json.dumps(rows[0]).encode()))
    assert "a line that is not findings" in bench("results", "validate", tmp_path, code=4)


def test_validate_says_a_line_a_record(places: tuple[Path, Path]) -> None:
    for place in places:
        lines = bench("results", "validate", place).splitlines()
        assert len(lines) == 9 and all(line.endswith(": valid") for line in lines)
