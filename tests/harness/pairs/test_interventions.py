"""What an edit does to a residual: the same distance whatever a finding's scale, and removal of no more than was added."""

import torch
from diffbench.harness.pairs.interventions import Directions, Option, coefficient, edits, kinds, movement, unit
from diffbench.methods.contract import Finding, Gate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

D = 16
seeds = st.integers(0, 10_000)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def findings(directions: Tensor) -> list[Finding]:
    return [Finding(d) for d in directions]


def test_movements_do_what_the_docstring_says() -> None:
    h = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    d = Directions.of(
        [Finding(torch.tensor([2.0, 0, 0]), Gate(torch.tensor([0, 0, 1.0]), 1.0)), Finding(torch.tensor([0, 5.0, 0]))],
        centre=torch.tensor([1.0, 5.0, 0.0]),
    )
    assert torch.allclose(movement(h, d, "add", 1, False), torch.tensor([[1.0, 0, 0], [1.0, 0, 0]]))
    assert torch.allclose(movement(h, d, "add", 1, True), torch.tensor([[0.0, 0, 0], [1.0, 0, 0]]))
    both = torch.tensor([1.0, 1, 0]) / 2**0.5
    assert torch.allclose(movement(h, d, "add", 2, True), torch.stack([torch.tensor([0.0, 1, 0]), both]))
    # beyond the centre the first token has 2 along the first direction and -1 along the second, the other nothing
    assert torch.allclose(movement(h, d, "ablate", 2, False), torch.tensor([[2.0, 0, 0], [0, 0, 0]]))
    assert torch.allclose(movement(h, d, "ablate", 1, True), torch.zeros(2, 3))
    assert coefficient(Option("subtract", 1, False, 0.5), 10.0) == -5.0
    assert coefficient(Option("ablate", 1, False, 1.0), 10.0) == -1.0


@settings(deadline=None)
@given(seeds, st.integers(1, 6))
def test_ablation_removes_what_lies_beyond_the_centre_and_never_flips_a_sign(seed: int, k: int) -> None:
    h, centre = 3 * drawn(seed, 20, D), drawn(seed + 1, D)
    d = Directions.of(findings(drawn(seed + 2, k, D)), centre=centre)
    after = h - movement(h, d, "ablate", k, False)
    before, left = ((x - centre) @ d.basis(k).T for x in (h, after))
    torch.testing.assert_close(left, before.clamp_max(0), atol=1e-4, rtol=0)
    outside = torch.eye(D) - d.basis(k).T @ d.basis(k)
    torch.testing.assert_close(after @ outside, h @ outside, atol=1e-4, rtol=0)


@settings(deadline=None)
@given(seeds, st.integers(1, 4), st.floats(-100, 100).filter(lambda x: abs(x) > 0.01))
def test_orthogonalised_copies_are_dropped_and_the_first_finding_stays_itself(
    seed: int, copies: int, by: float
) -> None:
    """Of a copy at any scale and sign: it adds no rank, and only the first one's sign counts."""
    a, b = drawn(seed, 2, D)
    d = Directions.of(findings(torch.stack([a, *[by * a] * copies, torch.zeros(D), b])), centre=torch.zeros(D))
    basis = d.basis(copies + 3)
    assert len(basis) == 2 and [len(d.basis(k)) for k in (1, copies + 1)] == [1, 1]
    torch.testing.assert_close(basis @ basis.T, torch.eye(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(basis[0], unit(a), atol=1e-6, rtol=0)
    alone = Directions.of(findings(torch.stack([a, b])), centre=torch.zeros(D))
    h = drawn(seed + 1, 5, D)
    torch.testing.assert_close(
        movement(h, d, "ablate", copies + 3, False), movement(h, alone, "ablate", 2, False), atol=1e-5, rtol=0
    )


@settings(deadline=None, max_examples=50)
@given(seeds, st.floats(0.01, 1000), st.integers(1, 5))
def test_findings_that_cancel_move_nothing_whatever_their_scale(seed: int, scale: float, copies: int) -> None:
    d = drawn(seed, 64)
    opposite = Directions.of([Finding(d), Finding(-scale * d)] * copies + [Finding(torch.zeros(64))])
    h = torch.ones(1, 64)
    for gated in (False, True):
        assert not movement(h, opposite, "add", len(opposite.direction), gated).any()
    with_rest = Directions.of([Finding(d), Finding(-scale * d), Finding(d.flip(0))])
    torch.testing.assert_close(movement(h, with_rest, "add", 3, False)[0], unit(d.flip(0)), atol=1e-5, rtol=0)


def test_strengths_of_one_movement_share_it() -> None:
    d = Directions.of(findings(drawn(0, 3, D)))
    got = edits([Option("add", 1, False, s) for s in (0.1, 0.2)] + [Option("add", 3, False, 0.1)], d, 10.0)
    assert len(got.moves) == 2 and got.which == [0, 0, 1] and got.lengths == [1.0, 2.0, 1.0]


def test_gated_kinds_are_there_only_where_one_of_the_first_k_has_a_gate() -> None:
    plain, gate = drawn(0, 3, D), Gate(torch.ones(D), 0.5)
    d = Directions.of([Finding(plain[0]), Finding(plain[1]), Finding(plain[2], gate)])
    assert [(o.op, o.k) for o in kinds("necessity", d, (1, 3, 10), True)] == [("subtract", 3), ("ablate", 3)]
    assert [o.k for o in kinds("sufficiency", d, (1, 3, 10), False)] == [1, 3]
