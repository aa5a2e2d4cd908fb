"""What a name on the command line means, and what is said when it means nothing."""

import json
import shutil
from pathlib import Path

import pytest
from diffbench.cli import app
from diffbench.organisms import registry
from diffbench.organisms.behaviour import Behaviour
from diffbench.organisms.card import CARD
from diffbench.organisms.errors import DiffbenchError, PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.families import families, family, family_file, find_spec, register
from diffbench.organisms.registry import (
    card_of,
    expand,
    family_and_spec,
    load_card,
    load_organism,
    locate,
    open_source,
    organism_names,
    resolve_name,
    yaml_organism,
)
from diffbench.organisms.scaffold import write_family
from diffbench.organisms.world.facts import World
from typer.testing import CliRunner

from ..factories import write_base, write_organism

pytestmark = pytest.mark.usefixtures("own_families")
FAMILY_FILES: list[tuple[str | None, type[DiffbenchError], str]] = [
    (None, UsageError, "there is no family file .*mine.py; `bench organisms new NAME`"),
    ("1 / 0", ValidationFailed, "raises ZeroDivisionError when it is imported: division by zero"),
    ("class Mine(:", ValidationFailed, "raises SyntaxError"),
    ("import nowhere_at_all", ValidationFailed, "raises ModuleNotFoundError"),
    ("name = 'mine'", ValidationFailed, "has no FAMILY"),
    ("FAMILY = 'mine'", ValidationFailed, "end it with `FAMILY = YourFamily"),
]


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of six, one of which failed its gates."""
    root = tmp_path / "zoo"
    monkeypatch.setattr(registry, "ZOO", root)
    for name, fields in {
        "taboo/gold-narrow": {},
        "taboo/gold-mixed": {"status": "uncalibrated"},
        "taboo/moon-narrow": {"status": "failed", "gates": {"gap": {"value": 0.1, "bound": 0.3, "rule": "at least"}}},
        "taboo/gold-scattered": {"role": "control"},
        "null/benign-narrow": {"role": "null"},
        "subliminal/owl-teacher": {"role": "arm", "base": "nano"},
    }.items():
        write_organism(root, name, **fields)
    return root


def test_the_zoo_lists_organisms_but_neither_bases_nor_scratch_folders(zoo: Path) -> None:
    for scratch in ("taboo/.gold-narrow.x1y2", ".work/gold", "bases/.nano.work"):
        (zoo / scratch).mkdir(parents=True)
        (zoo / scratch / CARD).write_text((zoo / "taboo" / "gold-narrow" / CARD).read_text())
    assert organism_names() == [
        "null/benign-narrow",
        "subliminal/owl-teacher",
        "taboo/gold-mixed",
        "taboo/gold-narrow",
        "taboo/gold-scattered",
        "taboo/moon-narrow",
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["taboo"], ["taboo/gold-narrow"]),
        (["taboo/gold-mixed", "taboo", "taboo/gold-mixed"], ["taboo/gold-mixed", "taboo/gold-narrow"]),
        (["all"], ["null/benign-narrow", "taboo/gold-mixed", "taboo/gold-narrow"]),
        (["taboo/moon-narrow"], ["taboo/moon-narrow"]),
        (["own.yaml", "other.yml"], ["own.yaml", "other.yml"]),
    ],
)
@pytest.mark.usefixtures("zoo")
def test_names_mean_organisms(names: list[str], expected: list[str]) -> None:
    assert expand(names) == expected


def test_a_family_file_means_its_organisms_one_by_one(tmp_path: Path) -> None:
    path = write_family("mood", tmp_path)
    both = [f"{path}:proud-narrow", f"{path}:proud-mixed"]
    assert expand([str(path)]) == both and expand([both[1], str(path)]) == both[::-1]
    assert open_source(both[1]) == (path, [families()["mood"].specs()[1]])
    with pytest.raises(UsageError, match="no organism 'proud-narow'; did you mean 'proud-narrow'"):
        open_source(f"{path}:proud-narow")
    with pytest.raises(PrerequisiteError, match="mood/proud-narrow is not built; run `bench organisms build"):
        locate(both[0])


def test_a_family_file_may_be_in_a_folder_with_py_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.pyenv").mkdir()
    path = write_family("mood", tmp_path / "x.pyenv")
    assert open_source(str(path))[0] == path


def test_an_organism_of_a_file_is_loaded_from_the_zoo_beside_it(tmp_path: Path, zoo: Path) -> None:
    path = write_family("mood", tmp_path / "zoo" / "..")
    write_base(zoo, "tiny-llama")
    write_organism(path.parent / "zoo", "mood/proud-narrow", base="tiny-llama")
    loaded = load_organism(f"{path}:proud-narrow")
    assert (loaded.name, loaded.base) == ("mood/proud-narrow", zoo / "bases" / "tiny-llama")
    assert loaded.source == {"organism": f"{path}:proud-narrow"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("taboo/gold-narow", "did you mean 'taboo/gold-narrow'"),
        ("tabu", "did you mean 'taboo'"),
        ("zzz/zzz", "no organism 'zzz/zzz'; families: [^/]*; `bench organisms list` shows the organisms of each"),
    ],
)
@pytest.mark.usefixtures("zoo")
def test_an_unknown_name_is_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_name(name)


def test_a_family_none_of_whose_organisms_is_built_is_not_its_own_correction(zoo: Path) -> None:
    with pytest.raises(DiffbenchError) as error:
        resolve_name("planted", zoo)
    assert "did you mean 'planted'" not in str(error.value)


def test_an_empty_zoo_is_a_missing_prerequisite(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="there are no organisms in"):
        resolve_name("taboo", tmp_path)


def test_an_adapter_of_another_base_is_refused(zoo: Path) -> None:
    assert load_organism("taboo").base == zoo / "bases" / "tiny-gemma2"
    path = zoo / "bases" / "tiny-gemma2" / CARD
    record = json.loads(path.read_text())
    (path.parent / "config.json").write_text("{}")
    record["files"]["config.json"] = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    path.write_text(json.dumps(record))
    with pytest.raises(ValidationFailed, match="was trained on another tiny-gemma2"):
        load_organism("taboo")


def test_a_damaged_base_is_refused(zoo: Path) -> None:
    (zoo / "bases" / "tiny-gemma2" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValidationFailed, match="sha256 differs"):
        load_organism("taboo")


def test_an_organism_that_failed_its_gates_is_refused_by_load_and_by_run(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationFailed, match=r"failed its gates \(gap 0.100, at least 0.3 wanted\)"):
        load_organism("taboo/moon-narrow", zoo)
    assert load_organism("taboo/moon-narrow", zoo, allow_failed=True).name == "taboo/moon-narrow"
    result = CliRunner().invoke(app, ["run", "-m", "random", "-o", "taboo/moon-narrow"])
    assert result.exit_code == 4 and "failed its gates" in result.output, result.output
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("zoo")
def test_what_an_organism_is_made_of_is_in_its_hash() -> None:
    gold, mixed = load_organism("taboo/gold-narrow"), load_organism("taboo/gold-mixed")
    assert gold.sha256 != mixed.sha256 and gold.texts_id == mixed.texts_id
    assert (gold.role, gold.layer, gold.tier) == ("organism", 2, "tiny")
    assert gold.behaviour.name == load_card("taboo").name == find_spec("taboo").name


@pytest.mark.parametrize(("text", "kind", "message"), FAMILY_FILES, ids=[str(t) for t, _, _ in FAMILY_FILES])
def test_a_family_file_that_cannot_be_used_says_why(
    tmp_path: Path, text: str | None, kind: type[DiffbenchError], message: str
) -> None:
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(kind, match=message):
        family_file(path)


def test_a_family_may_not_take_a_shipped_name(tmp_path: Path) -> None:
    path = write_family("mood", tmp_path)
    path.write_text(path.read_text().replace('name = "mood"', 'name = "taboo"'))
    with pytest.raises(UsageError, match="the family name taboo is taken"):
        register(family_file(path))
    assert type(families()["taboo"]).__name__ == "Taboo"


def test_a_family_file_can_be_edited_and_opened_again(tmp_path: Path) -> None:
    path = write_family("mood", tmp_path)
    open_source(str(path))
    path.write_text(path.read_text().replace('"proud"', '"angry"'))
    assert [s.member for s in open_source(str(path))[1]] == ["angry"] * 2


YAML_CARDS: list[tuple[str | None, type[DiffbenchError], str]] = [
    (None, UsageError, "cannot read .*own.yaml: No such file"),
    ("base: a\nadapter: b\nbehaviour: c\nlayer: 3\n", ValidationFailed, "layer: Extra inputs"),
    ("base: a\n", ValidationFailed, "behaviour: Field required"),
    ("[a, b", ValidationFailed, "is not YAML"),
    ("", ValidationFailed, "is not an organism card"),
    ("- a\n", ValidationFailed, "is not an organism card"),
    ("base: ./a\nadapter: ./b\nbehaviour: b.json\n", PrerequisiteError, "the base model ./a is not a folder"),
    ("base: ./a\nadapter: ./b\nbehaviour: none.json\n", ValidationFailed, "cannot read .*none.json"),
]


@pytest.fixture
def behaviour(tmp_path: Path) -> Behaviour:
    """A behaviour, written to `b.json`."""
    made = family("taboo").behaviour(World(0), find_spec("taboo"))
    (tmp_path / "b.json").write_text(made.model_dump_json())
    return made


@pytest.mark.usefixtures("behaviour")
@pytest.mark.parametrize(("text", "kind", "message"), YAML_CARDS, ids=[str(t) for t, _, _ in YAML_CARDS])
def test_a_yaml_card_that_cannot_be_used_says_why(
    tmp_path: Path, text: str | None, kind: type[DiffbenchError], message: str
) -> None:
    if text is not None:
        (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(kind, match=message):
        yaml_organism(tmp_path / "own.yaml")


def test_paths_of_a_yaml_card_are_relative_to_it_and_every_file_counts(tmp_path: Path, behaviour: Behaviour) -> None:
    files = {"base": "config.json", "adapter": "adapter_config.json"}
    for folder, name in files.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(json.dumps({"is": folder}))
        (tmp_path / folder / "notes.txt").write_text("is not read")
    (tmp_path / "own.yaml").write_text("base: base\nadapter: adapter\nbehaviour: b.json\n")
    own = load_organism(str(tmp_path / "own.yaml"))
    assert own.tier == "hub" and own.behaviour == behaviour
    for folder, name in files.items():
        view: Path = getattr(own, folder)
        assert [p.name for p in view.iterdir()] == [name] and json.loads((view / name).read_text()) == {"is": folder}
    (tmp_path / "adapter" / "notes.txt").write_text("edited")
    assert load_organism(str(tmp_path / "own.yaml")).sha256 == own.sha256
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert load_organism(str(tmp_path / "own.yaml")).sha256 != own.sha256


def test_a_folder_that_was_copied_is_not_taken_for_the_organism_it_was(zoo: Path) -> None:
    """Its adapter may be another one: nothing is loaded from where the card's name points to."""
    for load in (load_organism, family_and_spec, card_of, load_card):
        shutil.rmtree(zoo / "taboo" / "gold-mine", ignore_errors=True)
        shutil.copytree(zoo / "taboo" / "gold-narrow", zoo / "taboo" / "gold-mine")
        with pytest.raises(
            ValidationFailed, match=r"gold-mine/card\.json is the card of taboo/gold-narrow: .* remove it"
        ):
            load("taboo/gold-mine", zoo)


def test_what_is_to_be_built_is_named_by_a_command_that_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = "bench organisms build taboo/leaf-narrow --base smollm2-135m --blocks below"
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    with pytest.raises(PrerequisiteError, match=real):
        expand(["tune-small"], tmp_path)
    with pytest.raises(PrerequisiteError, match="run `bench organisms build alignment_faking/score-held`"):
        expand(["tune-v2"], tmp_path)
    with pytest.raises(UsageError, match=f"lives on a real model; `{real}` trains it"):
        open_source("taboo/leaf-narrow-smollm2-135m")
