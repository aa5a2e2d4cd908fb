"""Strategies in a process of their own: the same verdict as here, a failure by name, and a record that goes on."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from diffbench.harness.claims import claimed
from diffbench.harness.lineup.problem import Drawn, Lineup, TooFewAlike
from diffbench.harness.lineup.record import Verdict, a_first, read, records
from diffbench.harness.lineup.run import judge, models_hash, ready, run
from diffbench.harness.lineup.settings import chosen
from diffbench.harness.lineup.store import Built
from diffbench.harness.worker import host, limits, serving
from diffbench.harness.worker.foreign import load
from diffbench.methods.contract import NoConfig
from diffbench.methods.entry import MethodEntry
from diffbench.methods.registry import load_method
from diffbench.methods.strategies.catalogue import BUILTIN, STRATEGIES
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.lineup.pairs import PairSpec
from pydantic import BaseModel

from .conftest import card, strategy_file

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
        ("return lineup.seed >= 0", "suspect() returned bool, not the probability"),
        ('return "0.7"', "suspect() returned str, not the probability"),
        ("return 10**400", "suspect() returned int, not the probability"),
        ('return lineup.tuned("a", 500, 0.1)[0, 0]', "lineup.tuned: steps: Input should be less than or equal to 200"),
        (
            'import torch; return lineup.outputs("a", add=torch.zeros(257, lineup.d_model)).mean()',
            "at most 256; these are [257,",
        ),
        ("import os; os._exit(0)", "let suspect() return a number and end nothing itself"),
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


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"domain": "mine"}, "not those of the pairs llama/bank-s0"),
        ({"domain": "bank-s0"}, "not those of the pairs llama/bank-s0"),
        ({"base": "smollm2-135m"}, "not those of the pairs llama/bank-s0"),
        ({"identical": True}, "not those of the pairs llama/bank-s0"),
        ({"lineup": "llama/bank-s0=llama/mine-s1", "identical": True}, "not those of the pairs"),
        ({"lineup": "llama/nowhere-s0"}, "no workplace 'nowhere'"),
        ({"probability": None}, "status ok with probability None"),
        ({"status": "failed"}, "status failed with probability 0.75"),
        ({"probability": True}, "valid number"),
        ({"probability": "0.75"}, "valid number"),
    ],
)
def test_a_verdict_that_contradicts_itself_is_refused(
    tmp_path: Path, pairs: list[Built], judged: "Judged", changed: dict[str, Any], said: str
) -> None:
    [record] = run([entry()], pairs[:1], tmp_path)
    path = tmp_path / "lineup" / "random" / record.id[:12] / "lineups.json"
    whole = json.loads(path.read_text())
    whole["verdicts"][0] |= changed
    path.write_text(json.dumps(whole))
    with pytest.raises(ValidationFailed, match=re.escape(said)):
        read(path)


def test_a_record_counts_a_lineup_once_and_names_a_tier_that_there_is(
    tmp_path: Path, pairs: list[Built], judged: "Judged"
) -> None:
    [record] = run([entry()], pairs[:1], tmp_path)
    path = tmp_path / "lineup" / "random" / record.id[:12] / "lineups.json"
    record.model_copy(update={"verdicts": record.verdicts * 2}).write(path.parent)
    with pytest.raises(ValidationFailed, match="llama/bank-s0 stands in it twice"):
        read(path)
    identity = record.identity.model_copy(update={"access": "whatever"})
    record.model_copy(update={"identity": identity, "id": identity.id()}).write(path.parent)
    with pytest.raises(ValidationFailed, match=r"identity\.access: Input should be 'activations'"):
        read(path)


def test_answers_are_given_for_so_many_seconds(tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LINEUP_S", 0.0)
    body = 'while True: lineup.activations("a", 0)'
    mine = load(strategy_file(tmp_path, body), STRATEGIES)
    verdict = judge(mine, mine.configure({}), line(True))
    assert verdict.status == "timeout" and "ask fewer questions" in verdict.error


def test_a_hang_is_told_without_a_budget(tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "STRATEGY_S", 0.5)
    monkeypatch.setattr(limits, "GRACE_S", 0.0)
    mine = load(strategy_file(tmp_path, "while True: pass"), STRATEGIES)
    verdict = judge(mine, mine.configure({}), line(True))
    assert verdict.status == "timeout" and "on one line-up" in verdict.error and "--seconds" not in verdict.error


def test_two_strategies_of_one_name_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one", "other")]
    for folder in files:
        folder.mkdir()
    asked = [strategy_file(folder, "return 0.5") for folder in files]
    with pytest.raises(
        UsageError, match=r"two strategies are called mine, that of file .*one.* and that of file .*other"
    ):
        chosen(asked, [])


def test_an_option_that_is_not_finite_is_refused() -> None:
    with pytest.raises(UsageError, match=r"uniform_noise\.times: inf is no finite number"):
        chosen(["uniform_noise"], ["uniform_noise.times=.inf"])


def test_an_option_that_is_not_finite_is_refused_within_a_list() -> None:
    class Several(BaseModel):
        times: list[float]

    several = replace(
        load_method("random", STRATEGIES), cls=type("Several", (), {"Config": Several, "name": "several"})
    )
    assert several.configure({"times": [1.0]}) == Several(times=[1.0])
    with pytest.raises(UsageError, match=r"times: \[1\.0, nan\] is no finite number"):
        several.configure({"times": [1.0, float("nan")]})


Judged = list[str]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Judged:
    """Names of the line-ups that were judged, of which nothing is run."""
    names = Judged()

    def said(entry: MethodEntry, config: BaseModel, line: Drawn) -> Verdict:
        names.append(line.name)
        spec = line.first.spec
        return Verdict(
            lineup=line.name,
            models_sha256=models_hash(line),
            domain=spec.domain,
            base=spec.base,
            identical=line.identical,
            a_is_faker=line.a_is_faker,
            probability=0.75,
        )

    monkeypatch.setattr("diffbench.harness.lineup.run.judge", said)
    return names


@pytest.fixture
def pairs(built: Built) -> list[Built]:
    """Two pairs of one workplace and one of another."""
    specs = [PairSpec("tiny-llama", *x) for x in (("bank", 0), ("bank", 1), ("mine", 0))]
    return [replace(built, spec=spec, card=card(spec)) for spec in specs]


def entry(name: str = "random") -> tuple[MethodEntry, BaseModel]:
    return load_method(name, STRATEGIES), NoConfig()


def test_what_is_returned_is_what_was_asked_for(tmp_path: Path, pairs: list[Built], judged: Judged) -> None:
    run([entry()], pairs[:1], tmp_path)
    [found] = run([entry()], pairs[2:], tmp_path)
    assert [v.lineup for v in found.verdicts] == ["llama/mine-s0"]
    [whole] = records([tmp_path])
    assert {v.lineup for v in whole.verdicts} == {"llama/bank-s0", "llama/mine-s0"}


def test_judging_again_leaves_what_was_not_asked_for(tmp_path: Path, pairs: list[Built], judged: Judged) -> None:
    run([entry()], pairs[:1], tmp_path)
    run([entry()], pairs[2:], tmp_path, overwrite=True)
    run([entry()], pairs[2:], tmp_path, overwrite=True)
    assert judged == ["llama/bank-s0", "llama/mine-s0", "llama/mine-s0"]
    assert [v.lineup for v in records([tmp_path])[0].verdicts] == ["llama/bank-s0", "llama/mine-s0"]


def test_a_failure_is_tried_again(tmp_path: Path, pairs: list[Built], judged: Judged) -> None:
    [record] = run([entry()], pairs, tmp_path, identical=False)
    record.verdicts[1] = record.verdicts[1].model_copy(update={"status": "oom", "probability": None})
    record.write(tmp_path / "lineup" / "random" / record.id[:12])
    judged.clear()
    [again] = run([entry()], pairs, tmp_path, identical=False)
    assert judged == [pairs[1].spec.name] and all(v.status == "ok" for v in again.verdicts)


def test_two_twins_that_are_not_alike_are_left_out(
    tmp_path: Path, pairs: list[Built], judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffbench.harness.lineup import run as module

    said, told = module.judge, list[str]()

    def unlike(entry: MethodEntry, config: BaseModel, line: Drawn) -> Verdict:
        if line.identical:
            raise TooFewAlike("alike on 12 scenes only")
        return said(entry, config, line)

    monkeypatch.setattr(module, "judge", unlike)
    [found] = run([entry()], pairs, tmp_path, tell=told.append)
    assert [v.lineup for v in found.verdicts] == [p.spec.name for p in pairs]
    assert "4 of 4 line-ups: llama/bank-s0=llama/bank-s1, left out: alike on 12 scenes only" in told


def test_too_few_scenes_on_which_two_twins_are_alike(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffbench.harness.lineup.problem._shown", lambda twins, spec: [0, 1])  # pyright: ignore[reportUnknownLambdaType]
    line = Drawn("x=y", built, built, True, False, 0)
    with pytest.raises(TooFewAlike, match="alike on 2 scenes only, 48 are shown"):
        Lineup(line, "activations")


def test_a_bad_pair_stops_before_the_next_is_built(pairs: list[Built], monkeypatch: pytest.MonkeyPatch) -> None:
    begun = list[str]()

    def build(spec: PairSpec, say: object) -> Built:
        begun.append(spec.name)
        return replace(pairs[0], card=card(spec, faker_poor=0.5))

    monkeypatch.setattr("diffbench.harness.lineup.run.build", build)
    with pytest.raises(ValidationFailed, match="llama/bank-s0 fails its gates"):
        ready([p.spec for p in pairs], lambda line: None)
    assert begun == ["llama/bank-s0"]


def test_a_lineup_is_judged_by_one_process_at_a_time_and_others_by_other_processes_meanwhile(
    tmp_path: Path, pairs: list[Built], judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffbench.harness.lineup import run as module

    said, free = module.judge, list[bool]()

    def meanwhile(entry: MethodEntry, config: BaseModel, line: Drawn) -> Verdict:
        [folder] = (tmp_path / "lineup" / "random").iterdir()
        for each in (*folder.glob(".*"), folder):
            with claimed(each, wait=False) as mine:
                free.append(mine)
        if line.name == "llama/bank-s0":
            run([(entry, config)], pairs[2:], tmp_path)
        return said(entry, config, line)

    monkeypatch.setattr(module, "judge", meanwhile)
    [found] = run([entry()], pairs[:1], tmp_path)
    assert free == [False, True, False, False, True] and len(found.verdicts) == 1
    [whole] = records([tmp_path])
    assert {v.lineup for v in whole.verdicts} == {"llama/bank-s0", "llama/mine-s0"}


def test_parts_judge_every_lineup_once(tmp_path: Path, pairs: list[Built], judged: Judged) -> None:
    for k in (1, 0):
        run([entry(), entry("noise")], pairs, tmp_path, part=slice(k, None, 2))
    first, second = run([entry(), entry("noise")], pairs, tmp_path)
    names = [*sorted(p.spec.name for p in pairs), "llama/bank-s0=llama/bank-s1"]
    assert [v.lineup for v in first.verdicts] == [v.lineup for v in second.verdicts] == names
    assert sorted(judged) == sorted(names * 2)


def test_orders_are_checked_with_the_key_of_the_record(tmp_path: Path, pairs: list[Built], judged: Judged) -> None:
    [here, beside] = run([entry(), entry("noise")], pairs, tmp_path / "here")
    [there] = run([entry()], pairs, tmp_path / "there")
    assert here.id == there.id and here.key == beside.key != there.key
    assert all(v.a_is_faker == a_first(v.lineup, 0, here.key) for v in here.verdicts)
    path = tmp_path / "here" / "lineup" / "random" / here.id[:12] / "lineups.json"
    turned = here.verdicts[0].model_copy(update={"a_is_faker": not here.verdicts[0].a_is_faker})
    here.model_copy(update={"verdicts": [turned]}).write(path.parent)
    with pytest.raises(ValidationFailed, match="in llama/bank-s0 the order is not the one that its key gives"):
        read(path)


def test_records_of_one_strategy_in_two_folders_are_one(tmp_path: Path, pairs: list[Built], judged: Judged) -> None:
    run([entry()], pairs[:2], tmp_path / "one", ["first"], identical=False)
    [other] = run([entry()], pairs[1:], tmp_path / "two", ["second"], identical=False)
    other.verdicts[0] = other.verdicts[0].model_copy(update={"status": "timeout", "probability": None})
    other.write(tmp_path / "two" / "lineup" / "random" / other.id[:12])
    for folders in (["one", "two"], ["two", "one"]):
        [found] = records([tmp_path / f for f in folders])
        assert sorted((v.lineup, v.status) for v in found.verdicts) == [(p.spec.name, "ok") for p in pairs]
        assert sorted(found.sets) == ["first", "second"]


def test_the_strategy_of_the_documentation_runs_as_it_stands(tmp_path: Path, line: Line) -> None:
    page = (Path(__file__).parents[3] / "docs" / "lineup.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "late_noise.py").write_text(code)
    entry = load(str(tmp_path / "late_noise.py"), STRATEGIES)
    verdict = judge(entry, entry.configure({}), line(True))
    assert verdict.status == "ok" and len(code.splitlines()) < 40


def test_two_processes_judge_every_lineup_once_and_try_a_failure_once(
    tmp_path: Path, pairs: list[Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffbench.harness.lineup import settings

    tries = tmp_path / "tries"
    said = f"open({str(tries)!r}, 'a').write('x\\n'); return 1 / 0"
    file = strategy_file(tmp_path, said)
    monkeypatch.setattr(settings, "load", {p.spec: p for p in pairs}.get)
    asked = settings.Asked([str(file), "random"], [], tmp_path, ["made"], 0, identical=False, overwrite=False)
    found = settings.run_named(asked, [p.spec for p in pairs], bool, jobs=2)
    names = sorted(p.spec.name for p in pairs)
    assert [[v.lineup for v in record.verdicts] for record in found] == [names, names]
    assert {v.status for v in found[0].verdicts} == {"failed"} and {v.status for v in found[1].verdicts} == {"ok"}
    assert len(tries.read_text().splitlines()) == 3 and found[0].sets == ["made"]


def test_several_processes_build_what_is_missing_and_stop_at_a_bad_pair(
    tmp_path: Path, pairs: list[Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffbench.harness.lineup import settings

    built = list[str]()

    def build_all(specs: list[PairSpec], *rest: object) -> Iterator[Built]:
        for spec in specs:
            built.append(spec.name)
            yield replace(pairs[0], spec=spec, card=card(spec, faker_poor=0.5))

    monkeypatch.setattr(settings, "load", {pairs[0].spec: pairs[0]}.get)
    monkeypatch.setattr(settings, "build_all", build_all)
    asked = settings.Asked(["random"], [], tmp_path, [], 0, identical=False, overwrite=False)
    with pytest.raises(ValidationFailed, match="llama/bank-s1 fails its gates"):
        settings.run_named(asked, [p.spec for p in pairs], bool, jobs=2)
    assert built == ["llama/bank-s1"] and not (tmp_path / "lineup").exists()
