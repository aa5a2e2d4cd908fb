import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from diffbench.methods.anchors import Supervised, SupervisedConfig
from diffbench.methods.baselines import MeanDiffConfig, MeanDifference
from diffbench.methods.contract import Batch, Method, check_findings
from diffbench.methods.differences import ActivationError
from diffbench.methods.linear import (
    PCA,
    PCAConfig,
    Probe,
    ProbeConfig,
    RandomDifference,
    RandomDifferenceConfig,
    WeightSVD,
    WeightSVDConfig,
    logistic,
)
from diffbench.organisms.organism import truth_direction
from torch import Tensor

from . import pairs
from .fakes import FakeProblem, planted, problem_of
from .pairs import D, cos, narrow, one_writer, rows


class TestRandomDifference:
    def test_findings_are_differences_of_single_tokens_from_both_texts(self) -> None:
        residuals, _ = narrow()
        problem = problem_of(residuals)
        chosen = rows(RandomDifference().diff(problem))
        assert len(chosen) == 16
        nearest = (chosen[:, None] - (residuals[:, 1] - residuals[:, 0])).norm(dim=2)
        assert (nearest.min(1).values < 1e-5).all() and len(nearest.argmin(1).unique()) == 16
        assert (nearest.argmin(1) < 1000).any() and (nearest.argmin(1) >= 1000).any()

    def test_draws_are_uniform(self) -> None:
        """Over 400 seeds the 16 draws from 200 tokens hit each half as often as the other (5 sd)."""
        marks = torch.zeros(200, 2, D)
        marks[:, 1, 0] = torch.arange(200) + 1.0
        problem = FakeProblem({"neutral": marks[:100], "chat": marks[100:]})
        hits = []
        for problem.seed in range(400):
            hits += rows(RandomDifference().diff(problem))[:, 0].tolist()
        assert abs(sum(h > 100 for h in hits) / len(hits) - 0.5) < 5 * 0.5 / math.sqrt(len(hits))

    def test_seeds_differ_and_a_mixture_approaches_the_mean_difference(self) -> None:
        residuals, _ = narrow()
        first, second = (rows(RandomDifference().diff(problem_of(residuals, seed=s))) for s in (0, 1))
        assert not torch.equal(first, second)
        mixed = rows(RandomDifference(RandomDifferenceConfig(mix=100)).diff(problem_of(residuals)))
        mean = rows(MeanDifference(MeanDiffConfig()).diff(problem_of(residuals)))[0]
        assert len(mixed) == 16 and min(cos(m, mean) for m in mixed) > 0.8


class TestPCA:
    def test_is_the_singular_value_decomposition_of_the_centred_differences(self) -> None:
        residuals, _ = narrow()
        result = PCA().diff(FakeProblem({"neutral": residuals[:1500], "chat": residuals[1500:]}))
        delta = (residuals[:, 1].double() - residuals[:, 0].double()).numpy()
        _, s, vt = np.linalg.svd(delta - delta.mean(0), full_matrices=False)
        assert result.diagnostics["spectrum"] == pytest.approx(s**2 / (s**2).sum(), rel=1e-9)
        for finding, v in zip(result.findings, vt, strict=False):
            assert abs(cos(finding.direction, torch.from_numpy(v))) > 1 - 1e-9

    @pytest.mark.parametrize("centred", [True, False])
    def test_finds_a_rare_direction_pointing_to_the_fine_tuned_model(self, centred: bool) -> None:
        residuals, v = narrow()
        best = PCA(PCAConfig(centred=centred)).diff(problem_of(residuals)).findings[0]
        assert cos(best.direction, v) > 0.99 and best.score > 0.9
        swapped = PCA(PCAConfig(centred=centred)).diff(problem_of(residuals.flip(1))).findings[0]
        assert cos(swapped.direction, v) < -0.99

    def test_finds_planted_exclusive_atoms(self) -> None:
        truth = planted(d=D, n_exclusive=3)
        found = rows(PCA(PCAConfig(components=3)).diff(problem_of(truth.residuals_T2d)))
        basis = torch.linalg.svd(found, full_matrices=False).Vh
        assert ((truth.exclusive_Ed @ basis.T).norm(dim=1) > 0.99).all()

    def test_a_constant_shift_is_the_mean_and_no_centred_component(self) -> None:
        residuals, v = narrow()
        shift = torch.zeros(D)
        shift[0] = 7.0
        moved = residuals + torch.stack([torch.zeros(D), shift])
        assert abs(cos(PCA().diff(problem_of(moved)).findings[0].direction, v)) > 0.99
        uncentred = PCA(PCAConfig(centred=False)).diff(problem_of(moved)).findings[0]
        assert cos(uncentred.direction, shift) > 0.99
        base = residuals[:, :1].expand(-1, 2, -1) * 0 + torch.stack([torch.zeros(D), shift])
        constant = PCA().diff(problem_of(base)).findings
        assert len(constant) == 1 and not constant[0].direction.any()
        assert constant[0].evidence["note"] == "the difference is the same at every token"

    def test_effective_dimension_counts_directions_of_equal_variance(self) -> None:
        g = torch.Generator().manual_seed(0)
        base = torch.randn(60_000, D, generator=g)
        ft = base.clone()
        ft[:, :4] += torch.randn(60_000, 4, generator=g)
        result = PCA(PCAConfig(tokens=60_000)).diff(problem_of(torch.stack([base, ft], 1)))
        assert result.diagnostics["effective_dimension"] == pytest.approx(4, rel=0.01)


class TestWeightSVD:
    def test_finds_what_a_changed_matrix_writes_with_the_sign_of_the_mean_difference(self) -> None:
        residuals, v = narrow()
        for sign in (1, -1):
            result = WeightSVD().diff(problem_of(residuals, changes=one_writer(sign * v)))
            assert len(result.findings) == 1 and cos(result.findings[0].direction, v) > 1 - 1e-9
            assert float(result.findings[0].direction.norm()) == pytest.approx(2.0)
        down = WeightSVD().diff(problem_of(residuals.flip(1), changes=one_writer(v))).findings[0]
        assert cos(down.direction, v) < -1 + 1e-9

    def test_directions_and_values_are_those_of_the_singular_value_decomposition(self) -> None:
        g = torch.Generator().manual_seed(0)
        change = torch.randn(D, 4, generator=g) @ torch.randn(4, 50, generator=g)
        result = WeightSVD().diff(problem_of(narrow()[0], changes={"layers.1.self_attn.o_proj": change}))
        u, s, _ = torch.linalg.svd(change, full_matrices=False)
        assert [f.evidence["singular_value"] for f in result.findings] == pytest.approx(s[:4].tolist(), rel=1e-5)
        assert all(abs(cos(f.direction, c)) > 1 - 1e-6 for f, c in zip(result.findings, u.T, strict=False))

    @pytest.mark.parametrize(("rank", "first"), [("share", "layers.0.mlp.down_proj"), ("singular_value", "x.o_proj")])
    def test_ranking(self, rank: Any, first: str) -> None:
        """A small change of rank 1 against a large one of rank 2."""
        e = torch.eye(D)
        changes = one_writer(e[0], sigma=1.0) | {"x.o_proj": 3 * torch.outer(e[1], e[1]) + 2 * torch.outer(e[2], e[2])}
        findings = WeightSVD(WeightSVDConfig(rank=rank)).diff(problem_of(narrow()[0], changes=changes)).findings
        assert findings[0].evidence["matrix"] == first and len(findings) == 3

    def test_matrices_that_do_not_write_into_the_residual_stream_are_left_out(self) -> None:
        changes = {name: torch.ones(D, D) for name in ("layers.0.self_attn.q_proj", "layers.0.mlp.up_proj")}
        result = WeightSVD().diff(problem_of(narrow()[0], changes=changes))
        assert not rows(result).any() and result.diagnostics["writers"] == 0
        assert "no matrix" in result.findings[0].evidence["note"]

    def test_damaged_weights_are_refused(self) -> None:
        with pytest.raises(ActivationError, match="weight changes contain NaN"):
            WeightSVD().diff(problem_of(narrow()[0], changes={"x.o_proj": torch.full((D, D), float("nan"))}))


@dataclass
class Labelled(FakeProblem):
    """A fake whose labels are known: the behaviour is due at every ninth token."""

    def labelled(self) -> tuple[Batch, Tensor]:
        residuals = self.texts["neutral"]
        n = len(residuals)
        return Batch(residuals, torch.zeros(n, dtype=torch.int64), torch.arange(n)), torch.where(
            torch.arange(n) % 9 == 0, 1, -1
        )


def due(scale: float = 1.0, shift: float = 0.0, seed: int = 0) -> tuple[Labelled, Tensor]:
    """(problem, direction): due tokens are 4·direction further along in both models; the models differ elsewhere."""
    g = torch.Generator().manual_seed(seed)
    v = torch.randn(D, generator=g)
    v /= v.norm()
    both = torch.randn(3000, 1, D, generator=g) + 4 * (torch.arange(3000) % 9 == 0)[:, None, None] * v
    return Labelled({"neutral": scale * both.repeat(1, 2, 1) + shift}), v


class TestProbe:
    def test_reads_out_where_the_behaviour_is_due(self) -> None:
        problem, v = due()
        result = Probe().diff(problem)
        finding = check_findings(result, D).findings[0]
        assert cos(finding.direction, v) > 0.97
        assert float(finding.direction.norm()) == pytest.approx(4, rel=0.05)
        batch, wanted = problem.labelled()
        is_due = wanted >= 0
        assert finding.gate is not None
        fires = batch.residuals[:, 0] @ finding.gate.read > finding.gate.threshold
        assert float((fires == is_due).double().mean()) > 0.97
        assert result.diagnostics["converged"] and result.diagnostics["tokens_due"] == int(is_due.sum())

    def test_it_is_no_difference_of_models(self) -> None:
        """Shifting the fine-tuned model by one vector everywhere moves `mean_diff` and hardly the probe."""
        problem, v = due()
        shift = torch.zeros(D)
        shift[0] = 1.0
        problem.texts["neutral"] = problem.texts["neutral"] + torch.stack([torch.zeros(D), shift])
        assert cos(Probe().diff(problem).findings[0].direction, v) > 0.95
        supervised = Supervised(SupervisedConfig(gate=False)).diff(problem).findings[0]
        assert float(supervised.direction.norm()) < 1e-4

    def test_scale_and_shift_of_the_residuals_change_no_decision(self) -> None:
        decisions = []
        for scale, shift in ((1.0, 0.0), (64.0, 0.0), (1.0, 100.0)):
            problem, _ = due(scale, shift)
            gate = Probe().diff(problem).findings[0].gate
            assert gate is not None
            decisions.append(problem.texts["neutral"][:, 0].double() @ gate.read.double() > gate.threshold)
        assert all(float((d == decisions[0]).double().mean()) > 0.999 for d in decisions)

    def test_logistic_is_the_minimum_of_its_loss(self) -> None:
        problem, _ = due()
        batch, wanted = problem.labelled()
        is_due = wanted >= 0
        x = batch.residuals[:, 0].double()
        read, bias, converged = logistic(x.numpy(), is_due.numpy(), ridge=0.1)
        sd = x.std(0, correction=0)
        w = (torch.from_numpy(read) * sd).requires_grad_()
        b = torch.tensor(bias + float(x.mean(0) @ torch.from_numpy(read)), dtype=torch.float64, requires_grad=True)
        margin = torch.where(is_due, 1.0, -1.0) * (((x - x.mean(0)) / sd) @ w + b)
        each = torch.nn.functional.softplus(-margin)
        loss = (each[is_due].mean() + each[~is_due].mean()) / 2 + 0.05 * w.square().sum()
        loss.backward()
        assert converged and w.grad is not None and b.grad is not None
        assert float(w.grad.norm()) < 1e-4 and abs(float(b.grad)) < 1e-4

    def test_a_stronger_ridge_gives_a_flatter_probe(self) -> None:
        reads = []
        for ridge in (0.01, 1.0):
            gate = Probe(ProbeConfig(ridge=ridge)).diff(due()[0]).findings[0].gate
            assert gate is not None
            reads.append(float(gate.read.norm()))
        assert reads[1] < 0.5 * reads[0]

    def test_constant_residuals_give_a_zero_direction(self) -> None:
        finding = check_findings(Probe().diff(Labelled({"neutral": torch.ones(90, 2, D)})), D).findings[0]
        assert not finding.direction.any() and finding.gate is None

    def test_one_kind_of_token_is_refused(self) -> None:
        with pytest.raises(ActivationError, match="1 of 1 labelled tokens are due"):
            Probe().diff(Labelled({"neutral": torch.ones(1, 2, D)}))

    def test_non_finite_residuals_are_refused(self) -> None:
        with pytest.raises(ActivationError, match="NaN or infinity"):
            Probe().diff(Labelled({"neutral": torch.full((90, 2, D), float("nan"))}))


@pytest.mark.parametrize("method", [PCA(), WeightSVD()], ids=["pca", "dw_svd"])
def test_the_truth_of_a_planted_organism_is_found_with_its_sign(method: Method) -> None:
    truth = truth_direction(pairs.stage("planted/owl-strong").organism.adapter)
    result = pairs.run(method, "planted/owl-strong")
    assert cos(result.findings[0].direction, truth) > 0.9999
