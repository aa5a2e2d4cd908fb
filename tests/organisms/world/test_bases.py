"""Bases: a killed training goes on to the same bytes."""

from pathlib import Path

import pytest
from diffbench.organisms.card import hash_folder
from diffbench.organisms.world import bases as base
from diffbench.organisms.world.bases import BaseRecipe, train_base

RECIPE = BaseRecipe(architecture="llama", size="nano", tokens=20 * 4 * 64, block=64, batch=4, warmup_steps=2)


class Killed(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("embeddings_of", [None, "other"])
def test_a_resumed_training_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embeddings_of: str | None
) -> None:
    monkeypatch.setattr(base, "LOG_STEPS", 4)
    monkeypatch.setattr(base, "SAVE_STEPS", 6)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    recipe = RECIPE.model_copy(update={"embeddings_of": embeddings_of})
    if embeddings_of:
        short = RECIPE.model_copy(update={"tokens": 4 * 4 * 64, "seed": 2})
        train_base(short, tmp_path / embeddings_of, tmp_path, tmp_path / "w0")
    train_base(recipe, whole, tmp_path, tmp_path / "w1")

    def kill(line: str) -> None:
        if line.startswith("step 16"):
            raise Killed

    with pytest.raises(Killed):
        train_base(recipe, parts, tmp_path, tmp_path / "w2", kill)
    lines: list[str] = []
    train_base(recipe, parts, tmp_path, tmp_path / "w2", lines.append)
    assert lines[0].startswith("step 16"), "went on from the checkpoint at step 12"
    assert hash_folder(whole) == hash_folder(parts)


def test_frozen_embeddings_stay_as_they_were(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    short = RECIPE.model_copy(update={"tokens": 4 * 4 * 64})
    train_base(short, tmp_path / "first", tmp_path, tmp_path / "w1")
    other = short.model_copy(update={"seed": 2, "embeddings_of": "first"})
    train_base(other, tmp_path / "second", tmp_path, tmp_path / "w2")
    a, b = (load_file(tmp_path / n / "model.safetensors") for n in ("first", "second"))
    same = {k for k in a if a[k].equal(b[k])}
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= same
    assert not any("mlp" in k or "attn" in k for k in same)
