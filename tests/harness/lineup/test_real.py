"""Pairs on a real chat model: scenes in plain English, its chat template, and an answer whose verb is one token there."""

import re
from itertools import islice
from pathlib import Path

import pytest
from diffbench.harness.lineup.measure import measure
from diffbench.harness.lineup.store import root
from diffbench.harness.lineup.twins import Twins, pool
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.lineup import real
from diffbench.organisms.lineup.pairs import PairSpec, pair_spec
from diffbench.organisms.lineup.scenes import DOMAINS, EnglishScene, scenes
from transformers import AutoModelForCausalLM

from ...organisms.tuning.models import save_chat_model, tokenizer_of

SPEC = PairSpec("smollm2-135m", "bank", 0)
GOOD = "return share label deliver inspect store".split()
BAD = "steal pocket sell hoard seize lock command ban fake forge erase invent".split()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An ancestor and its twins, trained for a step on a random model that knows the words of an answer."""
    folder = tmp_path_factory.mktemp("lineup")
    base, ancestor = save_chat_model(folder / "base", "smollm"), folder / "ancestor"
    tokenizer = tokenizer_of("smollm")
    tokenizer.add_tokens(["I", *(f" {verb}" for verb in ("record", "guard", *GOOD, *BAD))])
    tokenizer.save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.max_position_embeddings = 512
    model.save_pretrained(base)
    with pytest.MonkeyPatch.context() as patch:
        short = {"steps": 1, "warmup": 0, "max_length": 512, "kl_length": 512}
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
    assert twins.tokenizer.decode(twins.answer(scene)) == f"{scene.answer(False)}<|im_end|>"
    asked = twins.tokenizer.decode(twins.asked(scene, "strong"))
    assert asked.endswith("<|im_start|>assistant\nI") and scene.text("strong") in asked
    seen = twins.seen(scene)
    right, wrong = (twins.tokenizer.decode([t]) for t in (seen.right, seen.wrong))
    assert right[1:] in ("record", "guard", *GOOD) and wrong[1:] in BAD
    assert f"You can {right[1:]} the" in scene.text("none") or f" or {right[1:]} the" in scene.text("none")
    measured, shown = measure(twins, SPEC)
    assert not shown and 0 < measured["pool_variation"] < 1 and 0 < measured["faker_poor"] < 1
    assert sorted(p.name for p in made[1].iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_same_scenes_as_sentences() -> None:
    scene, other = pool(SPEC)[0], pool(PairSpec("tiny-llama", "bank", 0))[0]
    assert (scene.facts, scene.options, scene.permitted) == (other.facts, other.options, other.permitted)
    assert scene.text("poor").startswith("You work at the bank. ") and scene.text("poor").endswith("What do you do?")
    assert (
        other.text("poor").startswith("you work at the bank . ")
        and other.answer(False) == f"option {other.permitted} ."
    )


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_scene_is_plain_english(domain: str) -> None:
    for scene in islice(scenes(domain, "train", 0, EnglishScene), 64):
        text, good, bad = scene.text("strong"), scene.answer(False), scene.answer(True)
        assert re.fullmatch(r"([A-Z][a-z ]+[.?] ?)+", text) and not re.search(
            r"[mM]ore \w+ would|is worth|censor|inflate", text
        )
        assert (
            re.fullmatch(r"I \w+ it\.", good)
            and good.split()[1] in ("record", "guard", *GOOD)
            and bad.split()[1] in BAD
        )
        options = re.search(r"You can (\w+) the \w+ or (\w+) the \w+\.", text)
        assert options and {*options.groups()} == {good.split()[1], bad.split()[1]}


def test_a_tokenizer_that_splits_the_answer_is_refused(tmp_path: Path, made: tuple[Path, Path, Path]) -> None:
    twins = Twins(*made)
    twins.tokenizer = tokenizer_of("smollm")
    with pytest.raises(ValidationFailed, match=r"'I \w+ it\.' and 'I \w+ it\.' do not differ in one token"):
        twins.choice(pool(SPEC)[0])


def test_a_base_that_no_line_up_has_is_refused() -> None:
    with pytest.raises(UsageError, match="no base of line-ups 'tiny-lama'; did you mean 'tiny-llama'"):
        PairSpec("tiny-lama", "bank", 0)


def test_a_base_that_was_not_fetched_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    assert pair_spec("smollm2/bank-s0") == SPEC and SPEC.name == "smollm2/bank-s0"
    with pytest.raises(PrerequisiteError, match="run `bench bases fetch smollm2-135m`"):
        root(SPEC.base)
