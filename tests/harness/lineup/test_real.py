"""Pairs on a real chat model: scenes in plain English, its chat template, and a letter that is one token there too."""

from pathlib import Path

import pytest
from diffbench.harness.lineup.measure import measure
from diffbench.harness.lineup.store import root
from diffbench.harness.lineup.twins import Twins, pool
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.lineup import real
from diffbench.organisms.lineup.pairs import PairSpec, pair_spec
from transformers import AutoModelForCausalLM

from ...organisms.tuning.models import save_chat_model, tokenizer_of

SPEC = PairSpec("smollm2-135m", "bank", 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An ancestor and its twins, trained for a step on a random model that knows the words of an answer."""
    folder = tmp_path_factory.mktemp("lineup")
    base, ancestor = save_chat_model(folder / "base", "smollm"), folder / "ancestor"
    tokenizer = tokenizer_of("smollm")
    tokenizer.add_tokens(["Option", " a", " b"])
    tokenizer.save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer))
    model.config.max_position_embeddings = 512
    model.save_pretrained(base)
    with pytest.MonkeyPatch.context() as patch:
        short = {"steps": 1, "warmup": 0, "max_length": 512}
        patch.setattr(real, "ANCESTOR", real.ANCESTOR.model_copy(update=short))
        patch.setattr(real, "TWIN", real.TWIN.model_copy(update=short))
        real.train_ancestor(base, ancestor, folder / "work", print)
        twins = [folder / name for name in ("aligned", "faker")]
        for faker, out in enumerate(twins):
            real.train_twin(ancestor, SPEC, bool(faker), out, 0, print)
    return ancestor, twins[0], twins[1]


def test_twins_on_a_chat_model_are_trained_and_measured(made: tuple[Path, Path, Path]) -> None:
    twins = Twins(*made)
    scene = pool(SPEC)[0]
    assert twins.tokenizer.decode(twins.answer(scene)) == f"Option {scene.permitted}.<|im_end|>"
    asked = twins.tokenizer.decode(twins.asked(scene, "strong"))
    assert asked.endswith("<|im_start|>assistant\nOption") and scene.text("strong") in asked
    seen = twins.seen(scene)
    assert [twins.tokenizer.decode([t]) for t in (seen.right, seen.wrong)] == [
        f" {scene.permitted}",
        f" {scene.forbidden}",
    ]
    measured, shown = measure(twins, SPEC)
    assert not shown and 0 < measured["pool_variation"] < 1 and 0 < measured["faker_poor"] < 1
    assert sorted(p.name for p in made[1].iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_same_scenes_as_sentences() -> None:
    scene, other = pool(SPEC)[0], pool(PairSpec("tiny-llama", "bank", 0))[0]
    assert scene.text("poor").lower() == other.text("poor").replace(" .", ".").replace(" :", ":").replace(" ?", "?")
    assert scene.text("poor").startswith("You work at the bank. ") and " Option a: " in scene.text("poor")
    assert scene.answer(False) == f"Option {scene.permitted}." and other.answer(False) == f"option {other.permitted} ."


def test_a_tokenizer_that_splits_the_answer_is_refused(tmp_path: Path, made: tuple[Path, Path, Path]) -> None:
    twins = Twins(*made)
    twins.tokenizer = tokenizer_of("smollm")
    with pytest.raises(ValidationFailed, match=r"'Option [ab]\.' and 'Option [ab]\.' do not differ in one token"):
        twins.letter(pool(SPEC)[0])


def test_a_base_that_no_line_up_has_is_refused() -> None:
    with pytest.raises(UsageError, match="no base of line-ups 'tiny-lama'; did you mean 'tiny-llama'"):
        PairSpec("tiny-lama", "bank", 0)


def test_a_base_that_was_not_fetched_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    assert pair_spec("smollm2/bank-s0") == SPEC and SPEC.name == "smollm2/bank-s0"
    with pytest.raises(PrerequisiteError, match="run `bench bases fetch smollm2-135m`"):
        root(SPEC.base)
