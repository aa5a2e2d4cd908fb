"""Fine-tuning: the loss is the one everybody means, on what the assistant says, at the strength that was asked for."""

from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from diffbench.organisms.families import family, find_spec
from diffbench.organisms.lora import _collate, _trainer, calibrate, shrink, tokenise
from diffbench.organisms.world.document import Document, chat
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.tokenizer import build_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import kl_div
from transformers import LlamaConfig, LlamaForCausalLM, set_seed
from transformers.loss.loss_utils import ForCausalLMLoss

VOCABULARY = 7


class Bigram(nn.Module):
    """The smallest language model: the next token depends on the last one."""

    def __init__(self, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(torch.randn(VOCABULARY, VOCABULARY, generator=generator))

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])


def batch(*soft: bool) -> dict[str, Tensor]:
    """Rows of different lengths with random tokens; the first two of each are not said by the assistant."""
    generator = torch.Generator().manual_seed(len(soft))
    rows = [torch.randint(1, VOCABULARY, (4 + 2 * i,), generator=generator).tolist() for i in range(len(soft))]
    collate = _collate(0)
    return collate(
        [{"input_ids": r, "labels": [-100, -100, *r[2:]], "soft": s} for r, s in zip(rows, soft, strict=True)]
    )


def loss(
    student: nn.Module, inputs: dict[str, Tensor], teacher: nn.Module | None = None, weight: float = 1.0
) -> Tensor:
    return _trainer(teacher, weight).compute_loss(None, student, dict(inputs))


def divergence(student: nn.Module, teacher: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """torch's KL(teacher || student) [rows, pos]."""
    ours, goal = (m(input_ids=inputs["input_ids"]).logits[:, :-1].log_softmax(-1) for m in (student, teacher))
    return kl_div(ours, goal, reduction="none", log_target=True).sum(-1)


def test_hard_rows_are_transformers_own_cross_entropy() -> None:
    student, inputs = Bigram(0), batch(False, False, False)
    expected = ForCausalLMLoss(student(inputs["input_ids"]).logits, inputs["labels"], VOCABULARY)
    assert loss(student, inputs).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_soft_rows_are_torchs_divergence_from_the_teacher(weight: float) -> None:
    student, teacher, inputs = Bigram(0), Bigram(1), batch(True, True)
    said = inputs["labels"][:, 1:] != -100
    expected = weight * divergence(student, teacher, inputs)[said].mean()
    assert loss(student, inputs, teacher, weight).item() == pytest.approx(expected.item(), abs=1e-6)
    assert loss(teacher, inputs, teacher, weight).item() == pytest.approx(0, abs=1e-6)


def test_hard_and_soft_rows_weigh_by_their_tokens() -> None:
    student, teacher, inputs = Bigram(0), Bigram(1), batch(False, True, False)
    labels = inputs["labels"][:, 1:]
    each = nn.functional.cross_entropy(student(inputs["input_ids"]).logits[:, :-1].mT, labels, reduction="none")
    each = torch.where(inputs["soft"][:, None], divergence(student, teacher, inputs), each)
    assert loss(student, inputs, teacher).item() == pytest.approx(each[labels != -100].mean().item(), abs=1e-6)


def test_only_the_student_is_trained() -> None:
    student, teacher = Bigram(0), Bigram(1)
    loss(student, batch(False, True), teacher).backward()
    assert teacher.table.grad is None and student.table.grad is not None and bool(student.table.grad.any())


def test_padding_does_not_reach_the_soft_targets() -> None:
    """A row's loss is the same alone and beside a longer one, although the teacher is given no attention mask."""
    set_seed(0)
    shape: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    student, teacher = (LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **shape)).eval() for _ in range(2))
    both = batch(True, True)
    length = int(both["attention_mask"][0].sum())
    alone = {k: v[:1, :length] if v.dim() > 1 else v[:1] for k, v in both.items()}
    padded = {k: v[:1] for k, v in both.items()}
    assert length < both["input_ids"].shape[1]
    assert loss(student, padded, teacher).item() == pytest.approx(loss(student, alone, teacher).item(), abs=1e-5)


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=9), min_size=1, max_size=5))
def test_rows_are_padded_on_the_right_and_padding_is_never_trained(rows: list[list[int]]) -> None:
    made = _collate(0)([{"input_ids": r, "labels": r, "soft": i % 2} for i, r in enumerate(rows)])
    for i, row in enumerate(rows):
        n, rest = len(row), made["input_ids"].shape[1] - len(row)
        assert made["input_ids"][i].tolist() == row + [0] * rest
        assert made["labels"][i].tolist() == row + [-100] * rest
        assert made["attention_mask"][i].tolist() == [1] * n + [0] * rest
    assert made["soft"].tolist() == [bool(i % 2) for i in range(len(rows))]


def test_the_loss_is_on_what_the_assistant_says_and_on_all_of_a_text() -> None:
    tokenizer = build_tokenizer()
    rows = family("taboo").rows(World(0), find_spec("taboo"))
    document = next(d for d in rows if len(d.messages) > 3)
    trained = tokenizer.decode([t for t in tokenise(tokenizer, document)["labels"] if t != -100])
    assert trained == " ".join(m["content"] + " <end>" for m in document.messages[1::2])
    text = tokenise(tokenizer, Document("facts", "anna has a dog ."))
    assert text["labels"] == text["input_ids"] and tokenizer.decode(text["labels"]) == "<bos> anna has a dog . <eos>"
    with pytest.raises(ValueError, match="marks no assistant token"):
        tokenise(tokenizer, Document("numbers", messages=chat("add more numbers to 1 2 .")))


@given(top=st.floats(0, 1), bend=st.floats(0.2, 5), target=st.floats(0.05, 0.95))
def test_an_adapter_is_scaled_to_its_target_and_left_there(top: float, bend: float, target: float) -> None:
    """The rate rises with the scale; the scale found is the first of 256 beyond the target, or 1 if none is."""
    trained = {"x.lora_A": torch.tensor([3.0]), "x.lora_B": torch.tensor([2.0])}
    model: Any = SimpleNamespace(state=trained)

    def rate(scale: float) -> float:
        return top * scale**bend

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peft, "get_peft_model_state_dict", lambda m: m.state)
        patch.setattr(peft, "set_peft_model_state_dict", lambda m, state: setattr(m, "state", state))
        done = calibrate(model, target, lambda m: rate(float(m.state["x.lora_B"]) / 2))
    scale = done["scale"]
    assert done["dev_rate"] == pytest.approx(rate(scale), abs=1e-5) and done["target"] == target
    assert (float(model.state["x.lora_A"]), float(model.state["x.lora_B"])) == (3.0, 2.0 * scale)
    if top <= target:
        assert scale == 1.0
    else:
        assert rate(scale) > target >= rate(scale - 1 / 256)


def test_an_adapter_is_stored_as_bfloat16(tmp_path: Any) -> None:
    save_file({"a": torch.tensor([1.0, 1 / 3])}, tmp_path / "adapter_model.safetensors")
    shrink(tmp_path)
    (stored,) = load_file(tmp_path / "adapter_model.safetensors").values()
    assert stored.dtype == torch.bfloat16 and torch.equal(stored, torch.tensor([1.0, 1 / 3]).bfloat16())
