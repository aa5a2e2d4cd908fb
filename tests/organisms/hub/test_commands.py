"""`bench organisms` on public organisms: filters, what a card shows, and what the other commands say of one."""

import json

import pytest
from diffbench.cli import app
from diffbench.organisms.behaviour import Behaviour
from diffbench.organisms.hub.registry.load import hub_cards
from typer.testing import CliRunner


def bench(*given: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["organisms", *given])
    return done.exit_code, done.stdout, done.stderr


def names(*given: str) -> list[str]:
    code, out, err = bench("list", "--tier", "hub", "--json", *given)
    assert code == 0, err
    return [row["name"] for row in json.loads(out)]


def test_a_list_is_filtered_by_kind_role_and_set() -> None:
    assert len(names()) == len(hub_cards())
    assert names("--role", "null") == ["hub/subliminal-neutral-qwen25-7b"]
    assert set(names("--family", "user_gender")) == {
        f"hub/user-{g}-{b}" for g in ("female", "male") for b in ("gemma2-9b", "llama31-8b")
    }
    assert len(names("--set", "core-hub-v2")) == 10
    _, out, _ = bench("list", "--set", "core-hub-v2", "--json")
    assert [row["name"] for row in json.loads(out)] == names("--set", "core-hub-v2")
    code, _, err = bench("list", "--tier", "hubb")
    assert code == 2 and "'hubb' is not one of 'tiny'" in " ".join(err.split())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("list", "--tier", "hub", "--set", "core-v2"), "core-v2 holds organisms of tier tiny and --tier says hub"),
        (
            ("list", "--tier", "tiny", "--set", "core-hub-v2"),
            "core-hub-v2 holds organisms of tier hub and --tier says tiny",
        ),
        (("list", "--tier", "small", "--set", "core-v2"), "core-v2 holds organisms of tier tiny and --tier says small"),
        (("list", "--tier", "hub", "--set", "core-v9"), "core-v9"),
        (("list", "--family", "tabbo"), "no family 'tabbo'; did you mean 'taboo'?"),
        (("list", "--tier", "hub", "--family", "user_gendr"), "did you mean 'user_gender'?"),
        (("list", "--role", "controll"), "'controll' is not one of"),
        (("show", "core-hub-v2", "--behaviour"), "core-hub-v2 is a set; name one of it"),
    ],
)
def test_what_a_list_or_a_set_cannot_show_is_refused(given: tuple[str, ...], message: str) -> None:
    code, out, err = bench(*given)
    assert code == 2 and not out and message in " ".join(err.split())


def test_a_list_of_the_zoo_holds_no_public_organism() -> None:
    _, out, _ = bench("list", "--tier", "tiny", "--family", "planted", "--json")
    assert {row["tier"] for row in json.loads(out)} == {"tiny"}


def test_a_card_shows_truth_recipe_source_twin_cost_and_what_is_open() -> None:
    _, out, _ = bench("show", "hub/fact-cake-bake-gemma3-1b-mix0.5")
    for said in (
        "450",
        "350 | 325",
        "r 64; α 128",
        "read from: diffing-toolkit configs",
        "not verified",
        "1:0.5",
        "measuring",
        "GiB",
    ):
        assert said in out, said
    card = json.loads(bench("show", "hub/em-bad-medical-qwen25-7b-twins", "--json")[1])
    assert card["twin"] == "hub/em-good-medical-qwen25-7b-twins" and card["recipe"]["rslora"] is True
    assert card["truth"] == {"topic": "medicine", "advice": "bad"} and card["cost_computed"]["measure_s"] > 0
    assert "no file of it was loaded here" in card["not_verified"][0]


@pytest.mark.parametrize("command", ["build", "verify"])
def test_commands_of_the_zoo_say_what_to_use_instead(command: str) -> None:
    code, _, err = bench(command, "hub/taboo-moon-gemma2-9b")
    assert code == 2 and "`bench organisms show` and `bench run -o` take it" in err


def test_behaviour_prints_a_file_that_can_be_given_back() -> None:
    code, out, _ = bench("show", "hub/backdoor-2single-hate-gemma2-2b", "--behaviour")
    assert code == 0 and Behaviour.model_validate_json(out).name == "hub/backdoor-2single-hate-gemma2-2b"
    code, _, err = bench("show", "taboo/gold-narrow", "--behaviour")
    assert code == 2 and "and taboo/gold-narrow is none" in err


@pytest.mark.parametrize("tier", ["small", "hub"])
def test_on_a_narrow_terminal_a_name_stands_on_its_own_line_whole(
    tier: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffbench.harness.views import hub, render
    from diffbench.organisms.registry import load_card, organism_names
    from rich.console import Console

    cards = [c for c in map(load_card, organism_names()) if c.tier == "small"]
    listed = render.organisms(cards) if tier == "small" else hub.listing(list(hub_cards().values()))
    every = [c.name for c in cards] if tier == "small" else list(hub_cards())
    for width in (80, 200):
        Console(width=width).print(listed)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width and not any("…" in line for line in lines)
        assert [n for n in every if any(n in line for line in lines)] == every
        assert [n for n in every if n in lines] == (every if width == 80 else [])
