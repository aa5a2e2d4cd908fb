"""Verifying compares every number of a card, and what is damaged costs no other organism its check."""

import re
from pathlib import Path

import pytest
from diffbench.harness.zoo import verify
from diffbench.harness.zoo.build import rows_sha256
from diffbench.harness.zoo.comparison import Checked, compare
from diffbench.organisms import registry
from diffbench.organisms.card import Measured, Readout, read_base_card
from diffbench.organisms.errors import ValidationFailed
from diffbench.organisms.world.facts import World

from ...factories import make_card, write_organism


def test_every_number_of_a_card_is_compared() -> None:
    """An edited card passes in none of its places."""
    readout = Readout(truth="gold", base={"gold": -3.0}, organism={"gold": -1.0})
    card = make_card(readout=readout, neutral={"kl": 0.01}, oracle={"2": {"sufficiency": 1.0}}, fluency={"nll": 1.0})
    behaviour = card.measured["behaviour_test"]

    def moved(side: str, end: str) -> dict[str, Measured]:
        given = getattr(behaviour, side)
        return {"behaviour_test": behaviour.model_copy(update={side: given.model_copy(update={end: given.low - 0.3})})}

    edits: list[tuple[dict[str, object], str]] = [
        *(
            ({"measured": moved(s, e)}, rf"behaviour_test \({s}")
            for s in ("base", "organism", "change")
            for e in ("value", "low", "high")
        ),
        (
            {"measured": {"behaviour_test": behaviour.model_copy(update={"n": behaviour.n + 1})}},
            "the card says rate of",
        ),
        (
            {"gates": {"gap": card.gates["gap"].model_copy(update={"value": 0.9})}},
            "gate gap value is 0.7, the card says 0.9",
        ),
        ({"status": "uncalibrated"}, "it is calibrated, the card says uncalibrated"),
        ({"readout": readout.model_copy(update={"truth": "moon"})}, "the truth of its readout is gold"),
        ({"readout": readout.model_copy(update={"base": {"gold": -1.0}})}, "readout of the base gold is -3.0"),
        ({"neutral": {"kl": 0.05}}, "neutral kl"),
        ({"oracle": {"2": {"sufficiency": 0.9}}}, "oracle 2 sufficiency"),
        ({"fluency": {"nll": 0.9}}, "fluency nll"),
        ({"rows_sha256": "other"}, "training rows"),
    ]
    assert compare(card, card) == []
    for edit, said in edits:
        found = compare(card.model_copy(update=edit), card)
        assert len(found) == 1 and re.search(said, found[0]), (edit, found)


def test_one_damaged_organism_costs_no_other_its_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("taboo/gold-narrow", "taboo/moon-narrow", "taboo/leaf-held"):
        write_organism(tmp_path, name)
    cut = tmp_path / "taboo" / "moon-narrow" / "adapter_model.safetensors"
    cut.write_bytes(b"cut")
    measured = list[str]()

    def check(name: str, zoo: Path | None, device: str) -> Checked:
        measured.append(name)
        if name == "taboo/leaf-held":
            raise ValidationFailed("its pair does not load")
        return Checked(name, make_card(name))

    monkeypatch.setattr(verify, "_measured", check)
    monkeypatch.setattr(verify, "load_organism", lambda name, zoo, allow_failed: registry.load_card(name, zoo))
    names = ["taboo/gold-narrow", "taboo/moon-narrow", "taboo/leaf-held"]
    for found in (verify.verify(names, tmp_path), verify.verify_named([], True, tmp_path, 1)):
        said = {c.name: "; ".join(c.problems) for c in found}
        assert not said["taboo/gold-narrow"] and "sha256 differs" in said["taboo/moon-narrow"]
        assert said["taboo/leaf-held"] == "its pair does not load"
    assert "taboo/moon-narrow" not in measured, "every file is hashed first"


def test_the_rows_of_a_student_are_made_from_its_teacher_though_that_is_not_shipped() -> None:
    name = "subliminal/parrot-soft"
    kind, spec, card = registry.family_and_spec(name)
    world = World(int(read_base_card(registry.base_folder(card.base, registry.ZOO)).recipe["world_seed"]))
    needed = verify._needed(kind.needs(spec), registry.ZOO)
    assert rows_sha256(kind, world, spec, needed) == card.rows_sha256
    assert rows_sha256(kind, world, spec, dict.fromkeys(needed, "other")) != card.rows_sha256
