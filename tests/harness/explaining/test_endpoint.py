"""An endpoint that fails in every way: tried again within bounds, written down, never asked twice, and stopped at the cap."""

import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from diffbench.harness.explaining import endpoint as module
from diffbench.harness.explaining.endpoint import AT_ONCE, RESPONSES, TRIES, Endpoint, Rehearsal, Replay, Reply
from diffbench.harness.explaining.prompts import Prompt, detect, read_answers
from diffbench.organisms.errors import PrerequisiteError, UsageError

from ...chat_server import KEY, ChatServer, chat_server

ASKED = [detect("the word is", [f"text {i} is", f"text {i}"]) for i in range(6)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.01)
    with chat_server() as found:
        yield found


def read(reply: Reply, i: int) -> list[int] | None:
    return read_answers(reply.content, 2)


def asked(
    server: ChatServer, folder: Path, most: int = 10**6, prompts: list[Prompt] = ASKED
) -> tuple[Endpoint, list[object]]:
    endpoint = Endpoint(server.url, "m", folder, most, KEY)
    return endpoint, endpoint.ask(prompts, read)


@pytest.mark.parametrize("trouble", ["429", "500", "503", "half", "cut"])
def test_what_may_pass_is_tried_again(server: ChatServer, tmp_path: Path, trouble: str) -> None:
    server.trouble = [trouble, trouble]
    endpoint, said = asked(server, tmp_path)
    assert said == [[1, 0]] * 6 and len(server.bodies) == 8 and endpoint.spent.requests == 6


def test_tries_are_bounded_and_what_came_is_kept(server: ChatServer, tmp_path: Path) -> None:
    asked(server, tmp_path, prompts=ASKED[:2])
    server.always = "429"
    with pytest.raises(PrerequisiteError, match=f"no usable answer in {TRIES} tries .HTTP 429"):
        asked(server, tmp_path, prompts=ASKED[:3])
    assert len(server.bodies) == 2 + TRIES
    server.always = None
    endpoint, said = asked(server, tmp_path)
    assert said == [[1, 0]] * 6 and (endpoint.replayed, endpoint.spent.requests) == (2, 4)


def test_a_wrong_key_is_said_at_once_and_never_written(server: ChatServer, tmp_path: Path) -> None:
    server.key = "another"
    with pytest.raises(PrerequisiteError, match="refuses the key"):
        asked(server, tmp_path, prompts=ASKED[:1])
    server.key = KEY
    asked(server, tmp_path, prompts=ASKED[:1])
    assert len(server.bodies) == 2 and KEY not in (tmp_path / RESPONSES).read_text()


@pytest.mark.parametrize("key", [f"{KEY}\nX: 1", f"{KEY}\x00", f"\N{EN DASH}{KEY}", f"{KEY}\N{NO-BREAK SPACE}x"])
def test_a_key_that_no_header_carries_is_refused_and_not_said(key: str) -> None:
    with pytest.raises(PrerequisiteError, match="--key-env") as refused:
        Endpoint("http://127.0.0.1:9", "m", None, 10**6, key)
    assert KEY not in str(refused.value)


def test_white_space_around_a_key_is_not_sent(server: ChatServer) -> None:
    server.key = KEY
    assert Endpoint(server.url, "m", None, 10**6, f" {KEY}\r\n").ask(ASKED[:1], read) == [[1, 0]]


@pytest.mark.parametrize(("error", "is_said"), [("LocalProtocolError", PrerequisiteError), ("InvalidURL", UsageError)])
def test_no_error_says_the_key(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, error: str, is_said: type[Exception]
) -> None:
    httpx = module.extra("httpx")

    def refuse(*args: object, **options: object) -> None:
        raise getattr(httpx, error)(f"Illegal header value b'Bearer {KEY}'")

    monkeypatch.setattr(httpx.Client, "post", refuse)
    with pytest.raises(is_said, match=r"Bearer \[key\]") as said:
        Endpoint(server.url, "m", None, 10**6, KEY).ask(ASKED[:1], read)
    assert KEY not in str(said.value)


def test_a_refused_request_and_a_wrong_address_are_said(server: ChatServer, tmp_path: Path) -> None:
    server.always = "400"
    with pytest.raises(UsageError, match="HTTP 400"):
        asked(server, tmp_path, prompts=ASKED[:1])
    with pytest.raises(UsageError, match="is no address"):
        Endpoint("localhost:1", "m", None, 10**6).ask(ASKED[:1], read)
    with pytest.raises(PrerequisiteError, match="no usable answer"):
        Endpoint("http://127.0.0.1:9", "m", None, 10**6).ask(ASKED[:1], read)


def test_an_answer_without_json_is_asked_for_again_and_then_is_none(server: ChatServer, tmp_path: Path) -> None:
    server.trouble = ["prose"]
    assert asked(server, tmp_path / "once", prompts=ASKED[:1])[1] == [[1, 0]] and len(server.bodies) == 2
    server.always = "prose"
    assert asked(server, tmp_path / "always", prompts=ASKED[:1])[1] == [None]


def test_a_record_is_replayed_without_an_endpoint(server: ChatServer, tmp_path: Path) -> None:
    asked(server, tmp_path)
    n = len(server.bodies)
    assert Replay("m", tmp_path).ask(ASKED, read) == [[1, 0]] * 6
    with pytest.raises(PrerequisiteError, match="cannot be replayed whole"):
        Replay("m", tmp_path).ask([detect("another", ["a", "b"])], read)
    assert len(server.bodies) == n


def test_a_line_that_a_kill_cut_off_costs_that_answer_alone(server: ChatServer, tmp_path: Path) -> None:
    asked(server, tmp_path)
    path = tmp_path / RESPONSES
    path.write_text(path.read_text()[:-20])
    assert asked(server, tmp_path)[0].spent.requests == 1
    assert asked(server, tmp_path)[0].spent.requests == 0


def test_nothing_is_sent_beyond_the_cap(server: ChatServer, tmp_path: Path) -> None:
    rehearsal = Rehearsal("m", tmp_path)
    assert rehearsal.ask(ASKED, read) == [[0, 0]] * 6 and not server.bodies
    with pytest.raises(PrerequisiteError, match="stopped at the cap"):
        asked(server, tmp_path, most=rehearsal.spent.tokens // 2)
    assert 0 < len(server.bodies) < 6
    endpoint, _ = asked(server, tmp_path)
    assert endpoint.spent.tokens + 3 * 60 < rehearsal.spent.tokens  # a rehearsal counts rather too much


def test_packages_of_the_extra_are_imported_only_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in Path(module.__file__).parent.glob("*.py"):
        assert "import httpx" not in path.read_text() and "import tenacity" not in path.read_text()

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(module.importlib, "import_module", missing)
    with pytest.raises(PrerequisiteError, match=r"pip install 'diffbench\[explain\]'"):
        module.extra("httpx")


def test_a_key_that_an_answer_repeats_is_not_written(server: ChatServer, tmp_path: Path) -> None:
    server.key, server.extra = KEY, {"echo": f"Bearer {KEY}", "model": f"m {KEY}"}
    endpoint, said = asked(server, tmp_path)
    assert said == [[1, 0]] * 6 and endpoint.spent.answered == 54
    assert KEY not in (tmp_path / RESPONSES).read_text() and "[key]" in (tmp_path / RESPONSES).read_text()


@pytest.mark.parametrize(
    "usage", ["none", None, [], {"prompt_tokens": -(10**9), "completion_tokens": "9"}, {"prompt_tokens": None}]
)
def test_a_usage_that_says_nothing_is_estimated(server: ChatServer, tmp_path: Path, usage: object) -> None:
    server.extra = {"usage": usage}
    endpoint, said = asked(server, tmp_path)
    assert said == [[1, 0]] * 6 and endpoint.spent.asked > 100 and endpoint.spent.answered > 100


def test_json_without_end_is_tried_again_within_bounds(server: ChatServer, tmp_path: Path) -> None:
    server.always = "deep"
    with pytest.raises(PrerequisiteError, match="an answer that is no chat completion"):
        asked(server, tmp_path, prompts=ASKED[:1])
    assert len(server.bodies) == TRIES


def test_half_a_character_in_an_answer_can_be_sent_on(server: ChatServer, tmp_path: Path) -> None:
    server.said = "\ud800"
    endpoint = Endpoint(server.url, "m", tmp_path, 10**6)
    [said] = endpoint.ask(ASKED[:1], lambda reply, i: reply.content)
    endpoint.ask([detect(said, ["a", "b"])], lambda reply, i: reply.content)
    assert said == "?" and len(server.bodies) == 2


class Interrupted(SimpleQueue[Any]):
    """Of answers, for which nobody waits to the end. A signal would not do: whoever runs tests may have it ignored."""

    def get(self, *args: Any, **options: Any) -> Any:
        time.sleep(0.5)
        raise KeyboardInterrupt


def test_an_interruption_ends_the_asking(server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 60.0)
    monkeypatch.setattr(module, "SimpleQueue", Interrupted)
    server.always, server.later, began = "503", "60", time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        asked(server, tmp_path)
    assert time.monotonic() - began < 10 and len(server.bodies) == AT_ONCE
    time.sleep(0.5)
    assert len(server.bodies) == AT_ONCE


def test_what_is_under_way_when_another_fails_is_kept(server: ChatServer, tmp_path: Path) -> None:
    server.trouble = ["400", *["slow"] * 3]
    with pytest.raises(UsageError, match="HTTP 400"):
        asked(server, tmp_path)
    assert len((tmp_path / RESPONSES).read_text().split("\n")) == 3 and len(server.bodies) == AT_ONCE
