"""Agreement counts from chance: 1 for one dictionary in another order, nothing for two random ones, however anisotropic they are."""

import numpy as np
import pytest
import torch
from diffbench.harness.agreement import similarity
from diffbench.harness.agreement.firing import chance, correlate
from diffbench.harness.agreement.similarity import alike_chance, compare_rows, formula, random_chance
from scipy import sparse
from torch import Tensor


def rows(n: int, width: int, seed: int) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("exact", [4096, 10])
def test_a_dictionary_in_another_order_and_scale_is_found_again(exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "EXACT", exact)
    a, order = rows(60, 32, 0), torch.randperm(60, generator=torch.Generator().manual_seed(1))
    found, (i, j) = compare_rows(a, 3 * a[order])
    assert found.matched == pytest.approx(1) == found.max_ab == found.max_ba and found.same == 1 and found.matches == 60
    assert torch.equal(order[j], i)


def test_an_opposite_row_is_no_partner() -> None:
    a = torch.eye(8)
    assert compare_rows(a, -a)[0].max_ab == 0 and compare_rows(a, -a)[0].same == 0


def test_max_cosine_is_of_a_direction_and_a_match_of_both() -> None:
    a = torch.eye(4)
    found, _ = compare_rows(a[:1], a)
    assert (found.max_ab, found.max_ba, found.matches) == (1, 0.25, 1)
    crowd, _ = compare_rows(a[:1].repeat(3, 1), a)  # three rows want one partner, one gets it
    assert crowd.max_ab == 1 and crowd.matched == pytest.approx(1 / 3)


def test_chance_is_what_random_rows_give() -> None:
    assert random_chance(2048, 64, 64).max_ba == pytest.approx(0.415, abs=0.01)  # known for n = 2,048, d = 64
    for n, d in ((256, 64), (512, 256)):
        assert 0.8 * formula(n, d) < random_chance(n, n, d).max_ab < formula(n, d)


def test_two_dictionaries_that_only_share_an_axis_agree_no_more_than_alike_rows() -> None:
    axis = 6 * rows(1, 64, 9)
    a, b = rows(200, 64, 0) + axis, rows(200, 64, 1) + axis
    found, alike = compare_rows(a * a.new_tensor(1.0), b)[0], alike_chance(a, b)
    assert found.max_ab > 2 * random_chance(200, 200, 64).max_ab
    centred = compare_rows(rows(200, 64, 0), rows(200, 64, 1))[0]
    assert alike_chance(rows(200, 64, 0), rows(200, 64, 1)).max_ab == pytest.approx(centred.max_ab, abs=0.03)
    assert alike.max_ab > 0.8 * found.max_ab


def codes(tokens: int, n: int, seed: int) -> np.ndarray:
    g = np.random.default_rng(seed)
    return np.where(g.random((tokens, n)) < 0.1, g.random((tokens, n)) + 0.5, 0)


def test_the_sparse_correlation_is_numpys() -> None:
    f = codes(400, 12, 0)
    g = np.concatenate([f[:, :5] * 2 + codes(400, 5, 2) / 4, codes(400, 6, 1)], 1)
    matches = (torch.arange(5), torch.arange(5))
    found = correlate(sparse.csr_matrix(f), sparse.csr_matrix(g), matches)
    r = np.corrcoef(f.T, g.T)[:12, 12:]
    assert found.max_ab == pytest.approx(r.clip(0).max(1).mean()) and found.max_ba == pytest.approx(
        r.clip(0).max(0).mean()
    )
    assert found.matched == pytest.approx(r.diagonal()[:5].mean()) and found.matched > 0.9
    moved = chance(sparse.csr_matrix(f), sparse.csr_matrix(g), matches, [200, 200])
    assert abs(moved.matched) < 0.1 and moved.max_ab < 0.2


def test_what_fires_by_the_kind_of_text_alone_is_chance() -> None:
    """Latents that read nothing but whether a text is chat: moved over all of the text, chat would lie on neutral text."""
    kind = np.repeat([0.0, 1.0], [300, 500])[:, None]
    f, g = (sparse.csr_matrix(codes(800, 8, seed) * 0.2 + kind) for seed in (0, 1))
    matches = (torch.arange(8), torch.arange(8))
    found, moved = correlate(f, g, matches), chance(f, g, matches, [300, 500])
    assert found.max_ab > 0.9 and moved.max_ab == pytest.approx(found.max_ab, abs=0.01)
    assert moved.matched == pytest.approx(found.matched, abs=0.01) and chance(f, g, matches, [800]).matched < 0.3
    odd = chance(f, g, matches, [0, 1, 799])
    assert odd.max_ab <= 1


def test_latents_that_never_meet_count_0() -> None:
    f, g = np.eye(6)[:, :2], np.eye(6)[:, 2:5]
    found = correlate(sparse.csr_matrix(f), sparse.csr_matrix(g), (torch.arange(2), torch.arange(2)))
    assert (found.max_ab, found.max_ba) == (0, 0) and found.matched == pytest.approx(
        np.corrcoef(f[:, 0], g[:, 0])[0, 1]
    )
