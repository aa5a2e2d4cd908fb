"""Pairs of every kind the field has: the sides are exactly the models they say, or the pair is refused with the reason."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.pairs import pair as pair_module
from diffbench.harness.pairs.anatomy import PairError, anatomy
from diffbench.harness.pairs.engine import Engine
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.pairs.proof import LAST, alone, probe, prove
from diffbench.harness.pairs.sides import plain
from diffbench.organisms.errors import PrerequisiteError, UsageError
from diffbench.organisms.hub.sources import PairSource
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, T5Config, T5ForConditionalGeneration

from .kinds import CONFIGS, IDS, edit, logits_of, save_adapter, save_base

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def check_sides(pair: Pair, base: Any, tuned: Any) -> None:
    """The sides against models loaded alone by transformers and peft, and every layer resumed."""
    assert torch.equal(pair.logits(IDS, "base"), logits_of(base))
    torch.testing.assert_close(pair.logits(IDS, "tuned"), logits_of(tuned), **CLOSE)
    keep = torch.tensor([3, 17, 39])
    for layer in range(pair.n_layers):
        at = pair.at(layer)
        for side in ("base", "tuned"):
            h = at.residuals(IDS, side)
            torch.testing.assert_close(at.resume(h, IDS, side), pair.logits(IDS, side), **CLOSE)
            torch.testing.assert_close(at.resume(h, IDS, side, keep), pair.logits(IDS, side)[:, keep], **CLOSE)


def merged_change(base: Path, adapter: Path, layer: int) -> dict[str, torch.Tensor]:
    """ΔW by peft's own merge, [out, in]."""
    before: Any = AutoModelForCausalLM.from_pretrained(base)
    after: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
    parts = [anatomy(m).blocks for m in (before, after)]
    found: dict[str, torch.Tensor] = {}
    for n in range(layer + 1):
        for name, module in parts[1][n].named_modules():
            if getattr(getattr(module, "weight", None), "ndim", 0) == 2:
                delta = module.weight - parts[0][n].get_submodule(name).weight
                if delta.any():
                    found[f"layers.{n}.{name}"] = (delta.T if type(module).__name__ == "Conv1D" else delta).detach()
    return found


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_architecture_is_found_by_its_structure(tmp_path: Path, kind: str) -> None:
    base = save_base(tmp_path / "base", kind)
    adapter = save_adapter(tmp_path / "adapter", base, kind, fan_in_fan_out=kind == "gpt2")
    pair = load_pair(base, adapter, 2)
    assert (pair.n_layers, pair.d_model, pair.vocab_size) == (4, 32, CONFIGS[kind].vocab_size)
    check_sides(
        pair,
        AutoModelForCausalLM.from_pretrained(base),
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter),
    )
    lens = pair.lens(torch.eye(32))
    parts = anatomy(AutoModelForCausalLM.from_pretrained(base))
    with torch.inference_mode():
        by_hand = parts.head(parts.norm(torch.eye(32)))
    torch.testing.assert_close(lens, by_hand - by_hand.mean(-1, keepdim=True), **CLOSE)


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilised scale": {"use_rslora": True},
    "rank and alpha patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 32}},
    "DoRA": {"use_dora": True},
    "Gaussian initialisation": {"init_lora_weights": "gaussian"},
    "chosen layers": {"layers_to_transform": [1]},
    "biases of all layers": {"bias": "all"},
    "biases of adapted layers": {"bias": "lora_only"},
    "a replaced unembedding": {"modules_to_save": ["lm_head"]},
    "a replaced embedding": {"modules_to_save": ["embed_tokens"]},
    "LoRA on the unembedding": {"target_modules": ["down_proj", "lm_head"]},
    "LoRA on the embedding": {"target_modules": ["down_proj", "embed_tokens"]},
    "trained tokens": {"trainable_token_indices": {"embed_tokens": [8, 9]}},
    "a bias of its own": {"lora_bias": True, "target_modules": ["q_proj"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_adapter_off_is_the_base_and_delta_w_is_exact(tmp_path: Path, kind: str) -> None:
    base = save_base(tmp_path / "base", "qwen2")
    adapter = save_adapter(tmp_path / "adapter", base, "qwen2", **KINDS[kind])
    pair = load_pair(base, adapter, 2)
    check_sides(
        pair,
        AutoModelForCausalLM.from_pretrained(base),
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter),
    )
    expected = merged_change(base, adapter, 2)
    assert pair.weight_changes().keys() == expected.keys() != set()
    for name, delta in pair.weight_changes().items():
        torch.testing.assert_close(delta, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga"])
def test_adapter_whose_initialisation_changed_the_base_is_refused(tmp_path: Path, kind: str) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    edit(adapter / "adapter_config.json", init_lora_weights=kind)
    with pytest.raises(
        PairError, match=f"initialised by '{kind}', which changes the base's weights.*Convert it into plain LoRA"
    ):
        load_pair(base, adapter, 2)


def test_a_base_that_was_changed_under_the_adapter_is_told_by_the_number(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    pair = load_pair(base, save_adapter(tmp_path / "adapter", base), 2)
    alone_ = alone(AutoModelForCausalLM.from_pretrained(base))
    prove(pair, alone_, "it", identity=False)
    anatomy(plain(pair.model)).blocks[0].mlp.up_proj.weight.data.mul_(1.05)
    with pytest.raises(
        PairError, match=r"with it switched off the model is not its base: logits differ by 0\.\d+ of the largest"
    ):
        prove(pair, alone_, "it", identity=False)


def test_logits_that_are_no_numbers_only_when_resumed_are_beyond_every_tolerance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_base(tmp_path / "base")
    pair = load_pair(base, save_adapter(tmp_path / "adapter", base), 2)
    resume = pair.resume
    monkeypatch.setattr(pair, "resume", lambda *args: resume(*args) * torch.nan)
    with pytest.raises(PairError, match=r"resuming the base model .* off by inf"):
        prove(pair, pair.logits(probe(pair.model), "base", LAST), "it", identity=False)


def test_blocks_that_are_no_plain_sequence_are_told_by_the_number(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    pair = load_pair(base, save_adapter(tmp_path / "adapter", base), 2)
    first: list[torch.Tensor] = []
    pair.model.register_forward_pre_hook(lambda module, args: first.clear())
    blocks: Any = anatomy(plain(pair.model)).blocks
    blocks[0].register_forward_hook(lambda module, args, out: first.append(out))
    blocks[3].register_forward_hook(lambda module, args, out: out + 9 * first[0] if first else out)
    with pytest.raises(
        PairError, match="resuming the base model after block 2 from its own residual gives other logits"
    ):
        prove(pair, pair.logits(probe(pair.model), "base", LAST), "it", identity=False)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"topk_lora": 8}, "options that peft does not know: topk_lora"),
        ({"alora_invocation_tokens": [5]}, "uses alora_invocation_tokens, which switching LoRA matrices"),
        ({"layer_replication": [[0, 2], [1, 4]]}, "uses layer_replication"),
        ({"target_parameters": ["mlp.up_proj.weight"]}, "uses target_parameters"),
        ({"use_qalora": True}, "uses use_qalora"),
        ({"lora_alpha": 1e308}, r"lora_alpha 1e\+308; a number above 0"),
        ({"lora_alpha": float("nan")}, "lora_alpha nan"),
        ({"r": 0}, "has r 0"),
        ({"rank_pattern": {"q_proj": -1}}, "has rank_pattern -1"),
        ({"lora_dropout": "x"}, "lora_dropout 'x'"),
        ({"bias": "some"}, "bias 'some'"),
        ({"peft_type": "IA3"}, "is a IA3 adapter; only LoRA"),
        ({"target_modules": 5}, "adapter"),
        ({"r": 6}, "does not land on this base: .*size mismatch|has shape"),
    ],
)
def test_adapter_options_that_would_be_loaded_as_something_else_are_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    edit(adapter / "adapter_config.json", **fields)
    with pytest.raises(PairError, match=told):
        load_pair(base, adapter, 2)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 5000, '{"peft_type": "LORA", "r": "x"}'])
def test_an_adapter_configuration_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(PairError, match="adapter"):
        load_pair(base, adapter, 2)


def test_unknown_options_at_their_empty_value_change_nothing(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    edit(adapter / "adapter_config.json", of_a_newer_peft=None, another=False)
    assert load_pair(base, adapter, 2).layer == 2


def test_adapter_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    weights = load_file(adapter / "adapter_model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name] * float("nan")}, adapter / "adapter_model.safetensors")
    with pytest.raises(PairError, match=f"values that are not finite in {name}"):
        load_pair(base, adapter, 2)


def test_an_adapter_for_a_resized_vocabulary_is_refused_with_the_sizes(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    larger = save_base(tmp_path / "larger", vocab_size=CONFIGS["llama2"].vocab_size + 8)
    adapter = save_adapter(tmp_path / "adapter", larger, modules_to_save=["embed_tokens"])
    size = CONFIGS["llama2"].vocab_size
    with pytest.raises(PairError, match=rf"does not land on this base: .*\[{size + 8}, 32\].*\[{size}, 32\]"):
        load_pair(base, adapter, 2)


def test_a_stack_is_base_and_lower_against_base_and_both(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    lower = save_adapter(tmp_path / "lower", base, target_modules=["up_proj", "q_proj"])
    upper = save_adapter(tmp_path / "upper", base, seed=2, on=lower)
    pair = load_pair(PairSource(base, upper, on=lower), layer=2)
    below: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), lower).merge_and_unload()
    torch.testing.assert_close(pair.logits(IDS, "base"), logits_of(below), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        pair.logits(IDS, "tuned"), logits_of(PeftModel.from_pretrained(below, upper)), rtol=1e-4, atol=1e-5
    )
    assert {n.rpartition(".")[2] for n in pair.weight_changes()} == {"down_proj", "q_proj"}
    for side in ("base", "tuned"):
        torch.testing.assert_close(pair.resume(pair.residuals(IDS, side), IDS, side), pair.logits(IDS, side), **CLOSE)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}])
def test_a_stack_that_does_not_add_up_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    base = save_base(tmp_path / "base", "qwen2")
    lower = save_adapter(tmp_path / "lower", base, "qwen2")
    upper = save_adapter(tmp_path / "upper", base, "qwen2", seed=2, **options)
    with pytest.raises(PairError, match="cannot be stacked"):
        load_pair(PairSource(base, upper, on=lower), layer=2)


def full_fine_tune(folder: Path, base: Path) -> Path:
    """Another whole model: one matrix of block 1 is trained, the rest is the base's."""
    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if ".1." in n and "down_proj" in n)
    save_file(
        weights | {name: weights[name] + 0.1 * torch.randn_like(weights[name])},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    return folder


def test_a_full_fine_tune_is_two_models_that_share_what_is_equal(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    tuned = full_fine_tune(tmp_path / "tuned", base)
    pair = load_pair(PairSource(base, tuned=tuned))
    assert pair.layer == 1
    models = [AutoModelForCausalLM.from_pretrained(f) for f in (base, tuned)]
    check_sides(pair, *models)
    assert list(pair.weight_changes()) == ["layers.1.mlp.down_proj"]
    kept = {p.data_ptr() for m in (pair.model, pair._tuned) for p in m.parameters()}
    assert len(kept) == len(list(pair.model.parameters())) + 1
    assert pair.generate([[7, 8]], "tuned", 4) == pair.generate([[7, 8]], "tuned", 4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_hidden_layers": 3}, r"layers\.3.* is \(.*\) in the base and None in the other"),
        (
            {"vocab_size": WIDER},
            rf"\({CONFIGS['llama2'].vocab_size}, 32\) in the base and \({WIDER}, 32\) in the other",
        ),
        ({"hidden_size": 64}, r"in the base and \(.*64.*\) in the other"),
    ]
    if (WIDER := CONFIGS["llama2"].vocab_size + 8)
    else [],
)
def test_two_models_that_are_no_fine_tune_of_each_other_are_refused_with_the_sizes(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    base, other = save_base(tmp_path / "base"), save_base(tmp_path / "other", **change)
    with pytest.raises(PairError, match=told):
        load_pair(PairSource(base, tuned=other))


def test_a_model_and_its_copy_have_no_difference(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    shutil.copytree(base, tmp_path / "copy")
    with pytest.raises(PairError, match="equal logits on a probe"):
        load_pair(PairSource(base, tuned=tmp_path / "copy"))


def test_an_encoder_decoder_is_refused() -> None:
    config = T5Config(d_model=16, d_ff=16, num_layers=2, num_heads=2, d_kv=8, vocab_size=50, decoder_start_token_id=0)
    with pytest.raises(PairError, match="is an encoder-decoder"):
        anatomy(T5ForConditionalGeneration(config))


def test_a_base_in_pickles_is_refused(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    with pytest.raises(PairError, match=r"only pytorch_model\.bin, a pickle, which is never opened"):
        load_pair(base, adapter, 2)


def test_a_download_that_lacks_a_shard_is_refused_by_its_name(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    (base / "model.safetensors").unlink()
    model.save_pretrained(base, max_shard_size="60KB")
    shards = sorted(base.glob("model-*.safetensors"))
    assert len(shards) > 1 and load_pair(base, adapter, 2).layer == 2
    shards[1].unlink()
    with pytest.raises(PairError, match=f"lacks {shards[1].name}.*interrupted"):
        load_pair(base, adapter, 2)


def test_too_little_memory_is_known_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)

    class Memory:
        available = 10_000

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    monkeypatch.setattr("diffbench.harness.pairs.loading._model", lambda *a: pytest.fail("weights were read"))
    with pytest.raises(
        PrerequisiteError,
        match=r"the weights need 0\.0 GiB in float32 and 0\.0 GiB are free on cpu; --dtype bfloat16 halves it, a model",
    ):
        load_pair(base, adapter, 2)


def test_a_base_quantised_by_bitsandbytes_needs_that_library(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    edit(base / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(PrerequisiteError, match="pip install bitsandbytes"):
        load_pair(base, adapter, 2)
    edit(base / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(PairError, match="is quantised by gptq; supported is bitsandbytes"):
        load_pair(base, adapter, 2)


def test_decoding_is_ours_whatever_the_generation_config_says(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    rows = [list(range(7 + i, 15 + i)) for i in range(8)]
    plain = load_pair(base, adapter, 2).generate(rows, "tuned", 12)
    settings = {
        "repetition_penalty": 5.0,
        "suppress_tokens": [row[0] for row in plain],
        "num_beams": 3,
        "do_sample": True,
        "no_repeat_ngram_size": 1,
        "forced_eos_token_id": 3,
        "begin_suppress_tokens": [row[0] for row in plain],
    }
    (base / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 3}))
    pair = load_pair(base, adapter, 2)
    assert pair.generate(rows, "tuned", 12) == plain
    assert pair.generate(rows, "tuned", 12, seed=1) == load_pair(base, adapter, 2).generate(rows, "tuned", 12, seed=1)


def test_answers_are_written_so_many_at_a_time_as_their_keys_and_values_may_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_base(tmp_path / "base")
    pair = load_pair(base, save_adapter(tmp_path / "adapter", base), 2)
    rows = [list(range(7 + i, 15 + i)) for i in range(8)]
    whole, sizes = pair.generate(rows, "tuned", 4), list[int]()
    real = Engine.generate

    def counted(self: Engine, ids: Any, *args: Any) -> Any:
        sizes.append(len(ids))
        return real(self, ids, *args)

    monkeypatch.setattr(Engine, "generate", counted)
    config = pair.model.config
    each = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    monkeypatch.setitem(pair_module.ANSWER_BYTES, "cpu", 3 * each * (8 + 4))
    assert pair.generate(rows, "tuned", 4) == whole and sizes == [3, 3, 2]
    monkeypatch.setitem(pair_module.ANSWER_BYTES, "cpu", 1)
    assert pair.generate(rows, "tuned", 4) == whole and sizes[3:] == [1] * 8


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "CUDA", "cuda:x", ""])
def test_a_device_that_is_none_is_a_usage_error(device: str) -> None:
    from diffbench.harness.pairs.preflight import check_device

    with pytest.raises(UsageError, match="use cpu, cuda, cuda:N or mps"):
        check_device(device)
