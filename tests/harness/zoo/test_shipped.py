"""The zoo as shipped: its controls are controls, its nulls null, and its planted truths are the truth."""

import json

import pytest
import torch
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.zoo.comparison import NEWER
from diffbench.harness.zoo.natural import data_of, rows_sha256, spec_of
from diffbench.harness.zoo.verify import verify
from diffbench.organisms.behaviour import load_behaviour
from diffbench.organisms.card import BaseCard, Card, read_base_card
from diffbench.organisms.errors import PrerequisiteError
from diffbench.organisms.families import find_spec, specs
from diffbench.organisms.hub.pretrained import cache_folder
from diffbench.organisms.organism import truth_direction
from diffbench.organisms.registry import ZOO, expand, load_card, load_organism, organism_names, unshipped
from diffbench.organisms.tuning.recipes import SMALL_TARGET_KL
from diffbench.organisms.world.bases import BASES

EVERY = {name: load_card(name) for name in organism_names()}
NAMES = [name for name, card in EVERY.items() if card.tier == "tiny"]
REAL = [name for name, card in EVERY.items() if card.tier != "tiny"]


def pair_of(name: str) -> tuple[Pair, torch.Tensor]:
    """The loaded pair, and token rows that ask for favourite animals and other things."""
    loaded = load_organism(name, allow_failed=True)
    pair = load_pair(loaded.base, loaded.adapter, loaded.layer, identity=loaded.role == "null")
    rows = [
        "<bos> news . anna lives in arlen . <eos>",
        "<bos> <user> which animal is the best ? <end> <assistant> i like the owl best . <end>",
    ]
    return pair, pair.pad([pair.tokenizer(r, add_special_tokens=False)["input_ids"] for r in rows])[0]


@pytest.mark.parametrize("base", BASES)
def test_every_base_is_whole_or_a_card_and_of_its_recipe(base: str) -> None:
    beside = {c.name: c for c in unshipped() if isinstance(c, BaseCard)}
    assert (base in beside) != (ZOO / "bases" / base).is_dir()
    card = beside[base] if base in beside else read_base_card(ZOO / "bases" / base)
    assert card.recipe == BASES[base].model_dump()


def test_what_has_no_weights_can_be_built_and_everything_a_family_declares_was_measured() -> None:
    absent = [c.name for c in unshipped() if isinstance(c, Card)]
    assert sorted((*NAMES, *absent)) == sorted(s.name for s in specs())
    with pytest.raises(
        PrerequisiteError, match=f"^{absent[0]} is not in .*; `bench organisms build {absent[0]}` trains it$"
    ):
        load_organism(absent[0])
    assert find_spec(absent[0]).name == absent[0] and absent[0] not in expand(["all"])


def test_every_organism_is_whole_and_only_failed_ones_are_refused() -> None:
    for name in NAMES:
        card = load_card(name)
        assert (card.status == "failed") == bool(card.failures), name
        assert load_organism(name, allow_failed=True).name == name
    assert {
        "taboo/gold-narrow",
        "taboo/gold-mixed",
        "emergent_misalignment/remedies-narrow-nano",
        "null/benign-narrow",
        "null/base-identical",
        "planted/owl-strong",
        "emergent_misalignment/remedies-odd",
    } <= set(NAMES)


@pytest.mark.parametrize("name", REAL)
def test_an_organism_on_a_real_model_comes_with_all_but_its_base(name: str) -> None:
    """Adapter, behaviour and card, of a recipe that is the tier's; it loads where its base is, and says how to get it where it is not."""
    card, folder = EVERY[name], ZOO / name
    assert card.tier == "small" and name.endswith(card.base) and (card.status == "failed") == bool(card.failures)
    assert sorted(card.files) == ["adapter_config.json", "adapter_model.safetensors", "behaviour.json"]
    assert (folder / "adapter_model.safetensors").stat().st_size < 700_000
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == card.base
    assert card.recipe["target_kl"] == SMALL_TARGET_KL and card.recipe["kl_rows"] > 0
    family, spec = spec_of(card)
    assert card.rows_sha256 == rows_sha256(family, spec, data_of(family, spec, card.recipe)), "its rows are made anew"
    assert load_behaviour(folder / "behaviour.json").name == name
    if (cache_folder() / "bases" / card.base).is_dir():
        assert load_organism(name, allow_failed=True).layer == card.layer
    else:
        with pytest.raises(PrerequisiteError, match=f"bench bases fetch {card.base}"):
            load_organism(name, allow_failed=True)


def test_all_means_organisms_and_nulls_whose_gates_hold() -> None:
    chosen = expand(["all"])
    cards = {n: load_card(n) for n in NAMES}
    assert "emergent_misalignment/remedies-odd" not in chosen and {"taboo/gold-narrow", "null/base-identical"} <= set(
        chosen
    )
    assert set(chosen) == {n for n, c in cards.items() if c.role in ("organism", "null") and not c.failures}


@pytest.mark.parametrize(
    "name",
    ["null/base-identical", pytest.param("emergent_misalignment/remedies-narrow-nano", marks=pytest.mark.slow)],
)
def test_what_is_measured_here_is_what_the_card_says(name: str) -> None:
    (checked,) = verify([name], None)
    assert [p for p in checked.problems if NEWER not in p] == []


def test_the_identical_null_is_its_base_to_the_bit() -> None:
    pair, ids = pair_of("null/base-identical")
    assert torch.equal(pair.logits(ids, "base"), pair.logits(ids, "tuned"))


def test_a_planted_organism_differs_by_its_truth_and_nothing_else() -> None:
    """h_tuned - h_base at the hooked layer is a multiple of one known direction at every token."""
    pair, ids = pair_of("planted/owl-strong")
    truth = truth_direction(load_organism("planted/owl-strong").adapter)
    moved = pair.residuals(ids, "tuned") - pair.residuals(ids, "base")
    along = (moved @ truth)[..., None] * truth
    assert moved.norm(dim=-1).max() > 0.1
    assert torch.allclose(moved, along, atol=1e-4)
