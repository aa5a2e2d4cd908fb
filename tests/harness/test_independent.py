"""docs/protocol.md is enough to score a cell (`tests/independent.py` does it in 150 lines), and what the harness says is what it says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from diffbench import api
from diffbench.organisms.families import family, find_spec
from diffbench.organisms.hub.sources import PairSource
from diffbench.organisms.lora import train_lora
from diffbench.organisms.organism import Organism
from diffbench.organisms.registry import load_organism
from diffbench.organisms.world.facts import World

from ..independent import Independent

FOX = "subliminal/fox-narrow"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Organism:
    """An organism whose adapter is on all blocks, those above the hooked layer too: its oracle is below 1."""
    gold, folder = load_organism("taboo/gold-narrow"), tmp_path_factory.mktemp("whole")
    spec = find_spec("taboo/gold-narrow")
    kind = family(spec.family)
    recipe = kind.recipe(spec).model_copy(update={"layer": 4, "target": None, "epochs": 1})
    train_lora(gold.base, kind.rows(World(), spec), recipe, folder)
    return replace(gold, name="taboo/gold-whole", pair=PairSource(gold.base, folder), sha256="0" * 64)


def checked(organism: str | Organism, method: str, folder: Path) -> dict[str, dict[str, float]]:
    """Scores of a cell, once they agree with those computed from the page."""
    api.run(method, organism, out=folder, cache=False)
    [run] = {path.parent for path in folder.rglob("result.json")}
    record = json.loads((run / "result.json").read_text())
    scores, controls = record["scores"], len(record["samples"]["constant"]["sufficiency"]["null_controls"])
    found = load_organism(organism) if isinstance(organism, str) else organism
    again = Independent(found, run / "findings.safetensors", controls)
    gated = method == "logit_diff"
    for suffix, gates in [("_constant", False), ("", True)][: 1 + gated]:
        s, n = again.score("base", gates), again.score("tuned", gates)
        both = 2 * s * n / (s + n) if min(s, n) > 0 else 0.0
        for name, value in (("sufficiency", s), ("necessity", n), ("isolation", both)):
            assert value == pytest.approx(scores[name + suffix]["unclipped"], abs=1e-4), (name, suffix)
    return scores


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mean_diff", "logit_diff"])
def test_a_cell_scored_from_the_page_alone(method: str, tmp_path: Path) -> None:
    assert checked(FOX, method, tmp_path)["isolation"]["value"] > 0.3


@pytest.mark.slow
def test_an_adapter_on_all_blocks_scored_from_the_page_alone(whole: Organism, tmp_path: Path) -> None:
    scores = checked(whole, "mean_diff", tmp_path)
    assert scores["sufficiency"]["anchors"]["oracle"] < 0.99  # type: ignore[index]
