"""A small chat-completions server on this machine: deterministic, and as unreliable as it is told to be."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-secret-of-the-test"
WORD = "is"
"""What the model takes every finding to be about."""


class ChatServer(ThreadingHTTPServer):
    """Answers as `answer` has it, after what stands in `trouble`, one a request.

    Trouble: an HTTP status, `half` (the connection ends within the body), `cut` (whole, but JSON cut off), `deep` (JSON that only opens),
    `prose` (no JSON in the answer), `slow` (after a while).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.trouble: list[str] = []
        self.always: str | None = None
        self.key: str | None = None
        self.logprobs = True
        self.later = "0"
        """Retry-After of every HTTP status."""
        self.extra: dict[str, Any] = {}
        """Beside or in the place of what a response holds."""
        self.said: str | None = None
        """In the place of every answer."""
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            trouble = self.server.always or (self.server.trouble.pop(0) if self.server.trouble else "")
        if self.path != "/v1/chat/completions":
            self._give(404, b'{"error": "no such path"}')
        elif self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self._give(401, b'{"error": "wrong key"}')
        elif trouble.isdigit():
            self._give(int(trouble), b'{"error": "later"}', {"Retry-After": self.server.later})
        else:
            time.sleep(1.0 if trouble == "slow" else 0.0)
            said = "I would rather not say." if trouble == "prose" else self.server.said or answer(body)
            choice: dict[str, Any] = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            if body.get("logprobs") and self.server.logprobs:
                choice["logprobs"] = {"content": [_likely(c) for c in said]}
            usage = {"prompt_tokens": sum(len(m["content"]) for m in body["messages"]) // 4, "completion_tokens": 9}
            data = json.dumps({"choices": [choice], "usage": usage} | self.server.extra).encode()
            data = b"[" * 100_000 if trouble == "deep" else data
            self._give(200, data[: len(data) // 2] if trouble in ("half", "cut") else data, short=trouble == "half")

    def _give(self, status: int, data: bytes, headers: dict[str, str] | None = None, short: bool = False) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data) + 99 * short)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _likely(token: str) -> dict[str, Any]:
    """A token that is nearly certain; a digit with its neighbour beside it."""
    top = [{"token": token, "logprob": -0.1}]
    return {"token": token, "logprob": -0.1, "top_logprobs": top}


def answer(body: dict[str, Any]) -> str:
    """What the model says: every finding is about one word, and a text is yes where it stands, or where it is marked."""
    system, user = (m["content"] for m in body["messages"])
    if '{"explanation"' in system:
        return '```json\n{"explanation": "the word ' + WORD + '"}\n```'
    texts = re.findall(r"^\d+\. (.*)$", user, re.M)
    if '{"activations"' in system:
        return json.dumps({"activations": [9 if WORD in t else 0 for t in texts]})
    if "have something in common" in system:
        return '{"answers": [1]}'
    wanted = f"«{WORD}»" if "«" in system else WORD
    return json.dumps({"answers": [int(wanted in t) for t in texts]})


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
