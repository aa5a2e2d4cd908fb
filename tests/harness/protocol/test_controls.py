"""Random controls are the same for everybody, no method can draw them, and what is known of one is not measured again."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffbench.harness.cache import Cache, Kept
from diffbench.harness.pairs.interventions import Directions, Edits, Option, unit
from diffbench.harness.protocol.controls import Draw, Place, blocks, control, mixture
from diffbench.harness.protocol.procedure import Candidate, Procedure, mean_effects
from diffbench.harness.runs.stage import Stage
from diffbench.methods.baselines import RandomDirections
from diffbench.methods.contract import Finding, Gate, NoConfig

from ...conftest import SHORT

PAGE = ([-0.4092177, 0.7911809, 0.1588157, -0.4258534], [0.262027, 0.0691295, 0.2685708, 0.9243553])
"""Of the first direction of control 0 and of mixture 0 of the unit vectors, in four dimensions."""
OPTIONS = [Option("add", 1, False, s) for s in (0.1, 0.2, 0.3)]


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


def test_what_is_known_of_a_candidate_is_not_measured_again_and_each_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    run: Any = SimpleNamespace(scale=1.0)
    procedure: Any = Procedure({("base", "dev"): run}, SHORT)

    def measure(kind: str, run: object, made: Edits) -> list[float]:
        asked.extend(made.lengths)
        return [length + which for length, which in zip(made.lengths, made.which, strict=True)]

    monkeypatch.setattr(procedure, "_measure", measure)
    one, other = (Candidate(Directions.of([Finding(torch.ones(4))]), (1,)) for _ in range(2))
    assert procedure._measured("base cost", [one], [OPTIONS[:2]]) == [{OPTIONS[0]: 0.1, OPTIONS[1]: 0.2}]
    mine, its = procedure._measured("base cost", [one, other], [OPTIONS, OPTIONS[1:]])
    assert list(mine.values()) == [0.1, 0.2, 0.3] and list(its.values()) == [1.2, 1.3]
    assert asked == [0.1, 0.2, 0.3, 0.2, 0.3]
    assert list(procedure._measured("base dev", [one], [OPTIONS[:1] * 2])[0]) == OPTIONS[:1] and len(asked) == 6


def test_blocks_hold_each_control_once_and_no_more_than_there_are() -> None:
    assert [list(b) for b in blocks("isotropic", 10)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [list(b) for b in blocks("mixture", 10)] == [[0, 1, 2, 3], [4, 5, 6, 7]] and not blocks("mixture", 0)
    assert [list(b) for b in blocks("mixture", 3)] == [[0, 1, 2]]


def test_controls_do_together_what_each_does_alone(stage: Stage) -> None:
    """Under gates and without: 1e-5 of an effect is rounding, and a control that got another's moves would be far off."""
    drawn = torch.randn(2, 128, generator=torch.Generator().manual_seed(0))
    gates = stage.scorer.directions([Finding(d, Gate(d, t)) for d, t in zip(drawn, (0.0, 2.0), strict=True)])
    controls, procedure = stage.scorer.controls, stage.scorer._procedure
    constant = [replace(each, ks=(1, 2)) for each in controls._sets("isotropic", range(2))]
    for sets in (constant, [controls.under(gates, (1, 2), i) for i in range(2)]):
        alone = [procedure.both([replace(each, known={})])[0] for each in sets]
        for one, other in zip(map(mean_effects, alone), map(mean_effects, procedure.both(sets)), strict=True):
            for side in one:
                np.testing.assert_allclose(one[side], other[side], atol=1e-5)
        assert len({float(mean_effects(each)["necessity"].sum()) for each in alone}) == 2


def test_draws_come_back_to_the_last_bit_and_for_their_own_place_alone(tmp_path: Path) -> None:
    kept, ks = Kept(Cache(tmp_path), "taboo/gold-narrow", {"pair": 1}), (1, 3)
    draw = Draw({"sufficiency": np.array([0.1, 1 / 3]), "necessity": np.array([-2e-9, np.pi])}, 1 / 7)
    Place(kept, "isotropic", [0], [ks]).put([[draw]])
    [[found]] = Place(kept, "isotropic", [0], [ks]).get() or [[]]
    assert found.volume == draw.volume
    assert all(np.array_equal(found.effects[side], draw.effects[side]) for side in draw.effects)
    others: list[Any] = [("mixture", [0], [ks]), ("isotropic", [0, 1], [ks]), ("isotropic", [0], [ks, (1,)])]
    assert [Place(kept, *other).get() for other in others] == [None] * 3
    nowhere = Place(None, "isotropic", [0], [ks])
    nowhere.put([[draw]])
    assert nowhere.get() is None
