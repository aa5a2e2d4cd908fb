import copy

import pytest
import torch
from diffbench.methods.coder import sparse_coder
from diffbench.methods.coder.sparse_coder import Group, Objective, SparseCoder
from diffbench.methods.coder.sparse_ops import Pairs, batch_topk, write
from diffbench.methods.coder.training import Schedule, TrainConfig, train
from torch import Tensor

from ..fakes import planted

D_MODEL, N = 32, 128
QUICK = TrainConfig(steps=300, batch=256, lr=4e-3)


def delta_coder() -> SparseCoder:
    return SparseCoder(D_MODEL, [Group(32, 6), Group(96, 3)], n_shared=32)


def coders() -> dict[str, tuple[SparseCoder, Objective]]:
    return {
        "l1": (SparseCoder(D_MODEL, [Group(N)], "l1", decoder_norm=0.08), Objective(l1=0.25)),
        "batch_topk": (SparseCoder(D_MODEL, [Group(N, 6)]), Objective(aux=1 / 32)),
        "delta": (delta_coder(), Objective(aux=1 / 32, delta=0.005)),
    }


@pytest.fixture(scope="module")
def residuals() -> Tensor:
    return planted().residuals_T2d


@pytest.fixture(scope="module")
def trained(residuals: Tensor) -> dict[str, SparseCoder]:
    out: dict[str, SparseCoder] = {}
    for name, (coder, objective) in coders().items():
        train(coder, residuals, QUICK, objective)
        out[name] = coder
    return out


def dead_coder() -> tuple[SparseCoder, Tensor, Tensor]:
    """A coder whose last 8 latents are negative on every token, inputs, and those latents."""
    coder = SparseCoder(8, [Group(32, 2)])
    dead = torch.arange(24, 32)
    with torch.no_grad():
        coder.encoder_bias_N[dead] = -50.0
    return coder, torch.randn(64, 16, generator=torch.Generator().manual_seed(1)), dead


def test_normalised_inputs_are_centred_and_of_unit_mean_square(residuals: Tensor) -> None:
    coder = SparseCoder(D_MODEL, [Group(N, 6)])
    coder.fit_normaliser(residuals)
    x_BD = coder.normalise(residuals)
    assert x_BD.mean(0).abs().max() < 1e-5
    assert float(x_BD.square().sum(1).mean()) == pytest.approx(1, abs=1e-4)


def test_initial_rows_are_equal_in_both_models_and_in_the_encoder() -> None:
    coder = SparseCoder(8, [Group(16, 2)], decoder_norm=0.5)
    base, ft = coder.decoder_ND.chunk(2, dim=1)
    assert torch.equal(base, ft) and torch.equal(coder.encoder_ND, coder.decoder_ND)
    torch.testing.assert_close(coder.norms_N, torch.ones(16))


def test_decoder_bias_is_the_geometric_median() -> None:
    coder = SparseCoder(1, [Group(2, 1)])
    coder.fit_bias(torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [100.0, -7.0]]))
    torch.testing.assert_close(coder.decoder_bias_D.detach(), torch.tensor([0.0, 1.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["batch_topk", "delta"])
def test_training_step_equals_dense_reference_in_float64(name: str) -> None:
    """Losses and all gradients against plain dense autograd of the formulas in `Objective`."""
    coder, _ = coders()[name]
    coder, objective = coder.double(), Objective(delta=0.3 if name == "delta" else 0.0)
    torch.manual_seed(0)
    for p in coder.parameters():
        p.data += 0.1 * torch.randn_like(p)
    x = torch.randn(64, 2 * D_MODEL, dtype=torch.float64)
    step = coder.losses(x, objective)
    ours = torch.autograd.grad(step.loss, list(coder.parameters()))

    pre = x @ coder.encoder_ND.T + coder.encoder_bias_N
    scores, keep, start = (pre.relu() * coder.norms_N).detach(), torch.zeros(64, N), 0
    for group in coder.groups:
        part = scores[:, start : start + group.size]
        kth = part.flatten().topk(round(group.k) * 64).values[-1]
        keep[:, start : start + group.size] = (part >= kth).float()
        start += group.size
    f = pre.relu() * keep
    loss = (x - f @ coder.decoder_ND - coder.decoder_bias_D).square().sum(1).mean()
    if objective.delta:
        free = f * (torch.arange(N) >= coder.n_shared)
        rows = coder.decoder_ND[:, D_MODEL:] - coder.decoder_ND[:, :D_MODEL]
        loss = loss + objective.delta * (x[:, D_MODEL:] - x[:, :D_MODEL] - free @ rows).square().sum(1).mean()
    torch.testing.assert_close(step.loss, loss)
    for a, b in zip(ours, torch.autograd.grad(loss, list(coder.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_relu_codes_over_active_pairs_are_the_dense_ones_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses, fired latents and all gradients; the switch between the two is by the share of active codes."""
    torch.manual_seed(0)
    coder = coders()["l1"][0].double()
    for p in coder.parameters():
        p.data += 0.1 * torch.randn_like(p)
    x = torch.randn(64, 2 * D_MODEL, dtype=torch.float64)
    active = float((coder._pre(x) > 0).double().mean())
    found: list[tuple[Tensor, ...]] = []
    written: list[Pairs] = []
    monkeypatch.setattr(sparse_coder, "write", lambda v, r, pairs: written.append(pairs) or write(v, r, pairs))
    for share in (0.9 * active, 1.1 * active):
        monkeypatch.setattr(sparse_coder, "SPARSE", share)
        step = coder.losses(x, Objective(l1=0.25))
        assert len(written) == (share > active)
        found.append(
            (step.loss, step.sparsity, step.fired_N, *torch.autograd.grad(step.loss, list(coder.parameters())))
        )
    for dense, sparse in zip(*found, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("groups", [[Group(32, 6), Group(96, 3)], [Group(N, 9)]], ids=["dual-k", "one budget"])
@pytest.mark.parametrize("mask", [True, False])
def test_masked_delta_loss_touches_only_non_shared_decoders(groups: list[Group], mask: bool) -> None:
    coder = SparseCoder(D_MODEL, groups, n_shared=32)
    with torch.no_grad():
        coder.decoder_ND[:, D_MODEL:] *= 1.5  # with equal rows Δ̂ is 0 and the encoder gets no gradient
    x = torch.randn(64, 2 * D_MODEL, generator=torch.Generator().manual_seed(0))
    step = coder.losses(x, Objective(delta=1.0, mask_shared=mask))
    decoder, encoder = torch.autograd.grad(step.delta, [coder.decoder_ND, coder.encoder_ND])
    assert decoder[32:].abs().sum() > 0 and encoder[32:].abs().sum() > 0
    for gradient in (decoder, encoder):
        assert (gradient[:32].abs().sum() == 0) == mask


@pytest.mark.parametrize("name", ["l1", "batch_topk", "delta"])
def test_raw_units_reproduce_codes_and_reconstructions(
    trained: dict[str, SparseCoder], residuals: Tensor, name: str
) -> None:
    """Peers normalise twice or forget to fold: the raw coder must equal the normalised path (JK's DECOUPLED, CK)."""
    coder, raw = trained[name], trained[name].raw()
    x_BD = coder.normalise(residuals[:512])
    codes = coder.encode(x_BD)
    torch.testing.assert_close(raw.encode(residuals[:512]), codes.dense(), atol=1e-4, rtol=1e-3)
    ours = raw.decode(codes.dense()).flatten(1)
    torch.testing.assert_close(ours, coder.decode(codes) / coder.scale + coder.mean_D, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["l1", "batch_topk", "delta"])
def test_gate_is_activity_at_inference(trained: dict[str, SparseCoder], residuals: Tensor, name: str) -> None:
    coder, h_Bd = trained[name], residuals[:512, 1]
    active = coder.encode(coder.normalise(torch.stack([h_Bd, h_Bd], 1))).dense() > 0
    reads, thresholds = coder.raw().gates()
    assert 0 < active.float().mean() < 0.5
    assert ((h_Bd @ reads.T > thresholds) == active).float().mean() > 0.9999  # rounding at the boundary


@pytest.mark.parametrize(("name", "k"), [("batch_topk", 6), ("delta", 9)])
def test_l0_at_the_inference_threshold_is_k_on_held_out_data(
    trained: dict[str, SparseCoder], name: str, k: float
) -> None:
    residuals = planted(tokens=16_384).residuals_T2d[8192:]
    train_half = planted(tokens=16_384).residuals_T2d[:8192]
    coder, objective = coders()[name]
    train(coder, train_half, QUICK, objective)
    codes = coder.encode(coder.normalise(residuals))
    assert len(codes.values_A) / len(residuals) == pytest.approx(k, rel=0.1)


def test_evaluation_changes_no_state(trained: dict[str, SparseCoder], residuals: Tensor) -> None:
    """JK's evaluation advances dead counters and moves the threshold."""
    for name, coder in trained.items():
        before = copy.deepcopy(coder.state_dict())
        x_BD = coder.normalise(residuals[:256])
        coder.decode(coder.encode(x_BD))
        coder.losses(x_BD, Objective(aux=1.0), [torch.arange(4)] if name == "batch_topk" else [])
        coder.raw()
        assert all(torch.equal(value, before[key]) for key, value in coder.state_dict().items())


def test_aux_gradient_reaches_the_encoder_of_latents_negative_everywhere() -> None:
    """sparsify's fused encoder gave it exactly 0; JK's ReLU does for such latents."""
    coder, x, dead = dead_coder()
    step = coder.losses(x, Objective(aux=1.0), [dead])
    encoder, bias = torch.autograd.grad(step.aux, [coder.encoder_ND, coder.encoder_bias_N])
    assert not step.fired_N[dead].any()
    assert (encoder[dead].norm(dim=1) > 0).all() and (bias[dead] != 0).all()
    assert encoder[:24].abs().sum() == 0


def test_aux_ignores_the_decoder_bias_and_does_not_reach_live_latents() -> None:
    """sparsify and SAELens add b_dec to the AuxK reconstruction; crosscode never adds AuxK to the loss."""
    coder, x, dead = dead_coder()
    with torch.no_grad():
        coder.decoder_bias_D += 0.3
    step = coder.losses(x, Objective(aux=0.5), [dead])
    decoder, bias = torch.autograd.grad(
        step.aux, [coder.decoder_ND, coder.decoder_bias_D], retain_graph=True, allow_unused=True
    )
    assert bias is None and decoder[:24].abs().sum() == 0
    torch.testing.assert_close(step.loss, step.reconstruction + 0.5 * step.aux)

    pairs, _ = batch_topk(x @ coder.encoder_ND.T + coder.encoder_bias_N, coder.norms_N, 2 * len(x))
    f = torch.zeros(len(x), 32)
    f[pairs.tokens, pairs.latents] = (x @ coder.encoder_ND.T)[pairs.tokens, pairs.latents]
    residual = x - coder.decoder_bias_D - f @ coder.decoder_ND
    aux = (x @ coder.encoder_ND[dead].T - 50).detach()
    aux = torch.where(aux >= aux.topk(4, dim=1).values[:, -1:], aux, 0.0)  # k_aux = d/2 = 4 of 8 dead
    expected = (residual - aux @ coder.decoder_ND[dead]).square().sum(1).mean() / residual.var(0, correction=0).sum()
    torch.testing.assert_close(step.aux, expected, rtol=1e-4, atol=0)


def test_dead_latents_revive_with_aux_and_not_without(residuals: Tensor) -> None:
    def dead_after(aux: float) -> int:
        coder = SparseCoder(D_MODEL, [Group(N, 6)])
        with torch.no_grad():
            coder.encoder_ND[64:] *= 0.1  # pre-activations stay below 0 on every token
            coder.encoder_bias_N[64:] = -0.3
        train(coder, residuals, QUICK, Objective(aux=aux), Schedule(dead_after=0.05))
        fired = torch.bincount(coder.encode(coder.normalise(residuals)).pairs.latents, minlength=N)[64:]
        return int((fired == 0).sum())

    assert dead_after(0.0) == 64
    assert dead_after(1 / 32) < 16


def test_pairs_split_and_shift_keep_every_pair() -> None:
    pairs = Pairs(torch.tensor([0, 0, 1]), torch.tensor([1, 5, 2]), 2, 6)
    below, rest = pairs.split_at(2)
    assert (below.latents.tolist(), rest.latents.tolist()) == ([1], [5, 2])
    assert pairs.among(4, 10).latents.tolist() == [5, 9, 6]


@pytest.mark.parametrize("inputs", ["base", "ft", "difference"])
def test_other_input_maps_train_the_same_way(residuals: Tensor, inputs: str) -> None:
    coder = SparseCoder(D_MODEL, [Group(N, 6)], inputs=inputs)  # pyright: ignore[reportArgumentType]
    report = train(coder, residuals, QUICK.model_copy(update={"steps": 60}), Objective(aux=1 / 32))
    assert report.curve[-1] < report.curve[0]
    assert coder.raw().decoder_NMd.shape == (N, 1, D_MODEL)
