"""What is kept of a pair between runs: the numbers that measuring anew gives, of this pair alone; a measurement that stopped goes on."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.cli import app
from diffbench.harness import cache as cache_module
from diffbench.harness.cache import Cache, Kept
from diffbench.harness.pairs.interventions import Directions
from diffbench.harness.pairs.sinks import Count, Sinks
from diffbench.harness.protocol.clean_runs import CleanRun
from diffbench.harness.protocol.controls import Controls
from diffbench.harness.protocol.discovery import Panel
from diffbench.harness.protocol.effects import Scorer
from diffbench.harness.runs.harvest import Memory
from diffbench.harness.runs.problem import Problem
from diffbench.harness.runs.stage import Machine, Stage, _numbers_of
from diffbench.methods.contract import Batch, Budget, Finding, Gate
from diffbench.organisms.hub.user_pair import UserPair, user_organism
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from ...conftest import SHORT, save_pair

TINY = SHORT.model_copy(update={"controls": 2, "dev_tokens": 40, "test_tokens": 40, "min_scored": 4})


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(Cache(tmp_path / "cache"), "taboo", {"organism": "a"})


def scorer(stage: Stage, kept: Kept | None, **protocol: Any) -> Scorer:
    few = stage.organism.at(None, 6).behaviour
    return Scorer(stage.pair, few, stage.texts, TINY.model_copy(update=protocol), kept)


def findings(n: int, gated: bool, seed: int = 0) -> Directions:
    noise = torch.randn(n, 128, generator=torch.Generator().manual_seed(seed))
    return Directions.of([Finding(d, Gate(d.flip(0), 1.0) if gated else None) for d in noise])


@pytest.mark.slow
def test_scores_and_all_behind_them_are_the_same_cold_warm_and_without(stage: Stage, kept: Kept) -> None:
    """Whatever was kept by other findings before: more or fewer, gated or not."""
    asked = [findings(2, True), findings(16, False), findings(2, False)]
    together = scorer(stage, None)
    for f in asked:
        expected = scorer(stage, None).score(f)
        assert together.score(f) == expected
        for _ in ("as others left it", "warm"):
            assert scorer(stage, kept).score(f) == expected


def test_a_warm_pair_is_not_measured_again(stage: Stage, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer(stage, kept).score(findings(1, False))
    calls: list[int] = []
    whole = CleanRun.measured
    monkeypatch.setattr(CleanRun, "measured", lambda self, e: calls.append(len(e.which)) or whole(self, e))
    warm = scorer(stage, kept, draws=TINY.draws + 1, min_oracle=0.5)
    warm.score(findings(1, False, seed=1))
    assert 0 < len(calls) <= 4, "the findings alone: dev and test for each side"


def test_false_discoveries_are_the_same_cold_warm_and_without(
    stage: Stage, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = stage.organism.at(None, 6).behaviour

    def panel(kept: Kept | None) -> Panel:
        return Panel(stage.pair, few, stage.texts, TINY, controls=5, kept=kept)

    noise = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    plain = [Finding(d) for d in noise]
    gated = [Finding(d, Gate(d.flip(0), 1.0)) for d in noise]
    expected = [panel(None).test(some) for some in (plain, gated)]
    assert [panel(kept).test(some) for some in (gated, plain)] == expected[::-1]
    calls: list[int] = []
    whole = CleanRun.collateral
    monkeypatch.setattr(CleanRun, "collateral", lambda self, e: calls.append(len(e.which)) or whole(self, e))
    assert panel(kept).test(plain) == expected[0]
    assert calls == [len(TINY.strengths)] * len(plain) * 2, "the findings alone, on each side"


def test_an_interrupted_measurement_goes_on_where_it_stopped(
    stage: Stage, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[str, int]] = []
    frame = Controls._frame

    def counted(self: Controls, kind: str, index: int) -> Directions:
        measured.append((kind, index))
        if stop and kind == "mixture":
            raise KeyboardInterrupt
        return frame(self, kind, index)

    monkeypatch.setattr(Controls, "_frame", counted)
    stop = True
    with pytest.raises(KeyboardInterrupt):
        scorer(stage, kept).score(findings(1, False))
    assert {("isotropic", 0), ("isotropic", 1)} < set(measured)
    stop = False
    measured.clear()
    scorer(stage, kept).score(findings(1, False))
    assert sorted(measured) == [("mixture", 0), ("mixture", 1)]


@pytest.mark.parametrize(
    "changed",
    [
        {"strengths": (0.3, 0.8)},
        {"aim": 0.5},
        {"budgets_nats": (0.01, 0.5)},
        {"dev_tokens": 80},
        {"test_tokens": 80},
        {"scored_gap": 0.2},
    ],
    ids=str,
)
def test_what_changes_a_control_is_in_its_key(stage: Stage, kept: Kept, changed: dict[str, Any]) -> None:
    keys = [
        scorer(stage, kept, controls=1, **more).controls._kept
        for more in ({}, {"draws": 99, "min_oracle": 0.1}, changed)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_what_changes_a_residual_is_in_the_key_of_a_pair(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    o, pair, machine = stage.organism, stage.pair, Machine()
    dropping = [pair.at(2), pair.at(2)]
    for at, factor in zip(dropping, (1.0, 2.0), strict=True):
        at.sinks = Sinks([0, 1], {"base": factor, "tuned": 1.0})
    made = [
        _numbers_of(o, pair, machine),
        _numbers_of(replace(o, sha256="b" * 64), pair, machine),
        _numbers_of(o, pair.at(pair.layer - 1), machine),
        *(_numbers_of(o, at, machine) for at in dropping),
        *(_numbers_of(o, pair, m) for m in (Machine(dtype="bfloat16"), Machine(backend="nnsight"))),
        _numbers_of(o, pair, Machine(device_map="auto")),
    ]
    for name, value in (("get_num_threads", 7), ("get_float32_matmul_precision", "medium")):
        monkeypatch.setattr(torch, name, lambda v=value: v)
        made.append(_numbers_of(o, pair, machine))
    monkeypatch.setattr("diffbench.harness.runs.stage.cpu_name", lambda: "another")
    made.append(_numbers_of(o, pair, machine))
    monkeypatch.setattr("diffbench.harness.runs.stage.package_versions", lambda: {"torch": "0"})
    made.append(_numbers_of(o, pair, machine))
    assert len({json.dumps(m, sort_keys=True) for m in made}) == len(made)


def test_prompts_and_rows_are_in_the_keys(stage: Stage, tmp_path: Path) -> None:
    some = Stage(
        stage.organism.at(None, 6), stage.pair, stage.texts, TINY, 0.0, kept=Kept(Cache(tmp_path), "taboo", {})
    )
    fewer = replace(some, organism=stage.organism.at(None, 5), _scorer=None)
    assert some.scorer.controls._kept != fewer.scorer.controls._kept
    memory, rows = Memory(some.kept), [[1, 2, 3]]
    batch = Batch(torch.ones(3, 2, 4), torch.tensor([1, 2, 3]), torch.arange(3))
    memory.read(rows, lambda _: (batch, Count()))
    for other in ([[1, 2, 4]], [[1, 2], [3]], [[3, 2, 1]]):
        twice = batch._replace(residuals=2 * batch.residuals)
        assert Memory(some.kept).read(other, lambda _, b=twice: (b, Count()))[0].residuals.sum() == 48


def read(stage: Stage, memory: Memory) -> tuple[Problem, torch.Tensor]:
    dev = stage.organism.behaviour.of("dev")
    problem = Problem(stage.pair, stage.texts, dev, "activations", 0, Budget(tokens=4000), memory=memory)
    return problem, torch.cat([b.residuals for b in problem.activations("chat", tokens=1500)])


def test_text_is_read_from_disk_in_the_next_run_and_charged_as_if_it_were_read(
    stage: Stage, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, fresh = read(stage, Memory(kept))
    monkeypatch.setattr(Problem, "_paired", lambda *_: pytest.fail("read a second time"))
    second, known = read(stage, Memory(kept))
    assert torch.equal(fresh, known) and first.tokens_used == second.tokens_used
    assert second.harvest_s + second.spared_s == pytest.approx(first.harvest_s, rel=0.5)


@pytest.mark.parametrize("exact", [True, False])
def test_residuals_of_narrow_models_take_no_more_room_and_lose_no_bit(kept: Kept, exact: bool) -> None:
    residuals = torch.randn(500, 2, 16)
    batch = Batch(residuals.bfloat16().float() if exact else residuals, torch.arange(500), torch.arange(500))
    count = Count(read=500, first=1, special=2, outliers=3, largest=0.1, tokens={7: 3})
    Memory(kept, dtype=torch.bfloat16).read([[1]], lambda _: (batch, count))
    found, left_out, _ = Memory(kept, dtype=torch.bfloat16).read([[1]], lambda _: pytest.fail("read again"))
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, batch, strict=True))
    assert left_out == count
    (stored,) = kept.cache.stored()
    assert stored.bytes == pytest.approx(500 * (2 * 16 * (2 if exact else 4) + 16), abs=1000)


def test_one_run_fills_no_more_than_half_of_what_may_be_kept(tmp_path: Path) -> None:
    """A text longer than the cache would push out everything and be gone before it is read again."""
    memory = Memory(Kept(Cache(tmp_path, most_bytes=100_000), "long", {}))
    batch = Batch(torch.ones(10, 2, 100), torch.arange(10), torch.arange(10))
    for i in range(30):
        memory.read([[i]], lambda _: (batch, Count()))
    assert sum(s.bytes for s in memory._kept.cache.stored()) < 70_000


def test_a_changed_model_is_measured_anew(tmp_path: Path) -> None:
    """The same folders, names and prompts: only a weight is another."""
    base, adapter, behaviour = save_pair(tmp_path, "llama")
    cache = Cache(tmp_path / "cache")

    def rows(cache: Cache | None) -> torch.Tensor:
        organism = user_organism(UserPair(base=str(base), adapter=str(adapter), behaviour=str(behaviour)))
        stage = Stage.load(organism, "cpu", TINY, cache=cache)
        return read(stage, stage.memory)[1]

    before = rows(cache)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({n: 1.5 * w for n, w in weights.items()}, adapter / "adapter_model.safetensors", {"format": "pt"})
    after = rows(cache)
    assert not torch.equal(before, after) and torch.equal(after, rows(None)) and torch.equal(after, rows(cache))


def bench(tmp_path: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """A small cell by command; its exit code, result, and what was said besides."""
    options = "-m mean_diff -o taboo/gold-narrow --set mean_diff.tokens=300 --limit 9 --json --overwrite --out".split()
    done = CliRunner().invoke(app, ["run", *options, str(tmp_path / "runs"), *words])
    return done.exit_code, json.loads(done.stdout) if done.exit_code == 0 else {}, done.stderr


@pytest.mark.slow
def test_a_run_keeps_what_it_measured_unless_told_not_to_and_goes_on_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffbench.harness.runs.cell.PROTOCOL_V2", TINY)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "kept"))
    outcome = ("scores", "samples", "choices", "curves", "readings")
    code, without, _ = bench(tmp_path, "--no-cache")
    assert code == 0 and not list(Cache.of_user().stored())
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, "No space left on device")
        patch.setattr(cache_module, "save_file", lambda *_: (_ for _ in ()).throw(full))
        code, lost, said = bench(tmp_path)
    assert code == 0 and said.count("No space left") == 1 and not list(Cache.of_user().stored())
    assert "No space left" in (next((tmp_path / "runs").glob("*/*/*/*")) / "run.log").read_text()
    _, cold, said = bench(tmp_path)
    assert {s.kind for s in Cache.of_user().stored()} == {"residuals", "controls", "readings"} and "kept" not in said
    monkeypatch.setattr(Problem, "_paired", lambda *_: pytest.fail("read a second time"))
    _, warm, _ = bench(tmp_path)
    for name in outcome:
        assert without[name] == lost[name] == cold[name] == warm[name], name
