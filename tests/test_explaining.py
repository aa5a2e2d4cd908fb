"""`bench explain` as a user meets it, with n-grams and against a local server of the chat-completions format."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffbench.harness.explaining import endpoint, steering
from diffbench.harness.explaining.material import Material
from diffbench.harness.inspection.subject import Subject
from diffbench.methods.coder.dictionary import RawCoder
from diffbench.methods.contract import Finding
from diffbench.methods.formats import Dictionary, DictionaryCard, write_dictionary
from diffbench.methods.formats.findings import pack
from safetensors.torch import save_file

from .chat_server import KEY, WORD, ChatServer, chat_server
from .test_cli import bench

PAIR = ("mine.safetensors", "-o", "taboo/gold-narrow", "--tokens", "2500")
ASKED = (*PAIR, "--finding", "1-2", "--scorer", "detection,simulation,intruder", "--shuffles", "1")
MADE = Material.of
PAGE = (Path(__file__).parent.parent / "docs" / "explaining.md").read_text()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A server that wants a key, beside a file of three findings without gates."""
    monkeypatch.setattr(endpoint, "LONGEST_WAIT_S", 0.01)
    monkeypatch.setattr(steering, "PROMPTS", 4)
    monkeypatch.setattr("diffbench.harness.inspection.collect.TEXT_TOKENS", {"tiny": 200})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = dict[str, Material]()

    def once(of: Subject, *asked: Any) -> Material:
        key = repr([of.name, *asked[:3]])
        made[key] = made.get(key) or MADE(of, *asked)
        return made[key]

    monkeypatch.setattr(Material, "of", once)  # a command reads the same text whoever explains
    d = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    save_file(pack([Finding(x) for x in d]), tmp_path / "mine.safetensors")
    with chat_server() as found:
        found.key = KEY
        yield found


def test_a_model_explains_and_judges_within_what_was_said_and_is_replayed(server: ChatServer) -> None:
    server.trouble = ["429", "half", "prose"]
    url = ("--url", server.url, "--model", "a/model")
    refused = bench("explain", *ASKED, *url, code=2)
    assert "nothing was sent; add --yes" in refused and not server.bodies
    most = re.search(r"at most (\d+) requests, ([\d,]+) tokens asked", refused)
    assert most
    too_much = bench("explain", *ASKED, *url, "--yes", "--max-tokens", "500", code=2)
    assert "more than --max-tokens 500" in too_much and not server.bodies
    said = bench("explain", *ASKED, *url, "--yes")
    assert f"explained by a/model: the word {WORD}" in said and "intruder" in said
    assert 0 < len(server.bodies) <= int(most[1]) + 3
    asked = len(server.bodies)
    again = bench("explain", *ASKED, *url, "--yes")
    assert len(server.bodies) == asked and "0 requests, 0 tokens asked" in again
    told = bench("explain", *ASKED, "--model", "a/model", "--replay", "--json")
    found = json.loads(told[told.index("{\n") : told.rindex("}\n") + 1])
    assert len(server.bodies) == asked and set(found["findings"]) == {"1", "2"} and found["prompts"] == "1"
    scored = {s["scorer"]: s for s in found["findings"]["1"]["scores"]}
    assert (
        scored["detection"]["value"] is not None
        and scored["detection"]["shuffled"]
        and not scored["detection"]["failed"]
    )
    assert KEY not in "".join(p.read_text() for p in Path().rglob("*.json*"))
    shown = bench("show", "mine.safetensors", "-o", "taboo/gold-narrow", "--html", "page.html", "--json")
    report = json.loads(shown[shown.index("{\n") :])
    assert [len(f["explanations"]) for f in report["findings"]] == [1, 1, 0]
    assert f"explained by a/model: the word {WORD}" in Path("page.html").read_text()


def test_an_interrupted_run_goes_on_where_it_stopped(server: ChatServer) -> None:
    asked = (*ASKED[:-4], "--scorer", "detection", "--shuffles", "0", "--url", server.url, "--model", "m", "--yes")
    server.trouble = [""] * 5 + ["503"] * 500
    stopped = bench("explain", *asked, code=3)
    assert "no usable answer in 5 tries (HTTP 503)" in stopped and "5 requests" in stopped
    server.trouble, server.bodies[:] = [], []
    said = bench("explain", *asked)
    assert "5 answers were there already" in said and "detection" in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--url", "http://127.0.0.1:9/v1"), 2, "--model NAME"),
        (("--model", "m"), 2, "give --url, or --replay"),
        (("--model", "m", "--replay", "--url", "http://x"), 2, "takes no --url"),
        (("--scorer", "beauty"), 2, "there is no scorer 'beauty'"),
        (("--latent", "1"), 3, "has no dictionary"),
        (("--latent", "x"), 2, "'x' is no number"),
        (("--finding", "9"), 2, "there is no finding 9"),
    ],
)
def test_refusals_say_what_and_how_to_go_on(
    server: ChatServer, arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert said in bench("explain", *PAIR, *arguments, code=code) and not server.bodies


@pytest.mark.slow
def test_every_command_of_the_page_runs(server: ChatServer) -> None:
    g = torch.Generator().manual_seed(0)
    encoder, decoder = torch.randn(2, 40, 2, 128, generator=g)
    raw = RawCoder(encoder, torch.ones(40), decoder, torch.zeros(2, 128), torch.full((40,), 90.0))
    Path("coder").mkdir()
    write_dictionary(
        Dictionary(raw, DictionaryCard(inputs="concat", d_model=128, n_latents=40, layer=2)), "native", Path("coder")
    )
    commands = re.findall(r"^(?:\| `)?(bench explain [^`\n]*)", PAGE, re.M)
    assert len(commands) == 7
    for command in commands:
        run = ("coder", *PAIR[1:]) if "--latent" in command else PAIR
        words = command.replace("http://127.0.0.1:8000/v1", server.url).split()[1:]
        said = bench(*[x for w in words for x in (run if w == "RUN" else (w,))])
        assert "kept: " in said and "detection" in said, command
    assert Path("cache").is_dir() and server.bodies
