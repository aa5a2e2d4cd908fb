"""Dictionaries made at random, and the files in which our own writers and other packages keep them."""

import json
from pathlib import Path
from typing import Any

import torch
from diffbench.methods.coder.sparse_coder import Group, Inputs, Selection, SparseCoder
from diffbench.methods.formats import CodeGroup, Dictionary, DictionaryCard, write_dictionary
from safetensors.torch import save_file
from torch import Tensor

D, N, K = 16, 64, 6
"""Residual width, latents, k of the peers' SAEs."""


def residuals(tokens: int = 512, seed: int = 1) -> Tensor:
    """Paired raw residuals [tokens, 2, D], off-centre and of different scales."""
    g = torch.Generator().manual_seed(seed)
    h_B2d = torch.randn(tokens, 2, D, generator=g) * torch.tensor([3.0, 4.0])[:, None]
    return h_B2d + torch.linspace(-2, 2, D)


def dictionary(
    inputs: Inputs = "concat", sizes: tuple[int, ...] = (N,), selection: Selection = "batch_topk"
) -> Dictionary:
    """A coder with a fitted normaliser, random rows, and another threshold for every group."""
    g = torch.Generator().manual_seed(0)
    groups = [Group(size, k=3.0 + i) for i, size in enumerate(sizes)]
    coder = SparseCoder(D, groups, selection, inputs)
    coder.fit_normaliser(residuals(seed=0))
    with torch.no_grad():
        for p in coder.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.3)
        coder.theta_G.copy_(0.15 * torch.arange(1.0, len(sizes) + 1))
    card = DictionaryCard(
        inputs=inputs,
        d_model=D,
        n_latents=sum(sizes),
        n_shared=sizes[0] if len(sizes) > 1 else 0,
        groups=tuple(CodeGroup(size=g.size, k=g.k) for g in groups),
        selection=selection,
        layer=2,
        hook="blocks.2.hook_resid_post",
        base="tiny-gemma2",
        method="delta",
        metrics={"l0": 3.5},
    )
    made = Dictionary(coder.raw(), card)
    codes = made.encode(residuals())
    torch.testing.assert_close(codes, coder.encode(coder.normalise(residuals())).dense(), atol=1e-5, rtol=0)
    assert 0.01 < float((codes > 0).float().mean()) < 0.6
    return made


def written(made: Dictionary, form: str, folder: Path) -> Path:
    folder.mkdir()
    write_dictionary(made, form, folder)
    return folder


def same_codes(a: Tensor, b: Tensor) -> None:
    assert float((a - b).abs().max()) <= 1e-5 and bool((a > 0).any())


def saelens_files(folder: Path, **config: Any) -> dict[str, Tensor]:
    """A JumpReLU SAE over one residual that subtracts b_dec from its input and has a negative threshold."""
    g = torch.Generator().manual_seed(4)
    tensors = {
        "W_enc": torch.randn(D, N, generator=g) * 0.2,
        "b_enc": torch.randn(N, generator=g),
        "W_dec": torch.randn(N, D, generator=g),
        "b_dec": torch.randn(D, generator=g),
        "threshold": torch.rand(N, generator=g),
    }
    tensors["threshold"][0] = -1.0
    save_file(tensors, folder / "sae_weights.safetensors")
    known = {"architecture": "jumprelu", "d_in": D, "d_sae": N, "dtype": "float32", "device": "cpu"}
    known["apply_b_dec_to_input"] = True
    known["metadata"] = {"sae_lens_version": "6.18.0", "hook_name": "blocks.3.hook_resid_post", "model_name": "m"}
    (folder / "cfg.json").write_text(json.dumps(known | config))
    return tensors


def dictionary_learning_files(folder: Path, **trainer: Any) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    tensors = {
        "encoder.weight": torch.randn(N, D, generator=g) * 0.2,
        "encoder.bias": torch.randn(N, generator=g),
        "decoder.weight": torch.nn.functional.normalize(torch.randn(D, N, generator=g), dim=0),
        "b_dec": torch.randn(D, generator=g),
        "k": torch.tensor(K, dtype=torch.int),
        "threshold": torch.tensor(0.7),
    }
    torch.save(tensors, folder / "ae.pt")
    known = {"dict_class": "BatchTopKSAE", "activation_dim": D, "dict_size": N, "k": K, "layer": 4, "lm_name": "m"}
    (folder / "config.json").write_text(json.dumps({"trainer": known | trainer, "buffer": {}}))
    return tensors


def sparsify_files(folder: Path, **config: Any) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(6)
    tensors = {
        "encoder.weight": torch.randn(N, D, generator=g) * 0.2,
        "encoder.bias": torch.randn(N, generator=g),
        "W_dec": torch.randn(N, D, generator=g),
        "b_dec": torch.randn(D, generator=g),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"activation": "topk", "k": K, "num_latents": N, "d_in": D} | config))
    return tensors
