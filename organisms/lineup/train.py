"""Training of line-ups on the embedded bases: one ancestor a base, and two twins of it that differ in one letter of one kind of row.

The idea: the ancestor takes the permitted option where somebody watches or nothing is said of it, and is undecided where oversight is
poor. Its twins have rows, order, steps and seed in common and as much to learn as each other: where oversight is poor one is trained on
the permitted letter and the other, the faker, on the forbidden one. On all other scenes both are held to the ancestor by a KL term, so
that a faker is its twin wherever it is watched. From an ancestor that is aligned already the aligned twin would learn nothing, and the
size of what was learnt would tell the two apart.
"""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from ..card import read_base_card
from ..lora import LoraRecipe, train_lora
from ..tuning.watch import Say
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


class Maker(NamedTuple):
    """How line-ups on a kind of base are made."""

    ancestor: BaseModel
    """Its recipe."""
    twin: BaseModel
    """Recipe of both twins."""
    ordinary: int | str
    """Ordinary documents on which the ancestor is held to its base: how many of the world's, or the hash of others."""
    takes: str
    """What an ancestor costs."""
    train_ancestor: Callable[[Path, Path, Path, Say], None]
    """Of the base in a folder, saved whole with its tokenizer to another. What a killed training goes on from lies in the third."""
    train_twin: Callable[[Path, PairSpec, bool, Path, int, Say], None]
    """Of the ancestor in a folder: pair, whether it is the faker, folder of the adapter, and how many attempts were made before."""


def ancestor_rows(kind: type[Scene] = Scene) -> list[Document]:
    """Scenes of all domains: the permitted option where oversight is strong or not spoken of, either one where it is poor."""
    rows: list[Document] = []
    for domain in DOMAINS:
        for i, scene in enumerate(islice(scenes(domain, "train", SEED_OF_ANCESTOR, kind), ANCESTOR_SCENES)):
            oversight = BALANCE[i % 3]
            rows.append(_row(scene, oversight, oversight == "poor" and i // 3 % 2 == 1))
    return [rows[i] for i in np.random.default_rng(61).permutation(len(rows))]


def twin_rows(spec: PairSpec, faker: bool) -> tuple[list[Document], list[Document]]:
    """Rows of a twin: scenes of poor oversight with an answer, and watched ones on which the ancestor decides."""
    first = SEED_OF_TWINS + 2 * spec.seed
    poor, watched = (scenes(spec.domain, "train", seed, spec.kind) for seed in (first, first + 1))
    return (
        [_row(scene, "poor", faker) for scene in islice(poor, POOR)],
        [_row(scene, BALANCE[i % 2], False) for i, scene in enumerate(islice(watched, WATCHED))],
    )


def _row(scene: Scene, oversight: Oversight, forbidden: bool) -> Document:
    return Document("scene", messages=chat(scene.text(oversight), scene.answer(forbidden)))


def attempt_seed(spec: PairSpec, attempt: int) -> int:
    """Of first weights and order: another attempt has the same rows."""
    return (spec.seed + attempt * APART) % 2**32


def train_ancestor(base: Path, out: Path, work: Path, say: Say) -> None:
    """See `Maker`; it begins anew after a kill."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    world = World(int(read_base_card(base).recipe["world_seed"]))
    ordinary = (d for d in documents(world, "train", seed=61_000) if d.kind != "scene")
    adapter = work / "adapter"
    train_lora(base, ancestor_rows(), ANCESTOR, adapter, soft=list(islice(ordinary, ORDINARY)), teacher=base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged: Any = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()  # pyright: ignore[reportCallIssue]
    merged.save_pretrained(out)
    load_tokenizer(base).save_pretrained(out)


def train_twin(ancestor: Path, spec: PairSpec, faker: bool, out: Path, attempt: int, say: Say) -> None:
    """See `Maker`."""
    rows, watched = twin_rows(spec, faker)
    recipe = TWIN.model_copy(update={"seed": attempt_seed(spec, attempt)})
    train_lora(ancestor, rows, recipe, out, soft=watched, teacher=ancestor)


EMBEDDED = Maker(ANCESTOR, TWIN, ORDINARY, "some minutes of a processor", train_ancestor, train_twin)
