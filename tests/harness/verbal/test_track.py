"""Cells of the track: one that fails costs itself alone, what is finished is on disk, and no two settings are one method."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.claims import claimed
from diffbench.harness.records.result import Result
from diffbench.harness.verbal import track as module
from diffbench.harness.verbal.scoring import Failed, Track, read
from diffbench.harness.verbal.track import of_runs, together
from diffbench.methods.catalogue import PUBLISHED
from diffbench.methods.entry import MethodError
from diffbench.organisms.errors import PrerequisiteError, UsageError
from typer.testing import CliRunner

from ...factories import make_result

NAMES = ("taboo/gold-narrow", "null/base-identical")


class Loaded:
    """Stands for `Stage`; the pair of one organism may not load."""

    broken = ""

    @classmethod
    def load(cls, organism: Any) -> Any:
        if organism.name == cls.broken:
            raise PrerequisiteError("its weights are not there")
        return organism


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Methods claim gold, and fail with seed 1."""
    file = tmp_path / "words.json"

    def said(stage: Any, organism: Any, method: Any, seed: int, budget: Any) -> tuple[list[str], list[float]]:
        if seed == 1:
            raise MethodError("it fell over")
        if seed == 9:
            raise KeyboardInterrupt
        return ["gold"], []

    monkeypatch.setattr(module, "_said", said)
    monkeypatch.setattr(module, "Stage", Loaded)
    monkeypatch.setattr(Loaded, "broken", "")
    return file


def run(out: Path, *words: str, organisms: tuple[str, ...] = NAMES) -> Any:
    named = ["verbal", "run", "-o", ",".join(organisms), "-m", "token_topics", "--out", str(out)]
    return CliRunner().invoke(app, [*named, *words])


def test_a_cell_that_fails_is_kept_with_its_reason_and_the_others_go_on(out: Path) -> None:
    done = run(out, "--seed", "0,1,2")
    track = Track.model_validate_json(out.read_text())
    assert done.exit_code == 1 and [(c.organism, c.seed) for c in track.cells] == [
        (n, s) for n in NAMES for s in (0, 2)
    ]
    assert [(f.organism, f.seed, f.reason) for f in track.failed] == [(n, 1, "it fell over") for n in NAMES]
    assert "taboo/gold-narrow, token_topics, seed 1: failed: it fell over" in done.stdout
    again = CliRunner().invoke(app, ["verbal", "score", str(out), "--json"])
    found = json.loads(again.stdout)
    assert again.exit_code == 0 and found["standings"][0]["cells"] == 2 and len(found["failed"]) == 2


def test_a_pair_that_does_not_load_costs_its_own_cells(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loaded, "broken", NAMES[0])
    assert run(out).exit_code == 1
    track = Track.model_validate_json(out.read_text())
    assert [c.organism for c in track.cells] == [NAMES[1]] and track.failed[0].reason == "its weights are not there"


def test_an_organism_without_answers_is_left_out_by_name(out: Path) -> None:
    """A set holds families of many kinds, and `-o core-v2` asks for what can be asked."""
    unasked = "language/terse-narrow"
    done = run(out, organisms=(unasked, *NAMES))
    track = Track.model_validate_json(out.read_text())
    assert done.exit_code == 0 and [c.organism for c in track.cells] == [*NAMES] and track.left_out == [unasked]
    assert f"answers to choose from: {unasked}." in done.stdout
    assert json.loads(run(out, "--json", organisms=(unasked, *NAMES)).stdout)["left_out"] == [unasked]
    alone = run(out, "--overwrite", organisms=(unasked,))
    assert alone.exit_code == 2 and "no answers to choose from" in alone.stderr


def test_records_without_answers_are_left_out_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(monkeypatch, said(["gold"]), said(["x"], organism="language/terse-narrow"))
    track = of_runs([Path()])
    assert [c.organism for c in track.cells] == [NAMES[0]] and track.left_out == ["language/terse-narrow"]
    assert together([track, track]).left_out == ["language/terse-narrow"]


def test_what_was_finished_before_an_interruption_is_there(out: Path) -> None:
    stopped = run(out, "--seed", "0,9")
    assert stopped.exit_code == 130 and "cells that were finished are in" in stopped.stderr
    assert len(Track.model_validate_json(out.read_text()).cells) == 1


def test_the_same_command_goes_on_and_tries_again_what_failed(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(out, "--seed", "0,1,9")
    asked: list[tuple[str, int]] = []

    def said(stage: Any, organism: Any, method: Any, seed: int, budget: Any) -> tuple[list[str], list[float]]:
        asked.append((organism.name, seed))
        return ["moon"], []

    monkeypatch.setattr(module, "_said", said)
    assert run(out, "--seed", "0,1,9").exit_code == 0
    cells = Track.model_validate_json(out.read_text()).cells
    assert asked == [(n, s) for n in NAMES for s in (0, 1, 9) if (n, s) != (NAMES[0], 0)]
    assert [c.claims[0].text for c in cells] == ["gold", *["moon"] * 5]


def test_an_interruption_loses_no_cell_of_an_earlier_call(out: Path) -> None:
    """Cells that a second call has not come to yet stay in the file that it writes."""
    run(out, "--seed", "1,0")  # seed 1 fails on both
    kept = [(c.organism, c.seed) for c in Track.model_validate_json(out.read_text()).cells]
    assert run(out, "--seed", "1,0,9").exit_code == 130
    left = Track.model_validate_json(out.read_text())
    assert [(c.organism, c.seed) for c in left.cells] == kept == [(n, 0) for n in NAMES] and left.failed


def test_cells_of_another_question_are_refused_and_not_lost(out: Path) -> None:
    run(out, "--seed", "0")
    before = out.read_text()
    for other in (("--tokens", "999"), ("--seed", "2")):
        refused = run(out, *other)
        assert refused.exit_code == 2 and "2 of the 2 cells that are there are not among these" in refused.stderr
        assert out.read_text() == before
    assert run(out, "--seed", "2", "--overwrite").exit_code == 0
    assert {c.seed for c in Track.model_validate_json(out.read_text()).cells} == {2}
    out.write_text("{}")
    assert run(out, "--seed", "2").exit_code == 4 and out.read_text() == "{}"


def test_a_bug_is_no_failed_cell(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*given: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(module, "_said", wrong)
    assert isinstance(run(out).exception, RuntimeError)


def test_verdicts_are_read_before_anything_runs(out: Path) -> None:
    done = run(out, "--verdicts", str(out.with_name("no.json")))
    assert done.exit_code == 3 and not out.exists()


def test_two_methods_of_one_name_are_refused() -> None:
    methods: Any = [SimpleNamespace(name="mine", row="mine", stochastic=True)] * 2
    with pytest.raises(UsageError, match="two methods are called 'mine'"):
        module.run(methods, [], [0], Any)  # type: ignore[arg-type]


def recorded(monkeypatch: pytest.MonkeyPatch, *results: Result) -> None:
    found = [SimpleNamespace(result=r, problems=[]) for r in results]
    monkeypatch.setattr(module, "records", lambda folder: found)  # type: ignore[reportUnknownLambdaType]


def said(claims: list[str], seed: int = 0, **identity: Any) -> Result:
    made = make_result(seed=seed, **identity)
    return made.model_copy(update={"claims": claims, "id": made.identity.id()})


def test_each_setting_of_a_method_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = said(["gold"], config={"k": 1, "n": 2}), said(["leaf"], 1, config={"k": 3, "n": 2})
    recorded(monkeypatch, right, wrong, right)
    assert [(c.method, c.seed) for c in of_runs([Path()]).cells] == [("delta[k=1]", 0), ("delta[k=3]", 1)]
    recorded(monkeypatch, right, said(["leaf"], 1, config={"k": 1, "n": 2}))
    assert {c.method for c in of_runs([Path()]).cells} == {"delta"}
    recorded(monkeypatch, right, said(["gold"], config={"k": 1, "n": 2}, budget={"tokens": 7, "seconds": 1.0}))
    assert all("tokens=" in c.method and "k=" not in c.method for c in of_runs([Path()]).cells)


def test_a_method_and_what_its_paper_ran_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(monkeypatch, said(["gold"], config={"k": 1}), said(["leaf"], config={"k": 1, **PUBLISHED["delta"]}))
    assert [c.method for c in of_runs([Path()]).cells] == ["delta", "delta@published"]


def test_two_records_of_one_cell_are_refused_with_what_they_differ_in(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(monkeypatch, said(["gold"], layer=1), said(["gold"], layer=2))
    with pytest.raises(
        UsageError, match="two records of delta on taboo/gold-narrow with seed 0, which differ in layer"
    ):
        of_runs([Path()])


def test_a_cell_of_two_files_counts_once_and_may_not_differ() -> None:
    one, other = (read(None, "null", "m", 0, claims, []) for claims in ([], ["gold"]))
    lost = Failed(organism="null", method="m", seed=0, reason="it fell over")
    later = one.model_copy(update={"seconds": 3.0})
    both = together([Track(cells=[], failed=[lost]), Track(cells=[one]), Track(cells=[later])])
    assert both == Track(cells=[one])
    assert together([Track(cells=[], failed=[lost])] * 2).failed == [lost]
    with pytest.raises(UsageError, match="stands there twice with other claims"):
        together([Track(cells=[one]), Track(cells=[other])])


def test_a_file_that_another_run_writes_is_left_alone(out: Path) -> None:
    with claimed(out.with_name(f".{out.name}.lock")):
        refused = run(out)
        assert refused.exit_code == 2 and "another bench verbal run is writing" in refused.stderr and not out.exists()
    assert run(out).exit_code == 0 and [p.name for p in out.parent.iterdir()] == [out.name]
