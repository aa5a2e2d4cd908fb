"""What built-in strategies say of themselves is what a list says, and a probability follows from a score by Bayes' rule."""

import pytest
from diffbench.methods.registry import load_method
from diffbench.methods.strategies.belief import Scale, probability
from diffbench.methods.strategies.catalogue import BUILTIN, STRATEGIES
from diffbench.methods.strategies.contract import VerdictError, check_probability


@pytest.mark.parametrize("name", list(BUILTIN))
def test_a_list_says_what_the_class_says(name: str) -> None:
    entry = load_method(name, STRATEGIES)
    assert entry.facts() == BUILTIN[name].data(name) and entry.cls.name == name


def test_a_score_and_its_opposite_give_opposite_verdicts() -> None:
    scale = Scale(effect=1.0, scatter=0.5, twins=0.2)
    assert probability(0.0, scale) == 0.5
    assert probability(0.9, scale) + probability(-0.9, scale) == pytest.approx(1)
    assert abs(probability(0.1, scale) - 0.5) < 0.05 < 0.4 < probability(0.9, scale) - 0.5


def test_a_score_that_tells_nothing_names_one_of_the_two_and_is_not_sure() -> None:
    scale = Scale(effect=-0.3, scatter=1.0, twins=1.0)
    assert 0.5 < probability(1.0, scale) < 0.55


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1, "a", "0.7", b"1", True, 10**400, None])
def test_what_is_no_probability_is_refused(value: object) -> None:
    with pytest.raises(VerdictError, match="suspect"):
        check_probability(value)
