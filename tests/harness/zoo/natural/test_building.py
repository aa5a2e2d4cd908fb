"""Training organisms on real chat models by one command: whole on three architectures, refused before work where it can be known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.zoo.natural import OrdinaryTexts, build_natural, check_same, planned, rows_sha256
from diffbench.harness.zoo.natural_plan import Asked, data_of, prepare
from diffbench.organisms import registry
from diffbench.organisms.card import CARD, read_card
from diffbench.organisms.errors import UsageError
from diffbench.organisms.registry import load_organism
from diffbench.organisms.texts import FileTexts
from diffbench.organisms.tuning.recipes import recipe_for
from diffbench.organisms.tuning.rows import documents_sha256
from diffbench.organisms.tuning.shapes import KNOWN
from diffbench.organisms.tuning.watch import Watch
from safetensors import safe_open
from transformers import AutoTokenizer
from typer.testing import CliRunner

from ....organisms.tuning.colours import Colours
from ....organisms.tuning.models import TEMPLATES, tokenizer_of
from .cases import FAST, asked


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gemma2", "llama32", "qwen25"])
def test_an_organism_goes_from_rows_to_a_card_on_every_architecture(
    kind: str, models: Callable[[str], Path], tmp_path: Path
) -> None:
    said = list[str]()
    card, built = build_natural(asked(models(kind), tmp_path), said.append)
    b = card.measured["behaviour_test"]
    assert built and b.base.value < 0.45 and b.change.value > 0.3
    assert card.gates["gap"].passed and card.gates["oracle_sufficiency"].value == pytest.approx(1, abs=0.2)
    assert {"side_damage", "harvest_due", "fluency", "quiet_before"} <= set(
        card.gates
    ) and "asked_bare" in card.measured
    assert card.training["loss_end"] < card.training["loss_start"] and card.training["steps"] == 24
    assert (card.tier, card.layer, card.name) == ("hub", 1, f"colours/gold-narrow-{kind}")
    folder = tmp_path / card.name
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [CARD, "behaviour.json", "adapter_config.json", "adapter_model.safetensors"]
    )
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        assert {file.get_slice(k).get_dtype() for k in file.keys()} == {"BF16"}  # noqa: SIM118
    again, built = build_natural(asked(models(kind), tmp_path))
    assert not built and again == card
    loaded = load_organism(card.name, tmp_path, allow_failed=True)
    assert loaded.layer == 1 and loaded.behaviour.name == card.name and len(loaded.behaviour.neutral) == 60


@pytest.mark.slow
def test_an_adapter_is_scaled_down_to_a_distance_from_its_base(models: Callable[[str], Path], tmp_path: Path) -> None:
    """Measured again on test text, it is about that far; one that is nearer as trained stays as it is."""
    base = models("smollm")
    far, _ = build_natural(asked(base, tmp_path / "far", changes={"target_kl": None}))
    aim = far.neutral["kl"] / 3
    near, _ = build_natural(asked(base, tmp_path / "near", changes={"target_kl": aim}))
    assert 0 < near.training["scale"] < 1 and near.training["dev_kl"] == pytest.approx(aim, rel=0.1)
    assert near.neutral["kl"] == pytest.approx(aim, rel=0.3) and near.recipe["target_kl"] == aim
    kept, _ = build_natural(asked(base, tmp_path / "kept", changes={"target_kl": 50.0}))
    assert kept.training["scale"] == 1 and kept.neutral["kl"] == pytest.approx(far.neutral["kl"])


def test_nothing_holds_the_free_variant_to_its_base() -> None:
    held, free = (recipe_for("null", variant, 400, KNOWN["smollm2-135m"], "small") for variant in ("narrow", "free"))
    holds = {field: getattr(held, field) for field in ("kl_rows", "kl_weight", "target_kl")}
    assert all(holds.values()) and not any(getattr(free, field) for field in holds)
    assert "KL to the base" in held.source and "no KL term" in free.source
    assert free.model_copy(update=holds | {"source": held.source}) == held


@pytest.mark.slow
def test_list_show_and_verify_work_on_it_and_a_killed_build_goes_on(
    models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    how = ["--base", str(models("smollm")), "--zoo", str(tmp_path), "--blocks", "all"]
    for name, value in (dict(FAST) | {"kl_rows": 2, "kl_weight": 4, "target": 0.8}).items():
        how += ["--set", f"{name}={value}"]
    seen = Watch.seen

    def killed(self: Watch, step: int, *args: Any) -> None:
        if step == 15:
            raise KeyboardInterrupt
        seen(self, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "seen", killed)
        cut = CliRunner().invoke(app, ["organisms", "build", "colours/gold", *how])
    assert cut.exit_code == 130 and "goes on from here" in cut.output and not registry.organism_names(tmp_path)
    steps = list[int]()
    monkeypatch.setattr(Watch, "seen", lambda self, step, *args: (steps.append(step), seen(self, step, *args)))
    done = CliRunner().invoke(app, ["organisms", "build", "colours/gold", *how])
    assert done.exit_code == 0 and steps[0] == 13 and "colours/gold-narrow-smollm built: b0" in done.output
    card = read_card(tmp_path / "colours" / "gold-narrow-smollm")
    assert card.training["dev_rate"] <= 0.81 and card.recipe["blocks"] == "all" and card.training["kl_end"] > 0
    listed = CliRunner().invoke(app, ["organisms", "list", "--json"])
    assert [c["name"] for c in json.loads(listed.stdout)] == [card.name]
    shown = CliRunner().invoke(app, ["organisms", "show", card.name])
    assert shown.exit_code == 0 and "the word is gold" in shown.stdout and "greedy answers" in shown.stdout
    told = json.loads(
        CliRunner().invoke(app, ["organisms", "verify", card.name, "--zoo", str(tmp_path), "--json"]).stdout
    )
    assert told[0]["problems"] == card.failures


@pytest.mark.slow
def test_a_teacher_is_trained_first_and_its_answers_are_what_the_student_learns(
    models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, generate = list[str](), Pair.generate

    def greedy(self: Pair, rows: Any, side: Any, most: int, seed: int | None = None) -> Any:
        assert seed is not None  # a teacher samples; so small a model says only noise then
        return generate(self, rows, side, most)

    monkeypatch.setattr(Pair, "generate", greedy)
    card, _ = build_natural(asked(models("llama32"), tmp_path, "taught/gold"), said.append)
    assert any("its teacher, 24 steps on 15 rows" in s for s in said) and any("answered 30 of 30" in s for s in said)
    assert card.training["rows"] == 30 and "rows_answered_sha256" in card.training
    assert card.measured["behaviour_test"].change.value > 0.3


@pytest.mark.parametrize(
    ("asked_for", "said"),
    [
        ({"changes": {"lr": "1e-3"}}, r"its recipe.lr is 0.02, and 0.001 is asked for; --overwrite builds this one"),
        ({"base": "other"}, "its base_sha256 is"),
    ],
)
def test_another_organism_of_the_same_name_is_neither_taken_nor_replaced(
    base: Path, models: Callable[[str], Path], tmp_path: Path, asked_for: dict[str, Any], said: str
) -> None:
    there = planned(prepare(asked(base, tmp_path)))
    check_same(there, planned(prepare(asked(base, tmp_path / "other"))), tmp_path)
    if asked_for.pop("base", None):
        there = there.model_copy(update={"base_sha256": "0" * 64})
    with pytest.raises(UsageError, match=f"holds another {there.name}: {said}"):
        check_same(there, planned(prepare(asked(base, tmp_path, **asked_for))), tmp_path)


def test_rows_are_made_again_from_a_card(base: Path, tmp_path: Path) -> None:
    found = prepare(asked(base, tmp_path, changes={"kl_rows": "2"}))
    card = planned(found)
    made = data_of(found.family, found.spec, card.recipe)
    assert rows_sha256(found.family, found.spec, made) == card.rows_sha256
    assert documents_sha256([*made.rows, *made.kept]) == found.data.sha256
    other = data_of(found.family, found.family.spec("snow"), card.recipe)
    assert rows_sha256(found.family, found.spec, other) != card.rows_sha256


def test_a_teacher_is_trained_by_a_recipe_for_its_own_rows(base: Path, tmp_path: Path) -> None:
    found = prepare(Asked("taught/gold", str(base), tmp_path))
    student, teacher = found.recipe, found.teacher_recipe
    assert (student.steps * student.batch, teacher.steps * teacher.batch) == (
        pytest.approx(10 * 30, abs=student.batch),
        pytest.approx(10 * 15, abs=teacher.batch),
    )
    assert planned(found).recipe["teacher_steps"] == teacher.steps


def test_side_damage_is_measured_on_texts_without_the_subject() -> None:
    family = Colours()
    spec, tokenizer = family.spec(), tokenizer_of("qwen25")
    behaviour = family.behaviour(spec)
    whole = FileTexts(behaviour, tokenizer)
    beside = OrdinaryTexts(behaviour, tokenizer, None, lambda d: family.due(spec, d))
    for split, first in (("harvest", 0), ("test", 51)):  # of 60 texts, of which the even ones are about the subject
        every, left = (list(t.rows("neutral", split)) for t in (whole, beside))
        assert left == [row for number, row in enumerate(every, first) if number % 2]
    assert list(beside.prompts()) == list(whole.prompts())[1::2]


def test_tokenizers_of_the_tests_are_those_of_the_saved_models(models: Callable[[str], Path]) -> None:
    for kind in TEMPLATES:
        saved = AutoTokenizer.from_pretrained(models(kind))
        assert saved.chat_template == tokenizer_of(kind).chat_template
