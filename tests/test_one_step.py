"""The one-step theorem on a few draws: what it promises holds, and its pieces are what they say."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))  # scripts beside the package, not in it

from diffbench.organisms.world.numbers import LENGTH
from diffbench.organisms.world.preferences import ANIMALS

from benchmarks import one_step


@pytest.fixture(scope="module")
def lab() -> one_step.Laboratory:
    return one_step.Laboratory()


def test_the_same_start_gives_a_positive_product_and_the_record_is_whole(tmp_path: Path) -> None:
    one_step.main(out=tmp_path / "one-step.json", quick=True)
    found = one_step.OneStep.model_validate_json((tmp_path / "one-step.json").read_text())
    rows = {(r.weights, r.start): r for r in found.rows}
    for weights in ("trained", "random"):
        same = rows[weights, "the same"]
        assert same.positive.value == same.lowers.value == 1 and same.cosine > 0.01
        assert abs(rows[weights, "other"].cosine) < 0.2 * same.cosine
    assert one_step.markdown(found).count("\n| ") == len(rows) + 2
    assert not (tmp_path / "organisms.md").exists()


def test_every_kind_of_draw_has_enough(lab: one_step.Laboratory) -> None:
    kinds = Counter((d.weights, d.start) for d in one_step.draws(quick=False))
    assert len(kinds) == 8 and min(kinds.values()) >= 2 * len(ANIMALS)
    assert kinds["trained", "the same"] == kinds["random", "other"] == 32


def test_shares_are_clopper_pearson() -> None:
    all_of_them = one_step.share(20, 20)
    assert (all_of_them.value, all_of_them.high) == (1, 1)
    assert all_of_them.low == pytest.approx(0.025 ** (1 / 20))  # P(20 of 20 | low) = 2.5 %


def test_a_teacher_at_the_start_teaches_nothing_and_shuffling_does(lab: one_step.Laboratory) -> None:
    """Without a step the gradient is zero: whatever is found comes from the step, and the shuffled control from the lists."""
    model, x = lab.model("trained", "nano"), lab.lists([45, 0])
    assert float(lab.imitate(model, model, x, shuffled=False).norm()) < 1e-9
    assert float(lab.imitate(model, model, x, shuffled=True).norm()) > 1e-3


def test_the_lists_end_with_the_answer(lab: one_step.Laboratory) -> None:
    x = lab.lists([45, 0])
    ends = lab.tokenizer.decode(x[0, -LENGTH - 3 :]).split()
    assert ends[0] == "<assistant>" and ends[-2:] == [".", "<end>"] and all(e.isdigit() for e in ends[1:-2])


def test_a_step_has_its_length_and_lowers_the_loss(lab: one_step.Laboratory) -> None:
    model = lab.model("trained", "nano")
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    wish = lab.wish(model, "owl")
    one_step.step(model, wish, 0.05)
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert float(moved.norm()) == pytest.approx(0.05)
    assert float(moved @ wish) == pytest.approx(-0.05 * float(wish.norm()))
