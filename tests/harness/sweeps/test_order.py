"""Which cell is next: a pair is one process's as long as there is another pair for the next."""

from diffbench.harness.sweeps.order import AGAIN_S, Order
from hypothesis import given
from hypothesis import strategies as st

PAIRS = dict(enumerate("aaabbbcc"))


def test_a_process_stays_with_its_pair_and_the_next_takes_another() -> None:
    order = Order(PAIRS)
    assert [order.next(p, 0) for p in (1, 2, 1, 2, 1)] == [0, 3, 1, 4, 2]
    assert [order.next(1, 0) for _ in range(2)] == [6, 7]


def test_at_the_end_help_goes_where_most_is_left() -> None:
    order = Order(dict(enumerate("aabbbb")))
    assert [order.next(p, 0) for p in (1, 2, 2)] == [2, 0, 1]
    assert order.next(2, 0) == 3 and order.next(1, 0) == 4
    assert len(order) == 1 and order.waiting() == [5]


def test_a_cell_that_comes_back_is_the_next_of_its_pair() -> None:
    order = Order(PAIRS)
    first = order.next(1, 0)
    order.gone(1)
    assert first == 0
    order.back(0)
    assert order.next(2, 0) == 0 and len(order) == 7


def test_what_another_sweep_runs_is_left_to_it_and_asked_about_again() -> None:
    order, busy = Order(PAIRS), {0, 3}
    assert order.next(1, 0, lambda cell: cell not in busy) == 6  # of the pair that nobody has
    assert order.next(1, 0) == 7
    taken = [order.next(1, 0) for _ in range(5)]
    assert sorted(cell for cell in taken if cell is not None) == [1, 2, 4, 5] and taken[-1] is None
    assert {order.next(1, AGAIN_S) for _ in range(2)} == {0, 3} and not order


@given(
    st.dictionaries(st.integers(0, 40), st.sampled_from("abcde"), max_size=30),
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans())),
)
def test_every_cell_is_handed_out_once_or_comes_back(
    pairs: dict[int, str], moves: list[tuple[int, bool, bool]]
) -> None:
    order, out, now = Order(pairs), list[int](), 0.0
    for process, busy, lost in moves:
        cell = order.next(process, now, lambda _, busy=busy: not busy)
        now += 1
        if cell is None:
            continue
        if lost:
            order.gone(process)
            order.back(cell)
        else:
            out.append(cell)
    assert sorted([*out, *order.waiting()]) == sorted(pairs)
