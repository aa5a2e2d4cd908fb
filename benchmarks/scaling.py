"""Latent Scaling: all eight betas of all latents from one sparse pass, against one dense pass for each target.

β_j(Y) = Σ_t f_tj ⟨Y_t, d_j⟩ / (Σ_t f_tj² ‖d_j‖²) with d_j the fine-tuned model's decoder row, for the activation, the
activation without decoder bias, the reconstruction, and the error with latent j added back, of both models.
"""

from copy import deepcopy

import torch
from diffbench.methods.coder.analysis import survey
from diffbench.methods.coder.dictionary import RawCoder
from diffbench.methods.coder.scaling import latent_scaling
from diffbench.methods.coder.sparse_coder import Group, SparseCoder
from torch import Tensor

from .features import paired
from .records import Row, agree, interleaved, relative, row
from .step import Shape, sparse_step

Betas = dict[str, Tensor]
"""By target: [2, N], base and fine-tuned."""
TARGETS = ("activation", "activation_nobias", "reconstruction", "error")
CHUNK = 128
"""Tokens of a dense pass at a time, as published; the error targets hold [tokens, N, d_model] at once."""


def dense_passes(raw: RawCoder, h_T2d: Tensor, materialise: bool = True) -> Betas:
    """Eight passes, one for each target of each model; every pass encodes anew.

    Args:
        raw: crosscoder in raw units.
        h_T2d: raw paired residuals.
        materialise: hold the error targets as [tokens, N, d_model], as published; otherwise add the latent back by
            ⟨f·d^m, d⟩ = f·⟨d^m, d⟩, a fairer opponent than the published one.
    """
    return {t: torch.stack([_dense_pass(raw, h_T2d, t, m, materialise) for m in (0, 1)]) for t in TARGETS}


def _dense_pass(raw: RawCoder, h_T2d: Tensor, target: str, m: int, materialise: bool) -> Tensor:
    tuned_Nd, own_Nd = raw.decoder_NMd[:, 1], raw.decoder_NMd[:, m]
    over_N, under_N = torch.zeros(2, len(tuned_Nd), dtype=torch.float64).unbind()
    for h_B2d in h_T2d.split(CHUNK):
        f_BN = raw.encode(h_B2d)
        under_N += (f_BN.square().sum(0) * tuned_Nd.square().sum(1)).double()
        match target:
            case "activation":
                y_Bd = h_B2d[:, m]
            case "activation_nobias":
                y_Bd = h_B2d[:, m] - raw.decoder_bias_Md[m]
            case "reconstruction":
                y_Bd = raw.decode(f_BN)[:, m]
            case _:
                y_Bd = h_B2d[:, m] - raw.decode(f_BN)[:, m]
        if target != "error":
            over_N += (f_BN * (y_Bd @ tuned_Nd.T)).sum(0).double()
        elif materialise:
            y_BNd = y_Bd[:, None] + f_BN[..., None] * own_Nd
            over_N += torch.einsum("bn,bnd,nd->n", f_BN, y_BNd, tuned_Nd).double()
        else:
            over_N += (f_BN * (y_Bd @ tuned_Nd.T + f_BN * (own_Nd * tuned_Nd).sum(1))).sum(0).double()
    return over_N / under_N


def one_pass(coder: SparseCoder, h_T2d: Tensor) -> Betas:
    """What diffbench does: the betas fall out of the survey that every dictionary method makes anyway."""
    betas = latent_scaling(coder.raw(), survey(coder, h_T2d))
    return dict(zip(TARGETS, betas[: len(TARGETS)], strict=True))


def measure(shape: Shape, train_steps: int, repetitions: int, goal: float) -> Row:
    """Equality of every beta in fp64 (in fp32 a code at its threshold may fall on either side), then milliseconds in fp32.

    Args:
        shape: the dictionary; `batch` is the number of tokens the betas are computed on.
        train_steps: steps that the dictionary is trained for, so that codes are as sparse as they should be.
        repetitions: of every variant.
        goal: speed-up asked for.
    """
    h_T2d = paired(shape.batch, shape.d_model)
    coder = SparseCoder(shape.d_model, [Group(shape.n_latents, shape.k)])
    coder.fit_normaliser(h_T2d)
    step = sparse_step(coder, coder.normalise(h_T2d).split(min(512, shape.batch)))
    for _ in range(train_steps):
        step()
    exact = deepcopy(coder).double()
    ours, theirs = one_pass(exact, h_T2d.double()), dense_passes(exact.raw(), h_T2d.double())
    found = {f"β {t}": agree(f"β of the {t}", _difference(ours[t], theirs[t]), 1e-6) for t in TARGETS}
    raw = coder.raw()
    timings = interleaved(
        {
            "one sparse pass": lambda: one_pass(coder, h_T2d),
            "eight dense passes, add-back by identity": lambda: dense_passes(raw, h_T2d, materialise=False),
            "eight dense passes, as published": lambda: dense_passes(raw, h_T2d),
        },
        repetitions,
    )
    name = f"Latent Scaling, d {shape.d_model}, n {shape.n_latents}, {shape.batch} tokens"
    return row(name, "pass", shape.batch, timings, goal, found)


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """Relative difference where both are defined; infinite if they are not undefined for the same latents."""
    dead = theirs.isnan()
    return relative(ours[~dead], theirs[~dead]) if torch.equal(dead, ours.isnan()) and not dead.all() else float("inf")
