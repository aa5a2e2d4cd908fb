"""One sparse coder for every dictionary method: crosscoders, per-model and difference SAEs are configurations of it.

The idea: those methods differ in (i) which vector is coded (both residuals side by side, one, their difference), (ii) how
codes are selected (ReLU with an L1 price, or BatchTopK per group of latents), (iii) which latents are shared, tied or
exclusive to one model (`kinds`), (iv) the loss weights. All else is common: one encode product over the width D, decoder
rows [N, D] so that a latent's rows for all models are one gather, the score f_j·N_j with N_j = Σ_m ‖d_j^m‖, one threshold
per group at inference.

Units: inside, x = (h − mean)·scale with one scale for all models, so that E‖x‖² = 1: the reconstruction loss *is* the
fraction of variance unexplained, and no loss weight depends on the model's scale. Only `raw()` leaves the coder, and
everything there is in residual units.

Shape letters: B tokens, M models, d residual width, D = M·d, N latents, A active pairs, G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from .dictionary import RawCoder
from .kinds import Kind, project
from .sparse_ops import Codes, Pairs, Products, above, batch_topk, read, squared_error, write

Inputs = Literal["concat", "base", "ft", "difference"]
Selection = Literal["l1", "batch_topk"]
THRESHOLD_RATE = 0.03
"""Step of the threshold's moving average. The published .001 suits 100,000 steps; here codes change within 100, and a
window of 33 batches already averages the noise of a k·B-th largest score away."""
SPARSE = 1 / 16
"""Share of active ReLU codes up to which sums over the active pairs are cheaper on a CPU than dense products."""
TINY = 1e-12


class Group(NamedTuple):
    """A contiguous run of latents with its own BatchTopK budget."""

    size: int
    k: float = 0.0
    """Mean active latents per token; unused by L1."""


@dataclass(frozen=True)
class Objective:
    """Loss weights. L = mean_b ‖x − x̂‖² + l1·Σ_j f_j N_j + delta·L_Δ + aux·AuxK, in normalised units."""

    l1: float = 0.0
    """Price of Σ_j f_j N_j (L1 selection only)."""
    delta: float = 0.0
    """Weight of L_Δ = mean_b ‖Δ − (W_ft − W_base) z_Δ‖² (BatchTopK over concatenated models only). Δ is centred by the
    normaliser and no decoder bias enters, as in the paper's formula."""
    mask_shared: bool = True
    """z_Δ is the code without the designated shared latents; otherwise the whole code."""
    aux: float = 0.0
    """Weight of AuxK (BatchTopK only)."""


class Step(NamedTuple):
    """What one training forward pass gives; losses are unweighted 0-d tensors except `loss`."""

    loss: Tensor
    reconstruction: Tensor
    """mean_b ‖x − x̂‖²: the fraction of variance unexplained, up to the batch."""
    sparsity: Tensor
    delta: Tensor
    aux: Tensor
    fired_N: Tensor
    """[N] bool: active on some token of the batch."""
    lowest_G: Tensor
    """[G] smallest kept score per group."""


class SparseCoder(nn.Module):
    """`losses` is the training pass, `encode` and `decode` are inference; none of them changes state."""

    mean_D: Tensor
    scale: Tensor
    theta_G: Tensor

    def __init__(
        self,
        d_model: int,
        groups: Sequence[Group],
        selection: Selection = "batch_topk",
        inputs: Inputs = "concat",
        n_shared: int = 0,
        decoder_norm: float = 1.0,
        seed: int = 0,
        kinds: Sequence[tuple[Kind, int]] = (),
    ) -> None:
        """Random rows, the same for all models; the encoder starts as the decoder (JK's initialisation).

        Args:
            d_model: residual width d.
            groups: runs of latents, each with its own k.
            selection: how codes are selected.
            inputs: which vector is coded; "concat" has M = 2, the others M = 1.
            n_shared: the first latents (with several groups: the first group) are designated shared; the masked delta
                loss does not see them.
            decoder_norm: initial ‖d_j^m‖.
            seed: of the initial rows.
            kinds: runs of latents, in order, by what their rows may be ("concat" only); the rest is free.
        """
        super().__init__()
        self.d_model, self.groups, self.n_shared = d_model, tuple(groups), n_shared
        self.selection: Selection = selection
        self.inputs: Inputs = inputs
        self.n_latents = sum(g.size for g in groups)
        self.n_models = 2 if inputs == "concat" else 1
        if len(self.groups) > 1 and n_shared not in (0, self.groups[0].size):
            raise ValueError(
                f"{n_shared} shared latents, but the first group has {self.groups[0].size}: make them equal"
            )
        rows = torch.rand(self.n_latents, d_model, generator=torch.Generator().manual_seed(seed)) - 0.5
        self.kinds = tuple(kinds)
        rows_ND = (rows / rows.norm(dim=1, keepdim=True) * decoder_norm).repeat(1, self.n_models)
        project(rows_ND.unflatten(1, (self.n_models, d_model)), self.kinds, decoder=True)
        self.encoder_ND = nn.Parameter(rows_ND)
        self.encoder_bias_N = nn.Parameter(torch.zeros(self.n_latents))
        self.decoder_ND = nn.Parameter(rows_ND.clone())
        self.decoder_bias_D = nn.Parameter(torch.zeros(rows_ND.shape[1]))
        self.register_buffer("mean_D", torch.zeros(rows_ND.shape[1]))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("theta_G", torch.zeros(len(self.groups)))
        self._products = Products()

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Keep tied rows tied and exclusive rows exclusive: Adam moves equal entries with equal gradients equally."""
        for parameter, tie in ((self.encoder_ND, False), (self.decoder_ND, True)):
            if parameter.grad is not None:
                project(parameter.grad.unflatten(1, (self.n_models, self.d_model)), self.kinds, tie)

    def select_input(self, h_B2d: Tensor) -> Tensor:
        """The raw vector that is coded: [B, D] from paired residuals [B, 2, d]."""
        match self.inputs:
            case "concat":
                return h_B2d.flatten(1)
            case "base":
                return h_B2d[:, 0]
            case "ft":
                return h_B2d[:, 1]
            case "difference":
                return h_B2d[:, 1] - h_B2d[:, 0]

    def normalise(self, h_B2d: Tensor) -> Tensor:
        """Paired raw residuals [B, 2, d] → x [B, D]; the only place where activations are normalised."""
        return (self.select_input(h_B2d) - self.mean_D) * self.scale

    @torch.no_grad()
    def fit_normaliser(self, h_T2d: Tensor) -> float:
        """Set the mean and the one scale 1/√(Σ variance), which keeps relative variance; return Σ variance."""
        raw_TD = self.select_input(h_T2d)
        mean_D = raw_TD.mean(0)
        variance = sum((chunk - mean_D).square().sum() for chunk in raw_TD.split(16_384)) / len(raw_TD)
        self.mean_D.copy_(mean_D)
        self.scale.copy_(torch.as_tensor(variance).clamp_min(TINY).rsqrt())
        return float(variance)

    @torch.no_grad()
    def fit_bias(self, x_BD: Tensor) -> None:
        """Set the decoder bias to each model's geometric median of a first batch (Weiszfeld, ≤ 100 rounds)."""
        x_BMd = x_BD.unflatten(1, (self.n_models, self.d_model))
        median_Md = x_BMd.mean(0)
        for _ in range(100):
            weights_BM = 1 / (x_BMd - median_Md).norm(dim=2).clamp_min(TINY)
            last, median_Md = median_Md, (x_BMd * weights_BM[..., None]).sum(0) / weights_BM.sum(0)[:, None]
            if (median_Md - last).norm() < 1e-5 * median_Md.norm():
                break
        self.decoder_bias_D.copy_(median_Md.flatten())

    @property
    def norms_N(self) -> Tensor:
        """N_j = Σ_m ‖d_j^m‖, differentiable; selections detach it."""
        return self.decoder_ND.unflatten(1, (self.n_models, self.d_model)).norm(dim=2).sum(1)

    def _pre(self, x_BD: Tensor) -> Tensor:
        return torch.addmm(self.encoder_bias_N, x_BD, self.encoder_ND.T)

    def losses(self, x_BD: Tensor, objective: Objective, dead: Sequence[Tensor] = (), k_factor: float = 1.0) -> Step:
        """One training pass over normalised inputs; changes nothing (thresholds move in `update_threshold`).

        Args:
            x_BD: normalised inputs, data (no gradient).
            objective: loss weights.
            dead: for each group the indices of its dead latents; AuxK is skipped where empty.
            k_factor: every k is multiplied by it (annealing).
        """
        zero = x_BD.new_zeros(())
        if self.selection == "l1":
            mean_N, out_BD, fired_N = self._relu(x_BD)
            error = (x_BD - out_BD).square().sum(1).mean()
            sparsity = (mean_N * self.norms_N).sum()
            return Step(error + objective.l1 * sparsity, error, sparsity, zero, zero, fired_N, self.theta_G)

        with torch.no_grad():
            pre_BN = self._products(self.encoder_bias_N, x_BD, self.encoder_ND)
            parts, lowest_G = self._select(pre_BN, k_factor)
            fired_N = torch.stack([pairs.fired_N for pairs in parts]).any(0)
        codes = [(read(pre_BN, x_BD, self.encoder_ND, self.encoder_bias_N, pairs), pairs) for pairs in parts]
        written = [write(values_A, self.decoder_ND, pairs) for values_A, pairs in codes]
        error, residual_BD = squared_error(x_BD, self.decoder_bias_D, sum(written[1:], written[0]))
        loss, delta, aux = error, zero, zero
        if objective.delta:  # z_Δ: only the first part holds shared latents, see _select
            seen_BD = sum(written[1:] if objective.mask_shared and self.n_shared else written, zero)
            delta = (x_BD - seen_BD).unflatten(1, (2, self.d_model)).diff(dim=1).square().sum((1, 2)).mean()
            loss = loss + objective.delta * delta
        if objective.aux and any(len(index) for index in dead):
            aux = sum((self._aux_loss(x_BD, residual_BD, index) for index in dead if len(index)), start=zero)
            loss = loss + objective.aux * aux
        return Step(loss, error, zero, delta, aux, fired_N, lowest_G)

    def _relu(self, x_BD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """([N] mean codes, [B, D] reconstructions, [N] fired) with ReLU codes: dense while these are, then over active pairs.

        An accelerator computes densely throughout: its products are cheap, and to count the pairs would read a number.
        """
        pre_BN = self._pre(x_BD)
        pairs = above(pre_BN.detach(), pre_BN.new_zeros(self.n_latents)) if x_BD.device.type == "cpu" else None
        if pairs is None or len(pairs.tokens) > SPARSE * pre_BN.numel():
            f_BN = torch.relu(pre_BN)
            out_BD = torch.addmm(self.decoder_bias_D, f_BN, self.decoder_ND)
            return f_BN.mean(0), out_BD, (f_BN.detach() > 0).any(0)
        values_A = read(pre_BN, x_BD, self.encoder_ND, self.encoder_bias_N, pairs)
        sums_N = torch.zeros_like(self.encoder_bias_N).index_add(0, pairs.latents, values_A)
        out_BD = write(values_A, self.decoder_ND, pairs) + self.decoder_bias_D
        return sums_N / len(x_BD), out_BD, pairs.fired_N

    def _select(self, pre_BN: Tensor, k_factor: float) -> tuple[list[Pairs], Tensor]:
        """(Active pairs in parts, shared latents being the first part; [G] smallest kept scores)."""
        parts, lowest = list[Pairs](), list[Tensor]()
        norms_N, first = self.norms_N, 0
        for group in self.groups:
            own = slice(first, first + group.size)
            count = min(round(group.k * k_factor * len(pre_BN)), group.size * len(pre_BN))
            pairs, low = batch_topk(pre_BN[:, own], norms_N[own], count)
            parts.append(pairs.among(first, self.n_latents))
            lowest.append(low)
            first += group.size
        if self.n_shared and len(parts) == 1:
            parts = list(parts[0].split_at(self.n_shared))
        return parts, torch.stack(lowest)

    def _aux_loss(self, x_BD: Tensor, residual_BD: Tensor, dead: Tensor) -> Tensor:
        """AuxK: the min(d/2, n_dead) best dead latents of each token rebuild the detached residual, without the bias.

        Ranked by pre·N; the values are the *unclamped* pre-activations, so that a latent negative on every token still
        gets a gradient (JK's are post-ReLU: such latents stay dead). Divided by the residual's variance, as JK does.
        """
        aux_BK = torch.addmm(self.encoder_bias_N[dead], x_BD, self.encoder_ND[dead].T)
        k = min(self.d_model // 2, len(dead))
        if k < len(dead):
            best = (aux_BK.detach() * self.norms_N.detach()[dead]).topk(k, dim=1).indices
            aux_BK = aux_BK * torch.zeros_like(aux_BK).scatter_(1, best, 1.0)
        error = (residual_BD - aux_BK @ self.decoder_ND[dead]).square().sum(1).mean()
        return error / (residual_BD - residual_BD.mean(0)).square().sum(1).mean().clamp_min(TINY)

    @torch.no_grad()
    def update_threshold(self, lowest_G: Tensor, first: bool) -> None:
        """Move θ towards the smallest kept scores of the last batch; the first batch sets it."""
        self.theta_G.lerp_(lowest_G, 1.0 if first else THRESHOLD_RATE)

    def thresholds_N(self) -> Tensor:
        """[N] on the pre-activation: latent j is active at inference ⇔ pre_j > θ_group/N_j (0 for L1)."""
        if self.selection == "l1":
            return torch.zeros_like(self.encoder_bias_N)
        theta_N = torch.cat([t.expand(g.size) for t, g in zip(self.theta_G, self.groups, strict=True)])
        return (theta_N / self.norms_N.detach().clamp_min(TINY)).clamp_min(0)

    @torch.no_grad()
    def encode(self, x_BD: Tensor) -> Codes:
        """Codes at inference of normalised inputs."""
        pre_BN = self._pre(x_BD)
        tokens, latents = (pre_BN > self.thresholds_N()).nonzero(as_tuple=True)
        return Codes(pre_BN[tokens, latents], Pairs(tokens, latents, len(x_BD), self.n_latents))

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """Normalised reconstructions [B, D]."""
        return write(codes.values_A, self.decoder_ND, codes.pairs) + self.decoder_bias_D

    @torch.no_grad()
    def raw(self) -> RawCoder:
        """Normaliser folded in: pre = h·(sE) + (b − s·mean·E), ĥ = f·(W/s) + (b_dec/s + mean); codes are unchanged."""
        per_model, encoder_ND = (self.n_models, self.d_model), self.encoder_ND * self.scale
        return RawCoder(
            encoder_ND.unflatten(1, per_model),
            self.encoder_bias_N - encoder_ND @ self.mean_D,
            (self.decoder_ND / self.scale).unflatten(1, per_model),
            (self.decoder_bias_D / self.scale + self.mean_D).unflatten(0, per_model),
            self.thresholds_N(),
        )
