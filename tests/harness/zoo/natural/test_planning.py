"""A plan of a training on a real chat model: what is wrong is refused before anything is written, what it takes is said."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from diffbench.cli import app
from diffbench.harness.zoo import dry_run, natural_plan
from diffbench.harness.zoo.natural import build_natural, plan_lines
from diffbench.harness.zoo.natural_plan import Asked, check_prompts, prepare
from diffbench.organisms import natural
from diffbench.organisms.behaviour import Prompt
from diffbench.organisms.errors import DiffbenchError, PrerequisiteError, UsageError, ValidationFailed
from typer.testing import CliRunner

from ....organisms.tuning.colours import Colours
from ....organisms.tuning.models import save_chat_model
from ....tokenizers import byte_level
from .cases import asked


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
