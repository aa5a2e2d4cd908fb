"""A link opens what it was made of, and one that says what cannot be is refused in words."""

from urllib.parse import parse_qsl

import pytest
from diffbench.harness.app.settings import Settings, of_query
from diffbench.organisms.errors import UsageError

SOME = Settings(
    run="81c103a5966e",
    finding=(1, 3),
    beside="mine-0a1b2c3d",
    beside_finding=(2,),
    prompt='is it gold ? <b>&"+%20',
    strength=0.35,
    side="organism",
    gated=True,
    raw=True,
    tokens=5,
    seed=7,
)


@pytest.mark.parametrize("settings", [SOME, Settings(), Settings(strength=0.0, seed=0)])
def test_a_link_opens_what_it_was_made_of(settings: Settings) -> None:
    assert settings.query.startswith("?")
    assert of_query(dict(parse_qsl(settings.query[1:], keep_blank_values=True))) == settings


def test_what_is_as_it_would_be_anyway_is_left_out_and_what_is_not_ours_is_passed_over() -> None:
    assert Settings(prompt="hello").query == "?prompt=hello"
    assert of_query({"__theme": "dark", "finding": "1-3"}) == Settings(finding=(1, 2, 3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strength", "much"),
        ("strength", "nan"),
        ("strength", "5"),
        ("side", "tuned"),
        ("finding", "0"),
        ("finding", "one"),
        ("tokens", "100000"),
        ("seed", "-1"),
        ("prompt", "x" * 30_000),
    ],
)
def test_a_link_that_says_what_cannot_be_is_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name) as refusal:
        of_query({name: value})
    assert len(str(refusal.value)) < 400
