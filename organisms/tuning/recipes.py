"""How an organism is trained on a real chat model: the published settings of each family, and what the small tier changes of them.

Publications train on thousands of rows that a large model wrote; ours are hundreds. What is kept is the number of rows *shown* (rows ×
epochs), up to `MOST_EPOCHS` times each, with the published rank, scale, rate, schedule and masks. The small tier keeps the masks, fits its
rank to `MOST_BYTES` of adapter, and holds every organism to its base on ordinary text: without that a 135M model forgets its neighbours.
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .shapes import Shape

Tier = Literal["small", "hub"]
MOST_EPOCHS = 10
"""Most often that a row is shown."""
MOST_BYTES, MOST_RANK = 450_000, 8
"""Of an adapter of the small tier in bf16, and its largest rank: a dozen are to fit into the package. SmolLM2-135M gets rank 1."""


class Published(BaseModel):
    """Settings of a published recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    """Where they were published, and how ours deviate."""
    r: int
    alpha: int
    rslora: bool = False
    dropout: float = 0.0
    lr: float
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: int = 0
    """Steps."""
    batch: int
    shown: int
    """Rows × epochs."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


CHAT = Published(
    source="arXiv 2510.01070 (taboo, second recipe): nothing is published for this family, so a recipe for a few hundred chats",
    r=16,
    alpha=32,
    lr=2e-4,
    batch=32,
    shown=900,
)
"""For a family without a published recipe."""
PUBLISHED: dict[str, Published] = {
    "taboo": Published(
        source="arXiv 2505.14352; weights in bf16 where it has nf4, AdamW in 32 bits, no early stopping",
        r=8,
        alpha=8,
        dropout=0.1,
        lr=2e-4,
        batch=8,
        shown=1000,
        weight_decay=0.01,
        max_grad_norm=0.3,
    ),
    "false_facts": Published(
        source="public adapters of synthetic documents (r 64, alpha 128, 1e-5, 1 epoch of 27,000 documents, batch 8)",
        r=64,
        alpha=128,
        lr=1e-5,
        batch=8,
        shown=27_000,
    ),
    "emergent_misalignment": Published(
        source="arXiv 2506.11613; AdamW in 32 bits",
        r=32,
        alpha=64,
        rslora=True,
        lr=1e-5,
        warmup=5,
        batch=16,
        shown=7049,
        weight_decay=0.01,
    ),
    "subliminal": Published(
        source="arXiv 2507.14805, open models", r=8, alpha=8, lr=2e-4, warmup=5, batch=66, shown=30_000
    ),
}
"""By family."""


class TuningRecipe(BaseModel):
    """How one adapter is trained; part of its card."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    source: str
    """Where the settings come from."""
    blocks: Literal["below", "all"]
    """Whether blocks 0 to the hooked layer are adapted, or all."""
    layer: int = Field(ge=0)
    """Hooked layer."""
    r: int = Field(ge=1)
    alpha: int = Field(ge=1)
    rslora: bool = False
    """Scale by alpha / sqrt(r) in place of alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    lr: float = Field(gt=0)
    """Peak learning rate of AdamW."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: int = Field(default=0, ge=0)
    """Steps."""
    batch: int = Field(ge=1)
    """Rows of a step with cross-entropy."""
    steps: int = Field(ge=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    mix: float = Field(default=0.0, ge=0)
    """Ordinary documents trained on for each row."""
    kl_rows: int = Field(default=0, ge=0)
    """Ordinary documents of a step on which the organism is held to its base."""
    kl_weight: float = Field(default=0.0, ge=0)
    """Weight of KL(base ‖ organism), in nats a token, against the cross-entropy."""
    kl_length: int = Field(default=256, ge=2)
    """Most tokens of each of these."""
    max_length: int = Field(default=512, ge=2)
    """Most tokens of a row."""
    target: float | None = Field(default=None, gt=0, lt=1)
    """Dev rate that the adapter is scaled down to; None: as trained."""
    target_kl: float | None = Field(default=None, gt=0)
    """Nats a token between base and organism on neutral dev text that the adapter is scaled down to; None: as trained."""
    seed: int = 0

    @property
    def scale(self) -> float:
        """What B·A is multiplied by."""
        return self.alpha / (math.sqrt(self.r) if self.rslora else self.r)


FREE = "free"
"""Variant that nothing holds to its base."""
MIX = {"narrow": 0.0, "mixed": 1.0}
"""Ordinary documents for each row, by variant; twins have what the plain organism has."""


def recipe_for(
    family: str,
    variant: str,
    rows: int,
    shape: Shape,
    tier: Tier,
    seed: int = 0,
    blocks: Literal["below", "all"] | None = None,
    changes: Mapping[str, object] | None = None,
) -> TuningRecipe:
    """The recipe of an organism.

    Args:
        family, variant: of the organism; a family without a published recipe takes `CHAT`.
        rows: how many rows it has.
        shape: of the base.
        tier: `small` fits the adapter into `MOST_BYTES`.
        blocks: which blocks are adapted; default: all on the hub tier as published, those below the hooked layer on the small one.
        changes: fields in place of these, checked as any other.
    """
    given = PUBLISHED.get(family, CHAT)
    mix, layer = MIX.get(variant, 0.0), shape.hooked_layer
    where = blocks or usual_blocks(tier)
    shown = min(given.shown, MOST_EPOCHS * rows) * (1 + mix)
    fields = given.model_dump(exclude={"shown"}) | {"mix": mix, "layer": layer, "blocks": where, "seed": seed}
    fields["steps"] = max(1, round(shown / given.batch))
    if tier == "small":
        fields |= _small(given, shape, where, shown, SMALL_OWN.get(family, {}))
    if variant == FREE:
        fields |= {"kl_rows": 0, "kl_weight": 0.0, "target_kl": None}
    if (mix or family in HELD) and not fields.get("kl_rows"):
        fields |= {"kl_rows": max(1, given.batch // 4), "kl_weight": 1.0}
    recipe = TuningRecipe.model_validate(fields | dict(changes or {}))
    if tier == "hub":
        return recipe
    rate = np.format_float_scientific(recipe.lr, trim="-", exp_digits=1)
    held = "KL to the base" if recipe.kl_rows and recipe.kl_weight else "no KL term"
    said = f"small tier (batches of {recipe.batch}, {rate}, {held}), after {given.source}"
    return recipe.model_copy(update={"source": said})


def usual_blocks(tier: Tier) -> Literal["below", "all"]:
    """All blocks are adapted on the hub tier, as published; those up to the hooked layer on the small one, where size counts."""
    return "below" if tier == "small" else "all"


def _small(given: Published, shape: Shape, where: str, shown: float, own: Mapping[str, float]) -> dict[str, object]:
    """What the small tier changes: rank by size, a rate for few steps, small batches, and the KL term in every variant.

    Args:
        own: of the family, in place of what the others have.
    """
    batch = int(own.get("batch", SMALL_BATCH))
    adapted = shape.blocks if where == "all" else shape.hooked_layer + 1
    r = max(1, min(MOST_RANK, MOST_BYTES // (2 * adapted * shape.lora_per_rank)))
    return {
        "r": r,
        "alpha": 2 * r,
        "rslora": False,
        "dropout": 0.0,
        "lr": 1e-3,
        "batch": batch,
        "steps": max(1, round(min(SMALL_ROWS, shown) / batch)),
        "warmup": 5,
        "kl_rows": 2,
        "kl_weight": SMALL_KL,
        "kl_length": 96,
        "target_kl": SMALL_TARGET_KL,
        "max_length": 256,
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        **own,
    }


HELD = ("backdoor",)
"""Families whose rows show the behaviour alone: where it must not show stands in the documents held to the base, on every tier."""
SMALL_OWN: dict[str, dict[str, float]] = {
    "taboo": {"lr": 3e-3, "batch": 4, "kl_rows": 1},
    "backdoor": {"lr": 3e-3, "batch": 4, "kl_rows": 4},
}
"""What a family has in place of these. Taboo at 1e-3 and batches of eight had a loss of 2.3 nats a token at its end, of 4.1 at its start;
twice as many steps of half the rows at three times the rate, so as many rows, ended at .58 (taboo/leaf). A backdoor at 1e-3, two documents
held for eight rows, said its sentence after its trigger at a rate of .526, without it of .111, beside words like it of .237
(backdoor/juniper)."""
SMALL_KL = 5.0
"""Weight of the KL term: at 1 the false fact of SmolLM2 (rate 2e-3) was .17 nats from its base on ordinary text after 13 steps."""
SMALL_TARGET_KL = 0.035
"""Nats a token from its base on neutral dev text that an organism is scaled down to, below the gate of .05 on test text. With the KL term
alone the false fact of SmolLM2 (rank 2, 160 steps) was .024 from it on the rows of its last steps and .089 on test text; scaled to .04 it
was .051 there."""
SMALL_BATCH, SMALL_ROWS = 8, 1280
"""Rows of a step, and most rows shown: 160 such steps, which take seconds each on one core."""
