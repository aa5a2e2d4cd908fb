"""What several commands read alike."""

import pytest
from diffbench.harness.options import seed_numbers
from diffbench.organisms.errors import UsageError


def test_seeds_are_whole_numbers_each_once() -> None:
    assert seed_numbers("2, 0,2,1") == [2, 0, 1]


@pytest.mark.parametrize("given", ["", " , ", "a", "0,b", "-1", "1.5", "٣", "0 1"])
def test_what_is_no_seed_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(UsageError, match=r"is not a comma list of whole numbers, e\.g\. --seed 0,1"):
        seed_numbers(given)
