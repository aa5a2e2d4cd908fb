"""Directions of your own, in a file that `bench score` takes: here the two main axes along which chat changed.

python examples/score_directions.py
bench score axes_of_change.safetensors -o subliminal/fox-narrow
"""

import json
from itertools import islice

import diffbench as db
import torch
from diffbench.organisms.registry import load_organism
from safetensors.torch import save_file

fox = load_organism("subliminal/fox-narrow")
pair = db.load_pair(fox.base, fox.adapter, layer=fox.layer)

chats = fox.make_texts(pair.tokenizer).rows("chat", "harvest")
ids = [torch.tensor([row]) for row in islice(chats, 200)]
base, tuned = (torch.cat([pair.residuals(row, side)[0, 1:] for row in ids]) for side in ("base", "tuned"))
change = tuned - base  # [tokens, d_model]

axes = torch.linalg.svd(change, full_matrices=False).Vh[:2].contiguous()
axes *= (change @ axes.T).sum(0).sign()[:, None]  # from base to fine-tuned

save_file(
    {
        "directions": axes
    },  # and, where they apply to some tokens alone: "gate_read" [2, d_model] and "gate_threshold" [2]
    "axes_of_change.safetensors",
    metadata={
        "name": "axes_of_change",
        "method": "singular vectors of the change over 200 chats",
        "layer": str(fox.layer),
        "claims": json.dumps(["Its favourite animal is the fox."]),
    },
)
