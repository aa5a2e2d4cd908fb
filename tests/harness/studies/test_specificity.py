"""Specificity: a run's own effect comes back exactly, other behaviours are measured beside random directions, nothing is made up."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffbench.cli import app
from diffbench.harness.pairs.interventions import Directions
from diffbench.harness.records.loading import load_result
from diffbench.harness.records.result import Result
from diffbench.harness.runs.cell import Cell, run_cell
from diffbench.harness.runs.folder import FINDINGS, write_run
from diffbench.harness.runs.stage import Stage
from diffbench.harness.studies import specificity as specificity_module
from diffbench.harness.studies.specificity import _askings, control, specificity
from diffbench.harness.studies.specificity_record import Specificity, summary
from diffbench.harness.studies.specificity_runs import OF_THE_ORGANISM, select
from diffbench.harness.views import specificity as view
from diffbench.methods.catalogue import PUBLISHED
from diffbench.methods.contract import DiffResult, Finding, Gate
from diffbench.methods.registry import load_method
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.organism import Organism
from typer.testing import CliRunner

from ...conftest import SHORT
from ...factories import make_result

BEHAVIOURS = [
    "taboo/gold-narrow",
    "taboo/leaf-narrow",
    "backdoor/zephyr-narrow",
    "planted/owl-strong",
    "null/gold-scrambled",
]


@pytest.fixture(scope="module")
def runs(stage: Stage, organism: Organism, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scored cell of mean_diff on taboo/gold-narrow."""
    folder, method = tmp_path_factory.mktemp("runs"), load_method("mean_diff")
    cell = Cell(organism, method, method.configure({"tokens": 2000}), 0, protocol=SHORT)
    outcome = run_cell(cell, stage)
    write_run(folder / "run", outcome.result, outcome.diff, "log")
    return folder


@pytest.fixture(scope="module")
def result(runs: Path) -> Result:
    return Result.model_validate_json((runs / "run" / "result.json").read_text())


@pytest.fixture(scope="module")
def found(runs: Path) -> Specificity:
    return specificity(runs, None, protocol=SHORT, behaviours=BEHAVIOURS)


def test_the_own_column_is_the_recorded_effect(found: Specificity, result: Result) -> None:
    (row,) = found.rows
    assert result.behaviour is not None
    b0, b1 = result.behaviour.b0_test, result.behaviour.b1_test
    gap = b1 - b0
    for half, side in ((row.added, "sufficiency"), (row.removed, "necessity")):
        rate = np.mean([c.test_rate for c in result.choices if c.side == side])
        recorded = rate - b0 if side == "sufficiency" else b1 - rate
        own = half.effects[[c.name for c in found.columns].index(row.behaviour)]
        assert own == pytest.approx(recorded / gap, abs=1e-4) and own == half.own
        assert abs(half.own) > 0.05  # a comparison with nothing would say nothing


def test_columns_are_behaviours_and_others_are_other_families(found: Specificity) -> None:
    assert [c.name for c in found.columns] == ["taboo/gold", "taboo/leaf", "backdoor/zephyr", "planted/owl"]
    (row,) = found.rows
    assert row.other == [False, False, True, True]
    for half in (row.added, row.removed):
        far = [e for e, other in zip(half.effects, row.other, strict=True) if other and e is not None]
        assert half.others == pytest.approx(np.mean(np.abs(far)))
        assert half.others_low is not None and half.others_high is not None and half.others_low <= half.others_high
        random = [r for r, other in zip(half.random, row.other, strict=True) if other and r is not None]
        assert half.others_random == pytest.approx(np.mean(random)) and min(random) >= 0
    assert row.added.others is not None and row.added.others > 0
    if row.added.specificity is not None:
        assert row.added.specificity == pytest.approx(max(0.0, 1 - row.added.others / abs(row.added.own)))


def test_families_that_ask_the_same_prompts_are_no_others() -> None:
    """Planted and subliminal animals are one behaviour planted in two ways."""
    owl, twin, gold = _askings(["planted/owl-strong", "subliminal/owl-narrow", "taboo/gold-narrow"])
    assert owl.openings == twin.openings and not owl.openings & gold.openings


def test_controls_are_those_of_the_result(stage: Stage) -> None:
    gate = Gate(torch.ones(stage.pair.d_model), 0.5)
    directions = Directions.of([Finding(torch.ones(stage.pair.d_model), gate), Finding(torch.ones(stage.pair.d_model))])
    for i in range(3):
        ours, theirs = control(directions, i), stage.scorer.controls.under(directions, (1, 3), i).directions
        assert torch.equal(ours.direction, theirs.direction)
        assert torch.equal(ours.read, theirs.read) and torch.equal(ours.threshold, theirs.threshold)


def test_what_cannot_be_asked_is_missing_and_said(
    runs: Path, found: Specificity, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold, zephyr = _askings(["taboo/gold-narrow", "backdoor/zephyr-narrow"])
    foreign = tuple(p.model_copy(update={"prefill": "xylophonist"}) for p in gold.prompts)
    odd = specificity_module._Asking("strange/words", "strange", "strange/words-narrow", 0.5, foreign)
    monkeypatch.setattr(specificity_module, "_askings", lambda names: [gold, odd, zephyr])
    got = specificity(runs, "mean_diff", protocol=SHORT)
    (row,) = got.rows
    assert row.added.effects[1] is row.added.random[1] is row.removed.effects[1] is None
    assert got.notes == [
        "strange/words cannot be asked of taboo/gold-narrow: a prompt has words that are not in this vocabulary"
    ]
    assert row.added.others == pytest.approx(abs(found.rows[0].added.effects[2] or 0))
    cells = [line for line in csv.DictReader(io.StringIO(view.entries(got))) if line["behaviour"] == "strange/words"]
    assert [c["effect"] for c in cells] == ["", ""]


def test_summary_on_known_effects() -> None:
    def column(*means: float) -> np.ndarray:
        return np.array([np.full(20, m) for m in means])

    effects = [column(0.8, 0.1, 0.1), column(0.5, 0, 0), column(0.1, 0.02, -0.04), column(-0.3, 0, 0), None]
    row = summary(effects, 0, [False, False, True, True, True], 200)
    assert row.effects == pytest.approx([0.8, 0.5, 0.1, -0.3, None]) and row.random[2] == pytest.approx(0.03)
    assert (row.others, row.others_random, row.specificity) == pytest.approx((0.2, 0.015, 0.75))
    assert (row.own_low, row.own_high, row.others_low, row.others_high) == pytest.approx((0.8, 0.8, 0.2, 0.2))
    nothing = summary([column(0.0, 0.1), column(0.2, 0.1)], 0, [False, True], 200)
    assert nothing.specificity is None and nothing.reason == "the own effect's interval covers 0"
    alone = summary([column(0.8, 0.1), None], 0, [False, True], 200)
    assert alone.others is None and alone.reason == "no other family's behaviour could be asked"
    broad = summary([column(0.5, 0), column(0.9, 0)], 0, [False, True], 200)
    assert broad.specificity == 0


def test_the_interval_of_others_covers_their_true_size() -> None:
    """Prompts are drawn from populations whose means are known; the reflected interval holds their mean size about 95 % of the time."""
    rng = np.random.default_rng(0)
    true = np.array([0.0, 0.05, -0.1, 0.02])
    covered = 0
    for _ in range(150):
        columns = [np.ones((1, 40)), *(rng.normal(m, 0.15, (1, 40)) for m in true)]
        row = summary([np.concatenate([c, c]) for c in columns], 0, [False] + [True] * 4, 400)
        assert row.others_low is not None and row.others_high is not None
        covered += row.others_low <= np.abs(true).mean() <= row.others_high
    assert covered / 150 >= 0.88


def scored(runs: Path, organism: str = "taboo/gold-narrow", findings: int = 2, **fields: Any) -> Path:
    """A made-up run folder that could be a row."""
    made = make_result(organism=organism, **fields)
    made.provenance.source, made.curves = {"organism": organism}, []
    made.diagnostics["findings"] = [{"score": 1.0}] * findings
    folder = runs / made.id[:12]
    write_run(folder, made, DiffResult([Finding(torch.ones(4)) for _ in range(findings)]), "log")
    return folder


def test_runs_are_chosen_by_method_and_seed(tmp_path: Path) -> None:
    for organism in ("taboo/leaf-narrow", "taboo/gold-narrow"):
        for seed in (0, 1):
            scored(tmp_path, organism, seed=seed)
    scored(tmp_path, "backdoor/zephyr-narrow", status="not_applicable", reason="the gap is small")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "result.json").write_text("{")
    got = select(tmp_path, None, 1)
    assert [r.source for r in got.runs] == ["taboo/gold-narrow", "taboo/leaf-narrow"]
    assert {r.result.identity.seeds["method"] for r in got.runs} == {1}
    assert any("zephyr" in n and "the gap is small" in n for n in select(tmp_path, "delta", 0).notes)
    assert any("torn" in n for n in got.notes)
    with pytest.raises(PrerequisiteError, match="with seed 0, 1, not 2"):
        select(tmp_path, "delta", 2)
    with pytest.raises(PrerequisiteError, match="no run of dleta, only of delta"):
        select(tmp_path, "dleta", 0)
    scored(tmp_path, method="random")
    with pytest.raises(UsageError, match="delta, random; choose one with --method"):
        select(tmp_path, None, 0)


def test_a_method_and_what_its_paper_ran_are_chosen_apart(tmp_path: Path) -> None:
    for config in ({"k": 1}, {"k": 1, **PUBLISHED["delta"]}):
        scored(tmp_path, config=config)
    for row, n in (("delta", 1), ("delta@published", 1 + len(PUBLISHED["delta"]))):
        got = select(tmp_path, row, 0)
        assert [len(r.result.identity.config) for r in got.runs] == [n]


def test_the_oracle_has_nothing_to_apply(tmp_path: Path) -> None:
    scored(tmp_path, method="oracle", access="anchor", findings=0)
    with pytest.raises(PrerequisiteError, match="exchanged the whole residual"):
        select(tmp_path, None, 0)


def test_nulls_are_left_out_and_said(tmp_path: Path) -> None:
    scored(tmp_path)
    folder = scored(tmp_path, "null/base-identical")
    record = json.loads((folder / "result.json").read_text())
    empty = {"scores": None, "samples": None, "behaviour": None, "choices": []}
    discovery = {"effects": [0.1], "p": [0.5], "share": 0.0, "ci_low": 0.0, "ci_high": 0.975}
    record |= empty | {"false_discovery": discovery | {"expected": 0.025, "controls": 39, "p_min": 0.025}}
    (folder / "result.json").write_text(json.dumps(record))
    got = select(tmp_path, None, 0)
    assert [r.source for r in got.runs] == ["taboo/gold-narrow"]
    assert got.notes == ["null/base-identical left out: a null: nothing is hidden in it, so no intervention was chosen"]


@pytest.mark.parametrize(
    ("change", "field"), [({"config": {"k": 10}}, "config.k"), ({"protocol_sha256": "f" * 64}, "protocol_sha256")]
)
def test_two_settings_are_refused_by_name(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    scored(tmp_path)
    scored(tmp_path, "taboo/leaf-narrow", **change)
    with pytest.raises(ValidationFailed, match=f"differ in {field}"):
        select(tmp_path, None, 0)


def test_what_belongs_to_an_organism_may_differ(tmp_path: Path) -> None:
    scored(tmp_path)
    own = {field: "f" * 64 for field in OF_THE_ORGANISM if field.endswith("_sha256")}
    scored(tmp_path, "taboo/leaf-narrow", **own)
    assert {"organism_sha256", "prompts_sha256", "controls_sha256"} == set(own)
    assert len(select(tmp_path, None, 0).runs) == 2


def test_findings_made_elsewhere_have_a_file_for_each_organism(tmp_path: Path) -> None:
    for organism, file in (("taboo/gold-narrow", "aa"), ("taboo/leaf-narrow", "bb")):
        scored(tmp_path, organism, method="mine", method_version=f"findings {file}")
    assert len(select(tmp_path, None, 0).runs) == 2 and not select(tmp_path, None, 0).notes
    scored(tmp_path, "backdoor/zephyr-narrow", method="mine", method_version="0.1.0")
    with pytest.raises(ValidationFailed, match="differ in method_version"):
        select(tmp_path, None, 0)


def test_other_code_is_said_and_twins_are_refused(tmp_path: Path) -> None:
    scored(tmp_path)
    other = scored(tmp_path, "taboo/leaf-narrow", code_sha256="f" * 64)
    assert any("code_sha256" in n for n in select(tmp_path, None, 0).notes)
    twin = scored(tmp_path, code_sha256="f" * 64)
    assert twin != other
    with pytest.raises(ValidationFailed, match=r"runs of one organism and differ in code_sha256"):
        select(tmp_path, None, 0)


def test_lost_and_damaged_findings_name_the_folder(tmp_path: Path) -> None:
    folder = scored(tmp_path)
    whole = (folder / FINDINGS).read_bytes()
    (folder / FINDINGS).write_bytes(whole[: len(whole) // 2])
    out = CliRunner().invoke(app, ["results", "specificity", str(tmp_path), "--out", str(tmp_path / "out")])
    assert out.exit_code == 4 and str(folder) in out.output and "cannot be read" in out.output
    (folder / FINDINGS).unlink()
    with pytest.raises(ValidationFailed, match="is missing"):
        select(tmp_path, None, 0)


def test_a_result_of_another_protocol_or_with_other_effects_is_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="protocol_sha256"):
        specificity(runs, None, behaviours=BEHAVIOURS[:1])
    made = load_result(runs / "run" / "result.json")
    for choice in made.choices:  # forged as far as a record alone can tell
        choice.test_rate *= 0.8 if choice.side == "sufficiency" else 1
    folder = tmp_path / "edited"
    folder.mkdir()
    (folder / "result.json").write_text(made.model_dump_json())
    (folder / FINDINGS).write_bytes((runs / "run" / FINDINGS).read_bytes())
    with pytest.raises(ValidationFailed, match=r"edited: its findings, added, move the behaviour by"):
        specificity(tmp_path, None, protocol=SHORT, behaviours=BEHAVIOURS[:1])


def test_files_hold_every_entry(found: Specificity, tmp_path: Path) -> None:
    record, table, plot = view.write(tmp_path / "new", found)
    assert Specificity.model_validate_json(record.read_text()) == found
    lines = list(csv.DictReader(table.open()))
    assert len(lines) == 2 * len(found.columns) and {line["kind"] for line in lines} == {"own", "kin", "other"}
    assert [float(line["effect"]) for line in lines[:4]] == pytest.approx(found.rows[0].added.effects, abs=1e-6)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_cells_are_short() -> None:
    values = [None, 0.0, 0.001, -0.001, 0.049, -0.12, 1.0, -1.234, 10.02, 0.999]
    assert [view._short(v) for v in values] == ["–", "0", ".00", ".00", ".05", "−.12", "1.00", "−1.23", "10.02", "1.00"]


@pytest.mark.slow
def test_the_command_prints_tables_and_json(tmp_path: Path) -> None:
    def bench(*args: str) -> str:
        done = CliRunner().invoke(app, [*args])
        assert done.exit_code == 0, done.output
        return done.stdout

    runs = str(tmp_path / "runs")
    bench("run", "-m", "random,oracle", "-o", "planted/owl-strong", "--out", runs, "--quiet")
    text = bench("results", "specificity", runs, "-m", "random", "--out", str(tmp_path / "out"))
    assert "specificity" in text and "planted/owl-strong" in text
    got = json.loads(bench("results", "specificity", runs, "-m", "random", "--out", str(tmp_path), "--json"))
    assert Specificity.model_validate(got) and (tmp_path / "specificity.png").is_file()
