"""Of several records of one cell one counts, by a stated rule, and what loses is named; what nobody can choose is refused."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.records.identity import PROTOCOL_SHA256, sha256_json
from diffbench.harness.records.result import Result
from diffbench.leaderboard.board.account import BUDGET, command_of
from diffbench.leaderboard.board.build import Ask, build, tabulate
from diffbench.leaderboard.board.cell import Cell
from diffbench.leaderboard.board.keep import Keep
from diffbench.leaderboard.board.resolve import MixedResultsError
from diffbench.leaderboard.board.store import load
from diffbench.methods.contract import Budget
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import ValidationFailed
from diffbench.organisms.hub.files import load_yaml
from diffbench.organisms.registry import load_card
from typer.testing import CliRunner

from ...factories import make_null, make_result, write_result

OLD, NEW = "2025-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"


def made(when: str, *args: Any, **options: Any) -> Result:
    result = make_result(*args, **options)
    result.provenance.finished_utc = when
    return result


def test_of_one_cell_the_newer_source_counts_wherever_it_lies(tmp_path: Path) -> None:
    old, new = made(OLD, quality=0.2), made(NEW, quality=0.8, code_sha256="1" * 64)
    write_result(tmp_path / "published", old)
    write_result(tmp_path / "runs", new)
    places = [tmp_path / "published", tmp_path / "runs"]
    for order in (places, places[::-1]):
        loaded = load(order)
        assert [c.id for c in loaded.cells] == [new.id]
        (aside,) = loaded.set_aside
        assert old.id[:12] in aside.cell and new.id[:12] in aside.reason and aside.path.startswith(str(tmp_path))


def test_on_an_organism_all_records_of_older_weights_are_set_aside(tmp_path: Path) -> None:
    """Else two methods would be compared on two organisms of one name."""
    for cell in (made(OLD, "a"), made(OLD, "b"), made(NEW, "a", organism_sha256="1" * 64)):
        write_result(tmp_path, cell)
    table = tabulate(tmp_path, Ask(draws=50))
    assert [r.method for r in table.overall] == ["a"] and len(table.set_aside) == 2


def test_a_cell_that_failed_on_other_weights_displaces_nobody(tmp_path: Path) -> None:
    """Whatever date it gives itself."""
    for cell in (
        made(OLD, "a"),
        made(OLD, "b"),
        made(NEW, "c", status="failed", reason="no luck", organism_sha256="1" * 64),
    ):
        write_result(tmp_path, cell)
    table = tabulate(tmp_path, Ask(draws=50))
    assert {r.method for r in table.overall if r.standing == "ranked"} == {"a", "b"}
    (aside,) = table.set_aside
    assert "/c/" in aside.cell and "which did not fail" in aside.reason


def test_of_one_record_with_two_outcomes_the_place_named_first_counts(tmp_path: Path) -> None:
    write_result(tmp_path / "one", make_result(draw="x"))
    write_result(tmp_path / "two", make_result(draw="y"))
    loaded = load([tmp_path / "one", tmp_path / "two"])
    assert [c.result for c in loaded.cells] == [make_result(draw="x")]
    assert "named before it, has other numbers" in loaded.set_aside[0].reason


def test_another_protocol_is_refused_by_name(tmp_path: Path) -> None:
    write_result(tmp_path, make_result("a"))
    from diffbench.harness.protocol.intervals import summarise

    mine = make_result("b", protocol="v2", protocol_sha256=PROTOCOL_SHA256)
    assert mine.samples
    write_result(tmp_path, mine.model_copy(update={"scores": summarise(mine.samples, 10_000, 0)}))
    loaded = load([tmp_path])
    assert [c.identity.method for c in loaded.cells] == ["b"]
    assert (
        "identity.protocol is 'custom'" in loaded.problems[0].reason
        and "published settings" in loaded.problems[0].reason
    )


def test_a_layer_is_chosen_and_never_mixed(tmp_path: Path) -> None:
    for layer in (1, 2):
        write_result(tmp_path, make_result(layer=layer))
    with pytest.raises(MixedResultsError, match="--layer N"):
        tabulate(tmp_path)
    assert [c.identity.layer for row in tabulate(tmp_path, Ask(layer=1, draws=50)).cells for c in row.cells] == [1]


def test_a_name_that_another_kind_of_method_has_is_refused(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_result(tmp_path, make_result("mine", seed=seed))
    write_result(tmp_path, make_result("mine", organism="t/x", access="+weights"))
    table = tabulate(tmp_path, Ask(draws=50))
    assert [r.method for r in table.overall] == ["mine"]
    assert (
        "identity.method 'mine' is taken by a method with access activations; give this one another name"
        in table.problems[0].reason
    )


def plain(*args: Any, **fields: Any) -> Result:
    """A cell as a command without options makes it."""
    return make_result(*args, **({"config": {}, "budget": BUDGET} | fields))


def test_what_is_missing_is_printed_as_the_command_that_makes_it(tmp_path: Path) -> None:
    for name in ("delta", "l1"):
        write_result(tmp_path, plain(name, "taboo/a", 0))
        write_result(tmp_path, plain(name, "taboo/b", 0))
        write_result(tmp_path, plain(name, "taboo/a", 1))
    for k in (3, 9):
        write_result(tmp_path, plain("pca", "taboo/a", config={"k": k}))
    for name in ("oracle", "random"):
        write_result(tmp_path, make_result(name, "taboo/a", access="anchor" if name == "oracle" else None))
    write_result(tmp_path, make_null("random", "null/x", [0.5]))
    for name, origin in (
        ("ours", "file ./my methods/ours.py"),
        ("theirs", "package theirs 1.0"),
        ("away", "file PATH"),
    ):
        for organism, seed in (("taboo/a", 0), ("taboo/a", 1), ("taboo/b", 0)):
            made = plain(name, organism, seed)
            made.provenance.method_origin = origin
            write_result(tmp_path, made)
    missing = tabulate(tmp_path, Ask(draws=50)).missing
    said = {m.command: m.reason for m in missing}
    assert len(said) == len(missing) and not any("oracle" in c for c, why in said.items() if "anchor" in why), (
        "said once"
    )
    assert "bench run -m away,delta,l1,'./my methods/ours.py',theirs -o taboo/b --seed 1 --out runs" in said
    assert "bench run -m pca -o taboo/b --seed 0 --set pca.k=9 --out runs" in said
    assert "bench run -m supervised -o taboo/a,taboo/b --seed 0 --out runs" in said
    assert not any("null/x" in command for command, why in said.items() if "anchor" in why), "a null has no scale"


def test_a_command_says_everything_that_is_not_as_usual() -> None:
    """Also what all records of a table share, so that no label tells it."""
    assert vars(Budget()) == BUDGET
    usual, on = load_method("delta").configure({}).model_dump(mode="json"), "taboo/gold-narrow"
    layer = load_card(on).layer
    assert said(plain("delta", on, 1, config=usual, layer=layer)) == f"bench run -m delta -o {on} --seed 1 --out runs"
    other = plain(
        "delta",
        on,
        config=usual | {"steps": 7},
        layer=layer + 1,
        dtype="bfloat16",
        budget={"tokens": 5e4, "seconds": 9.0},
    )
    assert said(other) == (
        f"bench run -m delta -o {on} --seed 0 --set delta.steps=7 "
        f"--tokens 50000 --seconds 9 --layer {layer + 1} --dtype bfloat16 --out runs"
    )
    theirs = plain("theirs", on, layer=layer, config={"a": None, "b": "no", "c": "x y", "d": [1], "e": 1e-5})
    words = [
        w.removeprefix("theirs.").partition("=") for w in shlex.split(str(said(theirs))) if w.startswith("theirs.")
    ]
    assert {name: load_yaml(value, "") for name, _, value in words} == theirs.identity.config
    assert said(plain("delta", "made/up")) is None, "not in the zoo"


def said(result: Result) -> str | None:
    return command_of(Cell.of(result))


def test_strict_writes_nothing_where_something_is_missing_or_refused(tmp_path: Path) -> None:
    write_result(tmp_path / "runs", make_result())
    with pytest.raises(ValidationFailed, match="bench run -m oracle,random,supervised"):
        build(tmp_path / "runs", tmp_path / "out", ask=Ask(draws=50), strict=True)
    write_result(tmp_path / "runs", make_result("bad")).write_text("{")
    said = CliRunner().invoke(
        app, ["leaderboard", "build", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--strict"]
    )
    assert said.exit_code == 4 and "bad" in said.output and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("identity.limit", 8, "a partial result (8 prompts a split, --limit)"),
        ("scores.isolation.value", 0.999, "isolation is recorded as 0.999 but its samples give"),
        ("scores.isolation.ci_low", None, "isolation has a value without an interval"),
        ("identity.layer", 5, "id is not the hash of identity"),
        ("identity.seeds", {"scores": 0}, "identity.seeds: no seed of method"),
        ("identity.protocol", "v7", "protocol 'v7'"),
    ],
)
def test_a_bad_record_is_refused_by_file_field_and_cause(tmp_path: Path, field: str, value: object, says: str) -> None:
    good = make_result("good")
    path = write_result(tmp_path, make_result("bad"))
    write_result(tmp_path, good)
    record = json.loads(path.read_text())
    *above, last = field.split(".")
    at = record
    for name in above:
        at = at[name]
    at[last] = value
    if field in ("identity.limit", "identity.protocol"):
        kept = {k: v for k, v in record["identity"].items() if v is not None}
        record["id"] = sha256_json(kept)
    path.write_text(json.dumps(record))
    table = tabulate(tmp_path, Ask(draws=50))
    (problem,) = table.problems
    assert problem.path == path.relative_to(tmp_path).as_posix() and says in problem.reason
    assert [r.method for r in table.overall] == ["good"]
    path_of_good = write_result(tmp_path / "gone", good)
    path_of_good.unlink()
    for left in [p for p in tmp_path.rglob("result.json") if p != path]:
        left.unlink()
    said = CliRunner().invoke(app, ["leaderboard", "build", str(tmp_path), "--out", str(tmp_path / "out")])
    assert said.exit_code == 4 and says in " ".join(said.output.split())


def test_what_is_kept_gives_the_same_bytes_and_never_another_records(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for o in ("taboo/a", "backdoor/b"):
        for s in (0, 1):
            write_result(runs, make_result("a", o, s))
            write_result(runs, make_result("b", o, s, 0.2))

    def bytes_of(name: str, keep: Keep) -> list[bytes]:
        return [p.read_bytes() for p in build(runs, tmp_path / name, ask=Ask(draws=200, keep=keep)).paths]

    keep = Keep()
    keep.folder = tmp_path / "kept"
    first, second, without = (bytes_of(n, k) for n, k in (("1", keep), ("2", keep), ("3", Keep(on=False))))
    assert first == second == without and list(keep.folder.rglob("*.json"))
    path = next(runs.rglob("result.json"))
    record = json.loads(path.read_text())
    record["scores"]["isolation"]["value"] = 0.99
    path.write_text(json.dumps(record))
    assert "recorded as 0.99" in tabulate(runs, Ask(draws=200, keep=keep)).problems[0].reason
    for kept in keep.folder.rglob("*.json"):
        kept.write_text(kept.read_text()[:-7])
    path.write_text(json.dumps(record | {"scores": json.loads(make_copy(record))}))
    assert bytes_of("4", keep) == first, "entries that were cut off are no entries"


def make_copy(record: dict[str, Any]) -> str:
    """The scores as they were."""
    i = record["identity"]
    whole = make_result(i["method"], i["organism"], i["seeds"]["method"], 0.2 if i["method"] == "b" else 0.5)
    assert whole.scores
    return whole.scores.model_dump_json()


def test_a_table_is_the_same_from_one_place_and_from_several(tmp_path: Path) -> None:
    cells = [make_result(m, o, s) for m in ("a", "b") for o in ("t/x", "t/y") for s in (0, 1)]
    for i, cell in enumerate(cells):
        write_result(tmp_path / "one", cell)
        write_result(tmp_path / f"part{i % 3}", cell)
    one = build(tmp_path / "one", tmp_path / "out1", ["md", "html", "tex"], Ask(draws=50))
    parts = [tmp_path / f"part{i}" for i in (2, 0, 1)]
    several = build(parts, tmp_path / "out2", ["md", "html", "tex"], Ask(draws=50))
    assert [p.read_bytes() for p in one.paths] == [p.read_bytes() for p in several.paths]
