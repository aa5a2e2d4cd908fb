"""Training steps of SAELens and sparsify beside ours: one model's residuals [B, D], same weights, same batches.

Where they differ. SAELens (BatchTopK, ranked by decoder norms as here): the same loss and gradients. sparsify: TopK picks k codes for
each token where ours picks k·B for the batch, its loss is divided by the variance of the batch, its input is centred by the decoder
bias. So ours is checked on *its* pairs: the same fraction of variance unexplained, the same gradients of encoder and decoder. Its step
is composed from its own parts in the order of its `fit` (one function around a language model), with Adam.
"""

from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from diffbench.methods.coder.sparse_coder import Group, Objective, SparseCoder
from diffbench.methods.coder.sparse_ops import Pairs, read, write
from torch import Tensor

from ..features import paired
from ..records import Row, agree, interleaved, relative, row
from ..step import BATCHES, LR, WARM_UP, Shape, several, sparse_step
from .sources import importable, module


def prepare(shape: Shape, dtype: torch.dtype = torch.float32) -> tuple[SparseCoder, list[Tensor]]:
    """A fresh SAE of the fine-tuned model with decoder rows of norm 1 (sparsify keeps them so), and its batches [B, d_model]."""
    h_T2d = paired(BATCHES * shape.batch, shape.d_model).to(dtype)
    coder = SparseCoder(shape.d_model, [Group(shape.n_latents, shape.k)], inputs="ft").to(dtype)
    coder.fit_normaliser(h_T2d)
    batches = list(coder.normalise(h_T2d).split(shape.batch))
    coder.fit_bias(batches[0])
    return coder, batches


class SAELens:
    """Its trainer around a BatchTopK SAE with our weights."""

    name, package = "SAELens", "saelens"

    def __init__(self, coder: SparseCoder, shape: Shape) -> None:
        saes, training = module("sae_lens.saes.batchtopk_sae"), module("sae_lens.training.sae_trainer")
        dtype = str(coder.encoder_ND.dtype).removeprefix("torch.")
        self.sae: Any = saes.BatchTopKTrainingSAE(
            saes.BatchTopKTrainingSAEConfig(
                d_in=shape.d_model, d_sae=shape.n_latents, k=shape.k, dtype=dtype, apply_b_dec_to_input=False
            )
        )
        settings = training.SAETrainerConfig(
            total_training_samples=10**9, train_batch_size_samples=shape.batch, lr=LR, lr_end=LR
        )
        self.trainer: Any = training.SAETrainer(settings, self.sae, data_provider=iter(()))
        self.inputs: Any = module("sae_lens.saes.sae").TrainStepInput
        self.load(coder)

    @torch.no_grad()
    def load(self, coder: SparseCoder) -> None:
        """Our weights."""
        self.sae.W_enc.copy_(coder.encoder_ND.T)
        self.sae.b_enc.copy_(coder.encoder_bias_N)
        self.sae.W_dec.copy_(coder.decoder_ND)
        self.sae.b_dec.copy_(coder.decoder_bias_D)

    def step(self, x_BD: Tensor) -> None:
        """One step of its trainer."""
        self.trainer.step(x_BD)
        self.trainer.n_training_steps += 1

    def agreement(self, coder: SparseCoder, x_BD: Tensor) -> dict[str, float]:
        """Loss and gradients."""
        step = self.inputs(
            sae_in=x_BD, dead_neuron_mask=None, coefficients={}, n_training_steps=0, is_logging_step=False
        )
        theirs, ours = self.sae.training_forward_pass(step).loss, coder.losses(x_BD, Objective()).loss
        theirs.backward()
        ours.backward()
        grads = {"encoder_ND": self.sae.W_enc.grad.T, "encoder_bias_N": self.sae.b_enc.grad}
        grads |= {"decoder_ND": self.sae.W_dec.grad, "decoder_bias_D": self.sae.b_dec.grad}
        worst = max(relative(getattr(coder, name).grad, grad) for name, grad in grads.items())
        return {
            "loss (fp64)": agree("SAELens: the loss", relative(ours, theirs), 1e-10),
            "gradients (fp64)": agree("SAELens: a gradient", worst, 1e-10),
        }


class Sparsify:
    """Its sparse coder with our weights, and the parts of its training step."""

    name, package = "sparsify", "sparsify"

    def __init__(self, coder: SparseCoder, shape: Shape) -> None:
        its = module("sparsify")
        config = its.SparseCoderConfig(num_latents=shape.n_latents, k=int(shape.k))
        self.sae: Any = its.SparseCoder(shape.d_model, config, dtype=coder.encoder_ND.dtype)
        self.optimiser = torch.optim.Adam(self.sae.parameters(), lr=LR)
        self.fired_N = torch.zeros(shape.n_latents, dtype=torch.bool)
        with torch.no_grad():
            self.sae.encoder.weight.copy_(coder.encoder_ND)
            self.sae.encoder.bias.copy_(coder.encoder_bias_N)
            self.sae.W_dec.copy_(coder.decoder_ND)
            self.sae.b_dec.copy_(coder.decoder_bias_D)

    def step(self, x_BD: Tensor) -> None:
        """One step in the order of its `fit`; AuxK and Multi-TopK are off, as by default."""
        self.sae.set_decoder_norm_to_unit_norm()
        out = self.sae(x_BD, dead_mask=None)
        self.fired_N[out.latent_indices.flatten()] = True
        float(out.fvu.detach())
        out.fvu.backward()
        self.sae.remove_gradient_parallel_to_decoder_directions()
        self.optimiser.step()
        self.optimiser.zero_grad()

    def agreement(self, coder: SparseCoder, x_BD: Tensor) -> dict[str, float]:
        """Fraction of variance unexplained and gradients of encoder and decoder, ours over its pairs."""
        out = self.sae(x_BD)
        out.fvu.backward()
        order = out.latent_indices.sort(dim=1).values
        tokens = torch.arange(len(x_BD)).repeat_interleave(order.shape[1])
        pairs = Pairs(tokens, order.flatten(), len(x_BD), coder.n_latents)
        x_centred_BD = x_BD - coder.decoder_bias_D.detach()
        pre_BN = torch.addmm(coder.encoder_bias_N, x_centred_BD, coder.encoder_ND.T).detach()
        values_A = read(pre_BN, x_centred_BD, coder.encoder_ND, coder.encoder_bias_N, pairs)
        error_BD = x_BD - write(values_A, coder.decoder_ND, pairs) - coder.decoder_bias_D
        ours = error_BD.square().sum() / (x_BD - x_BD.mean(0)).square().sum()
        ours.backward()
        grads = {"encoder_ND": self.sae.encoder.weight.grad, "decoder_ND": self.sae.W_dec.grad}
        worst = max(relative(getattr(coder, name).grad, grad) for name, grad in grads.items())
        return {
            "its loss (fp64)": agree("sparsify: the loss", relative(ours, out.fvu), 1e-10),
            "gradients (fp64)": agree("sparsify: a gradient", worst, 1e-10),
        }


def measure(peer: type[SAELens] | type[Sparsify], shape: Shape, repetitions: int, goal: float, root: Path) -> Row:
    """Agreement, then milliseconds per step from the weights that ours has come to.

    Raises:
        Unavailable: the peer is not installed.
        Disagreement: the two do not compute the same.
    """
    with importable(peer.package, root=root):
        coder, (x_BD, *_) = prepare(shape, torch.float64)
        found = peer(coder, shape).agreement(coder, x_BD)
        coder, batches = prepare(shape)
        ours = sparse_step(coder, batches)
        for _ in range(WARM_UP if repetitions > 1 else 1):
            ours()
        theirs, stream = peer(coder, shape), cycle(batches)
        timings = interleaved(
            {
                "sparse": several(ours, shape.steps),
                peer.name: several(lambda: theirs.step(next(stream)), shape.steps),
            },
            repetitions,
            shape.steps,
        )
    kind = "BatchTopK" if peer is SAELens else "BatchTopK against TopK"
    return row(f"SAE step ({kind}), {peer.name}, {shape.name}", "step", shape.batch, timings, goal, found)
