from pathlib import Path

import pytest
import torch
from diffbench.methods.coder import checkpoint
from diffbench.methods.coder.sparse_coder import Group, Objective, SparseCoder
from diffbench.methods.coder.training import CHECK_EVERY, Schedule, TrainConfig, TrainingError, rescale_in_step, train
from torch import Tensor

from ..fakes import planted

SHORT = TrainConfig(steps=40, batch=128)
TOPK = Objective(aux=1 / 32)


def small(k: float = 4) -> SparseCoder:
    return SparseCoder(16, [Group(64, k)])


@pytest.fixture(scope="module")
def residuals() -> Tensor:
    return planted(d=16, n_shared=24, tokens=1024, active=4).residuals_T2d


def nan_at_end(x: Tensor) -> Tensor:
    return torch.cat([x[:-1], torch.full_like(x[:1], float("nan"))])


@pytest.mark.parametrize(
    ("change", "coder", "says"),
    [
        (nan_at_end, small(), "NaN or infinity"),
        (lambda x: x[:1].expand(1024, -1, -1), small(), "constant"),
        (lambda x: x[:100], small(), "100 tokens were harvested but a batch takes 128"),
        (lambda x: x, small(65), "65 active latents per token are asked of 64"),
        (lambda x: x[:, :, :8], small(), r"expected \[tokens, 2, 16\]"),
    ],
    ids=["non-finite", "constant", "too few tokens", "k too large", "shape"],
)
def test_unusable_input_is_refused_with_fact_and_cause(residuals: Tensor, change, coder, says) -> None:
    with pytest.raises(TrainingError, match=says):
        train(coder, change(residuals), SHORT, TOPK)


def test_divergence_is_refused(residuals: Tensor) -> None:
    with pytest.raises(TrainingError, match="set a lower lr"):
        train(small(), residuals, SHORT.model_copy(update={"lr": 1e20}), TOPK)


def test_training_is_deterministic_given_the_seed(residuals: Tensor) -> None:
    def run(seed: int) -> dict[str, Tensor]:
        coder = SparseCoder(16, [Group(64, 4)], seed=seed)
        train(coder, residuals, SHORT, TOPK, seed=seed)
        return coder.state_dict()

    first, again, other = run(0), run(0), run(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["decoder_ND"], other["decoder_ND"])


def test_k_schedule() -> None:
    assert [Schedule(3.0, 4).k_factor(step) for step in (0, 1, 2, 3, 4, 5)] == [3.0, 2.5, 2.0, 1.5, 1.0, 1.0]


def test_k_start_without_annealing_trains_at_k(residuals: Tensor) -> None:
    """JK's `k_max` with 0 annealing steps trains at k_max for ever."""
    coder = small()
    train(coder, residuals, SHORT, TOPK, Schedule(k_start=8.0, k_anneal_steps=0))
    reference = small()
    train(reference, residuals, SHORT, TOPK)
    assert torch.equal(coder.decoder_ND, reference.decoder_ND)


def test_k_start_is_checked_only_while_annealing(residuals: Tensor) -> None:
    with pytest.raises(TrainingError, match="80 active latents"):
        train(small(), residuals, SHORT, TOPK, Schedule(k_start=20.0, k_anneal_steps=10))


def test_time_limit_stops_at_a_check_and_says_so(residuals: Tensor) -> None:
    report = train(small(), residuals, SHORT, TOPK, limit_s=lambda: 0.0)
    assert report.budget_exhausted and report.steps == CHECK_EVERY and report.tokens == CHECK_EVERY * 128
    assert not train(small(), residuals, SHORT, TOPK).budget_exhausted


def test_progress_is_reported_and_ends_complete(residuals: Tensor) -> None:
    seen: list[tuple[int, int]] = []
    report = train(small(), residuals, SHORT, TOPK, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(20, 40), (40, 40)]
    assert len(report.curve) == 2 and report.curve[1] < report.curve[0]


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_with_the_same_bits(
    residuals: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    whole, path = small(), tmp_path / "coder.safetensors"
    train(whole, residuals, SHORT, TOPK, Schedule(dead_after=0.2))

    def kill(done: int, total: int) -> None:
        if done == 40:
            raise Killed

    long = SHORT.model_copy(update={"steps": 60})
    straight = small()
    train(straight, residuals, long, TOPK, Schedule(dead_after=0.2))
    with pytest.raises(Killed):
        train(small(), residuals, long, TOPK, Schedule(dead_after=0.2), checkpoint=path, progress=kill)
    seen: list[int] = []
    resumed = small()
    report = train(
        resumed, residuals, long, TOPK, Schedule(dead_after=0.2), checkpoint=path, progress=lambda d, _: seen.append(d)
    )
    assert seen == [40, 60] and report.steps == 60 and len(report.curve) == 3
    assert all(
        torch.equal(a, b) for a, b in zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True)
    )

    other = small()
    train(other, residuals, SHORT, TOPK, Schedule(dead_after=0.2), checkpoint=path)  # another run's checkpoint
    assert torch.equal(other.decoder_ND, whole.decoder_ND)
    path.write_bytes(path.read_bytes()[:100])
    damaged = small()
    train(damaged, residuals, long, TOPK, Schedule(dead_after=0.2), checkpoint=path)
    assert torch.equal(damaged.decoder_ND, straight.decoder_ND)


def test_a_reconstruction_worse_than_the_mean_is_refused(residuals: Tensor) -> None:
    with pytest.raises(TrainingError, match="explained variance is -"):
        train(small(), residuals, SHORT.model_copy(update={"steps": 2, "lr": 1e-9}), TOPK)


def test_a_warm_start_keeps_what_was_fitted(residuals: Tensor) -> None:
    coder = small()
    train(coder, residuals, SHORT, TOPK)
    mean, scale = coder.mean_D.clone(), coder.scale.clone()
    report = train(coder, residuals + 1, SHORT, TOPK, warm=True)
    assert torch.equal(coder.mean_D, mean) and torch.equal(coder.scale, scale) and report.steps == 40


@pytest.mark.parametrize("clip", [0.1, 1e6])
def test_gradients_rescaled_in_the_step_move_weights_as_clipped_ones_do(clip: float) -> None:
    """What an accelerator does; both sides of the bound."""
    torch.manual_seed(0)
    ways = [[torch.nn.Parameter(torch.ones(5, 3)), torch.nn.Parameter(torch.ones(4))] for _ in range(2)]
    optimisers = [
        torch.optim.Adam(ways[0], lr=0.1, eps=0.1, fused=True),
        torch.optim.Adam(ways[1], lr=0.1, eps=0.1, fused=True),
    ]
    for _ in range(3):
        for shape_of, other in zip(*ways, strict=True):
            shape_of.grad = torch.randn_like(shape_of)
            other.grad = shape_of.grad.clone()
        torch.nn.utils.clip_grad_norm_(ways[0], clip)
        rescale_in_step(optimisers[1], clip)
        for optimiser in optimisers:
            optimiser.step()
    for clipped, rescaled in zip(*ways, strict=True):
        torch.testing.assert_close(rescaled, clipped)
        assert (clipped != 1).all()
