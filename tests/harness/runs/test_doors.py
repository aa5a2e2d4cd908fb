"""What a forged record, pack or file gets to do: nothing but say something, and only what its own numbers bear out."""

import json
import lzma
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.escape import csv_field
from diffbench.harness.protocol.consistency import fault
from diffbench.harness.protocol.intervals import summarise
from diffbench.harness.records.identity import PROTOCOL_SHA256, PROTOCOL_VERSION, Identity, sha256_json
from diffbench.harness.records.result import DRAWS, Result
from diffbench.harness.records.settings import PROTOCOL_V2
from diffbench.harness.runs.packs import lines, pack
from diffbench.harness.runs.records import MOST_DAMAGED, records, zoo_name
from diffbench.leaderboard.board.build import build
from diffbench.organisms.errors import UsageError, ValidationFailed
from diffbench.organisms.hub.files import FileError, load_yaml, read_bytes
from pydantic import ValidationError
from typer.testing import CliRunner

from ...factories import make_result, write_result

COMMANDS = (["verify"], ["mitigate"], ["results", "specificity"])


def forged(tmp_path: Path, **source: str) -> Path:
    """A run folder of the zoo's fox whose provenance says something else."""
    result = make_result("mean_diff", "subliminal/fox-narrow")
    result.provenance.source.update(source)
    return write_result(tmp_path / "runs", result).parent


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[-1])
@pytest.mark.parametrize("field", ["organism", "base", "adapter", "behaviour"])
def test_a_record_names_nothing_that_is_imported_or_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], field: str
) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("a connection was opened"))
    folder = forged(tmp_path, **{field: str(evil) if field == "organism" else "evil/repo"})
    done = CliRunner().invoke(app, [*command, str(folder if command[0] != "results" else tmp_path / "runs")])
    assert done.exit_code in (2, 3, 4), done.output
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["my.py", "my.yaml", "taboo/gold-narrow", "../zoo/x"])
def test_the_organism_of_a_record_is_the_one_it_is_about_or_none(name: str) -> None:
    result = make_result("mean_diff", "subliminal/fox-narrow")
    result.provenance.source["organism"] = name
    with pytest.raises(UsageError, match="a record never decides what is loaded"):
        zoo_name(result)
    result.provenance.source["organism"] = "subliminal/fox-narrow"
    assert zoo_name(result) == "subliminal/fox-narrow"


@pytest.mark.parametrize("name", ["evil.py", "evil.py/x", "sub/evil.py", "card.yaml", "taboo", "bases/tiny-gemma2"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[-1])
def test_a_name_that_is_a_file_here_is_no_organism_of_the_zoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], name: str
) -> None:
    """The pattern of names allows `evil.py`, and source and identity may agree on it: only what the zoo lists is loaded."""
    monkeypatch.chdir(tmp_path)
    for file in (tmp_path / "evil.py", tmp_path / "sub" / "evil.py", tmp_path / "card.yaml"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    result = make_result("mean_diff", name)
    result.provenance.source = {"organism": name}
    folder = write_result(tmp_path / "runs", result).parent
    with pytest.raises(UsageError, match="a record never decides what is loaded"):
        zoo_name(result)
    done = CliRunner().invoke(app, [*command, str(folder if command[0] != "results" else tmp_path / "runs")])
    assert done.exit_code in (2, 3, 4), done.output
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "command", [["verify"], ["mitigate"], ["results", "show"], ["results", "specificity"]], ids=lambda c: c[-1]
)
def test_the_method_of_a_record_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    result = make_result("evil.py", "subliminal/fox-narrow")
    result.provenance.source = {"organism": "subliminal/fox-narrow"}
    result.provenance.method_origin = "file evil.py"
    folder = write_result(tmp_path / "runs", result).parent
    CliRunner().invoke(app, [*command, str(folder if command[-1] != "specificity" else tmp_path / "runs")])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["../../../x", "/etc/x", "a/../b", "a/b/c", "", ".hidden", "a b", "<b>", "a\u202eb", "x" * 300, "a/"]
)
@pytest.mark.parametrize("field", ["organism", "method"])
def test_names_of_records_are_no_paths_and_no_markup(tmp_path: Path, name: str, field: str) -> None:
    good = json.loads(make_result().model_dump_json())
    good["identity"][field] = name
    good["id"] = sha256_json({k: v for k, v in good["identity"].items() if v is not None})
    with pytest.raises(ValidationError, match=field):
        Result.model_validate(good)
    path = tmp_path / "r" / "result.json"
    path.parent.mkdir()
    path.write_text(json.dumps(good))
    done = CliRunner().invoke(app, ["results", "pack", str(tmp_path / "r"), "--out", str(tmp_path / "out" / "deep")])
    assert done.exit_code != 0 and not list(tmp_path.rglob("*.xz"))


RANGES = [
    ("samples", "gap", 1.5),
    ("samples", "b0", -0.1),
    ("samples", "b1", 1.01),
    ("samples", "mitigation_controls", 2.0),
    ("behaviour", "b1_test", 1.2),
    ("cost", "wall_s", -1.0),
    ("identity", "layer", -1),
]


@pytest.mark.parametrize(("part", "field", "value"), RANGES)
def test_values_outside_their_range_are_refused(part: str, field: str, value: float) -> None:
    data = json.loads(make_result().model_dump_json())
    known = data[part][field]
    data[part][field] = [value, *known[1:]] if isinstance(known, list) else value
    with pytest.raises(ValidationError, match=rf"{field}|id is not the hash"):
        Result.model_validate(data)


@pytest.mark.parametrize("field", ["n", "raw", "p_random", "value"])
def test_edited_numbers_of_a_score_do_not_follow_from_its_samples(field: str) -> None:
    result = make_result()
    assert result.scores is not None and fault(result) is None
    score = result.scores.sufficiency
    setattr(score, field, (getattr(score, field) or 0) + 1 if field == "n" else 0.123)
    assert "was edited" in str(fault(result))


def test_an_edited_interval_is_drawn_again_under_the_published_protocol(tmp_path: Path) -> None:
    assert sha256_json(PROTOCOL_V2.model_dump()) == PROTOCOL_SHA256
    result = make_result(protocol=PROTOCOL_VERSION, protocol_sha256=PROTOCOL_SHA256)
    assert result.samples is not None
    result.scores = summarise(result.samples, DRAWS, 0)
    assert fault(result) is None
    assert result.scores.isolation.ci_low is not None
    result.scores.isolation.ci_low += 1e-3
    assert "isolation.ci_low is recorded as" in str(fault(result))
    write_result(tmp_path, result)
    (record,) = records(tmp_path)
    assert record.problems


def test_a_partial_result_stands_in_no_table_and_is_not_packed(tmp_path: Path) -> None:
    partial = make_result(limit=5)
    assert partial.id != make_result().id
    with pytest.raises(ValidationFailed, match="partial result"):
        pack([partial], tmp_path)
    write_result(tmp_path / "runs", partial)
    write_result(tmp_path / "runs", make_result("l1"))
    built = build(tmp_path / "runs", tmp_path / "out", ["md"])
    assert any("partial result" in p.reason for p in built.problems)


def test_a_field_that_says_nothing_is_no_part_of_the_id() -> None:
    identity = make_result().identity
    silent = ("limit", "sinks", "in_process", "controls_sha256")
    assert all(getattr(identity, name) is None for name in silent)
    older = {k: v for k, v in identity.model_dump().items() if k not in silent}
    assert Identity.model_validate(older).id() == identity.id() == sha256_json(older)


def test_a_small_pack_that_unpacks_to_a_flood_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.xz"
    path.write_bytes(lzma.compress(b" " * 2**28, preset=1))
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match="unpacks to more than 128 MiB"):
        list(lines(path))
    path.write_bytes(lzma.compress(b"{}\n" * 20_000))
    with pytest.raises(ValueError, match="20000 lines"):
        list(lines(path))
    path.write_bytes(lzma.compress(b"{}\n")[:-5])
    with pytest.raises(ValueError, match="not a whole xz file"):
        list(lines(path))
    (record,) = records(tmp_path)
    assert record.problems


def test_a_pack_is_not_written_through_a_link_to_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "taboo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValidationFailed, match="would lie outside"):
        pack([make_result()], tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_pack_of_damaged_records_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(b"{}\n" * 5000))
    found = list(records(tmp_path))
    assert len(found) == MOST_DAMAGED + 2 and "not read" in found[-1].problems[0]


def test_a_pack_that_asks_for_gigabytes_to_be_unpacked_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**29}]
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(b"{}\n", filters=filters))
    with pytest.raises(ValueError, match="not a whole xz file"):
        list(lines(tmp_path / "a.jsonl.xz"))


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "folder", "deep", "wide", "latin"])
def test_a_record_that_is_no_record_is_named_by_every_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("diffbench.harness.records.loading.MOST_RECORD", 2**20)
    path = tmp_path / "r" / "result.json"
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    else:
        texts = {"deep": b"[" * 10**5, "wide": b" " * 2**21, "latin": b'{"id": "\xe9"}'}
        path.write_bytes(texts[kind])
    for command in (["results", "validate"], ["results", "show"], ["verify"], ["mitigate"], ["leaderboard", "build"]):
        done = CliRunner().invoke(app, [*command, str(path.parent)])
        assert done.exit_code in (3, 4) and "error:" in done.stderr, (command, done.output, done.exception)
    listed = CliRunner().invoke(app, ["results", "list", str(path.parent)])
    assert listed.exit_code == 0 and ("left out" in listed.stderr or kind == "loop")


def test_every_part_of_a_record_may_be_missing_or_another(tmp_path: Path) -> None:
    """A sample of edits at every depth, the id made to fit: each is refused with a reason, or shown by all readers."""
    base = json.loads(make_result().model_dump_json())
    rng = random.Random(0)
    edits = [
        (place, value) for place in _places(base) for value in (None, [], {}, "", -1, 1e308, 10**30, ACTING, _GONE)
    ]
    for place, value in rng.sample(edits, 60):
        path = tmp_path / "runs" / "result.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(_edited(base, place, value)))
        (found,) = records(tmp_path / "runs")
        if found.problems:
            continue
        for command in (["results", "list"], ["results", "show"], ["leaderboard", "show"]):
            done = CliRunner().invoke(app, [*command, str(tmp_path / "runs")])
            assert done.exit_code == 0, (place, value, command, done.exception)
            assert "\x1b" not in done.output and "\u202e" not in done.output


_GONE = object()


def _places(tree: Any, lead: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a record something stands: every field, and the first of every list."""
    parts = tree.items() if isinstance(tree, dict) else list(enumerate(tree))[:1] if isinstance(tree, list) else ()
    for key, value in parts:
        yield (*lead, key)
        yield from _places(value, (*lead, key))


def _edited(record: dict[str, Any], place: tuple[Any, ...], value: object) -> dict[str, Any]:
    copy = json.loads(json.dumps(record))
    at = copy
    for key in place[:-1]:
        at = at[key]
    if value is _GONE:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    if isinstance(copy.get("identity"), dict):
        copy["id"] = sha256_json({k: v for k, v in copy["identity"].items() if v is not None})
    return copy


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="not a regular file"):
        read_bytes(tmp_path / "pipe")
    with pytest.raises(FileError, match="not a regular file"):
        read_bytes(Path("/dev/zero"))
    (tmp_path / "large").write_bytes(b"x" * 100)
    with pytest.raises(FileError, match="more than"):
        read_bytes(tmp_path / "large", 99)
    os.mkfifo(tmp_path / "result.json")
    (record,) = records(tmp_path)
    assert "not a regular file" in record.problems[0]


BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "references"),
        ("[" * 5000, "nested too deeply"),
        ("a: [", "is not YAML"),
        ("a: 1\na: 2", "'a' stands twice"),
    ],
)
def test_yaml_that_would_take_the_memory_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(FileError, match=told):
        load_yaml(text, "it")
    (tmp_path / "run.yaml").write_text(text)
    done = CliRunner().invoke(app, ["run", "--config", str(tmp_path / "run.yaml")])
    assert done.exit_code == 2 and told in done.stderr


def test_a_date_in_yaml_is_the_text_it_looks_like() -> None:
    assert load_yaml("a: 2024-01-02", "it") == {"a": "2024-01-02"}


ACTING = "\x1b]0;owned\x07 \u202egnp.exe [/b] [b]bold"


def test_words_of_a_record_do_not_act_on_a_terminal_or_a_page(tmp_path: Path) -> None:
    result = make_result(status="failed", reason=ACTING)
    read = Result.model_validate_json(result.model_dump_json())
    assert read.reason is not None and "\x1b" not in read.reason and "\u202e" not in read.reason
    assert "[/b] [b]bold" in read.reason
    write_result(tmp_path / "runs", result)
    write_result(tmp_path / "runs", make_result("l1"))
    for command in (["results", "list"], ["results", "show"], ["leaderboard", "show"]):
        where = (
            tmp_path / "runs"
            if command[1] != "show" or command[0] != "results"
            else next((tmp_path / "runs").rglob("result.json")).parent
        )
        shown = CliRunner().invoke(app, [*command, str(where)]).output
        assert "\x1b" not in shown and "\u202e" not in shown, command
    built = build(tmp_path / "runs", tmp_path / "out", ["md", "tex", "csv", "html"])
    for path in built.paths:
        assert "\x1b" not in path.read_text() and "\u202e" not in path.read_text()


@pytest.mark.parametrize("value", ["=cmd()", "+1", "-1", "@x", "\tx"])
def test_a_csv_field_is_no_formula(value: str) -> None:
    assert csv_field(value) == f"'{value}"


@pytest.mark.parametrize("value", [-1.5, 0, None, "delta"])
def test_numbers_and_names_stay_what_they_are_in_csv(value: Any) -> None:
    assert csv_field(value) is value
