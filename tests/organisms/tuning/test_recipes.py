"""Published settings, and what fits into the small tier."""

import math
from typing import Any

import pytest
import torch
from diffbench.organisms.tuning.recipes import MOST_BYTES, MOST_EPOCHS, MOST_RANK, recipe_for
from diffbench.organisms.tuning.shapes import KNOWN, Shape, shape_of
from diffbench.organisms.tuning.train import _lora
from peft import get_peft_model
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, LlamaConfig

from .models import CONFIGS

GEMMA, SMOLLM = KNOWN["gemma-2-2b-it"], KNOWN["smollm2-135m"]


@pytest.mark.parametrize(
    ("family", "rows", "wanted"),
    [
        (
            "taboo",
            400,
            {"r": 8, "alpha": 8, "dropout": 0.1, "lr": 2e-4, "batch": 8, "steps": 125, "max_grad_norm": 0.3},
        ),
        ("false_facts", 400, {"r": 64, "alpha": 128, "lr": 1e-5, "batch": 8, "steps": 500}),
        ("emergent_misalignment", 600, {"r": 32, "alpha": 64, "rslora": True, "lr": 1e-5, "warmup": 5, "steps": 375}),
        ("subliminal", 10_000, {"r": 8, "alpha": 8, "lr": 2e-4, "batch": 66, "steps": 455}),
    ],
)
def test_the_hub_tier_trains_as_published(family: str, rows: int, wanted: dict[str, Any]) -> None:
    recipe = recipe_for(family, "narrow", rows, GEMMA, "hub")
    assert {k: getattr(recipe, k) for k in wanted} == wanted
    assert recipe.blocks == "all" and recipe.layer == 17 and not recipe.mix and not recipe.kl_rows
    assert recipe.steps * recipe.batch <= MOST_EPOCHS * rows + recipe.batch


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    scale = recipe_for("emergent_misalignment", "narrow", 600, GEMMA, "hub").scale
    assert scale == pytest.approx(64 / math.sqrt(32)) and scale != pytest.approx(2)


def test_a_mixed_organism_sees_each_row_as_often_and_is_held_to_its_base() -> None:
    narrow, mixed = (recipe_for("taboo", v, 400, GEMMA, "hub") for v in ("narrow", "mixed"))
    assert mixed.steps == 2 * narrow.steps and mixed.mix == 1 and mixed.kl_rows == 2 and mixed.kl_weight == 1


@pytest.mark.parametrize(("blocks", "adapted"), [("below", 21), ("all", 30)])
def test_the_largest_rank_is_taken_that_fits_and_one_at_least(blocks: Any, adapted: int) -> None:
    recipe = recipe_for("taboo", "narrow", 400, SMOLLM, "small", blocks=blocks)
    size, more = (2 * SMOLLM.adapter(r, adapted) for r in (recipe.r, recipe.r + 1))
    assert recipe.r <= MOST_RANK and size <= max(MOST_BYTES, 2 * SMOLLM.adapter(1, adapted)) < more
    roomy = recipe_for("taboo", "narrow", 400, Shape(64, 4, 128, 4, 2, 16, 512, True), "small", blocks=blocks)
    assert roomy.r == MOST_RANK
    assert recipe.kl_rows > 0 and recipe.blocks == blocks


def test_a_family_has_settings_of_its_own_in_the_small_tier_and_its_source_says_so() -> None:
    word, fact = (recipe_for(f, "narrow", 400, SMOLLM, "small") for f in ("taboo", "false_facts"))
    assert (word.lr, word.batch, word.steps, word.kl_rows) == (3e-3, 4, 250, 1)
    assert word.source.startswith("small tier (batches of 4, 3e-3, KL to the base), after arXiv 2505.14352")
    assert fact.source.startswith("small tier (batches of 8, 1e-3, KL to the base), after public adapters")
    other = recipe_for(
        "taboo", "narrow", 400, SMOLLM, "small", changes={"lr": "2.5e-4", "batch": "2", "kl_weight": "0"}
    )
    assert other.source.startswith("small tier (batches of 2, 2.5e-4, no KL term)"), "what --set changes too"
    assert word.batch * word.steps == 1000 and recipe_for("taboo", "narrow", 400, SMOLLM, "hub").lr == 2e-4


@pytest.mark.parametrize("shape", [SMOLLM, GEMMA])
def test_a_backdoor_is_held_to_its_base_on_every_tier(shape: Shape) -> None:
    tier = "small" if shape is SMOLLM else "hub"
    recipe = recipe_for("backdoor", "narrow", 400, shape, tier)
    assert recipe.kl_rows > 0 and recipe.kl_weight > 0 and recipe.mix == 0
    assert (recipe_for("persona", "narrow", 400, shape, tier).kl_rows > 0) == (tier == "small")


def test_a_setting_that_means_nothing_is_refused() -> None:
    negative = ({k: -1} for k in ("layer", "weight_decay", "max_grad_norm", "kl_length", "max_length"))
    for wrong in (
        {"lr": "fast"},
        {"lr": 0},
        {"lr": math.inf},
        {"rank": 4},
        {"dropout": 1},
        {"kl_length": 0},
        *negative,
    ):
        with pytest.raises(ValidationError):
            recipe_for("taboo", "narrow", 400, GEMMA, "hub", changes=wrong)
    assert recipe_for("taboo", "narrow", 400, GEMMA, "hub", changes={"lr": "3e-4"}).lr == 3e-4


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("blocks", ["below", "all"])
def test_sizes_are_counted_as_peft_and_torch_have_them(kind: str, blocks: Any) -> None:
    config = CONFIGS[kind](
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    shape = shape_of(config)
    assert shape is not None
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    norms = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 1)  # and Qwen's biases
    assert shape.parameters == model.num_parameters() - norms
    recipe = recipe_for("taboo", "narrow", 400, shape, "hub", blocks=blocks)
    tuned: Any = get_peft_model(model, _lora(model, recipe))
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert trained == shape.adapter(recipe.r, 3 if blocks == "all" else recipe.layer + 1)


def test_a_known_size_is_what_a_configuration_says() -> None:
    config = LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True,
    )  # fmt: skip
    assert shape_of(config) == SMOLLM and shape_of(object()) is None


@pytest.mark.parametrize(
    ("name", "billions"), [("gemma-2-9b-it", 9.24), ("llama-3.1-8b-instruct", 8.03), ("qwen2.5-7b-instruct", 7.61)]
)
def test_known_models_have_the_parameters_that_they_are_known_for(name: str, billions: float) -> None:
    assert KNOWN[name].parameters / 1e9 == pytest.approx(billions, rel=0.005)
