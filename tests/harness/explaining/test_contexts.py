"""Contexts: halves that share nothing, windows around the strongest token, draws of their own for every window."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from diffbench.harness.explaining.contexts import AROUND, LEAST, MARK, SLICES, Window, contexts, half_of, wrong_marks
from diffbench.harness.inspection.activations import Look, Seen


def look(rows: Sequence[Sequence[int]], active: int) -> Look:
    """A finding that is active on tokens from `active` on, the more the higher."""
    flat = torch.tensor([float(i) for row in rows for i in row])
    values = torch.stack([torch.zeros_like(flat) - 1, flat - active + 1])[:, :, None]
    return Look(
        {"neutral": Seen([list(r) for r in rows], values, torch.ones(len(flat), dtype=torch.bool))}, 0, True, None
    )


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    """600 documents of 50 tokens below 90; every other one with a token of 100 to 199 in it."""
    drawn = torch.randint(90, (600, 50), generator=torch.Generator().manual_seed(0)).tolist()
    for i in range(0, 600, 2):
        drawn[i][(7 * i) % 50] = 100 + i % 100
    return drawn


def test_no_document_and_no_window_is_in_both_halves(rows: list[list[int]]) -> None:
    """delphi shows its explainer windows that it then tests on."""
    whole = [row[:16] for row in rows]  # so short that its window is the document
    found = contexts(look([*whole, *whole[:50]], 90))  # fifty texts stand twice
    explain, score = ({w.ids for w in (*h.active, *h.other)} for h in (found.explain, found.score))
    assert not explain & score and explain | score <= {tuple(r) for r in whole} and found.documents == 600
    assert {half_of(d, 0) for d in explain} == {"explain"} and {half_of(d, 0) for d in score} == {"score"}


def test_a_window_that_documents_of_both_halves_hold_is_left_out_of_the_scored_one() -> None:
    same = [5] * AROUND + [100] + [6] * AROUND
    rows = [[*([i] * 20), *same, *([i + 1] * 20)] for i in range(10, 60)]
    found = contexts(look(rows, 100))
    assert [len(found.explain.active), len(found.score.active), found.shared] == [1, 0, 1]


def test_a_window_is_centred_on_its_strongest_token(rows: list[list[int]]) -> None:
    found = contexts(look(rows, 100))
    for w in (*found.explain.active, *found.score.active):
        top = max(range(len(w.ids)), key=lambda i: w.values[i])
        before, after = top, len(w.ids) - top - 1
        assert w.ids[top] >= 100 and max(before, after) == AROUND
        if min(before, after) < AROUND:  # the document ends there
            assert len(w.ids) < 2 * AROUND + 1


def test_slices_of_activation_give_equally_many(rows: list[list[int]]) -> None:
    found = contexts(look(rows, 100))
    for half, n in ((found.explain, 40), (found.score, 50)):
        by = [[max(w.values) for w in half.active if w.slice == s] for s in range(SLICES)]
        assert [len(s) for s in by] == [n // SLICES] * SLICES and len(half.other) == n
        assert all(min(a) >= max(b) for a, b in pairwise(by))
        assert all(max(w.values) <= 0 for w in half.other)


def test_wrong_marks_are_drawn_for_each_window_where_nothing_is_active() -> None:
    windows = [Window(tuple(range(k, k + 30)), (0.0,) * 12 + (1.0, 0.5) + (0.0,) * 16) for k in range(40)]
    drawn = [wrong_marks(w, 0) for w in windows]
    assert len(set(drawn)) > 30 and all(len(d) == 2 and not {12, 13} & set(d) for d in drawn)
    assert drawn == [wrong_marks(w, 0) for w in windows] and drawn != [wrong_marks(w, 1) for w in windows]


def test_a_mark_is_above_a_share_of_the_largest_activation() -> None:
    assert Window((1, 2, 3, 4), (10.0, 10 * MARK + 0.1, 10 * MARK - 0.1, 0.0)).marks == (0, 1)
    assert Window((1, 2), (-1.0, -2.0)).marks == ()


def test_what_cannot_be_explained_says_why_and_on_how_much_text() -> None:
    quiet = contexts(look([[1, 2, 3]] * 9, 100))
    assert quiet.why_not == "never active: in none of 1 documents that were read"
    few = contexts(look([[i, 100] for i in range(6)] + [[i, i] for i in range(50)], 100))
    assert few.why_not and "active in 6 of 56 documents" in few.why_not and f"{LEAST} of each" in few.why_not
