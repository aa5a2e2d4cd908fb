"""Activations in delphi's cache format, for its explainers and scorers.

`<folder>/<module>/<first>_<last>.safetensors` holds `locations` [n, 3] (sequence, position, latent − first), `activations` [n] and `tokens`
[sequences, ctx]; `config.json` beside it says what they are of. Finding k is latent k − 1. Documents are sequences of their own, filled up
with the padding token, on which nothing is active.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from ..files import atomic_write_text
from .material import Material


def write(folder: Path, material: Material, model_name: str) -> Path:
    """Write what was read; the folder of the module.

    Args:
        model_name: what its tokenizer is loaded by.
    """
    pair, looks = material.stage.pair, material.looks
    rows = [row for s in material.read.values() for row in s.rows]
    ctx, fill = max(map(len, rows)), pair.tokenizer.pad_token_id or 0
    tokens = np.array([[*row, *[fill] * (ctx - len(row))] for row in rows], dtype=np.int64)
    text, place = _places([len(r) for r in rows])
    locations, activations = list[np.ndarray](), list[np.ndarray]()
    first, last = min(looks) - 1, max(looks) - 1
    for number, look in looks.items():
        above = (
            torch.cat([s.values[1, :, look.j].masked_fill(~s.counted, look.floor) for s in look.seen.values()])
            - look.floor
        )
        at = above.gt(1e-5).nonzero().flatten().numpy()
        locations.append(np.stack([text[at], place[at], np.full(len(at), number - 1 - first)], 1))
        activations.append(above.numpy()[at])
    module = folder / f"layers.{pair.layer}"
    module.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "locations": np.concatenate(locations).astype(np.uint32),
            "activations": np.concatenate(activations).astype(np.float16),
            "tokens": tokens,
        },
        module / f"{first}_{last}.safetensors",
    )
    config = {
        "model_name": model_name,
        "dataset_repo": f"diffbench: harvest text of {material.subject.organism.name}",
        "dataset_split": "harvest",
        "dataset_name": "",
        "dataset_column": "text",
        "ctx_len": ctx,
        "cache_ctx_len": ctx,
        "batch_size": 1,
        "n_tokens": material.tokens,
        "n_splits": 1,
    }
    atomic_write_text(module / "config.json", json.dumps(config, indent=1) + "\n")
    return module


def _places(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Of every token the document and the position in it."""
    text = np.repeat(np.arange(len(lengths)), lengths)
    return text, np.concatenate([np.arange(n) for n in lengths])
