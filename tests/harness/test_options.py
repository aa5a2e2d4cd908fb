"""What several commands read alike."""

import pytest
from diffbench.harness.options import seed_numbers, whole_numbers
from diffbench.organisms.errors import UsageError


def test_seeds_are_whole_numbers_each_once() -> None:
    assert seed_numbers("2, 0,2,1") == [2, 0, 1]


@pytest.mark.parametrize("given", ["", " , ", "a", "0,b", "-1", "1.5", "٣", "0 1", "9" * 5000])
def test_what_is_no_seed_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(UsageError, match=r"is not a comma list of whole numbers, e\.g\. --seed 0,1"):
        seed_numbers(given)


def test_a_list_has_a_least_number() -> None:
    assert whole_numbers("3,1", "--k", "1,3", least=1) == [3, 1]
    with pytest.raises(UsageError, match=r"--k '3,0' is not a comma list of whole numbers from 1, e\.g\. --k 1,3"):
        whole_numbers("3,0", "--k", "1,3", least=1)
