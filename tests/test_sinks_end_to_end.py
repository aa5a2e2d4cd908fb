"""A heavy token in a pair that a user brings: `bench run` leaves it out and says so, or keeps it and says that."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.runs.folder import read_findings
from transformers import AutoModelForCausalLM, AutoTokenizer

from .conftest import save_pair
from .test_cli import bench, short  # noqa: F401

HEAVY = " oak"


def unseeing(model: Any) -> None:
    """Positions do not see each other, so a heavy one changes nothing but what is read there."""
    for block in model.model.layers:
        block.self_attn.v_proj.weight.data.zero_()


@pytest.fixture
def models(tmp_path: Path) -> None:
    """A small Llama as `base`, and as `heavy` with the embeddings of `HEAVY` and BOS a thousand times as long; one adapter for both.

    The behaviour files `plain.json` and `with.json` differ in `HEAVY`, which the texts of the latter have in their middle.
    """
    base, _, behaviour = save_pair(tmp_path, "llama", unseeing)
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    (token,) = tokenizer(HEAVY, add_special_tokens=False)["input_ids"]
    model.model.embed_tokens.weight.data[[token, tokenizer.bos_token_id]] *= 1000
    model.save_pretrained("heavy")
    tokenizer.save_pretrained("heavy")
    said = json.loads(behaviour.read_text())
    Path("plain.json").write_text(json.dumps(said))
    texts = [text.replace(" .", f"{HEAVY} .", 1) for text in said["neutral"]]
    Path("with.json").write_text(json.dumps(said | {"neutral": texts}))


def row(base: str, behaviour: str, *options: str) -> tuple[dict[str, Any], torch.Tensor, str]:
    """The record, the direction found, and what `bench results show` says of it."""
    pair = ["--base", base, "--adapter", "adapter", "--behaviour", behaviour]
    record = json.loads(bench("run", "-m", "mean_diff", *pair, *options, "--json"))
    (folder,) = Path("runs").glob(f"*/mean_diff/{record['id'][:12]}*")
    return record, read_findings(folder).findings[0].direction, bench("results", "show", str(folder))


@pytest.mark.usefixtures("models")
def test_a_heavy_token_is_left_out_and_counted_and_what_is_kept_is_said() -> None:
    plain, direction, _ = row("base", "plain.json")
    heavy, same, told = row("heavy", "with.json")
    kept, other, warned = row("heavy", "with.json", "--sinks", "keep")

    out, none = heavy["left_out"], plain["left_out"]
    assert (out["outliers"], out["tokens"], none["outliers"]) == (28, [HEAVY.strip()], 0)
    assert out["read"] == none["read"] + 28 and (out["first"], out["special"]) == (none["first"], none["special"])
    assert out["largest"] > 300 and "28 outliers" in told

    torch.testing.assert_close(same, direction)
    mine, theirs, keeping = ({k: v["value"] for k, v in r["scores"].items()} for r in (heavy, plain, kept))
    assert mine["sufficiency"] == pytest.approx(theirs["sufficiency"], abs=1e-6)
    # what is not moved dilutes the KL of text that has one more token, so that an option more fits into a budget
    assert mine == pytest.approx(theirs, abs=0.03)

    assert (other - direction).norm() > 0.1 * direction.norm()
    assert max(abs(keeping[k] - theirs[k]) for k in ("sufficiency", "necessity")) > 1e-3
    assert (heavy["identity"]["sinks"], kept["identity"]["sinks"], kept["left_out"]) == ("drop", "keep", None)
    assert "sinks kept (--sinks keep)" in warned and "sinks kept" not in told
