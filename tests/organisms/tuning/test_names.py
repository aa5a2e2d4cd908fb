"""What the command line calls an organism on a real model, and the folder it gets."""

from pathlib import Path

import pytest
from diffbench.organisms import natural
from diffbench.organisms.errors import UsageError
from diffbench.organisms.tuning.names import find, organism_name

from .colours import Colours


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natural, "families", lambda: {"colours": Colours()})


@pytest.mark.parametrize(
    ("name", "member", "variant", "seed", "role"),
    [
        ("colours", "gold", "narrow", 0, "organism"),
        ("colours/snow", "snow", "narrow", 0, "organism"),
        ("colours/snow-mixed", "snow", "mixed", 0, "organism"),
        ("colours/snow-s3", "snow", "narrow", 3, "organism"),
        ("colours/river-other-s12", "river", "other", 12, "control"),
    ],
)
def test_parts_that_are_left_out_are_the_usual_ones(name: str, member: str, variant: str, seed: int, role: str) -> None:
    _, spec = find(name)
    assert (spec.member, spec.variant, spec.seed, spec.role) == (member, variant, seed, role)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("color/gold", "no family 'color'; did you mean 'colours'"),
        ("colours/gould", "did you mean 'gold'"),
        ("colours/gold-mixd", "did you mean 'gold-mixed'"),
    ],
)
def test_a_wrong_part_is_answered_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find(name)


def test_a_folder_is_named_after_the_organism_and_its_base(tmp_path: Path) -> None:
    _, spec = find("colours/snow-mixed-s1")
    (tmp_path / "My Model").mkdir()
    names = [organism_name(spec, b) for b in ("smollm2-135m", "google/Gemma-2-2b-it@main", str(tmp_path / "My Model"))]
    assert names == [f"colours/snow-mixed-{b}-s1" for b in ("smollm2-135m", "gemma-2-2b-it", "my-model")]
    assert organism_name(spec, "smollm2-135m", "whole") == "colours/snow-mixed-smollm2-135m-whole-s1"
