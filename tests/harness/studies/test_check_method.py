"""The acceptance test of methods: each kind of misbehaviour fails its own check and no other, and a good method passes all."""

import json
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch
from diffbench.cli import app
from diffbench.harness.runs.stage import Stage
from diffbench.harness.studies import check_method as module
from diffbench.harness.studies.check_method import NULL, ORGANISM, Report, check_method
from diffbench.methods.contract import Budget, DiffProblem, DiffResult, Finding
from diffbench.methods.entry import MethodEntry
from diffbench.methods.registry import load_method
from diffbench.organisms.organism import Organism
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from typer.testing import CliRunner

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a method's process would import all of the above
CHECKS = {
    "documented",
    "options",
    "runs",
    "same seed",
    "another seed",
    "randomness",
    "null organism",
    "access",
    "activations",
    "budget",
    "global state",
}
_load = Stage.load


@cache
def _loaded(name: str) -> Stage:
    from diffbench.organisms.registry import load_organism

    return _load(load_organism(name), "cpu", module.PROTOCOL_V2)


@pytest.fixture(autouse=True)
def _each_pair_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(organism: Organism, *rest: object) -> Stage:
        return _loaded(organism.name)

    monkeypatch.setattr(Stage, "load", load)


def mean(problem: DiffProblem) -> Tensor:
    return sum(
        ((b.residuals[:, 1] - b.residuals[:, 0]).mean(0) for b in problem.activations("chat", tokens=300)),
        torch.zeros(problem.d_model),
    )


class Good:
    """A mean difference with seeded noise, as strong as the difference is."""

    access = "activations"

    def diff(self, problem: DiffProblem) -> DiffResult:
        direction = mean(problem)
        noise = torch.randn(problem.d_model, generator=torch.Generator().manual_seed(problem.seed))
        return DiffResult([Finding(direction), Finding(direction.norm() * noise)])


class Undocumented(Good):
    class Config(BaseModel):
        tokens: int = 3


class Required(Good):
    class Config(BaseModel):
        model_config = ConfigDict(use_attribute_docstrings=True)
        tokens: int
        """Has no default."""


class Mean(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        return DiffResult([Finding(mean(problem))])


class MakesUp(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        noise = torch.randn(6, problem.d_model, generator=torch.Generator().manual_seed(problem.seed))
        return DiffResult([Finding(row) for row in noise])


class Shuffles(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        import random

        random.shuffle([1, 2, 3])
        return super().diff(problem)


class Samples(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        import numpy as np

        np.random.rand()
        return super().diff(problem)


class Raises(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        raise ValueError("too few tokens")


class Patches(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        return DiffResult([], patch=True)


class Unseeded(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        generator = torch.Generator()
        generator.seed()
        return DiffResult([Finding(torch.randn(problem.d_model, generator=generator))])


class Draws(Good):
    stochastic = False

    def diff(self, problem: DiffProblem) -> DiffResult:
        generator = torch.Generator().manual_seed(problem.seed)
        return DiffResult([Finding(torch.randn(problem.d_model, generator=generator))])


class Counts(Good):
    calls = 0

    def diff(self, problem: DiffProblem) -> DiffResult:
        Counts.calls += 1
        return DiffResult([Finding(mean(problem))] * Counts.calls)


class Divides(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        direction = mean(problem)
        return DiffResult([Finding(direction / direction.norm())])


class Peeks(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        return DiffResult([Finding(mean(problem), evidence={"knows": hasattr(problem, "_pair")})])


class Weighs(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        with suppress(PermissionError):
            problem.weights()
        return super().diff(problem)


class Generates(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        with suppress(PermissionError):
            next(iter(problem.activations("contrastive", tokens=300)))
        return super().diff(problem)


class Centres(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        for batch in problem.activations("neutral", tokens=300):
            batch.residuals.sub_(batch.residuals.mean(0))
        return super().diff(problem)


class Reads(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        special = problem.tokenizer.all_special_ids
        assert problem.tokenizer.convert_ids_to_tokens(special) and problem.tokenizer("the")["input_ids"]
        return super().diff(problem)


class Doubles(Good):
    def diff(self, problem: DiffProblem) -> DiffResult:
        torch.set_default_dtype(torch.float64)
        return super().diff(problem)


def report(cls: type[Any], **options: Any) -> Report:
    cls.__doc__ = cls.__doc__ or "Does something."
    return check_method(MethodEntry(cls.__name__.lower(), cls, "test", "0"), **options)


def failed(checks: Report) -> dict[str, str]:
    return {c.name: c.detail for c in checks.checks if c.outcome == "failed"}


def test_a_good_method_passes_everything() -> None:
    checks = report(Good)
    assert checks.ok and failed(checks) == {}
    assert {c.name for c in checks.checks} == CHECKS
    assert [c.outcome for c in checks.checks] == ["ok"] * len(CHECKS)


def test_the_tokenizer_is_handed_on_as_it_is() -> None:
    """It can be called, as handles can, but it is a thing with attributes."""
    assert report(Reads).ok


@pytest.mark.parametrize(
    ("cls", "check", "words"),
    [
        (Undocumented, "documented", "tokens"),
        (Unseeded, "same seed", "problem.seed"),
        (Draws, "another seed", "remove `stochastic = False`"),
        (Divides, "null organism", "NaN"),
        (Peeks, "access", "problem._pair"),
        (Weighs, "access", "+weights"),
        (Generates, "access", "+generations"),
        (Centres, "activations", "activations was changed in place"),
        (Doubles, "global state", "torch default dtype was torch.float32, is torch.float64"),
    ],
)
@pytest.mark.slow
def test_misbehaviour_fails_its_own_check(cls: type[Any], check: str, words: str) -> None:
    found = failed(report(cls))
    assert list(found) == [check] and words in found[check]
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("cls", "check", "words"),
    [
        (MakesUp, "null organism", "6 of 6 findings are not zero, and both models are the same"),
        (Shuffles, "randomness", "global generator of random, which no seed decides"),
        (Samples, "randomness", "global generator of numpy.random"),
        (Mean, "randomness", "say `stochastic = False`"),
    ],
)
def test_what_a_method_may_do_and_its_readers_should_know_is_a_warning(cls: type[Any], check: str, words: str) -> None:
    found = report(cls)
    assert found.ok and found.warnings == 1
    (warned,) = [c for c in found.checks if c.outcome == "warning"]
    assert warned.name == check and words in warned.detail


@pytest.mark.parametrize(("cls", "words"), [(Raises, "too few tokens"), (Patches, "only the oracle may")])
def test_a_method_that_does_not_run_is_said_not_to(cls: type[Any], words: str) -> None:
    checks = report(cls)
    found = failed(checks)
    assert set(found) == {"runs", "null organism"} and words in found["runs"]
    assert {c.name for c in checks.checks if c.outcome == "not run"} == {"same seed", "another seed", "randomness"}


def test_what_a_method_leaves_in_its_class_does_not_reach_its_next_run() -> None:
    assert report(Counts).ok and Counts.calls == 0


def test_without_valid_defaults_nothing_runs() -> None:
    checks = report(Required)
    assert list(failed(checks)) == ["options"] and "Field required" in failed(checks)["options"]
    assert {c.name for c in checks.checks} == CHECKS
    assert {c.name for c in checks.checks if c.outcome == "not run"} == CHECKS - {"documented", "options"}


def test_a_class_without_a_docstring_is_undocumented() -> None:
    bare = type("Bare", (Good,), {"__doc__": ""})
    found = failed(check_method(MethodEntry("bare", bare, "test", "0")))
    assert list(found) == ["documented"] and "no docstring" in found["documented"]


def test_time_over_the_budget_fails() -> None:
    found = failed(report(Good, budget=Budget(tokens=500, seconds=0.0)))
    assert list(found) == ["budget"] and "over problem.budget" in found["budget"]


@pytest.mark.parametrize("name", ["oracle", "supervised", "random"])
@pytest.mark.slow
def test_anchors_and_baselines_are_well_behaved(name: str) -> None:
    assert failed(check_method(load_method(name))) == {}


@pytest.mark.slow
def test_the_command_prints_writes_json_and_exits_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    assert "next: bench methods check late/late.py" in runner.invoke(app, ["methods", "new", "late"]).output
    file = tmp_path / "late" / "late.py"
    shown = runner.invoke(app, ["methods", "check", "late/late.py"])
    assert shown.exit_code == 0 and ORGANISM in shown.output and NULL in shown.output
    assert "failed" not in shown.output and "warning" not in shown.output
    source = file.read_text()
    file.write_text(source.replace("problem.progress(", "batch.residuals.zero_(), problem.progress("))
    told = runner.invoke(app, ["methods", "check", "late/late.py", "-o", "planted/owl-strong", "--json"])
    data = json.loads(told.stdout)
    assert told.exit_code == 1 and (data["ok"], data["organism"]) == (False, "planted/owl-strong")
    assert {c["name"]: c["outcome"] for c in data["checks"]}["activations"] == "failed"
    assert runner.invoke(app, ["methods", "check", "nothing"]).exit_code == 2
