"""Strategies in a process of their own: the same verdict as here, a failure by name, and a record that goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from diffbench.harness.lineup.problem import Drawn, Lineup
from diffbench.harness.lineup.record import read
from diffbench.harness.lineup.run import judge, run
from diffbench.harness.lineup.store import Built
from diffbench.harness.worker.foreign import load
from diffbench.methods.contract import NoConfig
from diffbench.methods.registry import load_method
from diffbench.methods.strategies.catalogue import BUILTIN, STRATEGIES
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed

from .conftest import strategy_file

Line = Callable[[bool], Drawn]


@pytest.mark.slow
def test_every_strategy_is_blind_to_the_order(line: Line) -> None:
    lineups = [Lineup(line(a_is_faker), "anchor") for a_is_faker in (False, True)]
    for name in BUILTIN:
        if name == "random":
            continue
        entry = load_method(name, STRATEGIES)
        p, q = (entry.create(entry.configure({})).suspect(x) for x in lineups)  # pyright: ignore[reportAttributeAccessIssue]
        assert p + q == pytest.approx(1, abs=1e-4), name


def test_a_process_of_its_own_gives_the_same_verdict(line: Line) -> None:
    entry = load_method("noise", STRATEGIES)
    config = entry.configure({"draws": 2})
    here = entry.create(config).suspect(Lineup(line(True), "activations"))  # pyright: ignore[reportAttributeAccessIssue]
    verdict = judge(entry, config, line(True))
    assert verdict.status == "ok" and verdict.probability == pytest.approx(here, abs=1e-9)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('return float("nan")', "suspect() returned nan, which is no probability"),
        ("return 1.5", "suspect() returned 1.5"),
        ("return None", "suspect() returned NoneType"),
        ('return lineup.misbehaviour("a").mean()', "the misbehaviour needs access 'supervised'"),
        ('return lineup.outputs("ancestor").mean()', "the ancestor needs access '+ancestor'"),
        ('return lineup.outputs("c").mean()', "Input should be 'a', 'b' or 'ancestor'"),
        ("return lineup.a_is_faker", "a_is_faker"),
    ],
)
def test_what_a_strategy_may_not_say_or_ask_fails_by_name(tmp_path: Path, line: Line, body: str, said: str) -> None:
    entry = load(strategy_file(tmp_path, body), STRATEGIES)
    verdict = judge(entry, entry.configure({}), line(True))
    assert verdict.status == "failed" and verdict.probability is None and said in verdict.error


@pytest.mark.parametrize(("access", "kind"), [("anchor", PrerequisiteError), ("+weights", PrerequisiteError)])
def test_a_tier_that_nobody_may_declare_is_refused(tmp_path: Path, access: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="declare one of activations, \\+gradients"):
        load(strategy_file(tmp_path, "return 0.5", access), STRATEGIES)


def test_a_method_is_no_strategy() -> None:
    with pytest.raises(
        UsageError, match=r"no strategy 'mean_dif'.*did you mean 'mean_difference'.*strategies: log_prob"
    ):
        load("mean_dif", STRATEGIES)


def test_a_record_goes_on_and_an_edited_one_is_refused(tmp_path: Path, built: Built) -> None:
    entry = load_method("random", STRATEGIES)
    [first] = run([(entry, NoConfig())], [built], tmp_path)
    folder = tmp_path / "lineup" / "random" / first.id[:12]
    path = folder / "lineups.json"
    written = path.read_bytes()
    [again] = run([(entry, NoConfig())], [built], tmp_path)
    assert again.verdicts == first.verdicts and path.read_bytes() == written
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ValidationFailed, match="was edited"):
        read(path)


def test_the_strategy_of_the_documentation_runs_as_it_stands(tmp_path: Path, line: Line) -> None:
    page = (Path(__file__).parents[3] / "docs" / "lineup.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "late_noise.py").write_text(code)
    entry = load(str(tmp_path / "late_noise.py"), STRATEGIES)
    verdict = judge(entry, entry.configure({}), line(True))
    assert verdict.status == "ok" and len(code.splitlines()) < 40
