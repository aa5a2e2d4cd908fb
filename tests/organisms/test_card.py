"""A card vouches for every byte: an organism that is not the one that was measured is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from diffbench.organisms.card import CARD, Card, Gate, building, hash_folder, read_base_card, read_card, sha256_files
from diffbench.organisms.errors import PrerequisiteError, ValidationFailed
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ..factories import make_card, make_measured, write_base, write_organism


def edit(folder: Path, **fields: object) -> None:
    path = folder / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_whole_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = write_organism(tmp_path, seed=3, role="control")
    card = read_card(folder)
    assert card == make_card(seed=3, role="control", base_sha256=card.base_sha256, files=hash_folder(folder))


LOW = {"value": 0.01, "bound": 0.3, "rule": "at least"}
DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: edit(f, colour=1), "colour: Extra inputs"),
    (lambda f: edit(f, role="villain"), "role: Input should be 'organism'"),
    (lambda f: edit(f, status=None), "status: Input should be"),
    (lambda f: edit(f, neutral={"kl": float("nan")}), "neutral.kl: Input should be a finite number"),
    (lambda f: (f / CARD).write_text((f / CARD).read_text()[:200]), "not a valid card"),
    (lambda f: (f / CARD).write_bytes(b"\xff\xfe{"), "not a valid card: Invalid JSON"),
    (lambda f: edit(f, recipe={"layer": 3}), "not a valid card: its layer is 2, and its recipe says 3"),
    (lambda f: edit(f, status="failed"), "not a valid card: its status is failed, and all its gates hold"),
    (lambda f: edit(f, gates={"gap": LOW}), "its status is calibrated, and gap 0.010, at least 0.3 wanted"),
    (lambda f: edit(f, member="moon"), "variant make taboo/moon-narrow, and its name is taboo/gold-narrow"),
    (lambda f: edit(f, name="taboo/gold-narrower"), "make taboo/gold-narrow, and its name is taboo/gold-narrower"),
    (lambda f: edit(f, files={}), "has no hash of adapter_config.json"),
    (
        lambda f: edit(f, tier="small"),
        "has no hash of behaviour.json; .*build taboo/gold-narrow --base tiny-gemma2 --over",
    ),
    (lambda f: (f / "adapter_model.safetensors").write_bytes(b"taboo/gold-narro"), "sha256 differs"),
    (lambda f: (f / "adapter_model.safetensors").write_bytes(b"taboo/gold-narroW"), "sha256 differs"),
    (lambda f: (f / "adapter_model.safetensors").unlink(), "is missing although its card lists it"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[m for _, m in DAMAGE])
def test_a_damaged_folder_is_refused_with_the_reason(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = write_organism(tmp_path)
    damage(folder)
    with pytest.raises(ValidationFailed, match=message) as refused:
        read_card(folder)
    assert "reinstall diffbench, or build it again with `bench organisms build" in str(refused.value)


def test_a_damaged_base_is_refused_too(tmp_path: Path) -> None:
    write_base(tmp_path, "nano")
    (tmp_path / "bases" / "nano" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ValidationFailed, match="sha256 differs"):
        read_base_card(tmp_path / "bases" / "nano")


def test_a_folder_without_a_card_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="bench organisms build"):
        read_card(tmp_path)


@given(st.dictionaries(st.text("abc./", min_size=1), st.text("0123456789abcdef"), min_size=2, max_size=5))
def test_one_hash_stands_for_all_files_in_any_order(files: dict[str, str]) -> None:
    first = next(iter(files))
    assert sha256_files(dict(reversed(files.items()))) == sha256_files(files)
    assert sha256_files(files | {first: files[first] + "0"}) != sha256_files(files)
    assert sha256_files({k: v for k, v in files.items() if k != first}) != sha256_files(files)


def test_the_card_itself_and_notes_are_not_hashed(tmp_path: Path) -> None:
    for name in (CARD, "README.md", "config.json", "model.safetensors"):
        (tmp_path / name).write_text(name)
    assert set(hash_folder(tmp_path)) == {"config.json", "model.safetensors"}


@pytest.mark.parametrize(
    ("value", "rule", "passed"),
    [(0.3, "at least", True), (0.299, "at least", False), (0.3, "at most", True), (0.301, "at most", False)],
)
def test_a_gate_holds_up_to_its_bound(value: float, rule: str, passed: bool) -> None:
    gate = Gate(value=value, bound=0.3, rule=rule)  # pyright: ignore[reportArgumentType]
    assert gate.passed == passed
    status = "calibrated" if passed else "failed"
    assert make_card(gates={"gap": gate}, status=status).failures == (
        [] if passed else [f"gap {value:.3f}, {rule} 0.3 wanted"]
    )


def test_a_measured_value_has_base_organism_and_change() -> None:
    card = Card.model_validate_json(make_card(measured={"facts": make_measured(0.9, 0.8, "correct")}).model_dump_json())
    assert card.measured["facts"].change.value == pytest.approx(-0.1)
    with pytest.raises(ValidationError):
        make_measured(0.9, float("nan"))


def test_the_command_that_makes_an_organism_says_all_that_its_name_does() -> None:
    known = {"tier": "hub", "base": "google/gemma-2-2b-it@main"}
    card = make_card("taboo/moon-mixed-gemma-2-2b-it-whole-s2", seed=2, recipe={"blocks": "all"}, **known)
    assert building(card) == "bench organisms build taboo/moon-mixed-s2 --base google/gemma-2-2b-it@main --blocks all"
    assert building(make_card("taboo/moon-held-qwen2-s1", seed=1)) == "bench organisms build taboo/moon-held-qwen2-s1"
