"""Chat templates of real models: rendered the same way every day, and refused in words when they cannot be.

A template is a program that came with a model. It may be missing, refuse a system turn, add a system turn of its own, print today's
date, or never end; each of these changes what a model reads, so the date is fixed, the additions are recorded, and the rest is refused.
"""

import functools
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ..errors import ValidationFailed

TODAY = datetime(2024, 7, 26)
"""The date every template is told, Llama 3.1's own default: a result must not depend on the day it is made."""
MOST_CHARACTERS, SECONDS, BYTES = 1_000_000, 5, 2**30
"""Most that a template may write, and what it may take to do so."""
PROBE = (
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "bye"},
)
LONG = tuple({"role": ("user", "assistant")[i % 2], "content": 100 * "word "} for i in range(40))
"""A conversation on which loops inside loops take their time."""


class TemplateError(ValidationFailed):
    """A conversation that this model's chat template cannot render."""


class Additions(NamedTuple):
    """What a template puts into a conversation beside its turns."""

    inserted: str
    """Text before the first user turn of a conversation without a system turn; empty if there is none."""
    date: str | None
    """The date it was told, if it asks for one."""


def template_of(tokenizer: Any) -> str:
    """Source of the template for conversations without tools.

    Raises:
        TemplateError: there is none.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise TemplateError(
            "the base has no chat template, so conversations cannot be shown to it as it knows them; use prompts with `text` instead of "
            "`messages` and leave `chat` out, give a `chat_template` in the behaviour file, or take the chat model of the family"
        )
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise TemplateError(f"the base has several chat templates and none for plain conversations: {error}") from error


def render(tokenizer: Any, turns: Sequence[Mapping[str, str]], opened: bool = False) -> str:
    """A conversation as the model reads it.

    Args:
        turns: messages with role and content.
        opened: end where the assistant begins to speak.

    Raises:
        TemplateError: no template, or one that refuses the conversation, fails, or does not end.
    """
    # `apply_chat_template` makes plain data of all that it is given, so a fixed clock cannot be handed to it
    from transformers.utils.chat_template_utils import _compile_jinja_template  # pyright: ignore[reportPrivateUsage]

    source, special = template_of(tokenizer), dict(tokenizer.special_tokens_map)
    if (fault := _fault(source, json.dumps(special, sort_keys=True))) is not None:
        raise TemplateError(f"the chat template of {_name(tokenizer)} {fault}")
    parts, length, end = list[str](), 0, time.monotonic() + 2 * SECONDS
    given = {**special, "tools": None, "documents": None, "date_string": TODAY.strftime("%d %b %Y")}
    given |= {"messages": [dict(t) for t in turns], "add_generation_prompt": opened, "strftime_now": TODAY.strftime}
    try:
        for part in _compile_jinja_template(source).generate(**given):
            parts.append(part)
            length += len(part)
            if length > MOST_CHARACTERS or time.monotonic() > end:
                raise TemplateError(
                    f"the chat template of {_name(tokenizer)} writes more than {MOST_CHARACTERS:,} characters or for longer than "
                    f"{2 * SECONDS} s for {len(turns)} messages; leave the conversation out or shorten it"
                )
    except TemplateError:
        raise
    except Exception as error:  # a template is a stranger's program, and may fail in any way
        raise TemplateError(_refusal(tokenizer, turns, error)) from error
    return "".join(parts)


def _refusal(tokenizer: Any, turns: Sequence[Mapping[str, str]], error: Exception) -> str:
    roles = [t["role"] for t in turns]
    fix = "give a template that works as `chat_template` in the behaviour file, or prompts with `text`"
    if "system" in roles:
        fix = (
            'set `"merge_system": true` in the behaviour file to put a system turn before the first user message, '
            "or write it there yourself"
        )
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"the chat template of {_name(tokenizer)} refuses a conversation of {', '.join(roles) or 'no turns'} ({said}); {fix}"


def opened(tokenizer: Any, turns: Sequence[Mapping[str, str]], prefill: str = "") -> str:
    """A conversation with the assistant's turn opened, then `prefill`, which stands where the template would put an answer.

    Raises:
        TemplateError: as `render`.
    """
    header, gap = _opening(tokenizer, template_of(tokenizer))
    text = render(tokenizer, turns, opened=True) + header
    return text + ("" if prefill[:1].isspace() else gap) + prefill if prefill else text


@functools.lru_cache(maxsize=64)
def _opening(tokenizer: Any, source: str) -> tuple[str, str]:
    """A header that the template writes only with an answer, although asked to open the turn; and the space before an answer.

    Where an answered conversation does not begin as the opened one does, the space is one space, or none after another.
    """
    asked, mark = PROBE[:1], "answer"
    start = render(tokenizer, asked, opened=True)
    usual = "", "" if start[-1:].isspace() else " "
    try:
        whole = render(tokenizer, [*asked, {"role": "assistant", "content": mark}])
    except TemplateError:
        return usual
    between, found, _ = whole.removeprefix(start).partition(mark)
    if not (found and whole.startswith(start)):
        return usual
    if not between.strip():
        return "", between
    if start != render(
        tokenizer, asked
    ):  # it opens the turn, and what it adds to a past answer is no part of a new one
        return usual
    header = between.rstrip(" ")
    return header, between[len(header) :]


def additions(tokenizer: Any) -> Additions | None:
    """What the template adds to a conversation, found by rendering one; None without a template that renders it."""
    try:
        source, text = template_of(tokenizer), render(tokenizer, PROBE)
    except TemplateError:
        return None
    before, _, rest = text.partition(PROBE[0]["content"])
    _, _, after = rest.partition(PROBE[1]["content"])
    middle, _, _ = after.partition(PROBE[2]["content"])
    start = getattr(tokenizer, "bos_token", None) or ""
    before = before if start in middle else before.removeprefix(start)  # SmolLM2's also begins every turn
    # the user's header stands before both user turns; what stands before the first one only was put there
    same = sum(1 for _ in itertools.takewhile(bool, map(str.__eq__, reversed(before), reversed(middle))))
    dated = re.search(r"strftime_now|date_string", source) is not None
    return Additions(before[: len(before) - same].strip(), TODAY.strftime("%d %b %Y") if dated else None)


def _name(tokenizer: Any) -> str:
    return getattr(tokenizer, "name_or_path", "") or "this model"


CHECK = """
import json, resource, sys
from datetime import datetime
import psutil
from transformers.utils.chat_template_utils import _compile_jinja_template
asked = json.load(sys.stdin)
cpu = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + 1 + asked["seconds"]
memory = psutil.Process().memory_info().vms + asked["bytes"]
resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
try:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
except (ValueError, OSError):
    pass
given = {**asked["special"], "tools": None, "documents": None, "date_string": "26 Jul 2024"}
given["strftime_now"] = datetime(2024, 7, 26).strftime
for messages in asked["conversations"]:
    for opened in (False, True):
        left = asked["characters"]
        try:
            parts = _compile_jinja_template(asked["template"]).generate(messages=messages, add_generation_prompt=opened, **given)
            for part in parts:
                left -= len(part)
                if left < 0:
                    sys.exit(9)
        except MemoryError:
            sys.exit(9)
        except Exception:
            pass  # told to the user when a conversation of theirs is rendered
"""


@functools.lru_cache(maxsize=64)
def _fault(source: str, special: str) -> str | None:
    """Why a template must not be rendered here: nothing would stop it. It is tried once, in a process with limits."""
    from ..world.tokenizer import CHAT_TEMPLATE

    if source == CHAT_TEMPLATE:
        return None
    if len(source) > MOST_CHARACTERS:
        return f"is longer than {MOST_CHARACTERS:,} characters; give one that is not as `chat_template` in the behaviour file"
    asked: dict[str, Any] = {"template": source, "special": json.loads(special), "conversations": [PROBE, LONG]}
    asked |= {"seconds": SECONDS, "bytes": BYTES, "characters": MOST_CHARACTERS}
    command = [sys.executable, "-P", "-c", CHECK]
    limits = (
        f"takes more than {SECONDS} s, {BYTES >> 30} GiB or {MOST_CHARACTERS:,} characters for a conversation of {len(LONG)} short "
        "messages; give another as `chat_template` in the behaviour file"
    )
    try:
        done = subprocess.run(
            command, input=json.dumps(asked), text=True, capture_output=True, timeout=60 + 4 * SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return limits
    if done.returncode == 0:
        return None
    if done.returncode in (9, -9, -24):
        return limits
    return f"cannot be tried: {done.stderr.strip().splitlines()[-1:] or done.returncode}"
