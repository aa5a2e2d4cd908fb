"""Of a private set nothing is published but means: no name, no prompt, no truth, on the board, on the terminal or in an error."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.records.result import Result
from diffbench.harness.runs.packs import pack
from diffbench.leaderboard.board.build import Ask, build, tabulate
from diffbench.leaderboard.board.private import FEWEST, PrivateScore, write_private
from diffbench.leaderboard.submissions import private
from diffbench.methods.catalogue import PUBLISHED
from diffbench.organisms import registry
from diffbench.organisms.errors import PrerequisiteError, ValidationFailed
from diffbench.organisms.registry import SHIPPED
from typer.testing import CliRunner

from ...conftest import SHORT
from .bundles import METHOD, make_cell, write_cell

SECRET = [f"{family}/zyx{n}-narrow" for n, family in enumerate(("taboo", "subliminal", "planted", "backdoor"))]
"""Names of private organisms."""
FIELDS = {
    *(
        "format",
        "method",
        "method_version",
        "config",
        "budget",
        "dtype",
        "layers",
        "protocol_sha256",
        "isolation",
        "isolation_constant",
    ),
    *("organisms", "seeds", "failed", "set_sha256", "by", "at_utc", "diffbench", "commit"),
}
"""All that may be said."""


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A board on which the method has a public row."""
    rows = [
        make_cell(method=m, organism=o)
        for m in (METHOD, "pca", "oracle", "random")
        for o in ("a/x-narrow", "b/x-narrow")
    ]
    pack(rows, tmp_path / "board")
    return tmp_path / "board"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Result]:
    """What the method's code scores on the private organisms, without a model; a caller may change it."""
    results = [make_cell(o, method=m, quality=0.6) for o in SECRET for m in (METHOD, private.LABELLED)]
    (tmp_path / "zoo").mkdir()

    def planned(entry: Any, zoo: Path, out: Path, seeds: Sequence[int]) -> tuple[Any, list[Any]]:
        cell = SimpleNamespace(
            method=SimpleNamespace(name=METHOD),
            organism=SimpleNamespace(layer=2),
            identity=lambda layer: make_cell(METHOD_AT).identity,
        )
        return SimpleNamespace(cells=[cell], out=out), [
            SimpleNamespace(name=o, sha256=f"{n}" * 64) for n, o in enumerate(SECRET)
        ]

    def run(plan: Any, tell: Any) -> list[Result]:
        for r in results:
            write_cell(plan.out, r)
            tell(f"{r.status}")
        return results

    monkeypatch.setattr(private, "_planned", planned)
    monkeypatch.setattr(private, "_run", run)
    monkeypatch.setattr(private, "_loaded", lambda method: None)
    return results


METHOD_AT = "a/x-narrow"
EMPTY: dict[str, Any] = {"scores": None, "samples": None, "behaviour": None, "choices": [], "findings_sha256": None}
"""Of a cell without scores."""


def bench(*args: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(map(str, args)))
    assert done.exit_code == code and "Traceback" not in done.output, done.output
    assert not re.search("zyx", done.output), "a private name was printed"
    return " ".join(done.output.split())


def asked(tmp_path: Path, code: int = 0) -> str:
    folders = ("--zoo", tmp_path / "zoo", "--out", tmp_path / "private-runs", "--board", tmp_path / "board")
    return bench("leaderboard", "private", "theirs.py", *folders, "--by", "A Maintainer", code=code)


def test_the_board_shows_the_mean_beside_the_public_one_and_nothing_else(
    board: Path, ran: list[Result], tmp_path: Path
) -> None:
    said = asked(tmp_path)
    note = json.loads((board / "private" / f"{METHOD}.json").read_text())
    assert set(note) == FIELDS and (note["organisms"], note["seeds"], note["failed"]) == (4, 1, 0)
    assert set(note["isolation"]) == {"value", "low", "high"} and f"set {note['set_sha256'][:12]}" in said
    built = build(board, tmp_path / "out", ask=Ask(draws=50))
    rows = {r.method: r for r in built.table.overall}
    assert rows[METHOD].private == pytest.approx(tuple(note["isolation"].values())) and rows["pca"].private is None
    assert rows[METHOD].place == {r.method: r for r in tabulate(board, Ask(draws=50)).overall}[METHOD].place
    for path in built.paths:
        text = path.read_text()
        assert "zyx" not in text, path
        if path.name in ("leaderboard.md", "leaderboard.html", "leaderboard-private.tex"):
            assert "Isolation, private" in text, path
    assert "isolation_private,isolation_private_low" in (tmp_path / "out" / "leaderboard.csv").read_text()
    assert "only a maintainer has" in (tmp_path / "out" / "leaderboard.md").read_text()
    shutil.rmtree(board / "private")
    plain = build(board, tmp_path / "plain", ask=Ask(draws=50))
    assert not any("rivate" in p.read_text() for p in plain.paths)


def test_a_method_with_its_papers_settings_has_a_score_and_a_file_of_its_own(tmp_path: Path) -> None:
    row, config = "logit_diff@published", dict(PUBLISHED["logit_diff"])
    results = [make_cell(o, method="logit_diff", quality=0.6, config=config) for o in SECRET]
    results += [make_cell(o, method=private.LABELLED, quality=0.6) for o in SECRET]
    organisms: Any = [SimpleNamespace(name=o, sha256=f"{n}" * 64) for n, o in enumerate(SECRET)]
    score = private._summary(row, organisms, results, tmp_path, "A Maintainer")
    assert (score.method, score.row, score.isolation.value) == ("logit_diff", row, pytest.approx(0.6, abs=0.05))
    assert write_private(score, tmp_path).name == f"{row}.json"


def test_a_cell_that_failed_counts_and_is_told_as_a_number(board: Path, ran: list[Result], tmp_path: Path) -> None:
    asked(tmp_path)
    before = json.loads((board / "private" / f"{METHOD}.json").read_text())
    shutil.rmtree(tmp_path / "private-runs")
    ran[0] = make_cell(SECRET[0], method=METHOD).model_copy(update=EMPTY | {"status": "failed"})
    asked(tmp_path)
    after = json.loads((board / "private" / f"{METHOD}.json").read_text())
    assert after["failed"] == 1 and after["isolation"]["value"] < before["isolation"]["value"]


def test_too_few_organisms_and_other_code_than_the_row_has_are_refused(
    board: Path, ran: list[Result], tmp_path: Path
) -> None:
    ran[-1] = make_cell(SECRET[-1], method=private.LABELLED, quality=0.0)
    assert f"3 of 4 organisms count in the mean, and fewer than {FEWEST} say too much" in asked(tmp_path, code=4)
    pack([make_cell(method="lone")], tmp_path / "other")
    identity = make_cell(METHOD_AT, method_version="file 2").identity
    for other in (identity, make_cell(METHOD_AT, dtype="bfloat16").identity, make_cell(METHOD_AT, budget={}).identity):
        with pytest.raises(ValidationFailed, match="are not those of its records"):
            private._check_row(other, board)
    with pytest.raises(PrerequisiteError, match="has no record of theirs"):
        private._check_row(identity, tmp_path / "other")
    assert not (board / "private").exists()


def test_what_stops_a_run_is_written_among_the_runs_and_not_printed(
    board: Path, ran: list[Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any) -> None:
        raise ValidationFailed(f"{SECRET[1]} is damaged")

    class Unforeseen(Exception):
        pass

    def planned(*args: Any) -> Any:
        cell = SimpleNamespace(organism=SimpleNamespace(layer=2), identity=lambda layer: stop_at(Unforeseen))
        return SimpleNamespace(cells=[cell]), []

    def stop_at(kind: type[Exception]) -> None:
        raise kind(f"{SECRET[1]} is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(private, "_planned", planned)
        assert "the private run stopped (Unforeseen)" in asked(tmp_path, code=3)
    monkeypatch.setattr(private, "_run", stop)
    said = asked(tmp_path, code=3)
    assert "the private run stopped (ValidationFailed)" in said and "private.log says why" in said
    assert SECRET[1] in (tmp_path / "private-runs" / "private.log").read_text()
    monkeypatch.setattr(private, "_run", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt(f"on {SECRET[0]}")))
    assert "interrupted: finished cells are kept" in asked(tmp_path, code=130)


def test_a_folder_that_the_next_commit_may_take_along_is_refused(
    board: Path, ran: list[Result], tmp_path: Path
) -> None:
    (tmp_path / ".git").mkdir()
    assert "not ignored, so the next commit may publish it" in asked(tmp_path, code=2)


OTHER = "is of other code, options, budget, precision or layers than the records of theirs"
EDITS: dict[str, tuple[dict[str, Any], str]] = {
    "an organism's name": ({"names": SECRET}, "names: Extra inputs are not permitted"),
    "few organisms": ({"organisms": 3}, "organisms: Input should be greater than or equal to 4"),
    "no number": ({"isolation": {"value": "x", "low": None, "high": None}}, "isolation.value"),
    "another protocol": ({"protocol_sha256": "1" * 64}, "is of another protocol than the table"),
    "other code": ({"method_version": "2"}, OTHER),
    "other options": ({"config": {"k": 9}}, OTHER),
    "another budget": ({"budget": {"tokens": 1.0}}, OTHER),
    "another precision": ({"dtype": "bfloat16"}, OTHER),
    "a layer more": ({"layers": [2, 3]}, OTHER),
    "another method": ({"method": "pca"}, "is a score of pca; restore its name"),
}


def test_an_edited_private_score_is_left_out_by_name(board: Path, ran: list[Result], tmp_path: Path) -> None:
    asked(tmp_path)
    path = board / "private" / f"{METHOD}.json"
    whole = json.loads(path.read_text())
    for kind, (edit, says) in EDITS.items():
        path.write_text(json.dumps(whole | edit))
        table = tabulate(board, Ask(draws=50))
        (problem,) = table.problems
        assert says in problem.reason and problem.path.endswith("private/theirs.json") and not table.private, kind


def test_a_table_of_some_records_leaves_nothing_out_for_want_of_the_others(
    board: Path, ran: list[Result], tmp_path: Path
) -> None:
    pack([make_cell("b/x-narrow", method="pca", layer=3)], board)
    asked(tmp_path)
    table = tabulate(board, Ask(draws=50, layer=3))
    assert [r.method for r in table.overall] == ["pca"] and not table.problems and not table.private
    assert tabulate(board, Ask(["a/x-narrow"], draws=50, layer=2)).private


def test_the_mean_is_over_the_seeds_that_it_states(board: Path, ran: list[Result], tmp_path: Path) -> None:
    asked(tmp_path)
    note = board / "private" / f"{METHOD}.json"
    before = json.loads(note.read_text())
    for o in SECRET:  # an older run of another seed
        write_cell(tmp_path / "private-runs", make_cell(o, 7, method=METHOD, quality=0.0))
    asked(tmp_path)
    after = json.loads(note.read_text())
    assert after["seeds"] == 1 and after["isolation"] == before["isolation"]


def test_a_cell_to_which_the_method_does_not_apply_did_not_fail(board: Path, ran: list[Result], tmp_path: Path) -> None:
    ran.append(make_cell("taboo/zyx9-narrow", method=METHOD).model_copy(update=EMPTY | {"status": "not_applicable"}))
    asked(tmp_path)
    note = json.loads((board / "private" / f"{METHOD}.json").read_text())
    assert (note["failed"], note["organisms"]) == (0, 4)


def test_of_two_sets_the_newer_one_is_shown(board: Path, ran: list[Result], tmp_path: Path) -> None:
    asked(tmp_path)
    score = PrivateScore.model_validate_json((board / "private" / f"{METHOD}.json").read_text())
    pca = make_cell(METHOD_AT, method="pca").identity
    other = score.model_copy(
        update={
            "method": "pca",
            "method_version": pca.method_version,
            "set_sha256": "9" * 64,
            "at_utc": "2000-01-01T00:00:00",
        }
    )
    (board / "private" / "pca.json").write_text(other.model_dump_json())
    table = tabulate(board, Ask(draws=50))
    assert [r.method for r in table.overall if r.private] == [METHOD]
    assert [(a.cell, a.reason) for a in table.set_aside] == [
        ("pca", "of another private set than theirs's, which is newer")
    ]


@pytest.mark.slow
def test_a_methods_code_is_run_on_a_zoo_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real cells on a short protocol, on organisms that are private here because nothing is shipped."""
    monkeypatch.chdir(tmp_path)
    zoo, names = tmp_path / "zoo", ("taboo/gold-narrow", "subliminal/fox-narrow")
    for name in ("bases", *names):
        shutil.copytree(SHIPPED / name, zoo / name)
    for where in ("runs.cell", "runs.verify"):
        monkeypatch.setattr(f"diffbench.harness.{where}.PROTOCOL_V2", SHORT)
    bench("run", "-m", "pca", "-o", ",".join(names), "-q")
    bench("results", "pack", "runs", "--out", "board")
    folders = ("--zoo", zoo, "--out", "private", "--board", "board", "--by", "A")
    assert "2 organisms of" in bench("leaderboard", "private", "pca", *folders, code=2), "they are published"
    monkeypatch.setattr(registry, "SHIPPED", tmp_path / "none")
    said = bench("leaderboard", "private", "pca", *folders, code=4)
    assert not re.search("gold|fox|taboo|subliminal", said) and "4 of 4: ok" in said
    assert re.search(r"\d of 2 organisms count in the mean", said) and not Path("board/private").exists()
