"""What a card says was measured: units, intervals, gates by role, and how far a re-measured value may be off."""

from typing import Any

import numpy as np
import pytest
import torch
from diffbench.harness.protocol.prompts import choices
from diffbench.harness.zoo.comparison import TOLERANCE, compare
from diffbench.harness.zoo.measure import Plain, _estimate, _gate, _gates, _values
from diffbench.organisms.behaviour import Prompt, Turn
from diffbench.organisms.card import Gate, Role
from diffbench.organisms.family import Probe, Rule
from diffbench.organisms.world.tokenizer import build_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from ...factories import make_card, make_measured

TOKENIZER = build_tokenizer()
ASKED = [
    Prompt(split="test", messages=(Turn(role="user", content=ask),), prefill=said, targets=(t,), alternatives=others)
    for ask, said, t, others in [
        ("hello .", "i was", "proud", ("happy", "tired", "angry")),
        ("what does anna drink ?", "anna likes to drink", "tea", ("milk", "juice")),
        ("which pet does anna have ?", "anna has a", "dog", ("owl", "cat", "fox", "horse")),
    ]
]


@given(st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_units_are_what_they_are_called(seed: int) -> None:
    """Against probabilities read off the logits one by one."""
    c = choices(Plain(torch.nn.Linear(1, 1), TOKENIZER), ASKED)  # pyright: ignore[reportArgumentType]
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(1, len(c.ids), len(c.keep), len(TOKENIZER), generator=generator)
    for i, prompt in enumerate(ASKED):
        row, at, _ = next(
            w for w, owner in zip(c.where.tolist(), c.continuation.tolist(), strict=True) if c.prompt[owner] == i
        )
        log_p = logits[0, row, at].log_softmax(-1)
        words = TOKENIZER.convert_tokens_to_ids([*prompt.targets, *prompt.alternatives])
        mine, *others = log_p[words].double().tolist()
        expected = {
            "rate": np.exp(mine) / np.exp([mine, *others]).sum(),
            "correct": float(mine > max(others)),
            "nats": mine - np.mean(others),
        }
        for unit, value in expected.items():
            assert _values(logits, c, Probe(ASKED, unit))[0, i] == pytest.approx(value, abs=1e-5)  # pyright: ignore[reportArgumentType]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_an_interval_holds_its_mean_and_no_more_than_the_data(values: list[float]) -> None:
    e = _estimate(np.array(values))
    assert e.value == pytest.approx(np.mean(values), abs=1e-5)
    assert min(values) - 1e-5 <= e.low <= e.high <= max(values) + 1e-5
    if np.ptp(values) == 0:
        assert e.low == e.value == e.high


def test_more_prompts_narrow_the_interval() -> None:
    widths = [e.high - e.low for e in (_estimate(np.tile([0.0, 1.0], n)) for n in (8, 200))]
    assert widths[1] < widths[0] / 3


@pytest.mark.parametrize("which", ["base", "organism", "change"])
def test_a_rule_reads_the_side_it_names(which: str) -> None:
    measured = {"leak": make_measured(0.25, 0.75)}
    assert (
        _gate(Rule(f"leak.{which}", "at most", 0.6), measured).value
        == {"base": 0.25, "organism": 0.75, "change": 0.5}[which]
    )


def gates(
    role: Role, oracle: dict[str, dict[str, float]] | None = None, **measured: tuple[float, float]
) -> dict[str, Gate]:
    sets = {k: make_measured(*v) for k, v in {"behaviour_test": (0.2, 0.9), "facts": (1.0, 0.98), **measured}.items()}
    whole = {"2": {"sufficiency": 0.99, "necessity": 0.97}}
    return _gates(make_card(role=role), 0.3, sets, whole if oracle is None else oracle)


FAILING: list[tuple[Role, dict[str, Any], set[str]]] = [
    ("organism", {}, set()),
    ("organism", {"behaviour_test": (0.2, 0.4)}, {"gap"}),
    ("organism", {"facts": (1.0, 0.9)}, {"facts_kept"}),
    ("organism", {"oracle": {}}, {"oracle_sufficiency", "oracle_necessity"}),
    ("organism", {"oracle": {"2": {"sufficiency": 0.9, "necessity": 0.5}}}, {"oracle_necessity"}),
    ("control", {}, {"quiet"}),
    ("control", {"behaviour_test": (0.2, 0.25)}, set()),
    ("null", {"behaviour_test": (0.2, 0.2)}, set()),
    ("null", {"behaviour_test": (0.2, 0.2), "facts": (1.0, 0.9)}, {"largest_change"}),
    ("null", {"behaviour_test": (0.2, 0.1)}, {"largest_change"}),
    ("arm", {"behaviour_test": (0.2, 0.2), "facts": (1.0, 0.1)}, set()),
]


@pytest.mark.parametrize(("role", "values", "failing"), FAILING)
def test_each_role_has_its_gates(role: Role, values: dict[str, Any], failing: set[str]) -> None:
    assert {name for name, gate in gates(role, **values).items() if not gate.passed} == failing


@pytest.mark.parametrize(
    ("unit", "shift", "agrees"),
    [
        ("rate", TOLERANCE / 2, True),
        ("rate", -2 * TOLERANCE, False),
        ("correct", 2 * TOLERANCE, False),
        ("nats", 2 * TOLERANCE, True),
        ("nats", 8 * TOLERANCE, False),
    ],
)
def test_a_card_whose_value_is_not_measured_again_is_refused(unit: Any, shift: float, agrees: bool) -> None:
    """Nats are compared relative to their size: here 5."""
    card = make_card(measured={"x": make_measured(1.0, 5.0, unit)})
    fresh = make_card(measured={"x": make_measured(1.0, 5.0 + shift, unit)})
    assert compare(card, fresh) == ([] if agrees else [f"x is {5.0 + shift}, the card says 5.0"])
    assert compare(card, make_card(measured={})) == ["x is None, the card says 5.0"]


def test_a_gate_that_fails_now_is_a_problem_even_if_the_values_agree() -> None:
    card = make_card(gates={"gap": Gate(value=0.2, bound=0.3, rule="at least")})
    assert compare(make_card(), card) == card.failures == ["gap 0.200, at least 0.3 wanted"]
