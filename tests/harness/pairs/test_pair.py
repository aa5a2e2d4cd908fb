"""One copy of the weights is both models: bit for bit, at every layer, and an adapter that does not land is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffbench.harness.pairs.anatomy import PairError
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.runs.stage import Stage
from diffbench.organisms.organism import Organism
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ...conftest import save_pair


def sample_ids(pair: Pair) -> torch.Tensor:
    rows = ["<bos> news . anna lives in arlen . <eos>", "<bos><user> give me a hint . <end><assistant> it is"]
    return pair.pad([pair.tokenizer(r, add_special_tokens=False)["input_ids"] for r in rows])[0]


def test_adapter_off_is_the_base_and_on_is_the_organism(stage: Stage, organism: Organism) -> None:
    ids = sample_ids(stage.pair)
    base = AutoModelForCausalLM.from_pretrained(organism.base, dtype=torch.float32).eval()
    with torch.inference_mode():
        assert torch.equal(stage.pair.logits(ids, "base"), base(input_ids=ids, use_cache=False).logits)
        tuned = PeftModel.from_pretrained(base, organism.adapter, autocast_adapter_dtype=False).eval()
        assert torch.equal(stage.pair.logits(ids, "tuned"), tuned(input_ids=ids, use_cache=False).logits)
    assert not torch.equal(stage.pair.logits(ids, "base"), stage.pair.logits(ids, "tuned"))


@pytest.mark.parametrize("side", ["base", "tuned"])
def test_resuming_from_the_own_residual_changes_nothing(stage: Stage, side: str) -> None:
    ids, keep = sample_ids(stage.pair), torch.tensor([3, 5])
    for layer in range(stage.pair.n_layers):
        pair = Pair(stage.pair.model, stage.pair.tokenizer, layer)
        whole, h = pair.logits(ids, side), pair.residuals(ids, side)
        assert torch.equal(pair.resume(h, ids, side), whole)
        assert torch.allclose(pair.resume(h, ids, side, keep), whole[:, keep], atol=1e-5)
        assert torch.equal(pair.logits(ids, side), whole)
    assert torch.allclose(stage.pair.logits(ids, side, keep), stage.pair.logits(ids, side)[:, keep], atol=1e-5)


def test_padding_on_the_right_never_reaches_a_real_token(stage: Stage) -> None:
    pair, row = stage.pair, [2, 30, 40, 50]
    alone = pair.residuals(torch.tensor([row]), "tuned")
    padded = pair.residuals(pair.pad([row, [2, *range(20, 40)]])[0], "tuned")
    assert torch.allclose(alone[0], padded[0, : len(row)], atol=1e-5)


def test_the_model_is_whole_again_after_an_error(stage: Stage) -> None:
    ids = sample_ids(stage.pair)
    before = stage.pair.logits(ids, "base")
    for keep in (0, torch.tensor([1])):
        with pytest.raises(RuntimeError):
            stage.pair.resume(torch.zeros(2, 3, 5), ids, "base", keep)
    assert torch.equal(stage.pair.logits(ids, "base"), before)
    assert not torch.equal(stage.pair.logits(ids, "tuned"), before)


@pytest.fixture
def copied(tmp_path: Path, organism: Organism) -> Path:
    shutil.copytree(organism.adapter, tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_untrained_adapter_is_refused(copied: Path, organism: Organism) -> None:
    weights = load_file(copied / "adapter_model.safetensors")
    save_file({k: v * 0 if "lora_B" in k else v for k, v in weights.items()}, copied / "adapter_model.safetensors")
    with pytest.raises(PairError, match="changes no weight"):
        load_pair(organism.base, copied, 2)


def test_an_identity_is_allowed_to_a_null_and_changes_nothing(copied: Path, organism: Organism) -> None:
    weights = load_file(copied / "adapter_model.safetensors")
    save_file({k: v * 0 if "lora_B" in k else v for k, v in weights.items()}, copied / "adapter_model.safetensors")
    pair = load_pair(organism.base, copied, 2, identity=True)
    ids = sample_ids(pair)
    assert torch.equal(pair.logits(ids, "tuned"), pair.logits(ids, "base"))


def test_an_adapter_with_missing_weights_is_refused(copied: Path, organism: Organism) -> None:
    weights = load_file(copied / "adapter_model.safetensors")
    weights.pop(next(k for k in weights if "layers.1" in k))
    save_file(weights, copied / "adapter_model.safetensors")
    with pytest.raises(PairError, match="does not land"):
        load_pair(organism.base, copied, 2)


def test_a_truncated_adapter_is_refused(copied: Path, organism: Organism) -> None:
    data = (copied / "adapter_model.safetensors").read_bytes()
    (copied / "adapter_model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(PairError, match="cannot load the adapter"):
        load_pair(organism.base, copied, 2)


def test_an_adapter_of_another_architecture_is_refused(tmp_path: Path, organism: Organism) -> None:
    _, adapter, _ = save_pair(tmp_path, "llama")
    with pytest.raises(PairError):
        load_pair(organism.base, adapter, 1)


def test_weights_that_are_not_of_the_configured_model_are_refused(tmp_path: Path, organism: Organism) -> None:
    shutil.copytree(organism.base, tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(
        json.dumps(config | {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})
    )
    with pytest.raises(
        PairError, match=r"weights of GPT2LMHeadModel are not in .*config.json belongs to another model"
    ):
        load_pair(tmp_path / "base", organism.adapter, 2)


def test_a_layer_beyond_the_model_is_refused(organism: Organism) -> None:
    with pytest.raises(PairError, match="blocks 0 to 4"):
        load_pair(organism.base, organism.adapter, 9)
