"""Two formats of SAEs over one residual that are read only: saprmarks/dictionary_learning and EleutherAI/sparsify."""

import re
from pathlib import Path

import torch

from ...organisms.errors import ValidationFailed
from .reading import agree, dimensions, read_json, read_state_dict, read_tensors
from .shape import Peer, sae

DL_WEIGHTS, DL_CONFIG = "ae.pt", "config.json"
SPARSIFY_WEIGHTS, SPARSIFY_CONFIG = "sae.safetensors", "cfg.json"


def read_dictionary_learning(folder: Path) -> Peer:
    """A `BatchTopKSAE` of dictionary_learning at its inference threshold: f_j = ReLU((h − b_dec)·e_j + b_j) if > θ.

    Raises:
        PrerequisiteError: a file is missing.
        ValidationFailed: damaged files, another class, or a threshold that was never set.
    """
    path, config_path = folder / DL_WEIGHTS, folder / DL_CONFIG
    trainer = read_json(config_path).get("trainer")
    if not isinstance(trainer, dict) or trainer.get("dict_class") != "BatchTopKSAE":
        kind = trainer.get("dict_class") if isinstance(trainer, dict) else None
        raise ValidationFailed(
            f"{config_path} is of dict_class {kind!r}; only BatchTopKSAE is read, whose threshold makes it a JumpReLU"
        )
    found = read_state_dict(path)
    shapes = {
        "encoder.weight": "nd",
        "encoder.bias": "n",
        "decoder.weight": "dn",
        "b_dec": "d",
        "k": "",
        "threshold": "",
    }
    sizes = dimensions(found, shapes, path)
    agree(config_path, trainer, {"activation_dim": sizes["d"], "dict_size": sizes["n"], "k": int(found["k"])})
    if found["threshold"] < 0:
        raise ValidationFailed(
            f"{path}: threshold is {float(found['threshold']):g}, its value before it was ever set: the codes would be those of "
            "a ReLU, not of the k that was trained; train past threshold_start_step"
        )
    raw = sae(
        found["encoder.weight"],
        found["encoder.bias"],
        found["decoder.weight"].T,
        found["b_dec"],
        found["threshold"].expand(sizes["n"]),
        centred=True,
    )
    hook, layer = trainer.get("submodule_name"), trainer.get("layer")
    facts = {
        "base": trainer.get("lm_name"),
        "hook": hook,
        "layer": layer if "resid_post" in str(hook or "resid_post") else None,
        "selection": "batch_topk",
        "groups": [{"size": sizes["n"], "k": int(found["k"])}],
    }
    return Peer(raw, facts)


def read_sparsify(folder: Path) -> Peer:
    """A TopK SAE of sparsify: f = the k largest of ReLU((h − b_dec)·e_j + b_j) of each token.

    Raises:
        PrerequisiteError: a file is missing.
        ValidationFailed: damaged files, or a coder that is not a TopK SAE.
    """
    path, config_path = folder / SPARSIFY_WEIGHTS, folder / SPARSIFY_CONFIG
    config = read_json(config_path)
    other = [name for name in ("transcode", "skip_connection", "signed") if config.get(name)]
    if config.get("activation", "topk") != "topk" or other:
        raise ValidationFailed(
            f"{config_path} sets {', '.join(other) or 'activation ' + repr(config['activation'])}; only plain TopK SAEs are read"
        )
    found = read_tensors(path)
    shapes = {"encoder.weight": "nd", "encoder.bias": "n", "W_dec": "nd", "b_dec": "d"}
    sizes = dimensions(found, shapes, path)
    agree(
        config_path, config, {"d_in": sizes["d"]} | ({"num_latents": sizes["n"]} if config.get("num_latents") else {})
    )
    k = config.get("k")
    if not isinstance(k, int) or not 1 <= k <= sizes["n"]:
        raise ValidationFailed(f"{config_path} has k {k!r} for {sizes['n']} latents; without it the codes are a ReLU's")
    block = re.fullmatch(r"layers[._](\d+)", folder.name)
    facts = {
        "hook": folder.name if block else None,
        "layer": int(block[1]) if block else None,
        "selection": "topk",
        "topk": k,
        "groups": [{"size": sizes["n"], "k": k}],
    }
    raw = sae(
        found["encoder.weight"],
        found["encoder.bias"],
        found["W_dec"],
        found["b_dec"],
        torch.zeros(sizes["n"]),
        centred=True,
    )
    return Peer(raw, facts)
