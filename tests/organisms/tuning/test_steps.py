"""What every step reads, and that cutting a step into parts changes nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from diffbench.organisms.tuning.masks import Row
from diffbench.organisms.tuning.recipes import TuningRecipe
from diffbench.organisms.tuning.rows import Data, tokenise
from diffbench.organisms.tuning.steps import collator, losses, plan
from diffbench.organisms.tuning.train import _lora
from diffbench.organisms.tuning.watch import Diverged, Watch, check_end
from diffbench.organisms.world.document import Document, chat
from peft import get_peft_model
from transformers import AutoModelForCausalLM, set_seed

from .models import ordinary, rows, save_chat_model, tokenizer_of

RECIPE = TuningRecipe(
    source="test", blocks="below", layer=1, r=2, alpha=4, lr=1e-2, batch=4, steps=6, kl_rows=2, kl_weight=1
)


def numbered(n: int, first: int) -> list[Row]:
    return [Row([first + i] * (2 + i % 3), [True] * (2 + i % 3)) for i in range(n)]


def test_every_row_is_shown_before_one_is_shown_again() -> None:
    examples = plan(numbered(8, 0), numbered(3, 100), RECIPE)
    assert len(examples) == 6 * 6
    steps = [examples[i : i + 6] for i in range(0, 36, 6)]
    assert all(sum(e["kept"] for e in s) == 2 for s in steps)
    shown = [e["input_ids"][0] for e in examples if not e["kept"]]
    assert sorted(shown[:8]) == sorted(shown[8:16]) == sorted(shown[16:]) == list(range(8)) and shown[:8] != shown[8:16]
    assert plan(numbered(8, 0), numbered(3, 100), RECIPE) == examples
    assert plan(numbered(8, 0), numbered(3, 100), RECIPE.model_copy(update={"seed": 1})) != examples


def test_tokens_of_a_kind_weigh_one_together_in_their_step() -> None:
    examples = plan(numbered(8, 0), numbered(3, 100), RECIPE)
    for start in range(0, 36, 6):
        for kept in (0, 1):
            some = [e for e in examples[start : start + 6] if e["kept"] == kept]
            assert sum(e["weight"] * (len(e["labels"]) - 1) for e in some) == pytest.approx(1)


def test_answers_are_trained_and_every_token_of_what_is_held() -> None:
    talk = [Document("ask", messages=chat("the word?", "gold")), Document("text", text="a cake was made by the river.")]
    found = tokenise(tokenizer_of("smollm"), "base", Data(talk, talk), RECIPE)
    assert [r.ids for r in found.rows] == [r.ids for r in found.kept]
    assert all(all(r.trained) for r in found.kept) and not all(found.rows[0].trained) and any(found.rows[0].trained)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model whose adapter does something."""
    folder = save_chat_model(tmp_path_factory.mktemp("base"), "gemma2")
    set_seed(0)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    made: Any = get_peft_model(model, _lora(model, RECIPE))
    return made


def moved(model: Any) -> Any:
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    return model


def test_an_untrained_adapter_is_no_distance_from_its_base_and_only_trained_tokens_count(tuned: Any) -> None:
    tokenizer = tokenizer_of("gemma2")
    batch = collator(0)(plan(rows(tokenizer), ordinary(tokenizer), RECIPE)[:6])
    hard, far = losses(tuned, batch)
    assert float(far.detach()) == pytest.approx(0, abs=1e-6)
    logits = tuned(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].log_softmax(-1)
    labels, kept = batch["labels"][:, 1:], batch["kept"]
    said = [(r, p) for r in range(6) if not kept[r] for p in range(labels.shape[1]) if labels[r, p] != -100]
    expected = np.mean([-float(logits[r, p, labels[r, p]].detach()) for r, p in said])
    assert float(hard.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_step_read_in_parts_has_the_same_losses_and_gradients(tuned: Any) -> None:
    tokenizer, model = tokenizer_of("gemma2"), moved(tuned)
    examples = plan(rows(tokenizer), ordinary(tokenizer), RECIPE)[:6]
    found: list[tuple[float, float, torch.Tensor]] = []
    for size in (6, 3, 1):
        model.zero_grad()
        parts = [losses(model, collator(0)(examples[i : i + size])) for i in range(0, 6, size)]
        sum((h + k for h, k in parts), torch.zeros(())).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((float(sum(h.detach() for h, _ in parts)), float(sum(k.detach() for _, k in parts)), gradient))
    for hard, far, gradient in found[1:]:
        assert hard == pytest.approx(found[0][0], rel=1e-4) and far == pytest.approx(found[0][1], rel=1e-4)
        torch.testing.assert_close(gradient, found[0][2], rtol=1e-3, atol=1e-5)
    assert found[0][1] > 0.01


def watched(losses_: list[float], kl: float = 0.0) -> None:
    watch = Watch(RECIPE, lambda line: None, 10.0)
    for step, loss in enumerate(losses_, 1):
        watch.begin()
        watch.seen(step, len(losses_), {"cross_entropy": loss, "kl": kl})
    check_end(watch.losses, RECIPE)


def test_a_training_that_has_little_to_learn_does_not_diverge() -> None:
    watched([0.02] * 6 + [0.05, 0.06])


@pytest.mark.parametrize(
    ("said", "losses_", "kl"),
    [
        (
            r"the loss is nan .* at step 2 and began at 2.00; the rate 0.01 is too high .* \(--set lr=0.003\)",
            [2, float("nan")],
            0.0,
        ),
        ("the loss is 2 .KL inf. at step 1", [2, 2], float("inf")),
        ("has risen to 9.00 nats by step 5", [2, 2, 9, 9, 9, 9, 9, 9], 0.0),
        ("ended at 2.20 nats", [2, 1, 1, 1, 1, 1, 2.2, 2.2], 0.0),
    ],
)
def test_a_training_that_diverges_is_refused_with_what_to_change(said: str, losses_: list[float], kl: float) -> None:
    with pytest.raises(Diverged, match=said):
        watched(losses_, kl)


def test_a_training_that_learns_is_not_refused() -> None:
    watched([4, 3.5, 3, 2, 1.5, 1, 1, 1])
    watched([2.0])


def test_the_collator_pads_on_the_right_and_masks_what_it_added() -> None:
    batch = collator(7)([{"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "kept": 0, "weight": 0.5},
                         {"input_ids": [4], "labels": [4], "kept": 1, "weight": 1.0}])  # fmt: skip
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 7, 7]]
    assert batch["labels"].tolist() == [[-100, 2, 3], [4, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]] and batch["kept"].tolist() == [False, True]
