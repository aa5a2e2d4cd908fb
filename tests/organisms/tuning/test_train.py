"""A training that was killed goes on to the same bytes; what it saves is an adapter and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from diffbench.harness.terminal import silenced
from diffbench.organisms.tuning import train as training
from diffbench.organisms.tuning.recipes import TuningRecipe
from diffbench.organisms.tuning.train import Job, last_checkpoint, save_adapter, train
from diffbench.organisms.tuning.watch import Diverged, Watch

from .models import ordinary, rows, save_chat_model, tokenizer_of

RECIPE = TuningRecipe(
    source="test", blocks="below", layer=1, r=2, alpha=4, lr=1e-2, dropout=0.1, batch=4, steps=8, kl_rows=2, kl_weight=1
)


def job(base: Path, work: Path, **changes: Any) -> Job:
    tokenizer = tokenizer_of("qwen25")
    recipe = RECIPE.model_copy(update=changes)
    return Job(base, rows(tokenizer), ordinary(tokenizer), recipe, work)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("base"), "qwen25")


def saved(model: Any, folder: Path) -> bytes:
    save_adapter(model, folder, "org/base")
    return (folder / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_a_device_without_an_index_is_the_first(
    device: str, index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    chosen = list[Any]()
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    training._arguments(Job(tmp_path, [], [], RECIPE, tmp_path, device), 1)
    assert chosen == [index]


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bytes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINTS", 2)
    with silenced(False):
        whole = train(job(base, tmp_path / "whole"))
        seen = Watch.seen

        def killed(self: Watch, step: int, steps: int, logs: dict[str, float]) -> None:
            if step == 6:
                raise KeyboardInterrupt
            seen(self, step, steps, logs)

        with monkeypatch.context() as patch:
            patch.setattr(Watch, "seen", killed)
            with pytest.raises(KeyboardInterrupt):
                train(job(base, tmp_path / "cut"))
        assert (found := last_checkpoint(tmp_path / "cut")) is not None and found.name == "checkpoint-4"
        again = train(job(base, tmp_path / "cut"))
    assert (whole.resumed_at, again.resumed_at) == (0, 4)
    assert again.loss == whole.loss and again.kl == whole.kl and len(whole.loss) == 8
    assert saved(again.model, tmp_path / "a") == saved(whole.model, tmp_path / "b")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/base" and config["layers_to_transform"] == [0, 1]


@pytest.mark.slow
def test_a_rate_that_is_too_high_is_refused_before_the_end(base: Path, tmp_path: Path) -> None:
    with silenced(False), pytest.raises(Diverged, match="training diverged: the loss"):
        train(job(base, tmp_path, lr=1e4, steps=40, max_grad_norm=1e9))


@pytest.mark.slow
def test_a_rehearsal_leaves_nothing_and_says_its_pace(base: Path, tmp_path: Path) -> None:
    with silenced(False):
        done = train(job(base, tmp_path / "work"), steps=2)
    assert done.steps == 2 and done.seconds_a_step > 0 and done.tokens_a_second > 0
    assert last_checkpoint(tmp_path / "work") is None


def test_a_checkpoint_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-9" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text('{"global_st')
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-9"
    shutil.rmtree(tmp_path / "checkpoint-9")
    assert last_checkpoint(tmp_path) is None
