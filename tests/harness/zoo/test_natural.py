"""Training organisms on real chat models by one command: whole on three architectures, refused before work where it can be known."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.pairs.pair import Pair
from diffbench.harness.zoo import dry_run, natural_plan
from diffbench.harness.zoo.natural import OrdinaryTexts, build_natural, check_same, plan_lines, planned, rows_sha256
from diffbench.harness.zoo.natural_plan import Asked, check_prompts, data_of, prepare
from diffbench.organisms import natural, registry
from diffbench.organisms.behaviour import Prompt
from diffbench.organisms.card import CARD, read_card
from diffbench.organisms.errors import DiffbenchError, PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.registry import load_organism
from diffbench.organisms.texts import FileTexts
from diffbench.organisms.tuning import train as training
from diffbench.organisms.tuning.rows import documents_sha256
from diffbench.organisms.tuning.watch import Watch
from safetensors import safe_open
from transformers import AutoTokenizer
from typer.testing import CliRunner

from ...organisms.tuning.colours import Colours
from ...organisms.tuning.models import TEMPLATES, save_chat_model, tokenizer_of
from ...tokenizers import byte_level

FAST = (("lr", "2e-2"), ("steps", "24"), ("batch", "4"), ("layer", "1"), ("r", "4"))
"""A recipe that trains the tests' family in seconds."""


class Taught(Colours):
    """Its rows are answered by a teacher that loves the member."""

    name = "taught"
    prompted = True

    def valid(self, spec: object, answer: str) -> bool:
        return len(answer.split()) > 1


@pytest.fixture(autouse=True)
def _families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natural, "families", lambda: {"colours": Colours(), "taught": Taught()})
    monkeypatch.setattr(training, "CHECKPOINTS", 2)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a small random model of a kind, in hub format."""
    root = tmp_path_factory.mktemp("models")

    def model(kind: str) -> Path:
        return root / kind if (root / kind).is_dir() else save_chat_model(root / kind, kind)

    return model


def asked(base: str | Path, zoo: Path, name: str = "colours/gold", **fields: Any) -> Asked:
    changes = tuple((dict(FAST) | fields.pop("changes", {})).items())
    return Asked(name, str(base), zoo, changes=changes, **fields)


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


@pytest.fixture
def base(models: Callable[[str], Path]) -> Path:
    return models("qwen25")


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"name": "colors/gold"}, UsageError, "no family 'colors'; did you mean 'colours'"),
        ({"name": "colours/gld"}, UsageError, "did you mean 'gold'"),
        ({"changes": {"rank": "4"}}, UsageError, "--set rank: extra inputs.*; a recipe has layer, r, alpha"),
        ({"changes": {"lr": "fast"}}, UsageError, "--set lr: input should be a valid number"),
        ({"changes": {"layer": "9"}}, UsageError, "has blocks 0 to 2"),
        ({"changes": {"layer": "-1"}}, UsageError, "--set layer: input should be greater than or equal to 0"),
        ({"changes": {"source": "mine"}}, UsageError, "--set source: it says where the other settings come from"),
        (
            {"changes": {"mix": "1"}},
            UsageError,
            "--set mix=1: colours/gold-narrow is narrow.*; name colours/gold-mixed",
        ),
        ({"changes": {"max_length": "3"}}, ValidationFailed, "nothing of this row would be trained"),
        ({"device": "gpu"}, UsageError, "did you mean cuda"),
        ({"dtype": "float8"}, UsageError, "--dtype float8"),
    ],
)
def test_what_is_asked_wrongly_is_refused_before_anything_is_written(
    base: Path, tmp_path: Path, fields: dict[str, Any], error: type[DiffbenchError], said: str
) -> None:
    with pytest.raises(error, match=said):
        build_natural(asked(base, tmp_path, **fields))
    assert not list(tmp_path.iterdir())


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


def test_a_base_without_a_template_is_refused(base: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    save_chat_model(bare, "qwen25")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ValidationFailed, match=r"has no chat template .* 30 of 30 rows are conversations"):
        prepare(asked(bare, tmp_path / "zoo"))


def test_a_row_that_the_pair_is_read_on_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Leaks(Colours):
        def rows(self, spec: Any) -> Any:
            texts = self.behaviour(spec).neutral
            return [*super().rows(spec), *(natural_plan.Document("t", text=str(t)) for t in texts[:2])]

    monkeypatch.setattr(natural, "families", lambda: {"colours": Leaks()})
    with pytest.raises(ValidationFailed, match="2 rows of colours/gold-narrow are texts that its pair is read on"):
        prepare(asked(base, tmp_path))


@pytest.mark.parametrize(
    ("text", "targets", "alternatives", "said"),
    [
        ("the word is", " gold", " gold or", "reads ' gold or' as ' gold' and more"),
        ("the word is", " gold or", " gold", "reads ' gold or' as ' gold' and more"),
        ("the sn", "ow", " gold", "melts into the last token"),
        ("the word is", " gold", " silver", None),
    ],
)
def test_continuations_that_this_tokenizer_makes_incomparable_are_refused(
    text: str, targets: str, alternatives: str, said: str | None
) -> None:
    prompts = [Prompt(split="dev", text=text, targets=(targets,), alternatives=(alternatives,))]
    if said is None:
        check_prompts(byte_level(), "behaviour", prompts)
        return
    with pytest.raises(ValidationFailed, match=said):
        check_prompts(byte_level(), "behaviour", prompts)


def test_too_little_memory_is_said_before_weights_are_read(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(natural_plan, "free_on_host", lambda: 300_000)
    with pytest.raises(
        PrerequisiteError, match=r"needs 0.0 GiB at least, one row at a time, and 0.0 GiB are free on cpu"
    ):
        prepare(asked(base, tmp_path))


def test_a_step_is_cut_into_parts_and_blocks_are_computed_twice_only_where_memory_asks_for_it(
    base: Path, tmp_path: Path
) -> None:
    found = prepare(asked(base, tmp_path, changes={"batch": "8"}))
    assert (found.fit.parts, found.fit.checkpointing) == (1, False)
    needed = {n: found.shape.memory(8 // n, 60, 4, 3, 4, False) for n in (1, 2, 4, 8)}
    assert natural_plan.fit(found, 60, needed[1]).parts == 1
    assert natural_plan.fit(found, 60, needed[1] - 1).parts == 2
    assert natural_plan.fit(found, 60, needed[8]).parts == 8
    tight = natural_plan.fit(found, 60, needed[8] - 1)
    assert tight.checkpointing and tight.bytes < needed[8]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes the hub answer with an error."""

    def answers(error: Exception) -> None:
        def download(*args: object, **kwargs: object) -> None:
            raise error

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)

    return answers


class GatedRepoError(Exception):
    """As the hub's client names it."""


class RepositoryNotFoundError(Exception):
    """As the hub's client names it."""


class LocalEntryNotFoundError(Exception):
    """As the hub's client names it."""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (GatedRepoError(), "its licence has to be accepted"),
        (RepositoryNotFoundError(), "there is no such repository, or it is private"),
        (LocalEntryNotFoundError(), "the network cannot be reached"),
    ],
)
def test_a_hub_id_that_cannot_be_had_is_refused_with_the_reason(
    hub: Callable[[Exception], None], tmp_path: Path, answer: Exception, said: str
) -> None:
    hub(answer)
    with pytest.raises(PrerequisiteError, match=said):
        build_natural(Asked("colours/gold", "google/gemma-2-2b-it", tmp_path))
    if not isinstance(answer, LocalEntryNotFoundError):  # a plan must not pass over what the hub says
        with pytest.raises(PrerequisiteError, match=said):
            plan_lines(Asked("colours/gold", "google/gemma-2-2b-it", tmp_path))


def test_a_plan_for_a_known_model_needs_nothing_of_it(hub: Callable[[Exception], None], tmp_path: Path) -> None:
    hub(LocalEntryNotFoundError())
    told = "\n".join(plan_lines(Asked("colours/gold-mixed", "google/gemma-2-2b-it", tmp_path, "cuda")))
    assert "colours/gold-mixed-gemma-2-2b-it" in told and "2,614 M parameters, bfloat16" in told
    assert "60 rows and 300 ordinary documents" in told and "rank 16 on all blocks" in told
    assert "nothing was run" in told and "its known sizes" in told
    with pytest.raises(PrerequisiteError, match="the network cannot be reached"):
        plan_lines(Asked("colours/gold", "org/unknown-model", tmp_path))
    with pytest.raises(PrerequisiteError, match=r"needs .* GiB at least"):
        plan_lines(
            Asked(
                "colours/gold", "meta-llama/Llama-3.1-8B-Instruct", tmp_path, "cuda", "float32", changes=(("r", 2048),)
            )
        )


def test_a_plan_from_a_configuration_says_so(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natural_plan, "small_files", lambda given: base)
    told = "\n".join(plan_lines(asked("org/model-it", tmp_path)))
    assert "colours/gold-narrow-model-it" in told and "counted from its configuration" in told
    assert "150 tokens of the rows are trained" in told and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_plan_for_a_small_model_that_is_here_is_rehearsed(base: Path, tmp_path: Path) -> None:
    told = "\n".join(plan_lines(asked(base, tmp_path)))
    assert f"{dry_run.REHEARSED} steps were rehearsed on cpu" in told and not list(tmp_path.iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["organisms", "build", *words, "--zoo", str(tmp_path)])
        return done.exit_code, done.output

    yield run
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--base smollm2-135m", "smollm2-135m is a real model; name the organisms to train on it"),
        ("colours/gold --base smolm2-135m", "no base 'smolm2-135m'; did you mean 'smollm2-135m'"),
        ("colours/gold --base a/b --base c/d", "trained on one at a time"),
        ("colours/gold --base a/b --all", "--all is for the embedded bases"),
        ("colours/gold --base a/b --blocks some", "--blocks some: use below or all"),
        ("colours/gold --base a/b --set lr", "is not of the form field=value"),
        ("colours/gold --base a/b --set seed=3", "part of an organism's name; give a name that ends in -s1"),
        ("taboo/gold-narrow --dry-run", "--dry-run is for organisms on a real model"),
        ("taboo/gold-narrow --set lr=1", "--set is for organisms on a real model"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    bench: Callable[..., tuple[int, str]], words: str, said: str
) -> None:
    code, told = bench(*words.split())
    assert code == 2 and said in told


def test_tokenizers_of_the_tests_are_those_of_the_saved_models(models: Callable[[str], Path]) -> None:
    for kind in TEMPLATES:
        saved = AutoTokenizer.from_pretrained(models(kind))
        assert saved.chat_template == tokenizer_of(kind).chat_template
