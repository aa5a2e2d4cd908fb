"""`bench lineup check`: what a strategy must do before its verdicts mean anything, tried on one pair.

The idea: the strategy runs as in a run, in a process of its own that notes what it reaches for: twice on the same line-up, once with the
two models in the other order, and once with the same model twice.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import BaseModel

from ...methods.entry import MethodEntry
from ...organisms.errors import DiffbenchError
from ...organisms.lineup.pairs import pair_spec
from ..parallel import threads
from ..studies.check_method import Check, Report
from ..worker.host import Usage, run_strategy
from .problem import Drawn, Lineup, drawn
from .store import build

REPEATS, TURNED, SURE = 1e-6, 1e-3, 0.05
"""Largest difference of two runs, largest difference of p and 1 − p with the order turned, and largest |p − 1/2| on one model twice."""


@dataclass
class Run:
    """One call of `suspect`."""

    usage: Usage
    wall_s: float
    probability: float | None = None
    error: str = ""


def check_strategy(entry: MethodEntry, pair: str) -> Report:
    """Every check of a strategy with its default options.

    Raises:
        DiffbenchError: an unknown or unusable pair. What is wrong with the strategy is in the report instead.
    """
    line = drawn(build(pair_spec(pair)), 0, "check")
    try:
        config = entry.configure({})
    except DiffbenchError as error:
        return Report(entry.name, pair, [Check("options", "failed", str(error))])
    same = replace(line, identical=True)
    runs = [_run(entry, config, x) for x in (line, line, replace(line, a_is_faker=not line.a_is_faker), same)]
    first, again, turned, twice = runs
    seen = [run.usage.seen for run in runs]

    def said(of: str) -> list[str]:
        return list(dict.fromkeys(x for s in seen for x in getattr(s, of)))

    used = ", ".join(sorted(set(said("used")))) or "no handle"
    checks = [
        _outcome("documented", "" if entry.summary else "the class has no docstring", entry.summary),
        _outcome("runs", first.error, f"p = {first.probability}, {first.wall_s:.1f} s"),
        _gap(
            "same line-up",
            first,
            again,
            lambda p, q: abs(p - q),
            REPEATS,
            "two runs differ by",
            "draw from lineup.seed only",
        ),
        _gap(
            "order",
            first,
            turned,
            lambda p, q: abs(p + q - 1),
            TURNED,
            "p and 1 − p with A and B exchanged differ by",
            "treat both alike, and use the same draws for both",
        ),
        _twice(twice),
        _drawn(said("drew")),
        _outcome("access", "; ".join(said("refused")), f"declares {entry.access}, uses {used}"),
        _outcome(
            "tensors",
            "; ".join(f"{n} was changed in place" for n in said("changed")),
            "what was handed out is unchanged",
        ),
        _outcome("global state", "; ".join(said("state")), "is as it was"),
    ]
    return Report(entry.name, pair, checks)


def _run(entry: MethodEntry, config: BaseModel, line: Drawn) -> Run:
    lineup, usage, began = Lineup(line, entry.access), Usage(), time.perf_counter()
    try:
        with threads(1):
            p = run_strategy(entry, config, lineup, usage, recorded=True)
        return Run(usage, time.perf_counter() - began, p)
    except DiffbenchError as error:
        return Run(usage, time.perf_counter() - began, error=str(error))


def _outcome(name: str, problem: str, fine: str) -> Check:
    return Check(name, "failed" if problem else "ok", problem or fine)


def _gap(
    name: str, first: Run, other: Run, gap: Callable[[float, float], float], most: float, fact: str, fix: str
) -> Check:
    if first.probability is None or other.probability is None:
        return Check(name, "not run" if first.probability is None else "failed", other.error)
    found = gap(first.probability, other.probability)
    return _outcome(name, f"{fact} {found:.2g}; {fix}" if found > most else "", f"{fact} {found:.1g}")


def _twice(run: Run) -> Check:
    """One model in both places: nothing can be known."""
    if run.probability is None:
        return Check("one model twice", "failed", run.error)
    sure = abs(run.probability - 0.5)
    if sure > SURE:
        return Check(
            "one model twice",
            "warning",
            f"p = {run.probability:.3f} where A and B are the same model; say one half there",
        )
    return Check("one model twice", "ok", f"p = {run.probability:.3f}")


def _drawn(drew: list[str]) -> Check:
    if drew:
        return Check(
            "randomness", "warning", f"draws from the global generator of {' and '.join(drew)}, which no seed decides"
        )
    return Check("randomness", "ok", "no draw that its seed does not decide")
