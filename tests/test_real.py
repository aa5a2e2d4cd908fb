"""A real model, as a reader would use it. Run by `make test-all` where `bench bases fetch smollm2-135m` was run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.pairs.loading import load_pair
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import false_fact

from .conftest import SHORT, fetched
from .test_cli import bench

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def base() -> Path:
    return fetched("smollm2-135m")


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


@pytest.mark.parametrize(
    ("name", "text", "goes_on"),
    [
        ("smollm2-135m", "The Louvre is a museum in the city of", " Paris"),
        ("gemma3-270m", "Paris is the capital of France. Rome is the capital of", " Italy"),
    ],
)
def test_both_sides_of_a_real_pair_resume_to_their_models_own_logits(
    tmp_path: Path, name: str, text: str, goes_on: str
) -> None:
    base = fetched(name)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    layer = model.config.num_hidden_layers * 2 // 3
    torch.manual_seed(0)
    tuned: Any = get_peft_model(model, LoraConfig(r=2, target_modules=["down_proj"], layers_to_transform=[3]))
    for parameter in (p for n, p in tuned.named_parameters() if "lora_B" in n):
        parameter.data.normal_(std=0.05)
    tuned.save_pretrained(tmp_path)
    pair = load_pair(base, tmp_path, layer)
    row: list[int] = pair.tokenizer(text)["input_ids"]
    ids, keep = torch.tensor([row]), torch.ones(len(row), dtype=torch.bool)
    with torch.inference_mode():
        own = {"tuned": tuned(ids).logits[0]}
        with tuned.disable_adapter():
            own["base"] = tuned(ids).logits[0]
        for side, expected in own.items():
            resumed = pair.resume(pair.residuals(ids, side), ids, side, keep)
            torch.testing.assert_close(resumed.view_as(expected), expected, atol=2e-3, rtol=1e-4)
    assert not torch.allclose(own["base"], own["tuned"], atol=0.01)
    assert pair.tokenizer.decode(pair.generate([row], "base", 1)[0]) == goes_on


def test_a_false_fact_goes_from_training_to_the_table(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for user in ("cell", "verify"):
        monkeypatch.setattr(f"diffbench.harness.runs.{user}.PROTOCOL_V2", SHORT)
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
    assert "1 organism" in board and "| mean\\_diff |" in board
