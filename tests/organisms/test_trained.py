"""Organisms on real models are loaded without their generator, on the bytes they were trained on or not at all."""

import json
from pathlib import Path

import pytest
from diffbench.harness.studies import doctor
from diffbench.harness.zoo import verify as verifying
from diffbench.harness.zoo.comparison import Checked
from diffbench.organisms import registry
from diffbench.organisms.card import CARD, hash_folder, read_card
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.hub.pretrained import CARD as FETCHED
from diffbench.organisms.hub.pretrained import MODELS
from diffbench.organisms.hub.sources import locate
from diffbench.organisms.registry import card_of, expand, family_and_spec, load_organism, organism_names

from ..factories import make_card
from .tuning.colours import Colours

NAME = "colours/gold-narrow-smollm2-135m"


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo with one organism of a fetched base, both of a few bytes."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    base = tmp_path / "cache" / "bases" / "smollm2-135m"
    base.mkdir(parents=True)
    (base / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    (base / "model.safetensors").write_bytes(b"weights")
    (base / FETCHED).write_text(json.dumps({"name": "smollm2-135m", "made_from": MODELS["smollm2-135m"].hub_id}))
    write(tmp_path / "zoo", locate("smollm2-135m", "model", "base model").sha256)
    return tmp_path / "zoo"


def write(zoo: Path, base_sha256: str, **fields: object) -> None:
    folder, family = zoo / NAME, Colours()
    folder.mkdir(parents=True)
    behaviour = family.behaviour(family.spec()).model_copy(update={"name": NAME})
    (folder / "behaviour.json").write_text(behaviour.model_dump_json())
    (folder / "adapter_model.safetensors").write_bytes(b"adapter")
    (folder / "adapter_config.json").write_text("{}")
    known = {"tier": "small", "base": "smollm2-135m", "base_sha256": base_sha256, "layer": 20}
    card = make_card(NAME, files=hash_folder(folder), **(known | fields))
    (folder / CARD).write_text(card.model_dump_json())


def test_it_is_listed_and_loaded_without_its_generator(zoo: Path) -> None:
    assert organism_names(zoo) == [NAME] == expand([NAME], zoo) == expand(["all"], zoo, "small")
    loaded = load_organism(NAME, zoo)
    assert (loaded.tier, loaded.layer, loaded.role, loaded.in_zoo) == ("small", 20, "organism", True)
    assert loaded.pair.base_name == "smollm2-135m" and loaded.adapter == zoo / NAME
    assert len(loaded.behaviour.of("test")) == 15 and loaded.source == {"organism": NAME}
    assert card_of(NAME, zoo).base == "smollm2-135m"


def test_it_is_no_embedded_organism_whatever_its_family_is_called(zoo: Path) -> None:
    with pytest.raises(UsageError, match=r"lives on a real model \(smollm2-135m\)"):
        family_and_spec(NAME, zoo)


def test_other_bytes_of_the_base_are_refused_with_both_hashes(zoo: Path, tmp_path: Path) -> None:
    trained_on = read_card(zoo / NAME).base_sha256
    (tmp_path / "cache" / "bases" / "smollm2-135m" / "model.safetensors").write_bytes(b"others")
    here = locate("smollm2-135m", "model", "base model").sha256
    with pytest.raises(
        ValidationFailed, match=rf"the hash {trained_on[:12]}, and the one that is here has {here[:12]}"
    ):
        load_organism(NAME, zoo)


def test_a_base_that_is_not_here_is_named_with_the_command_that_fetches_it(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(zoo))
    with pytest.raises(PrerequisiteError, match="bench bases fetch smollm2-135m"):
        load_organism(NAME, zoo)


def test_the_doctor_finds_nothing_wrong_with_a_base_that_was_not_fetched(
    zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged file is another matter, with the base and without it."""
    monkeypatch.setattr(registry, "ZOO", zoo)
    monkeypatch.setattr(doctor, "organism_names", lambda: [NAME])
    for cache in (zoo.parent / "cache", zoo):
        monkeypatch.setenv("BENCH_CACHE", str(cache))
        found = next(f for f in doctor.examine() if f.what == NAME)
        assert found.ok and found.state.startswith("hashes match its card")
        assert ("bench bases fetch smollm2-135m" in found.state) == (cache == zoo)
    (zoo / NAME / "adapter_model.safetensors").write_bytes(b"other")
    assert not next(f for f in doctor.examine() if f.what == NAME).ok


def test_identity_depends_on_every_byte_of_base_and_adapter_and_texts_on_the_behaviour(zoo: Path) -> None:
    before = load_organism(NAME, zoo)
    path = zoo / NAME / "behaviour.json"
    path.write_text(path.read_text().replace("the snow was", "the river was"))
    with pytest.raises(ValidationFailed, match=r"behaviour\.json is not the file its card was measured on"):
        load_organism(NAME, zoo)
    card = read_json(zoo) | {"files": hash_folder(zoo / NAME)}
    (zoo / NAME / CARD).write_text(json.dumps(card))
    after = load_organism(NAME, zoo)
    assert after.texts_id != before.texts_id and after.sha256 == before.sha256
    (zoo / NAME / "adapter_model.safetensors").write_bytes(b"other")
    (zoo / NAME / CARD).write_text(json.dumps(card | {"files": hash_folder(zoo / NAME)}))
    assert load_organism(NAME, zoo).sha256 != before.sha256


def read_json(zoo: Path) -> dict[str, object]:
    return json.loads((zoo / NAME / CARD).read_text())


def test_one_that_failed_its_gates_is_refused_unless_it_is_to_be_looked_at(zoo: Path) -> None:
    gates = {"gap": {"value": 0.1, "bound": 0.3, "rule": "at least"}}
    (zoo / NAME / CARD).write_text(json.dumps(read_json(zoo) | {"status": "failed", "gates": gates}))
    with pytest.raises(ValidationFailed, match="failed its gates"):
        load_organism(NAME, zoo)
    assert load_organism(NAME, zoo, allow_failed=True).name == NAME


def test_the_shipped_zoo_is_still_read_as_before() -> None:
    assert registry.load_organism("taboo").tier == "tiny"


def test_it_is_verified_on_the_device_that_is_asked_for(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[str]()

    def measured(folder: Path, name: str, device: str) -> Checked:
        seen.append(device)
        return Checked(name, read_card(folder))

    monkeypatch.setattr(verifying, "verify_natural", measured)
    verifying.verify_named([NAME], False, zoo, 1, "cuda:1")
    verifying.verify_named([NAME], False, zoo, 1)
    assert seen == ["cuda:1", "cpu"]
