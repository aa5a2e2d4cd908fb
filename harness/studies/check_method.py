"""`bench methods check`: what a method must do before its scores mean anything, tried on a small organism and on a null one.

The idea: the method runs as in a cell, in a process of its own, on a problem that records what it reaches for and keeps copies of what it
was given; twice with one seed, once with another, and once where nothing changed. A warning is about what a method may do and its readers
should know. Nothing is scored: a check says that a method is well behaved, not that it is good. What is recorded there is for its author:
a cheat could change it, and would gain nothing.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel
from torch import Tensor

from ...methods.contract import Budget, DiffResult, Finding, check_findings
from ...methods.entry import MethodEntry
from ...organisms.errors import DiffbenchError
from ...organisms.registry import load_organism
from ..records.settings import PROTOCOL_V2
from ..runs.problem import Problem
from ..runs.stage import Stage
from ..worker.host import Seen, Usage, run_method

ORGANISM, NULL = "subliminal/owl-narrow", "null/base-identical"
"""A small organism, and one whose adapter changes nothing."""
BUDGET = Budget(tokens=6000, seconds=120.0)
"""Short in tokens; long in seconds, so that no method is cut off by the clock and then differs between runs."""
TOLERANCE = 1e-6
"""Largest difference of two runs with one seed, relative to the larger of 1 and the largest entry."""


OutcomeName = Literal["ok", "warning", "failed", "not run"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    outcome: OutcomeName
    detail: str


@dataclass(frozen=True)
class Report:
    """All checks of one method."""

    method: str
    organism: str
    checks: list[Check]

    @property
    def ok(self) -> bool:
        """Whether none failed, warnings or not; a check that could not run depends on one that failed."""
        return all(c.outcome in ("ok", "warning") for c in self.checks)

    @property
    def warnings(self) -> int:
        """How many checks warn."""
        return sum(c.outcome == "warning" for c in self.checks)

    def data(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "ok": self.ok}


@dataclass
class Run:
    """One call of `diff`."""

    seen: Seen
    tokens: int
    wall_s: float
    peak_bytes: int
    """Memory of its process."""
    result: DiffResult | None = None
    error: str = ""


def check_method(entry: MethodEntry, organism: str = ORGANISM, budget: Budget = BUDGET) -> Report:
    """Every check of a method with its default options.

    Raises:
        DiffbenchError: unknown or unusable organism. What is wrong with the method is in the report instead.
    """
    stage = Stage.load(load_organism(organism), "cpu", PROTOCOL_V2)
    checks = [_about(entry)]
    config = _defaults(entry, checks)
    if config is None:
        late = (
            "runs",
            "same seed",
            "another seed",
            "randomness",
            "null organism",
            "access",
            "activations",
            "budget",
            "global state",
        )
        return Report(entry.row, organism, [*checks, *(Check(n, "not run", "no options to run with") for n in late)])

    first, again, other = (_run(entry, config, stage, seed, budget) for seed in (0, 0, 1))
    null = _run(entry, config, Stage.load(load_organism(NULL), "cpu", PROTOCOL_V2), 0, budget)
    runs = [first, again, other, null]
    checks += [
        _outcome("runs", first.error, _summary(first)),
        _repeats(first, again),
        _seeds(entry, first, other),
        _randomness(entry, first, other, _unique(runs, lambda r: r.seen.drew)),
        _nothing(null),
        _outcome("access", "; ".join(_unique(runs, lambda r: r.seen.refused)), _access(entry, runs)),
        _outcome(
            "activations",
            "; ".join(
                f"{name} was changed in place, work on a copy" for name in _unique(runs, lambda r: r.seen.changed)
            ),
            "what was handed out is unchanged",
        ),
        _spent(runs, budget),
        _outcome(
            "global state",
            "; ".join(_unique(runs, lambda r: r.seen.state)),
            "dtype, threads, gradient mode, determinism, precision and folder are as they were",
        ),
    ]
    return Report(entry.row, organism, checks)


def _outcome(name: str, problem: str, fine: str) -> Check:
    return Check(name, "failed" if problem else "ok", problem or fine)


def _unique(runs: list[Run], of: Callable[[Run], list[str]]) -> list[str]:
    return list(dict.fromkeys(line for run in runs for line in of(run)))


def _about(entry: MethodEntry) -> Check:
    """A docstring, and a description of every option."""
    properties = entry.config_class.model_json_schema().get("properties", {})
    bare = [name for name in entry.config_class.model_fields if not properties.get(name, {}).get("description")]
    problem = ""
    if bare:
        problem = (
            f"options without a description: {', '.join(bare)}; write a docstring under each field and set "
            "use_attribute_docstrings=True in model_config"
        )
    elif not entry.summary:
        problem = "the class has no docstring; its first line is what `bench methods list` shows"
    return _outcome("documented", problem, f"{len(properties)} options; {entry.summary}")


def _defaults(entry: MethodEntry, checks: list[Check]) -> BaseModel | None:
    """The default options, if they are valid and survive JSON; adds the check."""
    try:
        config = entry.configure({})
        dumped = config.model_dump(mode="json")
        again = entry.configure(json.loads(json.dumps(dumped, allow_nan=False)))
    except Exception as error:  # a third party's validators may raise anything
        checks.append(Check("options", "failed", f"default options: {type(error).__name__}: {error}"))
        return None
    same = again == config
    problem = "" if same else f"options change on their way through JSON: {config!r} becomes {again!r}"
    checks.append(_outcome("options", problem, f"defaults are valid and survive JSON: {json.dumps(dumped)}"))
    return config


def _run(entry: MethodEntry, config: BaseModel, stage: Stage, seed: int, budget: Budget) -> Run:
    """`diff` as a cell calls it, recorded."""
    dev = stage.organism.behaviour.of("dev")
    problem = Problem(stage.pair, stage.texts, dev, entry.access, seed, budget)
    usage, result, error = Usage(), None, ""
    began = time.perf_counter()
    try:
        result = check_findings(run_method(entry, config, problem, usage, recorded=True), stage.pair.d_model)
    except (DiffbenchError, MemoryError) as raised:
        error = f"{raised}" or type(raised).__name__
    wall_s = time.perf_counter() - began - usage.start_s
    return Run(usage.seen, problem.tokens_used, wall_s, usage.peak_rss_bytes, result, error)


def _summary(run: Run) -> str:
    if run.result is None:
        return ""
    if run.result.patch:
        return f"exchanges the residual, {run.wall_s:.1f} s"
    gated = sum(f.gate is not None for f in run.result.findings)
    zero = sum(not f.direction.any() for f in run.result.findings)
    return f"{len(run.result.findings)} findings, {gated} gated, {zero} zero, {run.wall_s:.1f} s"


def _repeats(first: Run, again: Run) -> Check:
    """The same seed gives the same findings."""
    if first.result is None:
        return Check("same seed", "not run", "the first run failed")
    if again.result is None:
        return Check("same seed", "failed", f"the second run failed: {again.error}")
    gap = _gap(first.result, again.result)
    problem = (
        f"{gap}; draw every random number from a generator seeded with problem.seed" if isinstance(gap, str) else ""
    )
    return _outcome("same seed", problem, f"two runs differ by {gap:.1g}" if isinstance(gap, float) else "")


def _gap(a: DiffResult, b: DiffResult) -> float | str:
    """Largest relative difference of two lists of findings, or how they differ."""
    if len(a.findings) != len(b.findings):
        return f"{len(a.findings)} findings, then {len(b.findings)}"
    worst = 0.0
    for i, (x, y) in enumerate(zip(a.findings, b.findings, strict=True)):
        if (x.gate is None) != (y.gate is None):
            return f"finding {i + 1} has a gate in one run only"
        for one, two in zip(_numbers(x), _numbers(y), strict=True):
            worst = max(worst, float((one - two).abs().max() / max(1.0, float(one.abs().max()))))
            if worst > TOLERANCE:
                return f"two runs with one seed differ by {worst:.1g} at finding {i + 1}"
    return worst


def _numbers(finding: Finding) -> list[Tensor]:
    """All there is to a finding, without its evidence (which may hold seconds)."""
    gate = finding.gate
    return [
        finding.direction,
        torch.tensor([finding.score, gate.threshold if gate else 0.0]),
        *([gate.read] if gate else []),
    ]


def _seeds(entry: MethodEntry, first: Run, other: Run) -> Check:
    """Another seed must work, and must change nothing of a method that says so; how much it changes others is only reported."""
    if first.result is None or other.result is None:
        return Check("another seed", "failed" if first.result else "not run", other.error)
    if not entry.stochastic:
        gap = _gap(first.result, other.result)
        problem = f"{gap}; remove `stochastic = False`, or draw nothing" if isinstance(gap, str) else ""
        return _outcome("another seed", problem, "draws nothing: the same findings")
    if not first.result.findings or not other.result.findings:
        return Check("another seed", "ok", "no findings to compare")
    cosine = torch.cosine_similarity(first.result.findings[0].direction, other.result.findings[0].direction, dim=0)
    return Check("another seed", "ok", f"cosine of the two first findings {float(cosine):.3f}")


def _randomness(entry: MethodEntry, first: Run, other: Run, drew: list[str]) -> Check:
    """Whatever a method draws is decided by its seed, and a method that draws nothing says so."""
    if drew:
        return Check(
            "randomness",
            "warning",
            f"draws from the global generator of {' and '.join(drew)}, which no seed decides: the same cell gives other findings the next "
            "time; draw from a generator seeded with problem.seed",
        )
    if first.result is None or other.result is None:
        return Check("randomness", "not run", "a run failed")
    if entry.stochastic and isinstance(_gap(first.result, other.result), float):
        return Check(
            "randomness",
            "warning",
            "another seed gives the same findings; say `stochastic = False`, and one seed is enough for a table",
        )
    return Check("randomness", "ok", "no draw that its seed does not decide")


def _nothing(null: Run) -> Check:
    """Where both models are the same, whatever is found is not there."""
    if null.result is None:
        return Check("null organism", "failed", null.error)
    made_up = sum(bool(f.direction.any()) for f in null.result.findings)
    if made_up:
        return Check(
            "null organism",
            "warning",
            f"{NULL}: {made_up} of {len(null.result.findings)} findings are not zero, and both models are the same: each is a false "
            "discovery; return a zero direction where there is nothing",
        )
    return Check("null organism", "ok", f"{NULL}: {_summary(null)}")


def _access(entry: MethodEntry, runs: list[Run]) -> str:
    used = sorted(set[str]().union(*(run.seen.used for run in runs)) - {"progress"})
    return f"declares {entry.access}, uses {', '.join(used) or 'no handle'}"


def _spent(runs: list[Run], budget: Budget) -> Check:
    tokens, seconds = max(r.tokens for r in runs), max(r.wall_s for r in runs)
    peak = max(r.peak_bytes for r in runs) / 2**30
    spent = f"at most {tokens:,} of {budget.tokens:,} tokens and {seconds:.1f} s; peak of its process {peak:.2f} GiB"
    over = tokens > budget.tokens or seconds > budget.seconds
    return _outcome("budget", f"{spent}: over problem.budget ({budget.seconds:g} s)" if over else "", spent)
