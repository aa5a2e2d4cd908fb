"""Crosscoders of jkminder/dictionary_learning as that package pushes them to the hub: `config.json` and `model.safetensors`.

There latent j is kept ⇔ f_j·N_j > θ, with one θ for all latents and N_j = Σ_m ‖d_j^m‖ in normalised units; here it is
kept ⇔ pre_j > threshold_j. So threshold_j = θ/N_j, and the way back exists only if threshold_j·N_j is one constant. An
L1 crosscoder (all thresholds 0) is their `CrossCoder`, which has neither `k` nor `threshold`.

Their normaliser is x = (h − μ)·s on the way in and x/(s + 1e-8) + μ on the way out; it is folded when read and never
written.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...organisms.errors import UsageError, ValidationFailed
from ..coder.dictionary import RawCoder
from .card import Dictionary
from .reading import Tensors, agree, dimensions, read_json, read_tensors
from .shape import Layout, Peer

WEIGHTS, CONFIG, TRAINER = "model.safetensors", "config.json", "trainer_config.json"
SHAPES = {"encoder.weight": "Mdn", "encoder.bias": "n", "decoder.weight": "Mnd", "decoder.bias": "Md"}
NORMALISER = ("activation_mean", "activation_std", "activation_global_scale", "target_rms")
CROSSCODER = 1
"""Their id of the code normalisation N_j."""
SPREAD = 1e-5
"""Relative spread of threshold·N that rounding in fp32 explains."""
EPS = 1e-8
NEVER = torch.finfo(torch.float32).max
"""Threshold of a latent that is never active."""


def layout(dictionary: Dictionary) -> Layout:
    """Files of a crosscoder.

    Raises:
        UsageError: it is not over two models, or needs more than one threshold.
    """
    card, raw = dictionary.card, dictionary.raw
    if card.inputs != "concat":
        raise UsageError(
            f"the jkminder layout holds crosscoders of two models and this dictionary codes {card.inputs!r}; use --to saelens"
        )
    theta = _theta(raw)
    (n, m, d), batch_topk = raw.encoder_NMd.shape, theta > 0
    k = round(sum(g.k or 0 for g in card.groups))
    tensors = {
        "encoder.weight": raw.encoder_NMd.permute(1, 2, 0),
        "encoder.bias": raw.bias_N,
        "decoder.weight": raw.decoder_NMd.transpose(0, 1),
        "decoder.bias": raw.decoder_bias_Md,
        "code_normalization_id": torch.tensor(CROSSCODER),
        "target_rms": torch.tensor(1.0),
        "activation_mean": torch.full((m, d), math.nan),
        "activation_std": torch.full((m, d), math.nan),
        "activation_global_scale": torch.tensor(1.0),
    }
    config: dict[str, Any] = {
        "activation_dim": d,
        "dict_size": n,
        "num_layers": m,
        "code_normalization": "CROSSCODER",
        "target_rms": 1.0,
        "activation_mean": None,
        "activation_std": None,
    }
    if batch_topk:
        tensors |= {"k": torch.tensor(k, dtype=torch.int), "threshold": torch.tensor(theta)}
        config["k"] = k
    trainer = {
        "dict_class": "BatchTopKCrossCoder" if batch_topk else "CrossCoder",
        "activation_dim": d,
        "dict_size": n,
        "layer": card.layer,
    }
    return Layout(WEIGHTS, tensors, {CONFIG: config, TRAINER: {"trainer": trainer | ({"k": k} if batch_topk else {})}})


def _theta(raw: RawCoder) -> float:
    """The one θ = threshold_j·N_j of all latents that write something; 0 for L1."""
    norms_N = raw.decoder_NMd.norm(dim=2).sum(1)
    products = (raw.threshold_N * norms_N)[norms_N > 0]
    if not len(products):
        raise UsageError("every decoder row is zero, so there is no threshold to export; train the dictionary first")
    theta = float(products.median())
    low, high = float(products.min()), float(products.max())
    if high - low > SPREAD * theta:
        raise UsageError(
            f"threshold × decoder norm runs from {low:.4g} to {high:.4g} over the latents and the jkminder layout keeps one "
            "value for all (several BatchTopK groups have several); use --to saelens or --to native, which keep each"
        )
    return theta


def read(folder: Path) -> Peer:
    """A crosscoder of two models.

    Raises:
        PrerequisiteError: a file is missing.
        ValidationFailed: damaged files, or a crosscoder whose codes are not those of a JumpReLU.
    """
    path, config_path = folder / WEIGHTS, folder / CONFIG
    config = read_json(config_path)
    found = {name.removeprefix("_orig_mod."): t for name, t in read_tensors(path).items()}
    is_topk = "k" in found or config.get("k") is not None
    _refuse_other_codes(config, config_path, found)
    shapes = SHAPES | ({"threshold": ""} if is_topk else {}) | ({"k": ""} if "k" in found else {})
    sizes = dimensions(found, shapes, path, (*NORMALISER, "code_normalization_id"))
    agree(
        config_path,
        config,
        {"activation_dim": sizes["d"], "dict_size": sizes["n"], "num_layers": sizes["M"]},
    )
    if sizes["M"] != 2:
        raise ValidationFailed(f"{path} is over {sizes['M']} layers or models; only base and fine-tuned (2) are read")
    encoder_NMd, decoder_NMd = found["encoder.weight"].permute(2, 0, 1), found["decoder.weight"].transpose(0, 1)
    facts: dict[str, Any] = {"inputs": "concat", "selection": "batch_topk" if is_topk else "l1"}
    threshold_N = torch.zeros(sizes["n"])
    if is_topk:
        theta = float(found["threshold"])
        if theta < 0:
            raise ValidationFailed(
                f"{path}: threshold is {theta:g}, its value before it was ever set: the codes would be those of a ReLU, not of "
                "the k that was trained; train past the threshold's first update"
            )
        norms_N = decoder_NMd.norm(dim=2).sum(1)
        threshold_N = torch.where(norms_N > 0, theta / norms_N, NEVER).clamp_max(NEVER)
        k = int(found["k"]) if "k" in found else config["k"]
        facts["groups"] = [{"size": sizes["n"], "k": k or None}]
    raw = RawCoder(encoder_NMd, found["encoder.bias"], decoder_NMd, found["decoder.bias"], threshold_N)
    return Peer(_folded(raw, found, path), facts)


def _refuse_other_codes(config: dict[str, Any], path: Path, found: Tensors) -> None:
    stated = config.get("code_normalization") or "CROSSCODER"
    stored = found.get("code_normalization_id", torch.tensor(CROSSCODER))
    if stored.numel() != 1 or int(stored) != CROSSCODER or stated != "CROSSCODER":
        raise ValidationFailed(
            f"{path} ranks codes by another normalisation than CROSSCODER (config: {stated}); only Σ_m ‖d_j^m‖ is read, because "
            "the others have other thresholds or one code per model"
        )
    if config.get("encoder_layers") not in (None, [0, 1]) or config.get("latent_processor") is not None:
        raise ValidationFailed(
            f"{path} sets encoder_layers or latent_processor, so codes are not those of both models' residuals; not read"
        )


def _folded(raw: RawCoder, found: Tensors, path: Path) -> RawCoder:
    """Fold the normaliser, if there is one: NaN in mean and std means none. Codes and thresholds stay as they are."""
    mean_Md, std_Md = found.get("activation_mean"), found.get("activation_std")
    if mean_Md is None or std_Md is None or (mean_Md.isnan().all() and std_Md.isnan().all()):
        return raw
    scale: Tensor | None = found.get("activation_global_scale")
    shape = raw.decoder_bias_Md.shape
    usable = scale is not None and mean_Md.shape == shape and bool(mean_Md.isfinite().all() and std_Md.isfinite().all())
    if scale is None or not usable or scale.numel() != 1 or not 0 < float(scale) < math.inf:
        raise ValidationFailed(
            f"{path}: the activation normaliser is damaged (NaN in part, wrong shape or no scale); save the crosscoder again"
        )
    encoder_NMd, out = raw.encoder_NMd.double() * scale.double(), scale.double() + EPS
    return RawCoder(
        encoder_NMd.float(),
        (raw.bias_N.double() - torch.einsum("nmd,md->n", encoder_NMd, mean_Md.double())).float(),
        (raw.decoder_NMd.double() / out).float(),
        (raw.decoder_bias_Md.double() / out + mean_Md.double()).float(),
        raw.threshold_N,
    )
