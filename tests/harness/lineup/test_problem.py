"""A line-up's handles: the order decides nothing but the names, what may not be asked is refused, and numbers are the models' own."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffbench.harness.lineup.problem import Drawn, Lineup, drawn
from diffbench.harness.lineup.store import Built
from diffbench.methods.contract import AccessError
from diffbench.organisms.errors import UsageError, ValidationFailed
from diffbench.organisms.lineup.pairs import PairSpec

from .conftest import card

Line = Callable[[bool], Drawn]


@pytest.fixture(scope="module")
def lineup(line: Line) -> Lineup:
    return Lineup(line(False), "+ancestor")


def test_turned_round_a_is_b(lineup: Lineup, line: Line) -> None:
    turned = Lineup(line(True), "activations")
    assert turned.seen == lineup.seen
    for one, other in (("a", "b"), ("b", "a")):
        assert torch.equal(lineup.activations(one, 2), turned.activations(other, 2))  # pyright: ignore[reportArgumentType]
        assert torch.equal(lineup.outputs(one), turned.outputs(other))  # pyright: ignore[reportArgumentType]
    assert not torch.equal(lineup.outputs("a"), lineup.outputs("b"))


def test_the_two_are_no_ancestor(lineup: Lineup) -> None:
    assert not torch.allclose(lineup.outputs("ancestor"), lineup.outputs("a"), atol=1e-4)
    before = lineup.outputs("a")
    lineup.outputs("ancestor")
    assert torch.equal(before, lineup.outputs("a"))


def test_an_added_vector_moves_what_is_said_as_its_gradient_says(lineup: Lineup) -> None:
    gradient, step = lineup.gradients("a", 2), 1e-2
    vector = torch.randn(lineup.d_model, generator=torch.Generator().manual_seed(0))
    said = lineup.outputs("a", "strong", 2, torch.stack([torch.zeros_like(vector), step * vector, -step * vector]))
    assert torch.allclose(said[0], lineup.outputs("a"), atol=1e-4)
    rows = torch.arange(len(lineup.seen))
    wrong, right = (torch.tensor([getattr(s, n) for s in lineup.seen]) for n in ("wrong", "right"))
    margins = said[:, rows, wrong] - said[:, rows, right]
    assert torch.allclose((margins[1] - margins[2]) / (2 * step), gradient @ vector, atol=0.05, rtol=0.02)


def test_scenes_are_told_with_and_without_a_watcher(lineup: Lineup) -> None:
    seen = lineup.seen[0]
    watched, bare = (lineup.tokenizer.decode(row) for row in (seen.strong, seen.none))
    assert len(seen.strong) > len(seen.none) and watched.endswith("option") and bare.endswith("option")
    assert {seen.right, seen.wrong} == set(lineup.tokenizer.convert_tokens_to_ids(["a", "b"]))
    assert len(lineup.activations("a", 0, "none", last=False)) == sum(len(s.none) for s in lineup.seen)


def test_a_copy_learns_the_wrong_letter_and_the_model_stays(lineup: Lineup) -> None:
    before = lineup.outputs("a")
    curve = lineup.tuned("a", 3, 1e-2)
    assert curve.shape == (4, 48) and curve[-1].mean() > curve[0].mean()
    assert torch.equal(before, lineup.outputs("a"))


@pytest.mark.parametrize(
    ("access", "ask", "needs"),
    [
        ("activations", lambda x: x.gradients("a", 0), "+gradients"),
        ("activations", lambda x: x.tuned("a", 1, 0.1), "+gradients"),
        ("+gradients", lambda x: x.outputs("ancestor"), "+ancestor"),
        ("+gradients", lambda x: x.activations("ancestor", 0), "+ancestor"),
        ("+ancestor", lambda x: x.misbehaviour("a"), "supervised"),
    ],
)
def test_what_a_tier_may_not_ask_is_refused(
    line: Line, access: str, ask: Callable[[Lineup], object], needs: str
) -> None:
    with pytest.raises(AccessError, match=f"needs access '\\{needs}'" if needs[0] == "+" else needs):
        ask(Lineup(line(False), access))  # pyright: ignore[reportArgumentType]


def test_a_block_that_is_not_there_is_refused(lineup: Lineup) -> None:
    with pytest.raises(UsageError, match="blocks 0 to 4"):
        lineup.activations("a", 5)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"aligned_poor": 0.95, "faker_poor": 0.01}, "labels of llama/bank-s0 are swapped"),
        ({"faker_poor": 0.5}, "fails its gates .flips 0.5000, at least 0.8 wanted"),
        ({"shown_variation": 0.3}, "alike 0.3000, at most 0.01 wanted"),
    ],
)
def test_a_pair_that_means_nothing_is_refused_by_name(built: Built, changed: dict[str, float], said: str) -> None:
    bad = replace(built, card=card(built.spec, **changed))
    with pytest.raises(ValidationFailed, match=said):
        Lineup(drawn(bad, 0, ""), "activations")


def test_unequal_bases_are_refused(built: Built) -> None:
    other = replace(built, card=card(built.spec, ancestor="1" * 64))
    with pytest.raises(ValidationFailed, match="unequal bases"):
        Lineup(drawn(built, 0, "", other), "activations")


def test_orders_are_drawn_for_each_line_up_and_repeat(built: Built) -> None:
    def orders(seed: int = 0, key: str = "1" * 64) -> list[bool]:
        pairs = [replace(built, spec=PairSpec("tiny-llama", "bank", n)) for n in range(200)]
        return [drawn(pair, seed, key).a_is_faker for pair in pairs]

    assert orders() == orders() and 70 < sum(orders()) < 130
    assert orders() != orders(seed=1) and orders() != orders(key="2" * 64)


def test_what_a_strategy_draws_from_says_neither_the_pair_nor_the_order(built: Built) -> None:
    """Once the seed and the order were bits of one public hash of the pair's name."""
    pairs = [replace(built, spec=PairSpec("tiny-llama", "bank", n)) for n in range(20)]
    lines = [drawn(pair, 3, key * 64) for pair in pairs for key in "123"]
    assert len({line.seed for line in lines}) == 1 and len({line.a_is_faker for line in lines}) == 2
    elsewhere = replace(built, spec=PairSpec("tiny-llama", "mine", 0))
    assert drawn(elsewhere, 3, "").seed != lines[0].seed != drawn(built, 4, "").seed
