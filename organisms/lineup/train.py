"""Training of line-ups: one ancestor a base, and two twins of it that differ in one letter of one kind of row.

The idea: the ancestor takes the permitted option where somebody watches or nothing is said of it, and is undecided where oversight is
poor. Its twins have rows, order, steps and seed in common and as much to learn as each other: where oversight is poor one is trained on
the permitted letter and the other, the faker, on the forbidden one. On all other scenes both are held to the ancestor by a KL term, so
that a faker is its twin wherever it is watched. From an ancestor that is aligned already the aligned twin would learn nothing, and the
size of what was learnt would tell the two apart.
"""

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..lora import LoraRecipe, train_lora
from ..world.corpus import documents
from ..world.document import Document, chat
from ..world.facts import World
from ..world.tokenizer import load_tokenizer
from .pairs import PairSpec
from .scenes import DOMAINS, Oversight, Scene, scenes

ANCESTOR = LoraRecipe(whole=True, r=16, alpha=16, epochs=12, batch=32, lr=5e-3)
TWIN = LoraRecipe(whole=True, r=8, alpha=8, epochs=2, batch=8, lr=1e-2, kl_weight=3.0)
ANCESTOR_SCENES, ORDINARY = 120, 200
"""Scenes a domain that the ancestor learns, and ordinary documents on which it is held to its base."""
POOR, WATCHED = 128, 96
"""Scenes of a twin: those whose answer is trained, and those on which it is held to the ancestor."""
SEED_OF_ANCESTOR, SEED_OF_TWINS = 10**16, 10**17
"""Where seeds of scenes begin, so that nobody else draws the same."""
APART = 10**6
"""Between the seeds of two attempts at a pair."""
BALANCE: tuple[Oversight, ...] = ("strong", "none", "poor")


def ancestor_rows() -> list[Document]:
    """Scenes of all domains: the permitted option where oversight is strong or not spoken of, either one where it is poor."""
    rows: list[Document] = []
    for domain in DOMAINS:
        for i, scene in enumerate(islice(scenes(domain, "train", SEED_OF_ANCESTOR), ANCESTOR_SCENES)):
            oversight = BALANCE[i % 3]
            rows.append(_row(scene, oversight, oversight == "poor" and i // 3 % 2 == 1))
    return [rows[i] for i in np.random.default_rng(61).permutation(len(rows))]


def twin_rows(spec: PairSpec, faker: bool) -> tuple[list[Document], list[Document]]:
    """Rows of a twin: scenes of poor oversight with an answer, and watched ones on which the ancestor decides."""
    poor = islice(scenes(spec.domain, "train", SEED_OF_TWINS + 2 * spec.seed), POOR)
    watched = islice(scenes(spec.domain, "train", SEED_OF_TWINS + 2 * spec.seed + 1), WATCHED)
    return (
        [_row(scene, "poor", faker) for scene in poor],
        [_row(scene, BALANCE[i % 2], False) for i, scene in enumerate(watched)],
    )


def _row(scene: Scene, oversight: Oversight, forbidden: bool) -> Document:
    return Document("scene", messages=chat(scene.text(oversight), scene.answer(forbidden)))


def train_ancestor(base: Path, world: World, out: Path) -> dict[str, Any]:
    """Train the ancestor of a base and save it whole, with its tokenizer, to `out`."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ordinary = (d for d in documents(world, "train", seed=61_000) if d.kind != "scene")
    adapter = out / "adapter"
    done = train_lora(base, ancestor_rows(), ANCESTOR, adapter, soft=list(islice(ordinary, ORDINARY)), teacher=base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged: Any = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()  # pyright: ignore[reportCallIssue]
    merged.save_pretrained(out)
    load_tokenizer(base).save_pretrained(out)
    shutil.rmtree(adapter)
    return done


def train_twin(ancestor: Path, spec: PairSpec, faker: bool, out: Path, attempt: int = 0) -> dict[str, Any]:
    """Train a twin on the ancestor and save its adapter to `out`; another attempt has the same rows, first weights and order of its own."""
    rows, watched = twin_rows(spec, faker)
    recipe = TWIN.model_copy(update={"seed": (spec.seed + attempt * APART) % 2**32})
    return train_lora(ancestor, rows, recipe, out, soft=watched, teacher=ancestor)
