"""Random controls are the same for everybody, no method can draw them, and what is known of one is not measured again."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffbench.harness.cache import Cache, Kept
from diffbench.harness.pairs.interventions import Directions, Option, unit
from diffbench.harness.protocol.controls import Candidate, ControlMemory, control, mixture
from diffbench.methods.baselines import RandomDirections
from diffbench.methods.contract import Finding, NoConfig

PAGE = ([-0.4092177, 0.7911809, 0.1588157, -0.4258534], [0.262027, 0.0691295, 0.2685708, 0.9243553])
"""Of the first direction of control 0 and of mixture 0 of the unit vectors, in four dimensions."""
OPTIONS = [Option("add", 1, False, s) for s in (0.1, 0.2, 0.3)]


def candidate(memory: ControlMemory | None) -> Candidate:
    return Candidate(Directions.of([Finding(torch.ones(4))]), (1,), draw=memory)


def test_controls_are_those_of_the_page() -> None:
    """docs/protocol.md says how they are drawn; these are the first numbers."""
    assert control(0, 4)[0].tolist() == pytest.approx(PAGE[0], abs=1e-6)
    assert mixture(0, torch.eye(4))[0].tolist() == pytest.approx(PAGE[1], abs=1e-6)


def test_a_mixture_is_a_mean_of_differences_and_a_unit_vector() -> None:
    differences = torch.rand(50, 8, generator=torch.Generator().manual_seed(0))  # all positive, so every mean is
    got = mixture(3, differences)
    assert got.shape == (16, 8) and bool((got > 0).all())
    assert torch.allclose(got.norm(dim=1), torch.ones(16), atol=1e-6)
    assert not torch.equal(got, mixture(4, differences))
    one = unit(differences[:1])
    assert torch.allclose(mixture(0, differences[:1]), one.expand(16, 8), atol=1e-6)


def test_a_random_method_is_never_its_own_control() -> None:
    controls = torch.cat([control(i, 128) for i in range(16)])
    for seed in range(16):
        found = RandomDirections(NoConfig()).diff(SimpleNamespace(seed=seed, d_model=128)).findings  # type: ignore[arg-type]
        ours = unit(torch.stack([f.direction for f in found]))
        assert float((ours @ controls.T).abs().max()) < 0.9


def counted(asked: list[Option]) -> Any:
    def measure(options: Sequence[Option]) -> list[float]:
        asked.extend(options)
        return [o.strength for o in options]

    return measure


def test_what_is_known_is_not_measured_again() -> None:
    asked: list[Option] = []
    one = candidate(ControlMemory(None, {"index": 0}))
    assert one.recall("cost", OPTIONS[:2], counted(asked)) == [0.1, 0.2]
    assert one.recall("cost", OPTIONS, counted(asked)) == [0.1, 0.2, 0.3] and asked == OPTIONS
    assert one.recall("dev", OPTIONS[:1] * 2, counted(asked)) == [0.1, 0.1] and len(asked) == 4


def test_two_processes_add_to_one_draw_and_neither_loses_what_the_other_found(tmp_path: Path) -> None:
    kept = Kept(Cache(tmp_path), "taboo/gold-narrow", {"pair": 1})
    one, two = (candidate(ControlMemory(kept, {"null": "isotropic", "index": 0})) for _ in range(2))
    one.recall("cost", OPTIONS[:1], counted([]))
    two.recall("cost", OPTIONS[1:2], counted([]))
    asked: list[Option] = []
    later = candidate(ControlMemory(kept, {"null": "isotropic", "index": 0}))
    assert later.recall("cost", OPTIONS, counted(asked)) == [0.1, 0.2, 0.3] and asked == OPTIONS[2:]
    for other in ({"null": "mixture", "index": 0}, {"null": "isotropic", "index": 1}):
        assert not ControlMemory(kept, other).values
