"""The instrument measures what it says: anchors where they belong, budgets kept, and nothing is won by trickery."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffbench.harness.pairs.interventions import NOTHING, Option, edits, unit
from diffbench.harness.protocol.effects import Scorer
from diffbench.harness.protocol.intervals import Draws, point, upper_end
from diffbench.harness.protocol.procedure import Candidate, Point, Procedure, Taken
from diffbench.harness.records.settings import NotScorable
from diffbench.harness.runs.problem import AccessError, Problem
from diffbench.harness.runs.stage import Stage
from diffbench.methods.anchors import Supervised, SupervisedConfig
from diffbench.methods.contract import Batch, Budget, DiffResult, Finding, Gate
from torch import Tensor

from ...conftest import SHORT


def problem(stage: Stage, access: str = "supervised") -> Problem:
    return Problem(stage.pair, stage.texts, stage.organism.behaviour.of("dev"), access, 0, Budget(tokens=4000))


def supervised(stage: Stage, swap: Tensor | None = None) -> DiffResult:
    """The supervised anchor, optionally with base and organism exchanged on some tokens."""
    real = problem(stage)

    class Told:
        def labelled(self) -> tuple[Batch, Tensor]:
            batch, wanted = real.labelled()
            if swap is not None:
                flip = swap[: len(wanted)] if len(swap) >= len(wanted) else swap.repeat(len(wanted))[: len(wanted)]
                residuals = torch.where(flip[:, None, None], batch.residuals.flip(1), batch.residuals)
                batch = batch._replace(residuals=residuals)
            return batch, wanted

    return Supervised(SupervisedConfig(per_token=False)).diff(Told())  # type: ignore[arg-type]


def scores(stage: Stage, findings: Sequence[Finding], scorer: Scorer | None = None) -> dict[str, float]:
    scorer = scorer or stage.scorer
    draws = point(scorer.score(scorer.directions(findings)).samples)
    return {name: float(getattr(draws, name)[0]) for name in draws._fields}


@pytest.fixture(scope="module")
def truth(stage: Stage) -> Finding:
    return supervised(stage).findings[0]


def test_oracle_is_one_and_supervised_is_solvable(stage: Stage, truth: Finding) -> None:
    oracle = point(stage.scorer.oracle_samples())
    assert [float(v[0]) for v in oracle] == pytest.approx([1.0] * len(Draws._fields))
    assert min(stage.scorer.closeness(e) for e in stage.scorer.oracle.values()) >= 0.8
    assert scores(stage, [truth])["isolation"] >= 0.3


def test_a_zero_direction_scores_nothing(stage: Stage) -> None:
    got = scores(stage, [Finding(torch.zeros(stage.pair.d_model))])
    assert got["isolation"] == 0 and got["sufficiency"] <= 0 and got["necessity"] <= 0 and got["mitigation"] <= 0


def test_the_anti_oracle_scores_nothing(stage: Stage, truth: Finding) -> None:
    """The opposite direction, added, subtracted or ablated: what lies beyond the base stays where it is."""
    got = scores(stage, [Finding(-truth.direction, truth.gate)])
    assert max(got[f"{name}{c}"] for name in ("sufficiency", "necessity") for c in ("", "_constant")) <= 0.05
    assert got["isolation"] == 0 and got["mitigation"] <= 0.05


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
    assert scores(stage, [long]) == pytest.approx(scores(stage, [truth]), abs=1e-4)


def test_noise_on_the_truth_lowers_the_score(stage: Stage, truth: Finding) -> None:
    noise = unit(torch.randn(stage.pair.d_model, generator=torch.Generator().manual_seed(5)))
    levels = [scores(stage, [Finding(unit(truth.direction) + level * noise)])["isolation"] for level in (0.0, 2.0, 8.0)]
    assert levels[0] > levels[1] > levels[2]


def test_without_gates_there_is_one_column_and_both_names_are_its(stage: Stage, truth: Finding) -> None:
    scored = stage.scorer.score(stage.scorer.directions([Finding(truth.direction)]))
    assert scored.samples.gated is None and {c.column for c in scored.choices} == {"constant"}
    got = scores(stage, [Finding(truth.direction)])
    assert all(got[name] == got[f"{name}_constant"] for name in ("isolation", "sufficiency", "necessity"))


def test_under_a_gate_mitigation_is_compared_with_directions_under_it(stage: Stage, truth: Finding) -> None:
    """A good gate alone takes the behaviour out: that is what random directions under it do, and no success of a useless one."""
    scorer, ks = stage.scorer, stage.scorer.ks(1)
    useless = unit(torch.randn(stage.pair.d_model, generator=torch.Generator().manual_seed(7)))
    directions = scorer.directions([Finding(useless, truth.gate)])
    under = [scorer.controls.under(directions, ks, i) for i in range(SHORT.controls)]
    volumes = [scorer.controls.draw(c, t).volume for c in under for t in scorer._procedure.both([c])]
    samples = scorer.score(directions).samples
    assert samples.mitigation_controls == pytest.approx(volumes, abs=1e-5)
    plain = scorer.controls.null("isotropic", ks).volumes
    assert samples.mitigation_controls != pytest.approx(plain.tolist(), abs=1e-3)


def test_a_gate_moves_the_gated_column_alone(stage: Stage, truth: Finding) -> None:
    """A gate that is never open wins nothing there, and the other column does not see it."""
    shut = scores(stage, [Finding(truth.direction, Gate(truth.direction, 1e9))])
    plain = scores(stage, [Finding(truth.direction)])
    assert shut["isolation"] == 0 and shut["sufficiency"] <= 0
    assert shut["isolation_constant"] == pytest.approx(plain["isolation_constant"], abs=1e-6)


def test_scores_are_bitwise_reproducible_and_do_not_depend_on_what_was_scored_before(
    stage: Stage, truth: Finding
) -> None:
    """A random draw that is remembered from another cell is the same draw, whatever numbers of findings came first."""
    fresh = Scorer(stage.pair, stage.organism.behaviour, stage.texts, SHORT)
    stage.scorer.score(stage.scorer.directions([truth, Finding(torch.ones(stage.pair.d_model))]))
    for findings in ([Finding(truth.direction)], [truth]):
        alone, after = (s.score(s.directions(findings)) for s in (fresh, stage.scorer))
        assert alone == after


def test_a_control_has_no_more_directions_than_the_findings_it_stands_for(stage: Stage) -> None:
    """One finding is compared with draws of one direction, whatever the protocol's numbers."""
    one = stage.scorer.controls.null("isotropic", (1,))
    alone = stage.scorer.score(stage.scorer.directions([Finding(torch.ones(stage.pair.d_model))])).samples
    assert alone.constant.necessity.null == pytest.approx(one.mean["necessity"].tolist(), abs=1e-6)
    assert len(one.shares["necessity"]) == SHORT.controls


def taken(points: list[Point], high: dict[float, float], budgets: Sequence[float] = (0.01, 0.1, 1.0)) -> list[Taken]:
    """What budgets keep of options whose cost on test has this upper end, by strength; on test only they are asked, and gain .1."""
    run: Any = SimpleNamespace(gap=np.ones(2), rates=torch.tensor([0.2, 0.4]))
    procedure = Procedure({("base", "test"): run}, SHORT.model_copy(update={"budgets_nats": tuple(budgets)}))
    says = {"base test": lambda s: [0.1, 0.1, 0.3], "base collateral": lambda s: [0.9 * high[s], high[s]]}
    here: Any = procedure
    here.points = lambda name, candidates: [points]
    asked: dict[str, set[float]] = {}

    def measured(what: str, candidates: object, options: Sequence[Sequence[Option]]) -> list[dict[Option, list[float]]]:
        asked[what] = {o.strength for some in options for o in some}
        return [{o: says[what](o.strength) for o in some} for some in options]

    here._measured = measured
    found = procedure.taken("sufficiency", [SimpleNamespace(random=False)])[0]  # type: ignore[list-item]
    assert asked["base test"] == {t.point.option.strength for t in found if t.point}
    return found


def option(strength: float, gain: float, kl: float) -> Point:
    return Point(Option("add", 1, False, strength), gain, 0.5, kl)


def kept(points: list[Point], high: dict[float, float]) -> list[float | None]:
    """Strengths that count under each budget."""
    return [t.point.option.strength if t.point else None for t in taken(points, high)]


def test_an_option_counts_under_the_budgets_that_the_upper_end_of_its_cost_keeps() -> None:
    """Chosen for .01 and dearer on test, it stands under .1; there the one that gains more on dev is taken."""
    both = [option(0.2, 0.3, 0.008), option(0.5, 0.6, 0.08)]
    assert kept(both, {0.2: 0.009, 0.5: 0.09}) == [0.2, 0.5, 0.5]
    assert kept(both, {0.2: 0.011, 0.5: 0.09}) == [None, 0.5, 0.5]
    assert kept(both, {0.2: 0.009, 0.5: 0.11}) == [0.2, 0.2, 0.5]
    assert kept(both, {0.2: 0.011, 0.5: 1.1}) == [None, 0.2, 0.2]
    assert kept(both, {0.2: 9.0, 0.5: 9.0}) == [None, None, None]


def test_a_gate_on_a_finding_that_is_never_used_opens_no_column(stage: Stage, truth: Finding) -> None:
    noise = torch.randn(10, stage.pair.d_model, generator=torch.Generator().manual_seed(0))
    ten = [Finding(truth.direction), *(Finding(d) for d in noise[:9])]
    plain = scores(stage, ten)
    assert scores(stage, [*ten, Finding(noise[9], truth.gate)]) == plain and plain["isolation"] > 0.1


def test_what_controls_cost_on_test_is_read_on_the_first_rows_and_spread_as_on_all(stage: Stage) -> None:
    longer = SHORT.model_copy(update={"test_tokens": 400, "control_tokens": 100})
    scorer = Scorer(stage.pair, stage.organism.behaviour, stage.texts, longer)
    run, n = scorer.clean_run("base", "test"), len(scorer.clean_run("base", "test").brief.row)
    assert 0 < n < len(run.read.row) and torch.equal(run.brief.row, run.read.row[:n])
    findings, option = scorer.directions([Finding(torch.ones(stage.pair.d_model))]), Option("add", 1, False, 0.5)
    made = edits([option], findings, scorer.clean_run("base", "dev").scale)
    some = run.brief.edited(made)[0].double().numpy()
    np.testing.assert_allclose(run.read.edited(made)[0][:n], some, atol=1e-5)
    known = scorer._procedure._measured("base brief", [Candidate(findings, (1,), random=True)], [[option]])[0]
    mean, high = known[option]
    assert mean == some.mean()
    width = upper_end(some, run.brief.row.numpy()) - mean
    assert high - mean == pytest.approx(width * np.sqrt(n / len(run.read.row))) and width > 0


def test_what_no_option_keeps_does_nothing() -> None:
    nothing = taken([option(0.2, 0.3, 0.008)], {0.2: 5.0})[0]
    assert not nothing.effect.any() and nothing.rate == pytest.approx(0.3) and nothing.kl_nats == 0


def test_of_options_that_gain_the_same_the_first_is_chosen_and_one_that_harms_never() -> None:
    free = {0.2: 0.0, 0.3: 0.0, 0.4: 0.0}
    assert kept([option(0.2, -0.1, 0.001), option(0.3, 0.2, 0.002), option(0.4, 0.2, 0.003)], free) == [0.3] * 3
    assert kept([option(0.2, 0.0, 0.001)], free) == [None] * 3


def test_closeness_is_nothing_for_nothing_one_for_the_other_model_and_less_for_overshoot() -> None:
    """Two scored prompts with gaps .4 and .2; a third, on which the models agree, adds nothing."""
    here: Any = SimpleNamespace(scored=torch.tensor([True, True, False]), gap=torch.tensor([0.4, 0.2, 0.01]))
    own, other = np.array([0.2, 0.7, 0.5]), np.array([0.6, 0.5, 0.51])
    for edited, wanted in (
        (own, 0.0),
        (other, 1.0),
        ([0.6, 0.7, 0.9], 0.4 / 0.6),
        ([1.0, 0.5, 0.5], 0.2 / 0.6),  # as far beyond as it was short of it
        ([0.0, 0.9, 0.5], -0.4 / 0.6),
    ):
        effect = np.abs(own - other) - np.abs(np.array(edited) - other)
        assert Scorer.closeness(here, effect) == pytest.approx(wanted)


def test_doing_nothing_and_the_whole_residual_stand_at_both_ends(stage: Stage) -> None:
    scorer = stage.scorer
    run = scorer.clean_run("base", "test")
    nothing = edits([NOTHING], scorer.directions([Finding(torch.ones(stage.pair.d_model))]), 1.0)
    away, rates = run.measured(nothing)
    assert torch.equal(away[0], run.gap) and torch.equal(rates[0], run.rates)
    assert scorer.closeness(scorer.oracle["sufficiency"]) == pytest.approx(1, abs=0.02)


def test_a_behaviour_without_a_gap_is_refused(stage: Stage) -> None:
    with pytest.raises(NotScorable, match=r"differ by 0.99 or more on 0 of \d+ test prompts"):
        Scorer(stage.pair, stage.organism.behaviour, stage.texts, SHORT.model_copy(update={"scored_gap": 0.99}))


def test_a_gap_that_may_be_nothing_and_an_oracle_that_carries_little_are_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour = stage.organism.behaviour
    of = behaviour.of("test")
    swapped = [p.model_copy(update={"targets": p.alternatives, "alternatives": p.targets}) for p in of[::2]]
    mixed = behaviour.model_copy(update={"prompts": (*behaviour.of("dev"), *of[1::2], *swapped)})
    with pytest.raises(NotScorable, match=r"gap on \d+ test prompts is .* it may be nothing"):
        Scorer(stage.pair, mixed, stage.texts, SHORT)
    whole = Scorer._patch
    monkeypatch.setattr(Scorer, "_patch", lambda self, name: 0.39 * whole(self, name))
    with pytest.raises(NotScorable, match=r"closes 0\.3\d of the gap .*hook another layer"):
        Scorer(stage.pair, behaviour, stage.texts, SHORT)


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
