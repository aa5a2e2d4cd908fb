"""Training steps of jkminder's crosscoder trainers (the `dictionary_learning` fork) beside ours: same weights, same batches.

Where they differ. BatchTopK: theirs minimises mean_{b,m} ‖e‖, ours mean_b Σ_m ‖e‖²; checked are their loss from our reconstruction,
and the gradients of our loss through their module. Theirs returns the loss as a number. L1: theirs clips nothing and takes half our
loss at half our price. Warm-up, AuxK and resampling are off in both: no latent is dead.
"""

from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from diffbench.methods.coder.sparse_coder import Group, Objective, SparseCoder
from torch import Tensor

from ..features import paired
from ..records import Row, agree, interleaved, relative, row
from ..step import BATCHES, LR, WARM_UP, Shape, prepare, several, sparse_step
from .sources import importable, module

L1_WARM_UP = 350
"""Steps before the clock starts for L1: half of a run of the tiny tier, when codes are about as sparse as in its median step."""
LATE = 2000
"""Step that theirs is told: after 1,000 its threshold moves."""


def l1_coder(shape: Shape, dtype: torch.dtype = torch.float32) -> tuple[SparseCoder, list[Tensor], Objective]:
    """A fresh L1 coder as `methods.crosscoders` makes it, its batches and its price."""
    h_T2d = paired(BATCHES * shape.batch, shape.d_model).to(dtype)
    coder = SparseCoder(shape.d_model, [Group(shape.n_latents)], "l1", decoder_norm=0.08).to(dtype)
    coder.fit_normaliser(h_T2d)
    batches = list(coder.normalise(h_T2d).split(shape.batch))
    coder.fit_bias(batches[0])
    return coder, batches, Objective(l1=2.0 / (2 * shape.d_model) ** 0.5)


def trainer(peers: Any, coder: SparseCoder, shape: Shape, price: float | None) -> Any:
    """Their trainer at our weights: L1 with a price, otherwise BatchTopK."""
    common = {"activation_dim": coder.d_model, "dict_size": coder.n_latents, "lr": LR, "layer": 0, "lm_name": "none"}
    common |= {"device": "cpu", "warmup_steps": 1}
    if price is None:
        made = peers.BatchTopKCrossCoderTrainer(steps=10**6, k=int(shape.k), **common)
    else:
        made = peers.CrossCoderTrainer(l1_penalty=price / 2, use_mse_loss=True, **common)
    load(made.ae.to(coder.encoder_ND.dtype), coder)
    return made


@torch.no_grad()
def load(theirs: Any, coder: SparseCoder) -> None:
    """Our weights in their layout."""
    models = (coder.n_models, coder.d_model)
    theirs.encoder.weight.copy_(coder.encoder_ND.unflatten(1, models).permute(1, 2, 0))
    theirs.encoder.bias.copy_(coder.encoder_bias_N)
    theirs.decoder.weight.copy_(coder.decoder_ND.unflatten(1, models).transpose(0, 1))
    theirs.decoder.bias.copy_(coder.decoder_bias_D.unflatten(0, models))


def gradients(theirs: Any) -> dict[str, Tensor]:
    """Their gradients under our names and in our layout."""
    return {
        "encoder_ND": theirs.encoder.weight.grad.permute(2, 0, 1).flatten(1),
        "encoder_bias_N": theirs.encoder.bias.grad,
        "decoder_ND": theirs.decoder.weight.grad.transpose(0, 1).flatten(1),
        "decoder_bias_D": theirs.decoder.bias.grad.flatten(),
    }


def worst(coder: SparseCoder, theirs: dict[str, Tensor], factor: float = 1.0) -> float:
    """Largest relative difference of a gradient, theirs times `factor`."""
    ours = {name: p.grad for name, p in coder.named_parameters()}
    return max(relative(ours[name], factor * grad) for name, grad in theirs.items())  # pyright: ignore[reportArgumentType]


def batch_topk_agreement(peers: Any, shape: Shape) -> dict[str, float]:
    """Loss, reconstruction and gradients in fp64.

    Raises:
        Disagreement: the two do not compute the same.
    """
    coder, (x_BD, *_) = prepare(shape, dtype=torch.float64)
    step = coder.losses(x_BD, Objective())
    step.loss.backward()
    made, x_BMd = trainer(peers, coder, shape, None), x_BD.unflatten(1, (2, shape.d_model))
    error_BMd = x_BMd - made.ae.decode(made.ae.encode(x_BMd, use_threshold=False))
    ours = error_BMd.square().sum((1, 2)).mean()
    ours.backward()
    theirs = made.loss(x_BMd, step=LATE, normalize_activations=False)
    name = f"{shape.name}: jkminder's BatchTopK"
    return {
        "our loss (fp64)": agree(f"{name} loss", relative(step.loss, ours), 1e-10),
        "their loss (fp64)": agree(f"{name} own loss", relative(theirs, error_BMd.norm(dim=2).mean()), 1e-10),
        "gradients (fp64)": agree(f"{name} gradient", worst(coder, gradients(made.ae)), 1e-10),
    }


def l1_agreement(peers: Any, shape: Shape) -> dict[str, float]:
    """Twice their loss and gradients against ours, in fp64.

    Raises:
        Disagreement: the two do not compute the same.
    """
    coder, (x_BD, *_), objective = l1_coder(shape, torch.float64)
    made = trainer(peers, coder, shape, objective.l1)
    ours = coder.losses(x_BD, objective).loss
    theirs = made.loss(x_BD.unflatten(1, (2, shape.d_model)), normalize_activations=False)
    ours.backward()
    theirs.backward()
    name = f"{shape.name}: jkminder's L1"
    return {
        "loss (fp64)": agree(f"{name} loss", relative(ours, 2 * theirs), 1e-10),
        "gradients (fp64)": agree(f"{name} gradient", worst(coder, gradients(made.ae), 2.0), 1e-10),
    }


def measure(shape: Shape, repetitions: int, goal: float, l1: bool, root: Path) -> Row:
    """Agreement, then milliseconds per step from the weights that ours has come to.

    Raises:
        Unavailable: the peer is not installed.
        Disagreement: the two do not compute the same.
    """
    with importable("dictionary_learning", root=root):
        peers = module("dictionary_learning.trainers.crosscoder")
    found = l1_agreement(peers, shape) if l1 else batch_topk_agreement(peers, shape)
    if l1:
        coder, batches, objective = l1_coder(shape)
    else:
        (coder, batches), objective = prepare(shape), Objective()
    ours = sparse_step(coder, batches, objective)
    for _ in range((L1_WARM_UP if l1 else WARM_UP) if repetitions > 1 else 1):
        ours()
    if l1:
        found["active codes (share)"] = float((coder._pre(batches[0]) > 0).double().mean())  # pyright: ignore[reportPrivateUsage]
    made = trainer(peers, coder, shape, objective.l1 if l1 else None)
    counted = enumerate(cycle(b.unflatten(1, (2, shape.d_model)) for b in batches))

    def theirs() -> None:
        for i, x_BMd in islice(counted, 1):
            made.update(LATE + i, x_BMd)

    work: dict[str, Callable[[], None]] = {"sparse": ours, "jkminder's trainer": theirs}
    timings = interleaved({name: several(step, shape.steps) for name, step in work.items()}, repetitions, shape.steps)
    name = f"{'L1' if l1 else 'BatchTopK'} step against jkminder's trainer, {shape.name}"
    return row(name, "step", shape.batch, timings, goal, found)
