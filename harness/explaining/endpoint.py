"""An OpenAI-compatible endpoint, asked within bounds: every request and its response are on disk, and nothing is asked twice.

The one idea: a request's key is the hash of its body. A response that was written down under it is taken from there, so an interrupted run
goes on where it stopped, and a finished one is replayed without the endpoint. What an asking would cost is found by the same code with a
`Rehearsal`, which answers what is not known yet with a sample. The key is sent and never written.
"""

import hashlib
import importlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ...organisms.errors import PrerequisiteError, UsageError
from .prompts import Prompt

TRIES = 5
LONGEST_WAIT_S = 30.0
"""Between two tries, whatever the endpoint asks for."""
TIMEOUT_S = 120.0
AT_ONCE = 4
"""Requests under way at a time."""
ASKED_AGAIN = 2
"""How often an answer that does not parse is asked for again."""
CHARACTERS = 3.0
"""Of a token, for what is counted before anything is sent: few, so that the count is rather too high."""
LONG = 200
"""Characters of an explanation, for the same."""
TOP_LOGPROBS = 10
LEAVING_S = 1.0
"""For each request that is under way when asking is interrupted."""
RESPONSES = "responses.jsonl"


class Again(Exception):
    """A try that failed and may succeed later.

    Args:
        wait_s: what the endpoint asks for.
    """

    def __init__(self, why: str, wait_s: float | None = None):
        super().__init__(why)
        self.wait_s = wait_s


@dataclass
class Spent:
    """Requests and tokens, as the endpoint counts them; where it does not, estimated."""

    requests: int = 0
    asked: int = 0
    answered: int = 0

    @property
    def tokens(self) -> int:
        """Of requests and answers."""
        return self.asked + self.answered

    def __str__(self) -> str:
        return f"{self.requests:,} requests, {self.asked:,} tokens asked and {self.answered:,} answered"


class Reply:
    """The first choice of a response; what is no text in it is replaced."""

    def __init__(self, response: dict[str, Any]):
        choice = response["choices"][0]
        self.content = str(choice["message"]["content"] or "").encode(errors="replace").decode()
        told = choice.get("logprobs") or {}
        self.logprobs: list[Any] = list(told.get("content") or [])


class Endpoint:
    """Asks one model, or takes what it said from disk.

    Args:
        folder: for the record; None: nothing is kept.
        most_tokens: beyond which nothing more is sent.
        key: sent as a bearer token, without the white space around it; None: none is sent.

    Raises:
        PrerequisiteError: a key that no header can hold.
    """

    def __init__(self, url: str, model: str, folder: Path | None, most_tokens: int, key: str | None = None):
        self.url, self.model, self.folder, self.most_tokens = url.rstrip("/"), model, folder, most_tokens
        self._key, self._lock, self.spent, self.replayed = _sendable(key), threading.Lock(), Spent(), 0
        self._under_way = 0
        """Tokens that are asked for and not yet counted."""
        self._over = threading.Event()
        """Nothing more is sent."""
        self._known = dict(_recorded(folder / RESPONSES)) if folder else {}
        self._client: Any = None

    def ask(self, prompts: Sequence[Prompt], read: Callable[[Reply, int], Any]) -> list[Any]:
        """What `read(reply, index)` makes of each answer, in order; an answer of which it makes None is asked for again, then stays None.

        Raises:
            PrerequisiteError: a wrong key, no endpoint, too many failures, the cap. UsageError: a request that the endpoint refuses.
        """

        def one(i: int) -> Any:
            for attempt in range(1 + ASKED_AGAIN):
                if (found := read(Reply(self._answer(self.body(prompts[i], attempt), prompts[i])), i)) is not None:
                    return found
            return None

        todo, done = iter(range(len(prompts))), SimpleQueue[tuple[int, Any, Exception | None]]()
        self._over.clear()

        def work() -> None:
            while not self._over.is_set():
                with self._lock:
                    i = next(todo, None)
                if i is None:
                    return
                try:
                    done.put((i, one(i), None))
                except Exception as error:
                    done.put((i, None, error))
                    return

        # threads that do not outlive this one: a request may hang, and whoever interrupts does not wait for it
        workers = [threading.Thread(target=work, daemon=True) for _ in range(min(AT_ONCE, len(prompts)))]
        answers, patience_s = dict[int, Any](), LEAVING_S
        try:
            for worker in workers:
                worker.start()
            for _ in prompts:
                i, answers[i], error = done.get()
                if error is not None:
                    patience_s = TIMEOUT_S
                    raise error
        finally:
            self._over.set()
            for worker in workers:  # what is under way may be paid for: it is kept if it comes
                worker.join(patience_s)
        return [answers[i] for i in range(len(prompts))]

    def body(self, p: Prompt, attempt: int = 0) -> dict[str, Any]:
        """A request; a further attempt is another one, and sampled."""
        messages = [{"role": "system", "content": p.system}, {"role": "user", "content": p.user}]
        said: dict[str, Any] = {"model": self.model, "messages": messages, "max_tokens": p.answer_tokens}
        said |= {"temperature": 0} if not attempt else {"temperature": 0.7, "seed": attempt}
        return said | ({"logprobs": True, "top_logprobs": TOP_LOGPROBS} if p.logprobs else {})

    def _answer(self, body: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
        """The response to a request, from disk or from the endpoint."""
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        if key in self._known:
            with self._lock:
                self.replayed += 1
            return self._known[key]
        need = estimate(body, prompt)
        with self._lock:
            if self.spent.tokens + self._under_way + need.tokens > self.most_tokens:
                raise PrerequisiteError(
                    f"stopped at the cap of {self.most_tokens:,} tokens after {self.spent}; what came is kept, so the same command with a "
                    "larger --max-tokens goes on from here"
                )
            self._under_way += need.tokens
        try:
            response = self._send(body, prompt)
        finally:
            with self._lock:
                self._under_way -= need.tokens
        used = response["usage"]
        with self._lock:
            self.spent.requests += 1
            self.spent.asked += used.get("prompt_tokens") or need.asked
            self.spent.answered += used.get("completion_tokens") or need.answered
            self._keep(key, body, response)
        return response

    def _keep(self, key: str, body: dict[str, Any], response: dict[str, Any]) -> None:
        self._known[key] = response
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"key": key, "request": body, "response": response})
            with (self.folder / RESPONSES).open("a", encoding="utf-8") as file:
                file.write(
                    ("" if file.tell() == 0 else "\n") + line
                )  # a line that was cut off ends where the next begins

    def _send(self, body: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
        """One response, tried a few times."""
        tenacity = extra("tenacity")

        def wait(state: Any) -> float:
            told: float | None = state.outcome.exception().wait_s
            own = tenacity.wait_random_exponential(multiplier=0.5, max=LONGEST_WAIT_S)(state)
            return min(LONGEST_WAIT_S, max(0.0, own if told is None else told))

        tries = tenacity.Retrying(
            stop=tenacity.stop_any(tenacity.stop_after_attempt(TRIES), tenacity.stop_when_event_set(self._over)),
            sleep=self._over.wait,
            wait=wait,
            retry=tenacity.retry_if_exception_type(Again),
            reraise=True,
        )
        try:
            return tries(self._try, body)
        except Again as error:
            raise PrerequisiteError(
                f"{self.url} gave no usable answer in {TRIES} tries ({error}); {self.spent} came and are kept, so the same command goes on "
                "from here"
            ) from error

    def _try(self, body: dict[str, Any]) -> dict[str, Any]:
        if self._over.is_set():
            raise Again("asking was ended")
        httpx = extra("httpx")
        if self._client is None:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            self._client = httpx.Client(headers=headers, timeout=TIMEOUT_S)
        try:
            answer = self._client.post(f"{self.url}/chat/completions", json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise UsageError(
                f"--url {self.url!r} is no address ({self._told(str(error))}); give e.g. http://127.0.0.1:8000/v1"
            ) from error
        except httpx.HTTPError as error:
            why = self._told(str(error))
            raise Again(f"{type(error).__name__}: {why}" if why else type(error).__name__) from error
        if answer.status_code in (401, 403):
            raise PrerequisiteError(
                f"{self.url} refuses the key (HTTP {answer.status_code}); put the right one into the variable that --key-env names"
            )
        if answer.status_code in (408, 409, 425, 429) or answer.status_code >= 500:
            raise Again(f"HTTP {answer.status_code}", _seconds(answer.headers.get("retry-after")))
        if answer.status_code != 200:
            raise UsageError(
                f"{self.url} refuses the request (HTTP {answer.status_code}): {self._told(answer.text)!r}; check --url, which ends before "
                "/chat/completions, and --model"
            )
        try:
            return self._read(answer.json())
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise Again(f"an answer that is no chat completion: {self._told(answer.text)!r}") from error

    def _read(self, response: dict[str, Any]) -> dict[str, Any]:
        """What is read of a response, and nothing else of it; without the key, should it stand there."""
        reply, used = Reply(response), response.get("usage")
        counted = used if isinstance(used, dict) else {}
        tokens = {n: counted.get(n) for n in ("prompt_tokens", "completion_tokens")}
        choice = {"message": {"content": reply.content}, "logprobs": {"content": reply.logprobs}}
        usage = {n: t for n, t in tokens.items() if isinstance(t, int) and t >= 0}
        text = json.dumps({"model": str(response.get("model"))[:200], "choices": [choice], "usage": usage})
        return json.loads(text.replace(json.dumps(self._key)[1:-1], "[key]") if self._key else text)

    def _told(self, text: str) -> str:
        """The beginning of what an endpoint, or an error, says, without the key."""
        return (text.replace(self._key, "[key]") if self._key else text)[:200]


class Replay(Endpoint):
    """What was recorded, and nothing else."""

    def __init__(self, model: str, folder: Path):
        super().__init__("", model, folder, 2**62)

    def _send(self, body: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
        raise PrerequisiteError(
            f"{self.folder} holds no answer of {self.model} to one of the requests ({self.replayed} were found), so it cannot be replayed "
            "whole: the findings, the text, the options or the prompts are others; give --url"
        )


class Rehearsal(Endpoint):
    """Counts what would be sent: what is known is answered from disk, what is not with a sample that is kept nowhere."""

    def __init__(self, model: str, folder: Path | None):
        super().__init__("", model, folder, 2**62)

    def _keep(self, key: str, body: dict[str, Any], response: dict[str, Any]) -> None:
        pass

    def _send(self, body: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
        digits = [{"token": c, "logprob": 0.0} for c in prompt.sample if c.isdigit()]
        long = prompt.sample.replace("…", "…" * LONG)
        return {"choices": [{"message": {"content": long}, "logprobs": {"content": digits}}], "usage": {}}


def estimate(body: dict[str, Any], prompt: Prompt) -> Spent:
    """What one request costs at most, before it is sent."""
    asked = sum(len(m["content"]) for m in body["messages"]) / CHARACTERS
    return Spent(1, int(asked) + 1, prompt.answer_tokens)


def _sendable(key: str | None) -> str | None:
    """A key as it is sent; None: it is empty. What is wrong with one is said without saying it."""
    key = (key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise PrerequisiteError(
            "the key holds a line break or a character that is not printable ASCII, which no header can carry; put the right one into the "
            "variable that --key-env names"
        )
    return key or None


def extra(name: str) -> Any:
    """A module of the extra `[explain]`.

    Raises:
        PrerequisiteError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PrerequisiteError(
            f"asking an endpoint needs the package {name}, which is not installed: pip install 'diffbench[explain]', or leave out --url: "
            "the explainer without a language model needs nothing"
        ) from error


def _recorded(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Keys and responses of a record; a line that was cut off by a kill is passed over."""
    found = list[tuple[str, dict[str, Any]]]()
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
        try:
            said = json.loads(line)
            Reply(said["response"])
            found.append((str(said["key"]), said["response"]))
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
    return found


def _seconds(told: str | None) -> float | None:
    """A Retry-After in seconds; a date is not one."""
    try:
        return float(told) if told else None
    except ValueError:
        return None
