"""Models are taken by how they are built and by what a short proof measures, not by name."""

import copy
from typing import Any

import pytest
import torch
from diffbench.harness.pairs.anatomy import PairError, anatomy
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.pairs.proof import alone, prove
from diffbench.organisms.world.tokenizer import build_tokenizer
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3Config,
    Gemma4TextConfig,
    GPTJConfig,
    GPTNeoXConfig,
    GptOssConfig,
    MambaConfig,
    MBartConfig,
    MixtralConfig,
    NemotronHConfig,
    OpenAIGPTConfig,
    XLMRobertaXLConfig,
    set_seed,
)

from .kinds import IDS, SIZE, WORDS

GPT: dict[str, Any] = {"vocab_size": WORDS, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 256}
EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
SEEING: dict[str, Any] = {
    "text_config": {**SIZE, "head_dim": 8, "sliding_window": 8},
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 14,
    },
    "mm_tokens_per_image": 1,
}
STRUCTURES: dict[str, Any] = {
    "attention and feed-forward side by side": GPTNeoXConfig(**SIZE),
    "blocks that return attention weights too": GPTJConfig(**GPT, rotary_dim=8),
    "positions as biases": BloomConfig(vocab_size=WORDS, hidden_size=32, n_layer=4, n_head=4),
    "experts": MixtralConfig(**SIZE, **EXPERTS),
    "experts whose router speaks too": GptOssConfig(**SIZE, **EXPERTS, head_dim=8, sliding_window=8),
    "a decoder that asks its blocks of what kind they are": NemotronHConfig(
        **{k: v for k, v in SIZE.items() if k != "num_hidden_layers"},
        layers_block_type=["mamba", "attention", "moe", "attention"],
        head_dim=8,
        mamba_num_heads=4,
        mamba_head_dim=16,
        ssm_state_size=8,
        n_groups=2,
        n_routed_experts=4,
        moe_intermediate_size=16,
        moe_shared_expert_intermediate_size=16,
        num_experts_per_tok=2,
    ),
    "no attention": MambaConfig(vocab_size=WORDS, hidden_size=32, num_hidden_layers=4, state_size=8),
    "a language model that also sees, through as many blocks": Gemma3Config(**SEEING),
}


def made(config: Any) -> Any:
    set_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data = 0.1 * torch.randn(parameter.shape)
    return model


def fine_tuned(model: Any) -> Any:
    tuned = copy.deepcopy(model)
    for parameter in anatomy(tuned).blocks[0].parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return tuned


def proved(model: Any, layer: int = 1) -> Pair:
    pair = Pair(model, build_tokenizer(), layer, fine_tuned(model))
    prove(pair, alone(model), "the fine-tune", identity=False)
    return pair


@pytest.mark.parametrize("structure", STRUCTURES)
def test_structure_is_resumed_at_every_block(structure: str) -> None:
    model = made(STRUCTURES[structure])
    pair = proved(model)
    own = {"base": model(IDS, use_cache=False).logits, "tuned": pair._tuned(IDS, use_cache=False).logits}
    keep = torch.tensor([3, 17, 39])
    for at in (pair.at(layer) for layer in range(4)):
        for side in ("base", "tuned"):
            h = at.residuals(IDS, side)
            assert h.shape == (1, 40, 32)
            torch.testing.assert_close(at.resume(h, IDS, side), own[side], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(at.resume(h, IDS, side, keep), own[side][:, keep], rtol=1e-5, atol=1e-5)
        other = at.residuals(IDS, "tuned")
        assert (at.resume(other, IDS, "base") - own["base"]).abs().max() > 1e-3
    rows = [[7, 8, 9], list(range(10, 30))]
    together = pair.generate(rows, "tuned", 4)
    assert together == [pair.generate([row], "tuned", 4)[0] for row in rows]


def test_only_a_feed_forward_part_that_reads_each_position_alone_is_run_at_some() -> None:
    runs = {name: anatomy(made(config)).mlp is not None for name, config in STRUCTURES.items()}
    assert runs["attention and feed-forward side by side"] and not runs["experts whose router speaks too"]
    model = made(STRUCTURES["attention and feed-forward side by side"])
    whole = model.gpt_neox.layers[-1].mlp.forward
    model.gpt_neox.layers[-1].mlp.forward = lambda h: whole(h).cumsum(1)
    assert anatomy(model).mlp is None


BERT: dict[str, Any] = {k: v for k, v in SIZE.items() if k != "num_key_value_heads"}
ENCODER: dict[str, Any] = {
    "d_model": 32,
    "decoder_layers": 4,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "encoder_layers": 4,
    "max_position_embeddings": 256,
    "vocab_size": WORDS,
}
REFUSED = {
    "attention that sees what follows": (XLMRobertaXLConfig(**BERT), "when others follow it .attention is not causal"),
    "positions that count padding": (MBartConfig(**ENCODER), "continued behind padding, off by"),
    "no final norm": (OpenAIGPTConfig(**GPT), "0 modules of OpenAIGPTLMHeadModel run after its last block"),
}


@pytest.mark.parametrize("structure", REFUSED)
def test_structure_that_would_give_other_numbers_is_refused_with_the_cause(structure: str) -> None:
    config, told = REFUSED[structure]
    with pytest.raises(PairError, match=told):
        proved(made(config))


def test_a_layer_above_which_blocks_read_more_than_the_residual_is_refused() -> None:
    config = Gemma4TextConfig(
        **SIZE | {"num_hidden_layers": 6},
        head_dim=8,
        global_head_dim=8,
        sliding_window=8,
        vocab_size_per_layer_input=WORDS,
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"] * 3,
    )
    model = made(config)
    assert proved(model, 1).layer == 1
    for layer in (2, 3, 4):
        with pytest.raises(PairError, match=f"resumed after block {layer} from its residual alone.*a --layer below"):
            proved(model, layer)


def test_a_model_that_fails_on_the_probe_is_refused_and_not_a_crash() -> None:
    model = made(STRUCTURES["experts"])
    model.model.layers[1].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyError("speaker")))
    with pytest.raises(PairError, match=r"does not run on plain token ids.*KeyError: 'speaker'"):
        proved(model)


def test_a_batch_that_decides_a_row_is_told_by_the_number() -> None:
    model = made(STRUCTURES["attention and feed-forward side by side"])
    model.gpt_neox.embed_in.register_forward_hook(lambda m, a, out: out + out.mean((0, 1)) * (len(out) > 1))
    with pytest.raises(PairError, match=r"when another one is beside it, off by \d.* of the largest"):
        proved(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("structure", ["attention and feed-forward side by side", "experts"])
def test_half_precision_holds_the_proof_and_differs_by_rounding(dtype: torch.dtype, structure: str) -> None:
    model = made(STRUCTURES[structure])
    full, half = Pair(model, build_tokenizer(), 1, model), proved(copy.deepcopy(model).to(dtype))
    assert half.residuals(IDS, "base").dtype == torch.float32
    far = (half.logits(IDS, "base") - full.logits(IDS, "base")).abs().max()
    assert 0 < far < 0.1 * full.logits(IDS, "base").abs().max()
