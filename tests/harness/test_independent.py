"""docs/protocol.md is enough to score a cell (`tests/independent.py`: 150 lines of code), and what the harness says is what it says."""

import json
from pathlib import Path

import pytest
from diffbench import api
from diffbench.organisms.registry import load_organism

from ..independent import Independent

FOX = "subliminal/fox-narrow"


def checked(organism: str, method: str, folder: Path) -> dict[str, dict[str, float]]:
    """Scores of a cell, once they agree with those computed from the page."""
    api.run(method, organism, out=folder, cache=False)
    [run] = {path.parent for path in folder.rglob("result.json")}
    record = json.loads((run / "result.json").read_text())
    scores, controls = record["scores"], len(record["samples"]["constant"]["sufficiency"]["null_controls"])
    again = Independent(load_organism(organism), run / "findings.safetensors", controls)
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
def test_an_adapter_on_all_blocks_scored_from_the_page_alone(tmp_path: Path) -> None:
    """Those above the hooked layer too: its oracle is below 1."""
    scores = checked("subliminal/horse-soft-whole", "mean_diff", tmp_path)
    assert scores["sufficiency"]["anchors"]["oracle"] < 0.99  # type: ignore[index]


@pytest.mark.slow
def test_distances_of_distributions_scored_from_the_page_alone(tmp_path: Path) -> None:
    checked("unlearned/dish-narrow", "mean_diff", tmp_path)
