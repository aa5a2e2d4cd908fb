"""Localisation: the truth is found where it is, and chance is what it is said to be."""

import numpy as np
import pytest
import torch
from diffbench.harness.pairs.interventions import unit
from diffbench.harness.pairs.loading import load_pair
from diffbench.harness.protocol.localisation import localise, p_isotropic, truth_of
from diffbench.methods.contract import Finding
from diffbench.organisms.organism import Organism
from diffbench.organisms.registry import load_organism

D, KS = 128, (1, 3, 10)


def isotropic(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def planted() -> Organism:
    return load_organism("planted/owl-strong")


def test_the_truth_is_the_direction_the_organism_writes(planted: Organism) -> None:
    """On a rank-1 down_proj adapter the two residuals differ by a multiple of the truth at every token."""
    truth = truth_of(planted)
    assert truth is not None
    pair = load_pair(planted.base, planted.adapter, planted.layer)
    ids = torch.tensor([[5, 9, 40, 77, 12, 63]])
    change = (pair.residuals(ids, "tuned") - pair.residuals(ids, "base"))[0]
    assert float((unit(change) @ truth).abs().min()) > 0.999
    found = localise([Finding(change.mean(0))], truth, KS)
    assert abs(found.first_cos) > 0.999 and all(a.cos > 0.999 and a.overlap > 0.999 and a.p < 1e-9 for a in found.at)


def test_only_planted_organisms_have_a_truth(organism: Organism) -> None:
    assert truth_of(organism) is None


def test_a_buried_truth_is_found_at_its_rank() -> None:
    noise, truth = isotropic(10, 0), isotropic(1, 1)[0]
    found = localise(
        [*(Finding(n) for n in noise[:2]), Finding(-3 * truth), *(Finding(n) for n in noise[2:9])], truth, KS
    )
    assert found.at[0].cos < 0.4 and found.at[0].p > 0.001
    assert found.at[1].cos == pytest.approx(1) and found.at[1].overlap == pytest.approx(1)


def test_two_halves_hold_the_truth_together() -> None:
    """The truth inside a span none of whose members is the truth: overlap sees it, |cos| does not."""
    a, b = torch.eye(D)[:2]
    found = localise([Finding(a), Finding(b)], a + b, (1, 3))
    assert [x.cos for x in found.at] == pytest.approx([0.5**0.5] * 2)
    assert [x.overlap for x in found.at] == pytest.approx([0.5, 1.0])
    assert [x.chance for x in found.at] == pytest.approx([1 / D, 2 / D])


def test_p_is_uniform_for_isotropic_directions_and_overlap_is_at_chance() -> None:
    truth = isotropic(1, 9)[0]
    found = [localise([Finding(v) for v in isotropic(10, 100 + i)], truth, KS) for i in range(400)]
    for n, k in enumerate(KS):
        p = np.sort([f.at[n].p for f in found])
        assert np.abs(p - (np.arange(400) + 0.5) / 400).max() < 1.63 / 20  # Kolmogorov-Smirnov at .01
        assert np.mean([f.at[n].overlap for f in found]) == pytest.approx(k / D, rel=0.2)


def test_what_is_nothing_or_a_copy_gains_nothing() -> None:
    truth, v = isotropic(1, 2)[0], isotropic(1, 3)[0]
    nothing = localise([Finding(torch.zeros(D))], truth, KS)
    assert nothing.first_cos == 0 and all((a.cos, a.p, a.overlap, a.chance) == (0, 1, 0, 0) for a in nothing.at)
    one, many = localise([Finding(v)], truth, (10,)), localise([Finding(v)] * 10, truth, (10,))
    assert many.at[0].overlap == pytest.approx(one.at[0].overlap) and many.at[0].p >= one.at[0].p


def test_more_tries_cost() -> None:
    assert p_isotropic(0.3, D, 1) < p_isotropic(0.3, D, 10) < 10 * p_isotropic(0.3, D, 1)
    assert p_isotropic(1.0, D, 3) == 0 and p_isotropic(0.0, D, 3) == 1
