"""What holds for every method that reads differences."""

from typing import Any

import pytest
import torch
from diffbench.methods.baselines import MeanDiffConfig, MeanDifference
from diffbench.methods.contract import Budget, Method
from diffbench.methods.differences import ActivationError, Pass, oriented
from diffbench.methods.linear import PCA, PCAConfig, Probe, RandomDifference, WeightSVD
from diffbench.methods.reading import ADL, LogitDiff
from diffbench.methods.registry import load_method
from torch import Tensor

from . import pairs
from .fakes import FakeProblem, problem_of
from .pairs import D, Words, narrow, one_writer, rows

READERS: dict[str, Method] = {
    "mean_diff": MeanDifference(MeanDiffConfig()),
    "random_difference": RandomDifference(),
    "pca": PCA(),
    "pca, uncentred": PCA(PCAConfig(centred=False)),
    "dw_svd": WeightSVD(),
    "adl": ADL(),
    "logit_diff": LogitDiff(),
}


def problem(residuals: Tensor, **options: Any) -> FakeProblem:
    return problem_of(residuals, changes=one_writer(torch.eye(D)[0]), tokenizer=Words(), **options)


@pytest.mark.parametrize("method", READERS.values(), ids=READERS)
class TestEveryReader:
    """What holds for each method that only reads differences."""

    def test_same_seed_same_bits(self, method: Method) -> None:
        residuals, _ = narrow()
        assert torch.equal(*(rows(method.diff(problem(residuals, seed=3))) for _ in "xx"))

    def test_identical_models_give_zero_not_nan(self, method: Method) -> None:
        residuals = narrow()[0][:, :1].expand(-1, 2, -1)
        same = problem_of(residuals, changes={"layers.0.mlp.down_proj": torch.zeros(D, 5)}, tokenizer=Words())
        assert not rows(method.diff(same)).any()

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_non_finite_activations_are_refused(self, method: Method, bad: float) -> None:
        residuals = narrow()[0].clone()
        residuals[7, 1, 2] = bad
        with pytest.raises(ActivationError, match=r"activations contain NaN or infinity.*fp32"):
            method.diff(problem(residuals))

    def test_no_tokens_are_refused(self, method: Method) -> None:
        with pytest.raises(ActivationError, match="no token was harvested"):
            method.diff(problem(torch.zeros(0, 2, D)))

    def test_budget_is_respected(self, method: Method) -> None:
        asked = problem(narrow()[0], budget=Budget(tokens=100))
        facts = method.diff(asked).diagnostics
        assert sum(n or 0 for _, n in asked.asked) <= 100
        assert facts["tokens"] <= 100 and not facts["budget_exhausted"]
        late = method.diff(problem(narrow()[0], budget=Budget(seconds=0)))
        assert late.diagnostics["budget_exhausted"] and late.diagnostics["tokens"] > 0


@pytest.mark.parametrize("name", [name for name in READERS if name != "logit_diff"])
def test_scale_of_the_residuals_scales_findings_that_are_differences(name: str) -> None:
    """1024 is exact in floating point. dw_svd takes its length from the weights; logits are not linear in residuals."""
    method = READERS[name]
    residuals, _ = narrow()
    small, large = (rows(method.diff(problem(s * residuals))) for s in (1, 1024))
    factor = 1 if method.name == "dw_svd" else 1024
    torch.testing.assert_close(large, factor * small)


def test_a_pass_shares_its_tokens_between_texts_and_counts_them() -> None:
    reading = Pass(problem(narrow()[0]), 600)
    assert [(text, len(batch.ids)) for text, batch in reading.activations()] == [("neutral", 300), ("chat", 300)]
    assert reading.facts() == {
        "tokens": 600,
        "harvest_tokens": {"neutral": 300, "chat": 300},
        "budget_exhausted": False,
    }


def test_orientation_is_by_the_product_and_else_by_the_largest_coordinate() -> None:
    e = torch.eye(3)
    turned = oriented(torch.stack([e[0], -e[0], -e[1] + 0.5 * e[2], torch.zeros(3)]), 2 * e[0])
    assert torch.equal(turned, torch.stack([e[0], e[0], e[1] - 0.5 * e[2], torch.zeros(3)]))


@pytest.mark.parametrize("name", [*READERS, "probe"])
def test_every_method_runs_on_a_real_pair_as_registered(name: str) -> None:
    method = READERS.get(name, Probe())
    entry = load_method(method.name)
    assert entry.cls is type(method) and entry.access == method.access
    result = pairs.run(method, "taboo/gold-narrow")
    assert all(f.direction.any() for f in result.findings)
