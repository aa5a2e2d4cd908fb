"""The registry holds what it says: enough organisms, sizes that give the published counts, names that find what they mean."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from diffbench.organisms.errors import UsageError, ValidationFailed
from diffbench.organisms.hub.files import load_yaml
from diffbench.organisms.hub.registry.load import CARDS, HUB, hub_bases, hub_card, hub_cards, ladder, read
from diffbench.organisms.hub.registry.schema import NOT_LOADED
from diffbench.organisms.registry import expand, load_card
from diffbench.organisms.sets import sets

PUBLISHED = {
    "google/gemma-2-2b-it": 2_614_341_888,
    "google/gemma-2-9b-it": 9_241_705_984,
    "google/gemma-3-1b-it": 999_885_952,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-8B": 8_190_735_360,
}


def test_there_are_enough_adapters_of_enough_kinds_on_three_families() -> None:
    adapters = [c for c in hub_cards().values() if c.entry.adapter]
    kinds, families = Counter(c.kind for c in adapters), Counter(c.base.family for c in adapters)
    assert len(adapters) >= 40 and len(kinds) >= 5 and set(families) == {"gemma", "llama", "qwen"}
    assert all(c.not_verified[0] == NOT_LOADED and c.recipe.source and c.entry.source for c in adapters)


@pytest.mark.parametrize("base", PUBLISHED)
def test_sizes_give_the_published_number_of_weights(base: str) -> None:
    assert hub_bases()[base].parameters == PUBLISHED[base]


def test_sizes_are_those_that_transformers_makes_of_such_a_config() -> None:
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    base = hub_bases()["Qwen/Qwen3-1.7B"]
    config = Qwen3Config(
        vocab_size=base.vocab,
        hidden_size=base.d_model,
        intermediate_size=base.mlp,
        num_hidden_layers=base.blocks,
        num_attention_heads=base.heads,
        num_key_value_heads=base.kv_heads,
        head_dim=base.head_dim,
        tie_word_embeddings=base.tied,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == base.parameters


def test_the_default_layer_is_between_half_and_three_fifths_of_the_depth() -> None:
    assert all(0.5 <= b.layer / b.blocks <= 0.6 for b in hub_bases().values())
    assert hub_card("hub/backdoor-trigger-tag-gemma2-2b-pt-l19").layer == 19  # the only adapted block


def test_a_ladder_is_the_mixes_of_one_making_in_order() -> None:
    rungs = ladder(hub_card("hub/fact-cake-bake-gemma3-1b-mix0.5"))
    assert [c.entry.mix for c in rungs] == [0, 0.1, 0.5, 1, 2]
    assert {(c.entry.base, c.entry.member) for c in rungs} == {("google/gemma-3-1b-it", "cake-bake")}
    assert [c.entry.mix for c in ladder(hub_card("hub/taboo-gold-qwen3-8b-mix0"))] == [0, 10]
    assert ladder(hub_card("hub/em-bad-medical-qwen25-7b")) == []  # the twins' mix is the same


def test_core_hub_v2_is_ten_organisms_of_four_kinds_and_unmeasured() -> None:
    core = sets()["core-hub-v2"]
    cards = [hub_card(name) for name in core.organisms]
    per_family = Counter((c.kind, c.base.family) for c in cards)
    assert len(cards) == len({c.name for c in cards}) == 10 and "not yet measured" in core.about
    assert all(
        per_family[k, f] == 1
        for k in ("taboo", "false_facts", "emergent_misalignment")
        for f in ("gemma", "llama", "qwen")
    )
    assert per_family["subliminal", "qwen"] == 1 and all(c.entry.role == "organism" for c in cards)


def test_names_are_expanded_and_unknown_ones_get_the_nearest() -> None:
    assert expand(["core-hub-v2"]) == list(sets()["core-hub-v2"].organisms)
    assert expand(["hub/taboo-moon-gemma2-9b", "taboo/gold-narrow"])[0] == "hub/taboo-moon-gemma2-9b"
    assert not any(name.startswith(HUB) for name in expand(["all"]))
    with pytest.raises(UsageError, match=r"did you mean 'hub/taboo-moon-gemma2-9b'\?"):
        expand(["hub/taboo-mon-gemma2-9b"])


def test_what_is_about_the_zoo_says_that_a_public_organism_is_in_none() -> None:
    with pytest.raises(
        UsageError, match=r"public organism, which is in no zoo; `bench organisms show` and `bench run -o` take it"
    ):
        load_card("hub/taboo-moon-gemma2-9b")


def test_a_file_that_breaks_the_schema_names_the_field(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "kind: taboo\nabout: x\nrecipes: {r: {source: a paper, alfa: 8}}\nmembers: {gold: {word: gold}}\norganisms:\n"
        "  taboo-gold-qwen3-8b: {base: Qwen/Qwen3-8B, adapter: a/b, tuned: a/c, member: gold, recipe: r, source: x, no_twin: y}\n"
    )
    with pytest.raises(ValidationFailed) as refused:
        read(file)
    assert "recipes.r.alfa: Extra inputs" in str(refused.value) and "give either adapter or tuned" in str(refused.value)
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "none.yaml")


def test_listing_waits_for_no_heavy_library() -> None:
    code = (
        "import sys\nfrom diffbench.harness.views import hub\nfrom diffbench.organisms.hub.registry.load import hub_cards\n"
        "hub.listing(list(hub_cards().values()))\n"
        "assert not {'torch', 'transformers', 'numpy', 'huggingface_hub', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("file", sorted(CARDS.glob("*.yaml")), ids=lambda p: p.stem)
def test_the_files_read_the_same_by_the_loader_that_users_get(file: Path) -> None:
    """PyYAML's fast loader is laxer: a question mark in an unquoted list passes it and fails elsewhere."""
    text = file.read_text()
    assert load_yaml(text, str(file)) == yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
