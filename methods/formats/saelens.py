"""SAELens folders: `cfg.json` and `sae_weights.safetensors`, a JumpReLU over one vector.

A dictionary over both models is a JumpReLU SAE over their residuals side by side (base first): d_in = 2·d_model. Their
rule, keep ⇔ pre > threshold, is ours. A file without `threshold` is read only if it says that it is a ReLU SAE.
"""

import re
from pathlib import Path
from typing import Any

import torch

from ...organisms.errors import ValidationFailed
from .card import Dictionary
from .reading import agree, dimensions, read_json, read_tensors
from .shape import Layout, Peer, sae

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
SHAPES = {"W_enc": "Dn", "b_enc": "n", "W_dec": "nD", "b_dec": "D"}
LAYOUT_VERSION = "6.0.0"
"""Oldest SAELens that reads this layout; without a version its converter for older files runs."""
INPUTS = "diffbench_inputs"
"""Key of their metadata that says which vector is coded."""


def layout(dictionary: Dictionary) -> Layout:
    """Files of a dictionary with thresholds."""
    card, raw = dictionary.card, dictionary.raw
    tensors = {
        "W_enc": raw.encoder_NMd.flatten(1).T,
        "b_enc": raw.bias_N,
        "W_dec": raw.decoder_NMd.flatten(1),
        "b_dec": raw.decoder_bias_Md.flatten(),
        "threshold": raw.threshold_N,
    }
    config: dict[str, Any] = {
        "architecture": "jumprelu",
        "d_in": tensors["W_enc"].shape[0],
        "d_sae": card.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": LAYOUT_VERSION,
            "sae_lens_training_version": None,
            "model_name": card.base,
            "hook_name": card.hook if card.layer is None else f"blocks.{card.layer}.hook_resid_post",
            INPUTS: card.inputs,
        },
    }
    return Layout(WEIGHTS, tensors, {CONFIG: config})


def read(folder: Path) -> Peer:
    """A JumpReLU or ReLU SAE.

    Raises:
        PrerequisiteError: a file is missing.
        ValidationFailed: damaged files, or an SAE that is neither.
    """
    path, config_path = folder / WEIGHTS, folder / CONFIG
    config = read_json(config_path)
    meta: Any = config.get("metadata")
    if not isinstance(meta, dict):
        meta = {}
    version = str(meta.get("sae_lens_version") or config.get("sae_lens_version") or "none")
    if not re.match(r"[6-9]|\d\d", version):
        raise ValidationFailed(
            f"{config_path} is of SAELens {version}, whose settings mean other things before 6; load and save it with SAELens ≥ 6"
        )
    architecture = config.get("architecture")
    if architecture not in ("jumprelu", "standard"):
        raise ValidationFailed(
            f"{config_path} has architecture {architecture!r}; only jumprelu and standard (ReLU) have codes that thresholds "
            "express (save a BatchTopK SAE with SAELens's save_inference_model, which writes jumprelu)"
        )
    for key in ("normalize_activations", "reshape_activations"):
        if config.get(key, "none") != "none":
            raise ValidationFailed(
                f"{config_path} sets {key} to {config[key]!r}, which needs more than the residual of a token; fold it in SAELens"
            )
    found = read_tensors(path)
    sizes = dimensions(found, SHAPES | ({"threshold": "n"} if architecture == "jumprelu" else {}), path)
    agree(config_path, config, {"d_in": sizes["D"], "d_sae": sizes["n"]})
    raw = sae(
        found["W_enc"].T,
        found["b_enc"],
        found["W_dec"],
        found["b_dec"],
        found.get("threshold", torch.zeros(sizes["n"])),
        centred=bool(config.get("apply_b_dec_to_input", True)),
    )
    hook = meta.get("hook_name")
    block = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", str(hook))
    facts = {
        "inputs": meta.get(INPUTS),
        "base": meta.get("model_name"),
        "hook": hook,
        "layer": int(block[1]) if block else None,
        "selection": "l1" if architecture == "standard" else None,
    }
    return Peer(raw, facts)
