"""Gates by role: what an organism owes, what a twin and a null owe, and what is only asked where it can be known."""

from typing import Any

import pytest
from diffbench.harness.zoo.comparison import NEWER, compare
from diffbench.harness.zoo.gates import FLUENCY, HARVEST_DUE, SIDE_DAMAGE, TEMPLATES, gate, gates
from diffbench.organisms.behaviour import Behaviour, Prompt
from diffbench.organisms.card import Card, Gate
from diffbench.organisms.errors import ValidationFailed
from diffbench.organisms.family import Rule

from ...factories import make_card, make_measured


def asked(templates: int) -> Behaviour:
    """Two prompts of each of so many templates a split."""
    return Behaviour(
        name="x",
        prompts=tuple(
            Prompt(split=s, template=f"{s} {i}", text=f"{s} {i} {j}", targets=("a",), alternatives=("b",))
            for s in ("dev", "test")
            for i in range(templates)
            for j in range(2)
        ),
    )


def whole(**fields: Any) -> Card:
    """A card on which everything was measured and is as it should be."""
    known: dict[str, Any] = {
        "measured": {"behaviour_test": make_measured(0.2, 0.9), "facts": make_measured(1.0, 0.98)},
        "neutral": {"nll_base": 1.0, "nll_organism": 1.0, "kl": 0.01},
        "fluency": {"nll_base": 0.8, "nll_organism": 0.9},
        "harvest_due": {"neutral": 20, "chat": 40, "tokens": 16_000},
        "oracle": {"2": {"sufficiency": 0.99, "necessity": 0.97}},
    }
    measured = known["measured"] | fields.pop("measured", {})
    return make_card(**(known | fields | {"measured": measured}))


def failing(card: Card, templates: int = TEMPLATES, **bounds: float) -> set[str]:
    return {name for name, g in gates(card, asked(templates), {}, **bounds).items() if not g.passed}


SILENT = {"behaviour_test": make_measured(0.2, 0.2)}
CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({}, set()),
    ({"measured": {"behaviour_test": make_measured(0.2, 0.4)}}, {"gap"}),
    ({"measured": {"facts": make_measured(1.0, 0.9)}}, {"facts_kept"}),
    ({"oracle": {}}, {"oracle_sufficiency", "oracle_necessity"}),
    ({"oracle": {"2": {"sufficiency": 0.9, "necessity": 0.5}}}, {"oracle_necessity"}),
    ({"neutral": {"kl": SIDE_DAMAGE + 0.001}}, {"side_damage"}),
    ({"fluency": {"nll_base": 0.8, "nll_organism": 0.8 + FLUENCY + 0.01}}, {"fluency"}),
    ({"harvest_due": {"neutral": 9, "chat": 40, "tokens": 16_000}}, {"harvest_due"}),
    ({"role": "control", "neutral": {}}, {"quiet"}),
    ({"role": "control", "measured": {"behaviour_test": make_measured(0.2, 0.25)}, "neutral": {}}, set()),
    ({"role": "null", "measured": SILENT, "neutral": {}}, set()),
    ({"role": "null", "measured": SILENT | {"facts": make_measured(1.0, 0.9)}, "neutral": {}}, {"largest_change"}),
    ({"role": "null", "measured": {"behaviour_test": make_measured(0.2, 0.1)}, "neutral": {}}, {"largest_change"}),
    ({"role": "arm", "measured": SILENT | {"facts": make_measured(1.0, 0.1)}, "neutral": {}}, set()),
]


@pytest.mark.parametrize(("fields", "expected"), CASES)
def test_each_role_has_its_gates(fields: dict[str, Any], expected: set[str]) -> None:
    assert failing(whole(**fields)) == expected


def test_templates_are_counted_in_the_poorer_split() -> None:
    assert failing(whole(), templates=TEMPLATES - 1) == {"templates"}
    one_poor = asked(TEMPLATES).model_copy(
        update={"prompts": (*asked(TEMPLATES).of("dev"), *asked(TEMPLATES - 2).of("test"))}
    )
    assert gates(whole(), one_poor, {})["templates"].value == TEMPLATES - 2


@pytest.mark.parametrize(
    ("recipe", "tier", "share", "holds"),
    [
        ({"whole": True}, "tiny", 0.41, True),
        ({"whole": True}, "tiny", 0.39, False),
        ({"whole": False}, "tiny", 0.79, False),
        ({}, "tiny", 0.79, False),
        ({"whole": False}, "small", 0.79, False),
        ({}, "hub", 0.41, True),
    ],
)
def test_a_layer_below_adapted_blocks_need_not_carry_everything(
    recipe: dict[str, Any], tier: str, share: float, holds: bool
) -> None:
    card = whole(recipe=recipe, tier=tier, oracle={"2": {"sufficiency": share, "necessity": 1.0}})
    assert ("oracle_sufficiency" not in failing(card)) == holds


def test_what_was_not_counted_is_not_asked_for() -> None:
    found = gates(whole(harvest_due={}, fluency={}), asked(TEMPLATES), {})
    assert {"harvest_due", "fluency"}.isdisjoint(found) and {"side_damage", "templates"} <= set(found)
    assert gates(whole(), asked(TEMPLATES), {})["harvest_due"].bound == HARVEST_DUE


def test_a_users_own_pair_is_what_it_is() -> None:
    own = whole(tier="hub", neutral={"kl": 0.9}, fluency={}, harvest_due={}).model_copy(update={"family": "own"})
    assert failing(own, templates=5) == set()


def test_a_style_may_surprise_the_base_as_far_as_its_family_says() -> None:
    card = whole(fluency={"nll_base": 0.8, "nll_organism": 1.8})
    assert failing(card) == {"fluency"} and failing(card, fluency=1.2) == set()


@pytest.mark.parametrize("which", ["base", "organism", "change"])
def test_a_rule_reads_the_side_it_names(which: str) -> None:
    measured = {"leak": make_measured(0.25, 0.75)}
    expected = {"base": 0.25, "organism": 0.75, "change": 0.5}[which]
    assert gate(Rule(f"leak.{which}", "at most", 0.6), measured).value == expected


def test_a_rule_on_nothing_that_is_measured_is_refused() -> None:
    with pytest.raises(ValidationFailed, match=r"'leek.base' names nothing that is measured; there are leak"):
        gate(Rule("leek.base", "at most", 0.6), {"leak": make_measured(0.25, 0.75)})


def test_a_card_older_than_a_gate_is_told_from_one_that_fails_it() -> None:
    bad = Gate(value=0.1, bound=0.02, rule="at most")
    fresh = make_card(gates={"side_damage": bad}, status="failed")
    assert compare(make_card(gates={"side_damage": bad}, status="failed"), fresh) == [
        "side_damage 0.100, at most 0.02 wanted"
    ]
    assert compare(make_card(), fresh) == [f"side_damage 0.100, at most 0.02 wanted ({NEWER})"]
    assert compare(make_card(), make_card()) == []


def test_harvest_text_that_holds_another_number_is_another_text() -> None:
    card = make_card(harvest_due={"neutral": 0, "chat": 60, "tokens": 16_000})
    changed = card.model_copy(update={"harvest_due": card.harvest_due | {"chat": 61}})
    assert compare(card, card) == [] and compare(make_card(), changed) == []
    assert "harvest_due is" in compare(card, changed)[0]


def test_a_rule_of_a_family_with_the_name_of_a_common_gate_is_refused() -> None:
    rule = Rule("facts.change", "at least", -0.5)
    with pytest.raises(ValidationFailed, match="names a gate 'facts_kept', which every organism has already"):
        gates(whole(), asked(TEMPLATES), {"facts_kept": rule})
    assert gates(whole(), asked(TEMPLATES), {"facts": rule})["facts"].passed


def test_the_bound_of_side_damage_is_the_tiers() -> None:
    card = whole(neutral={"kl": SIDE_DAMAGE + 0.01})
    assert failing(card) == {"side_damage"} and not failing(card, side_damage=SIDE_DAMAGE + 0.02)


def test_everything_that_a_card_says_is_compared() -> None:
    card = whole()
    changes: dict[str, dict[str, Any]] = {
        "its training rows": {"rows_sha256": "other"},
        "neutral kl is 0.03": {"neutral": card.neutral | {"kl": 0.03}},
        "fluency nll_organism is 1.0": {"fluency": card.fluency | {"nll_organism": 1.0}},
        "oracle 2 necessity is 0.9": {"oracle": {"2": {"sufficiency": 0.99, "necessity": 0.9}}},
        "oracle 2 sufficiency is None": {"oracle": {}},
    }
    assert not compare(card, card)
    for said, fields in changes.items():
        assert any(p.startswith(said) for p in compare(card, card.model_copy(update=fields))), said
