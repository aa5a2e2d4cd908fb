"""The self-test passes on a sound instrument, and names what is wrong with a broken one."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.cli import app
from diffbench.harness.pairs.interventions import Edits
from diffbench.harness.protocol import controls
from diffbench.harness.protocol.clean_runs import CleanRun
from diffbench.harness.records.settings import Protocol
from diffbench.harness.runs.stage import Stage
from diffbench.harness.studies import selftest
from diffbench.harness.studies.known_truth import Check, KnownOrganism
from diffbench.harness.studies.selftest import ORGANISMS, Noisy, Report
from diffbench.harness.views import selftest as selftest_view
from diffbench.leaderboard.selftest import clone_effect
from diffbench.leaderboard.statistics.rows import Estimate, MethodRow
from diffbench.organisms.registry import load_organism
from typer.testing import CliRunner

from ...factories import make_result

TINY = Protocol(controls=4, ks=(1, 3), draws=200, dev_tokens=100, test_tokens=100)
FEW = (0.0, 1.0, 8.0)


def subject(protocol: Protocol = TINY) -> KnownOrganism:
    """A fresh one: what is broken below must not be remembered."""
    return KnownOrganism(Stage.load(load_organism(ORGANISMS[0]), "cpu", protocol), 3, clone_effect)


def failed(checks: Iterator[Check]) -> set[str]:
    return {c.name.partition(",")[0] for c in checks if not c.ok}


@pytest.fixture(scope="module")
def report() -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selftest, "LEVELS", FEW)
        return selftest.selftest(clone_effect, ORGANISMS[:1], protocol=TINY)


@pytest.mark.slow
def test_a_sound_instrument_passes_every_check(report: Report) -> None:
    assert not report.failed, report.failed
    assert len({c.name for c in report.checks}) == len(report.checks) >= 35
    by_name = {c.name: c for c in report.checks}
    assert by_name["truth: sufficiency against a plain hook, largest difference"].measured < 1e-5
    assert 0 < by_name["random controls: spread of their effects"].measured < 1


@pytest.mark.slow
def test_the_command_prints_the_table_and_exits_with_4_if_a_check_fails(
    report: Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = Report(
        report.protocol,
        [*report.checks[1:], KnownOrganism.check(subject(), "oracle: isolation", 0.5, 1, 1)],
        report.noise,
        1.0,
    )
    shown = {}
    for given in (report, bad):
        monkeypatch.setattr(selftest, "selftest", lambda *_, given=given: given)
        for flags in ((), ("--json",)):
            shown[given is bad, flags] = CliRunner().invoke(app, ["selftest", "--out", str(tmp_path), *flags])
    assert [r.exit_code for r in shown.values()] == [0, 0, 4, 4]
    assert "oracle: isolation" in shown[False, ()].output and "FAILED" not in shown[False, ()].output
    assert "FAILED" in shown[True, ()].output and "1 of" in shown[True, ()].output
    assert json.loads(shown[True, ("--json",)].stdout)["ok"] is False
    assert (tmp_path / "monotonicity.png").stat().st_size > 10_000
    rows = (tmp_path / "monotonicity.csv").read_text().splitlines()
    assert rows[0] == "organism,level,seed,cosine,isolation" and len(rows) == 1 + len(report.noise)


def test_an_organism_without_a_behaviour_is_refused() -> None:
    result = CliRunner().invoke(app, ["selftest", "-o", "null/base-identical"])
    assert result.exit_code == 4 and "the two models differ by 0.1 or more on 0 of" in result.output
    assert CliRunner().invoke(app, ["selftest", "-o", "subliminal/fxo-narrow"]).exit_code == 2


def test_halved_effects_are_found_by_the_plain_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances of edited models halve the way back, so every ratio looks right: only a second measurement can tell."""
    right = CleanRun.measured

    def halved(self: CleanRun, edits: Edits) -> tuple[torch.Tensor, torch.Tensor]:
        away, rates = right(self, edits)
        return (away + self.gap) / 2, rates

    monkeypatch.setattr(CleanRun, "measured", halved)
    broken = subject()
    assert {"truth: sufficiency against a plain hook", "truth: necessity against a plain hook"} <= failed(
        selftest._truth(broken)
    )


def test_a_rate_without_a_ceiling_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instrument that counts more of the behaviour as better rewards overshoot."""
    right = CleanRun.measured

    def onward(self: CleanRun, edits: Edits) -> tuple[torch.Tensor, torch.Tensor]:
        _, rates = right(self, edits)
        return (self.other.rates - rates if self.side == "base" else rates - self.other.rates), rates

    monkeypatch.setattr(CleanRun, "measured", onward)
    broken = KnownOrganism(Stage.load(load_organism(ORGANISMS[1]), "cpu", TINY), 3, clone_effect)
    assert "dose: share of the gap closed at four times" in failed(selftest._dose(broken))


def test_controls_that_do_nothing_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "control", lambda index, d_model, seed: torch.zeros(16, d_model))
    assert "random controls: spread of their effects" in failed(selftest._random(subject()))


@pytest.mark.slow
def test_controls_that_are_the_truth_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = subject().truth.direction
    monkeypatch.setattr(controls, "control", lambda index, d_model, seed: truth.expand(16, -1))
    broken = subject()
    assert "truth: isolation" in failed(selftest._truth(broken))
    assert "random: sufficiency" in failed(selftest._random(broken))


@pytest.mark.slow
def test_a_score_that_depends_on_the_scale_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings that are not made unit vectors push as hard as they are long."""
    monkeypatch.setattr("diffbench.harness.pairs.interventions.unit", lambda x, shortest=0.0: x)
    assert "invariance to a finding's scale: largest difference" in failed(selftest._invariance(subject()))


def test_a_curve_that_does_not_fall_is_found() -> None:
    flat = [Noisy("x", level, 0, 1.0, level / 8) for level in selftest.LEVELS]
    assert not selftest._monotone(subject(), flat).ok
    assert not selftest._monotone(subject(), [Noisy("x", n.level, 0, 1.0, 0.5) for n in flat]).ok


def test_a_table_that_scores_against_the_others_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking the mean over the methods off every score lets a clone move everybody."""
    from diffbench.leaderboard.statistics import tables

    results = [make_result("delta", quality=0.7), make_result("sae", quality=0.2)]
    assert clone_effect(results) == 0
    right = tables._method_row

    def relative(*args: Any) -> MethodRow:
        row = right(*args)
        less = {s: Estimate(*(x and x - len(everybody) for x in e)) for s, e in row.scores.items()}
        return replace(row, scores=less)

    everybody: list[object] = []
    found = tables.chosen_grids

    def counted(*args: object) -> object:
        everybody[:] = found(*args)[2]  # type: ignore[arg-type]
        return found(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(tables, "chosen_grids", counted)
    monkeypatch.setattr(tables, "_method_row", relative)
    assert clone_effect(results) > 0.5


def test_a_plot_of_two_organisms_is_drawn(tmp_path: Path) -> None:
    noise = [Noisy(o, level, seed, 1.0, 1 / (1 + level)) for o in "ab" for level in FEW for seed in range(2)]
    paths = selftest_view.save(noise, tmp_path / "new")
    assert [p.name for p in paths] == ["monotonicity.csv", "monotonicity.png"] and all(p.stat().st_size for p in paths)
