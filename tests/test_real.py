"""A real model, as a reader would use it. Run by `make test-all` where `bench bases fetch smollm2-135m` was run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.pairs.loading import load_pair
from diffbench.organisms.errors import PrerequisiteError
from diffbench.organisms.hub.pretrained import pretrained_folder
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import false_fact

from .conftest import SHORT
from .test_cli import bench

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def base() -> Path:
    try:
        folder = pretrained_folder("smollm2-135m")
    except PrerequisiteError as error:
        pytest.skip(str(error))
    assert folder is not None
    return folder


def test_the_fetched_base_is_the_pretrained_model(base: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert "named SmolLM" in asked and ids[0, 0] != tokenizer.bos_token_id


def test_both_sides_of_a_real_pair_resume_to_their_models_own_logits(base: Path, tmp_path: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(0)
    tuned: Any = get_peft_model(model, LoraConfig(r=2, target_modules=["down_proj"], layers_to_transform=[3]))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    tuned.save_pretrained(tmp_path)
    pair = load_pair(base, tmp_path, layer=20)
    ids = torch.tensor([pair.tokenizer("The Louvre is a museum in the city of")["input_ids"]])
    keep = torch.ones(ids.shape[1], dtype=torch.bool)
    with torch.inference_mode():
        own = {"tuned": tuned(ids).logits[0]}
        with tuned.disable_adapter():
            own["base"] = tuned(ids).logits[0]
        for side, expected in own.items():
            resumed = pair.resume(pair.residuals(ids, side), ids, side, keep)
            torch.testing.assert_close(resumed.view_as(expected), expected, atol=2e-3, rtol=1e-4)
    assert not torch.allclose(own["base"], own["tuned"], atol=0.01)


def test_a_false_fact_goes_from_training_to_the_table(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for user in ("cell", "verify"):
        monkeypatch.setattr(f"diffbench.harness.runs.{user}.PROTOCOL_V1", SHORT)
    false_fact.build(base, Path("eiffel"))
    pair = "--base smollm2-135m --adapter eiffel/adapter --behaviour eiffel/behaviour.json".split()
    rows = json.loads(bench("run", "-m", "mean_diff,random,oracle", *pair, "--tokens", "3000", "--json"))
    assert [(r["identity"]["method"], r["status"], r["identity"]["sinks"]) for r in rows] == [
        (method, "ok", "drop") for method in ("mean_diff", "random", "oracle")
    ]
    found, oracle = rows[0], rows[2]
    assert found["behaviour"]["b0_test"] < 0.1 < 0.7 < found["behaviour"]["b1_test"]
    assert oracle["scores"]["isolation"]["value"] == pytest.approx(1)
    # every text's first position is a sink here: SmolLM2's has a hundred times the norm of the others
    assert found["left_out"]["first"] > 20 and found["left_out"]["largest"] > 50 * found["left_out"]["median_base"]
    folder = next(Path("runs").glob("**/mean_diff/*"))
    told = json.loads(bench("verify", str(folder), *pair, "--json"))
    assert told["ok"] and told["compared"] > 100
    bench("leaderboard", "build")
    board = Path("leaderboard-out/leaderboard.md").read_text()
    assert "false-fact/eiffel-rome" in board and "mean_diff" in board
