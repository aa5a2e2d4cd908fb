"""The instrument measures what it says: anchors where they belong, and nothing is won by trickery."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffbench.harness.pairs.interventions import Directions, Option, coefficient, movement, unit
from diffbench.harness.protocol.controls import SCORE_SEED
from diffbench.harness.protocol.effects import Scorer
from diffbench.harness.protocol.intervals import harmonic, hypervolume, normalised, point, summarise
from diffbench.harness.records.result import Samples
from diffbench.harness.records.settings import NotScorable, Protocol
from diffbench.harness.runs.problem import AccessError, Problem
from diffbench.harness.runs.stage import Stage
from diffbench.methods.anchors import Supervised, SupervisedConfig
from diffbench.methods.baselines import RandomDirections
from diffbench.methods.contract import Batch, Budget, DiffResult, Finding, Gate, NoConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from ...conftest import SHORT


def problem(stage: Stage, access: str = "supervised") -> Problem:
    return Problem(stage.pair, stage.texts, stage.organism.behaviour.of("dev"), access, 0, Budget(tokens=4000))


def supervised(stage: Stage, swap: torch.Tensor | None = None) -> DiffResult:
    """The supervised anchor, optionally with base and organism exchanged on some tokens."""
    real = problem(stage)

    class Told:
        def labelled(self) -> tuple[Batch, torch.Tensor]:
            batch, wanted = real.labelled()
            if swap is not None:
                flip = swap[: len(wanted)] if len(swap) >= len(wanted) else swap.repeat(len(wanted))[: len(wanted)]
                residuals = torch.where(flip[:, None, None], batch.residuals.flip(1), batch.residuals)
                batch = batch._replace(residuals=residuals)
            return batch, wanted

    return Supervised(SupervisedConfig(per_token=False)).diff(Told())  # type: ignore[arg-type]


def scores(stage: Stage, findings: list[Finding]) -> dict[str, float]:
    draws = point(stage.scorer.samples(Directions.of(findings), SCORE_SEED).samples)
    return {name: float(getattr(draws, name)[0]) for name in draws._fields}


@pytest.fixture(scope="module")
def truth(stage: Stage) -> Finding:
    return supervised(stage).findings[0]


def test_oracle_is_one_and_supervised_is_solvable(stage: Stage, truth: Finding) -> None:
    oracle = point(stage.scorer.oracle_samples())
    assert [float(v[0]) for v in oracle] == pytest.approx([1, 1, 1, 1])
    gap = float((stage.scorer.b1 - stage.scorer.b0).mean())
    assert min(stage.scorer.oracle[s].mean() / gap for s in ("sufficiency", "necessity")) >= 0.8
    assert scores(stage, [truth])["isolation"] >= 0.3


def test_a_zero_direction_scores_nothing(stage: Stage) -> None:
    got = scores(stage, [Finding(torch.zeros(stage.pair.d_model))])
    assert got["isolation"] == 0 and got["sufficiency"] <= 0 and got["necessity"] <= 0 and got["mitigation"] == 0


def test_the_anti_oracle_scores_nothing(stage: Stage, truth: Finding) -> None:
    """The opposite direction. Removal by projection has no sign, so it is constant strengths that must not pay."""
    got = scores(stage, [Finding(-truth.direction, truth.gate)])
    assert got["sufficiency"] <= 0 and got["isolation"] == 0


def test_permuted_dev_labels_score_nothing(stage: Stage, truth: Finding) -> None:
    """Dev prompts ask for another value of the slot than the organism learned; test prompts stay. Nothing useful is chosen."""
    behaviour = stage.organism.behaviour
    rotated = [
        p
        if p.split == "test"
        else p.model_copy(update={"targets": p.alternatives[:1], "alternatives": (*p.alternatives[1:], *p.targets)})
        for p in behaviour.prompts
    ]
    permuted = Scorer(stage.pair, behaviour.model_copy(update={"prompts": tuple(rotated)}), stage.texts, SHORT)
    got = point(permuted.samples(Directions.of([truth]), SCORE_SEED).samples)
    assert float(got.sufficiency[0]) <= 0.1 and float(got.isolation[0]) <= 0.1
    assert float(got.isolation[0]) < 0.15 * scores(stage, [truth])["isolation"]


def test_a_random_method_is_never_its_own_control(stage: Stage) -> None:
    controls = [
        stage.scorer._control(Directions.of([Finding(torch.ones(stage.pair.d_model))]), SCORE_SEED, i) for i in range(3)
    ]
    for seed in range(16):
        found = RandomDirections(NoConfig()).diff(SimpleNamespace(seed=seed, d_model=stage.pair.d_model)).findings  # type: ignore[arg-type]
        ours = unit(torch.stack([f.direction for f in found]))
        assert all(float((ours @ c.directions.direction.T).abs().max()) < 0.9 for c in controls)


def test_exchanged_sides_score_nothing(stage: Stage) -> None:
    """Which of the two residuals is the organism's is shuffled, half and half, on the prompts where the behaviour is due."""
    isolation: list[float] = []
    for seed in range(3):
        _, wanted = problem(stage).labelled()
        at = (wanted >= 0).nonzero()[:, 0]
        swap = torch.zeros(len(wanted), dtype=torch.bool)
        swap[at[torch.randperm(len(at), generator=torch.Generator().manual_seed(seed))[: len(at) // 2]]] = True
        isolation.append(scores(stage, [Finding(supervised(stage, swap=swap).findings[0].direction)])["isolation"])
    assert np.mean(isolation) <= 0.05, isolation


def test_sixteen_copies_score_no_more_than_one(stage: Stage, truth: Finding) -> None:
    one, many = scores(stage, [truth]), scores(stage, [truth] * 16)
    assert all(many[name] <= one[name] + 1e-6 for name in one)


def test_a_finding_has_no_scale(stage: Stage, truth: Finding) -> None:
    long = Finding(truth.direction * 1000, Gate(truth.gate.read * 7, truth.gate.threshold * 7))
    assert scores(stage, [long]) == pytest.approx(scores(stage, [truth]), abs=1e-5)


def test_noise_on_the_truth_lowers_the_score(stage: Stage, truth: Finding) -> None:
    noise = unit(torch.randn(stage.pair.d_model, generator=torch.Generator().manual_seed(5)))
    levels = [scores(stage, [Finding(unit(truth.direction) + level * noise)])["isolation"] for level in (0.0, 2.0, 8.0)]
    assert levels[0] > levels[1] > levels[2]


def test_scores_are_bitwise_reproducible(stage: Stage, truth: Finding) -> None:
    fresh = Scorer(stage.pair, stage.organism.behaviour, stage.texts, SHORT)
    assert fresh.samples(Directions.of([truth]), 0) == stage.scorer.samples(Directions.of([truth]), 0)


def test_a_control_remembered_from_another_cell_is_the_same_control(stage: Stage, truth: Finding) -> None:
    """Constant controls are kept between cells; the memory must not depend on which findings came first."""
    fresh = Scorer(stage.pair, stage.organism.behaviour, stage.texts, SHORT)
    fresh.samples(Directions.of([truth, Finding(torch.ones(stage.pair.d_model))]), 0)
    plain = Finding(truth.direction)
    alone = Scorer(stage.pair, stage.organism.behaviour, stage.texts, SHORT)
    assert fresh.samples(Directions.of([plain]), 0) == alone.samples(Directions.of([plain]), 0)


def test_a_behaviour_without_a_gap_is_refused(stage: Stage) -> None:
    with pytest.raises(NotScorable, match=r"gap of at least 0.99"):
        Scorer(stage.pair, stage.organism.behaviour, stage.texts, SHORT.model_copy(update={"min_gap": 0.99}))


def test_a_gap_that_may_be_nothing_and_an_oracle_that_carries_little_are_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour, gap = stage.organism.behaviour, stage.scorer.b1 - stage.scorer.b0
    of, order = behaviour.of("test"), gap.abs().argsort().tolist()
    swapped = [
        of[i].model_copy(update={"targets": of[i].alternatives, "alternatives": of[i].targets}) for i in order[:2]
    ]
    few = behaviour.model_copy(update={"prompts": (*behaviour.of("dev"), of[order[-1]], *swapped)})
    with pytest.raises(NotScorable, match=r"gap on 3 test prompts is .* it may be nothing"):
        Scorer(stage.pair, few, stage.texts, SHORT)
    whole = Scorer._patch
    for share, refused in ((0.19, True), (0.21, False)):
        monkeypatch.setattr(Scorer, "_patch", lambda self, name, by=share: by * whole(self, name))
        if refused:
            with pytest.raises(NotScorable, match=r"recovers 0\.19 .*hook another layer"):
                Scorer(stage.pair, behaviour, stage.texts, SHORT)
        else:
            Scorer(stage.pair, behaviour, stage.texts, SHORT)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.01, 1000), st.integers(1, 5))
def test_findings_that_cancel_move_nothing_whatever_their_scale(seed: int, scale: float, copies: int) -> None:
    d = torch.randn(64, generator=torch.Generator().manual_seed(seed))
    opposite = Directions.of([Finding(d), Finding(-scale * d)] * copies + [Finding(torch.zeros(64))])
    h = torch.ones(1, 64)
    for gated in (False, True):
        assert not movement(h, opposite, "add", len(opposite.direction), gated).any()
    with_rest = Directions.of([Finding(d), Finding(-scale * d), Finding(d.flip(0))])
    torch.testing.assert_close(movement(h, with_rest, "add", 3, False)[0], unit(d.flip(0)), atol=1e-5, rtol=0)


def test_access_beyond_the_declared_tier_is_refused(stage: Stage) -> None:
    with pytest.raises(AccessError, match="labels"):
        problem(stage, "activations").labelled()
    with pytest.raises(AccessError, match="contrastive"):
        next(problem(stage, "activations").activations("contrastive"))


def test_the_token_budget_is_kept_exactly(stage: Stage) -> None:
    p = problem(stage, "activations")
    got = [len(b.ids) for b in p.activations("neutral", batch_tokens=500, tokens=1234)]
    assert got == [500, 500, 234] and p.tokens_used == 1234
    assert sum(len(b.ids) for b in p.activations("chat")) == 4000 - 1234
    assert not list(p.activations("neutral"))


def test_movements_do_what_the_docstring_says() -> None:
    h = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    d = Directions.of(
        [Finding(torch.tensor([2.0, 0, 0]), Gate(torch.tensor([0, 0, 1.0]), 1.0)), Finding(torch.tensor([0, 5.0, 0]))]
    )
    assert torch.allclose(movement(h, d, "add", 1, False), torch.tensor([[1.0, 0, 0], [1.0, 0, 0]]))
    assert torch.allclose(movement(h, d, "add", 1, True), torch.tensor([[0.0, 0, 0], [1.0, 0, 0]]))
    both = torch.tensor([1.0, 1, 0]) / 2**0.5
    assert torch.allclose(movement(h, d, "add", 2, True), torch.stack([torch.tensor([0.0, 1, 0]), both]))
    assert torch.allclose(movement(h, d, "project", 2, False), torch.tensor([[3.0, 4, 0], [0, 0, 0]]))
    assert torch.allclose(movement(h, d, "project", 1, True), torch.zeros(2, 3))
    assert coefficient(Option("subtract", 1, False, 0.5), 10.0) == -5.0
    assert coefficient(Option("project", 1, False, 0.5), 10.0) == -0.5


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6))
def test_hypervolume_is_the_area_of_the_union(points: list[tuple[float, float]]) -> None:
    x, y = np.array(points).T
    grid = (np.arange(200) + 0.5) / 200
    height = np.array([max([0.0, *(b - 0.8 for a, b in points if a >= g)]) for g in grid])
    assert float(hypervolume(x, y)) == pytest.approx(height.mean(), abs=0.2 / 200 * len(points) + 1e-9)
    assert float(hypervolume(x, y)) <= float(hypervolume(np.append(x, 1.0), np.append(y, 1.0))) == pytest.approx(0.2)


def test_normalised_and_harmonic_refuse_to_invent() -> None:
    a = np.array
    assert normalised(a([0.5]), a([0.1]), a([0.9]))[0] == pytest.approx(0.5)
    assert normalised(a([2.0]), a([0.0]), a([1.0]))[0] == 1.0
    assert np.isnan(normalised(a([0.5]), a([0.9]), a([0.9]))[0])
    assert list(harmonic(a([0.5, -0.1, 0.5]), a([0.5, 0.9, 0.0]))) == [0.5, 0.0, 0.0]
    assert np.isnan(harmonic(a([np.nan]), a([0.5]))[0])


def test_a_mitigation_without_a_scale_is_none(stage: Stage) -> None:
    samples = stage.scorer.oracle_samples().model_copy(update={"retention_off": 0.8})
    summary = summarise(Samples.model_validate(samples.model_dump()), 50, 0)
    assert summary.mitigation.value is None and summary.mitigation.ci_low is None
    assert summary.isolation.value == pytest.approx(1.0)


def test_protocol_settings_are_part_of_the_identity() -> None:
    assert (
        Protocol().controls >= 16
        and Protocol().budgets_nats == (0.01, 0.03, 0.1, 0.3, 1.0)
        and Protocol().ks == (1, 3, 10)
    )
