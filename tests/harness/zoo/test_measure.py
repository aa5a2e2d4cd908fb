"""What a card says was measured: units, intervals, harvest text, and how far a re-measured value may be off."""

from typing import Any

import numpy as np
import pytest
import torch
from diffbench.harness.protocol.prompts import choices
from diffbench.harness.zoo.comparison import TOLERANCE, compare
from diffbench.harness.zoo.measure import Plain, _estimate, _values, due_in
from diffbench.organisms.behaviour import Prompt, Turn
from diffbench.organisms.card import Gate
from diffbench.organisms.families import families
from diffbench.organisms.family import Probe, Subject
from diffbench.organisms.texts import WorldTexts, encode
from diffbench.organisms.world.document import Document, chat
from diffbench.organisms.world.facts import World
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


class Remote(torch.Tensor):
    """Values on a device: to be copied to the host before numpy can read them."""

    def cpu(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super().cpu().as_subclass(torch.Tensor)

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert a device's tensor to numpy")


@pytest.mark.parametrize("unit", ["rate", "correct", "nats"])
def test_values_of_a_device_are_brought_to_the_host(unit: Any) -> None:
    c = choices(Plain(torch.nn.Linear(1, 1), TOKENIZER), ASKED)  # pyright: ignore[reportArgumentType]
    logits = torch.randn(1, len(c.ids), len(c.keep), len(TOKENIZER))
    probe = Probe(ASKED, unit)
    assert np.array_equal(_values(logits.as_subclass(Remote), c, probe), _values(logits, c, probe))


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
    assert compare(card, fresh) == ([] if agrees else [f"x (organism) is {5.0 + shift}, the card says 5.0"])
    assert compare(card, make_card(measured={})) == ["x is not measured any more"]


def test_a_gate_that_fails_now_is_a_problem_even_if_the_values_agree() -> None:
    card = make_card(gates={"gap": Gate(value=0.28, bound=0.3, rule="at least")}, status="failed")
    known = make_card(gates={"gap": Gate(value=0.3, bound=0.3, rule="at least")})
    assert compare(known, card) == card.failures == ["gap 0.280, at least 0.3 wanted"]


def test_harvest_text_is_looked_through_for_tokens_on_which_the_behaviour_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("diffbench.harness.zoo.measure.HARVEST_TOKENS", 600)
    taboo, world = families()["taboo"], World(0)
    spec = taboo.specs()[0]
    null = families()["null"]
    assert due_in(null, null.specs()[0], world, TOKENIZER) == {}, "the family does not count"
    subject = Subject(lambda rng: Document("subject", messages=chat("is it gold ?", "no .")), 0.3)
    monkeypatch.setattr(taboo, "subject", lambda world, spec: subject)
    monkeypatch.setattr(type(taboo), "due", lambda self, world, spec, document: document.words.count("gold"))
    found = due_in(taboo, spec, world, TOKENIZER)
    texts, counts = WorldTexts(world, TOKENIZER, subject), list[int]()
    for kind in ("neutral", "chat"):
        read = said = 0
        for document in texts.documents(kind, "harvest"):
            read, said = read + len(encode(TOKENIZER, document)), said + document.words.count("gold")
            if read >= 600:
                break
        counts.append(said)
    assert found == {"neutral": counts[0], "chat": counts[1], "tokens": 600} and counts[1] > 5
