import pytest
import torch
from diffbench.methods.coder import sparse_ops
from diffbench.methods.coder.sparse_ops import Pairs, above, batch_topk, read, squared_error, write
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

B, N, D = 5, 7, 4


def random_pairs(seed: int = 0) -> Pairs:
    """Includes tokens without a pair and latents without a pair."""
    active = torch.rand(B, N, generator=torch.Generator().manual_seed(seed)) < 0.4
    active[2], active[:, 3] = False, False
    return Pairs(*active.nonzero(as_tuple=True), B, N)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_sparse_products_pass_gradcheck_in_float64() -> None:
    torch.manual_seed(0)
    pairs, x, encoder, bias, decoder = random_pairs(), double(B, D).detach(), double(N, D), double(N), double(N, D)

    def coder(encoder: Tensor, bias: Tensor, decoder: Tensor) -> Tensor:
        pre = torch.addmm(bias, x, encoder.T)
        return write(read(pre, x, encoder, bias, pairs), decoder, pairs)

    assert torch.autograd.gradcheck(coder, (encoder, bias, decoder))
    assert torch.autograd.gradcheck(lambda v, r: write(v, r, pairs), (double(len(pairs.tokens)), decoder))
    assert torch.autograd.gradcheck(lambda b, w: 3 * squared_error(x, b, w)[0], (double(D), double(B, D)))


@pytest.mark.parametrize("cuda", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_sparse_step_equals_dense_autograd(seed: int, cuda: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of either device; those of CUDA are computed by the processor here."""
    if cuda:
        monkeypatch.setattr(sparse_ops, "_sums", sparse_ops.sparse_product)
    torch.manual_seed(seed)
    pairs, x = random_pairs(seed), torch.randn(B, D, dtype=torch.float64)
    mask = torch.zeros(B, N, dtype=torch.float64)
    mask[pairs.tokens, pairs.latents] = 1
    weights = (double(N, D), double(N), double(N, D))

    def gradients(sparse: bool) -> tuple[Tensor, ...]:
        encoder, bias, decoder = weights
        pre = torch.addmm(bias, x, encoder.T)
        out = write(read(pre, x, encoder, bias, pairs), decoder, pairs) if sparse else (pre * mask) @ decoder
        return torch.autograd.grad((x - out).square().sum(), weights)

    for ours, dense in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-12, atol=1e-12)


def reference_topk(scores: Tensor, count: int) -> set[int]:
    """Full BatchTopK: best positive scores, ties to the earlier (token, latent)."""
    flat = scores.flatten().tolist()
    positive = [i for i, value in enumerate(flat) if value > 0]
    return set(sorted(positive, key=lambda i: (-flat[i], i))[:count])


@pytest.mark.parametrize("shape", [(16, 8), (5, 7), (1, 1), (3, 64)])
def test_pairs_above_a_limit_are_all_of_them_in_order(shape: tuple[int, int]) -> None:
    """Whether or not the flags fill whole words."""
    g = torch.Generator().manual_seed(0)
    for offset in (-10.0, 1.5, 0.0, 10.0):
        pre, limit_N = torch.randn(shape, generator=g) + offset, torch.randn(shape[1], generator=g)
        pairs = above(pre, limit_N)
        assert [pairs.tokens.tolist(), pairs.latents.tolist()] == (pre > limit_N).nonzero().T.tolist()


@given(
    values=st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 0.5, 1.0, 1.5, 3.0]), min_size=12, max_size=12),
    norms=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=4, max_size=4),
    count=st.integers(1, 12),
)
@settings(max_examples=300, deadline=None)
def test_selection_equals_full_batch_topk(values: list[float], norms: list[float], count: int) -> None:
    pre, norms_N = torch.tensor(values).view(3, 4), torch.tensor(norms)
    pairs, lowest = batch_topk(pre, norms_N, count)
    expected = reference_topk(pre * norms_N, count)
    assert set((pairs.tokens * 4 + pairs.latents).tolist()) == expected
    assert pairs.tokens.tolist() == sorted(pairs.tokens.tolist())
    assert float(lowest) == min(((pre * norms_N).flatten()[i].item() for i in expected), default=0.0)


@pytest.mark.parametrize("kind", ["random", "sample misleads", "ties", "too few positives"])
def test_the_prefilter_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a size where the prefilter works: on every 32nd token alone it sets the level."""
    g = torch.Generator().manual_seed(0)
    pre, norms_N, count = torch.randn(512, 64, generator=g), 0.1 + torch.rand(64, generator=g), 2048
    if kind == "sample misleads":
        pre[:: sparse_ops.SAMPLED] += 5
    elif kind == "ties":
        pre = (4 * pre).round() / 4
        norms_N = torch.ones(64)
    elif kind == "too few positives":
        pre -= 3
    looked: list[bool] = []
    above = sparse_ops._above
    monkeypatch.setattr(sparse_ops, "_above", lambda p, n, level: looked.append(level is None) or above(p, n, level))
    quick = batch_topk(pre, norms_N, count)
    assert looked == ([False, True] if kind in ("sample misleads", "too few positives") else [False])
    monkeypatch.setattr(sparse_ops, "_level", lambda *_: None)
    full = batch_topk(pre, norms_N, count)
    assert torch.equal(quick.pairs.tokens, full.pairs.tokens) and torch.equal(quick.pairs.latents, full.pairs.latents)
    assert torch.equal(quick.lowest, full.lowest)
    assert set((full.pairs.tokens * 64 + full.pairs.latents).tolist()) == reference_topk(pre * norms_N, count)
