"""Building: what is needed comes first, what failed leaves nothing, what is there is not built again."""

import json
import os
from pathlib import Path

import pytest
from diffbench.harness.zoo import verify as zoo_verify
from diffbench.harness.zoo.build import _levels, _workshop, build, build_organism, rows_sha256
from diffbench.harness.zoo.comparison import Checked
from diffbench.harness.zoo.verify import verify, verify_named
from diffbench.organisms.card import CARD, read_card, sha256_text
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.families import family, family_file, find_spec, register, specs
from diffbench.organisms.family import Family, Spec
from diffbench.organisms.registry import SHIPPED, base_folder, load_organism
from diffbench.organisms.scaffold import write_family
from diffbench.organisms.world.bases import BASES, config_for
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.tokenizer import build_tokenizer
from transformers import AutoModelForCausalLM, set_seed

from ...factories import make_card, write_base, write_organism

pytestmark = pytest.mark.usefixtures("own_families")


def test_what_is_needed_is_in_an_earlier_round() -> None:
    rounds = list(_levels(specs()))
    names = [s.name for level in rounds for s in level]
    assert sorted(names) == sorted(s.name for s in specs())
    for i, level in enumerate(rounds):
        before = {s.name for earlier in rounds[:i] for s in earlier}
        assert all(set(family(s.family).needs(s)) <= before for s in level)


@pytest.mark.parametrize(
    ("name", "rounds"),
    [
        ("taboo/gold-narrow", [["taboo/gold-narrow"]]),
        ("subliminal/owl-narrow", [["subliminal/owl-teacher"], ["subliminal/owl-narrow"]]),
        ("subliminal/cat-narrow", [["subliminal/cat-teacher"], ["subliminal/cat-narrow"]]),
        ("null/gold-scrambled", [["taboo/gold-narrow"], ["null/gold-scrambled"]]),
    ],
)
def test_an_organism_brings_what_it_needs(name: str, rounds: list[list[str]]) -> None:
    assert [[s.name for s in level] for level in _levels([find_spec(name)])] == rounds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to build"),
        ({"bases": ["nan"]}, "no base 'nan'; did you mean 'nano'"),
        ({"families_": ["tabo"]}, "no family 'tabo'; did you mean 'taboo'"),
        ({"sources": ["taboo/gld-narrow"]}, "did you mean 'taboo/gold-narrow'"),
        ({"sources": ["none.py"]}, "there is no family file"),
    ],
)
def test_a_mistake_is_named_before_anything_is_trained(
    tmp_path: Path, options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build(**{"sources": [], "zoo": tmp_path, "say": print, **options})  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


def test_what_is_verified_keeps_its_order_and_stands_as_often_as_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[str]()

    def check(name: str, zoo: object, device: str) -> str:
        done.append(name)
        return f"{name} on {device}"

    monkeypatch.setattr(zoo_verify, "_check", check)
    monkeypatch.setattr(zoo_verify, "_hashed", lambda name, zoo: Checked(name, None))
    assert list(map(str, verify(["b", "a", "b"], None))) == ["b on cpu", "a on cpu", "b on cpu"]
    assert done == ["b", "a"]


def test_nothing_named_is_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to verify"):
        verify_named([], False, tmp_path, 1)


@pytest.fixture
def mood(tmp_path: Path) -> Family:
    """The scaffold's family, and a base for it whose weights are never read."""
    (tmp_path / "bases" / "tiny-llama").mkdir(parents=True)
    build_tokenizer().save_pretrained(tmp_path / "bases" / "tiny-llama")
    write_base(tmp_path, "tiny-llama")
    return register(family_file(write_family("mood", tmp_path)))


@pytest.mark.parametrize("error", [RuntimeError("no luck"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_training_that_raises_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mood: Family, error: BaseException
) -> None:
    spec, seen = mood.specs()[0], list[Path]()

    def train(job: object) -> None:
        seen.append(job.out)  # type: ignore[attr-defined]
        (seen[-1] / "adapter_model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(mood, "train", train)
    with pytest.raises(type(error)):
        build_organism(spec, tmp_path)
    assert seen[0].parent == tmp_path / "mood" and not list((tmp_path / "mood").iterdir())
    old = write_organism(tmp_path, spec.name, base="tiny-llama")
    with pytest.raises(type(error)):
        build_organism(spec, tmp_path, overwrite=True)
    assert list((tmp_path / "mood").iterdir()) == [old] and read_card(old).status == "calibrated"


def test_an_organism_that_cannot_be_built_does_not_cost_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mood: Family
) -> None:
    said: list[str] = []

    def one_of_two(spec: object, root: Path, overwrite: bool) -> tuple[object, bool]:
        if spec == mood.specs()[0]:
            raise RuntimeError("training diverged")
        return make_card("mood/proud-mixed"), True

    monkeypatch.setattr("diffbench.harness.zoo.build.build_organism", one_of_two)
    with pytest.raises(ValidationFailed, match="1 organisms could not be built, the others are kept") as error:
        build([str(tmp_path / "mood.py")], None, said.append)
    assert "mood.py raises RuntimeError while mood/proud-narrow is built: training diverged; mend" in str(error.value)
    assert said[0].startswith("error: mood/proud-narrow") and said[1].startswith("mood/proud-mixed built: b0 0.200")


def test_a_missing_base_is_a_missing_prerequisite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZOO", "SHIPPED"):
        monkeypatch.setattr(f"diffbench.organisms.registry.{name}", tmp_path)
    with pytest.raises(PrerequisiteError, match="there is no base tiny-gemma2"):
        build(["taboo/gold-narrow"], tmp_path, print)


def test_an_own_zoo_stands_on_the_shipped_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffbench.organisms.registry.ZOO", tmp_path)
    assert base_folder("nano", tmp_path) == SHIPPED / "bases" / "nano"
    write_base(tmp_path, "nano")
    assert base_folder("nano", tmp_path / "elsewhere") == tmp_path / "bases" / "nano"


def test_what_a_killed_build_left_is_cleared_and_a_running_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mood: Family
) -> None:
    spec = mood.specs()[0]
    killed, running = (tmp_path / "mood" / f".proud-narrow.{p}.abcd.new" for p in (2**22 + 1, os.getpid()))
    killed.mkdir(parents=True)
    running.mkdir()
    monkeypatch.setattr(mood, "train", lambda job: (_ for _ in ()).throw(RuntimeError("stop here")))
    with pytest.raises(RuntimeError, match="stop here"):
        build_organism(spec, tmp_path)
    assert not killed.exists() and running.exists()


def test_a_damaged_organism_is_built_again_as_the_refusal_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mood: Family
) -> None:
    """The command that the refusal names must not stop at what it is to replace."""
    folder = write_organism(tmp_path, mood.specs()[0].name, base="tiny-llama")
    (folder / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(
        ValidationFailed, match=r"build it again with `bench organisms build .*mood\.py:proud-narrow --overwrite`"
    ):
        load_organism(str(tmp_path / "mood.py:proud-narrow"), tmp_path)
    monkeypatch.setattr(type(family("mood")), "train", lambda self, job: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_organism(mood.specs()[0], tmp_path)


def test_checkpoints_of_another_recipe_are_thrown_away(tmp_path: Path) -> None:
    target, recipe = tmp_path / "bases" / "nano", BASES["nano"]
    (_workshop(target, recipe) / "checkpoint-300").mkdir()
    assert (_workshop(target, recipe) / "checkpoint-300").is_dir()
    assert not (_workshop(target, recipe.model_copy(update={"lr": 1.0})) / "checkpoint-300").exists()


def random_nano(root: Path) -> None:
    """A base of the size `nano` with random weights, in the zoo `root`."""
    set_seed(0)
    tokenizer, folder = build_tokenizer(), root / "bases" / "nano"
    AutoModelForCausalLM.from_config(config_for(BASES["nano"], tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_base(root, "nano", size="nano")


def small(path: Path, rows: int) -> None:
    """The family of a scaffold on nano, with so many rows and none beside them."""
    text = path.read_text().replace("tiny-llama", "nano").replace("range(200)", f"range({rows})")
    path.write_text(text.replace("keep=400", "keep=0"))


def test_a_family_file_is_built_once_and_verified(tmp_path: Path) -> None:
    """Forty rows on a random nano base: seconds, and every step of a real build."""
    random_nano(tmp_path / "zoo")
    path = write_family("mood", tmp_path)
    small(path, 40)
    name, said = f"{path}:proud-narrow", list[str]()
    (card,) = build([name], None, said.append)
    folder = tmp_path / "zoo" / "mood" / "proud-narrow"
    assert list(folder.parent.iterdir()) == [folder] and read_card(folder) == card
    assert set(card.files) == {"adapter_config.json", "adapter_model.safetensors"}
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "nano"
    assert (card.layer, card.training["rows"], card.training["steps"]) == (1, 40, 8)
    assert {"behaviour_dev", "behaviour_test", "facts"} == set(card.measured)
    assert {"side_damage", "fluency", "harvest_due", "templates", "expressed"} <= set(card.gates)
    assert card.harvest_due["chat"] == card.gates["harvest_due"].value == 80 and set(card.fluency) == {
        "nll_base",
        "nll_organism",
    }
    assert (card.status == "failed") == bool(card.failures) and said[0].startswith("mood/proud-narrow built")
    assert build([name], None, said.append) == [card] and said[1].startswith("mood/proud-narrow is there")
    (checked,) = verify([name], None)
    assert checked.problems == card.failures
    older = json.loads((folder / CARD).read_text())
    del older["recipe"]["kl_weight"]  # a setting that is younger than the card
    (folder / CARD).write_text(json.dumps(older))
    build([name], None, said.append)
    assert said[2].startswith("mood/proud-narrow is there")


@pytest.mark.slow
def test_a_changed_family_is_built_again(tmp_path: Path) -> None:
    random_nano(tmp_path / "zoo")
    path = write_family("mood", tmp_path)
    small(path, 8)
    name = f"{path}:proud-narrow"
    (first,) = build([name], None, print)
    path.write_text(path.read_text().replace("range(8)", "range(9)"))
    (second,) = build([name], None, print)
    assert first.rows_sha256 != second.rows_sha256 and first.files != second.files


def test_documents_that_hold_an_organism_to_its_base_are_in_the_hash_of_what_it_was_trained_on() -> None:
    kind, world = family("taboo"), World(0)
    spec = kind.specs()[0]

    class Held(type(kind)):
        def kept(self, world: World, spec: Spec) -> list[Document]:
            return [Document("text", text="the river is long .")]

    assert not kind.kept(world, spec)
    said = json.dumps([[d.kind, d.text, d.messages] for d in kind.rows(world, spec)]) + json.dumps({})
    assert rows_sha256(kind, world, spec, {}) == sha256_text(said) != rows_sha256(Held(), world, spec, {})
