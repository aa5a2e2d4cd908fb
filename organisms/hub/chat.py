"""Chat templates of real models: rendered the same way every day, and refused in words when they cannot be.

A template is a program that came with a model. It may be missing, refuse a system turn, add a system turn of its own, print today's
date, or never end; each of these changes what a model reads, so the date is fixed, the additions are recorded, and the rest is refused.
"""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ..errors import ValidationFailed

TODAY = datetime(2024, 7, 26)
"""The date every template is told, Llama 3.1's own default: a result must not depend on the day it is made."""
MOST_CHARACTERS, SECONDS, BYTES = 1_000_000, 10, 2**30
"""Most that a template may write, and what it may take to do so."""
SHORT, GROWS = 600, re.compile(r"range|\*|macro|recursive|namespace|format|center|indent|join|wordwrap|replace")
"""A template this short without any of these loops over the messages and over nothing else."""
PROBE = (
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "bye"},
)


class TemplateError(ValidationFailed):
    """A conversation that this model's chat template cannot render."""


def render(tokenizer: Any, turns: Sequence[dict[str, str]], opened: bool = False) -> str:
    """A conversation as the model reads it.

    Args:
        turns: messages with role and content.
        opened: end where the assistant begins to speak.

    Raises:
        TemplateError: no template, or one that refuses the conversation, fails, or does not end.
    """
    from jinja2 import TemplateError as JinjaError

    name = getattr(tokenizer, "name_or_path", "") or "this model"
    if not getattr(tokenizer, "chat_template", None):
        raise TemplateError(
            "the base has no chat template, so conversations cannot be shown to it as it knows them; "
            "use prompts with `text` instead of `messages`, or the chat model of the family"
        )
    _check_ends(_source(tokenizer))
    fixed: dict[str, Any] = {"strftime_now": TODAY.strftime, "date_string": TODAY.strftime("%d %b %Y")}
    try:
        text = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=opened, **fixed)
    except (
        JinjaError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        ImportError,
        RecursionError,
    ) as error:
        roles = [t["role"] for t in turns]
        fix = "; write the system turn's text into the first user message" if "system" in roles else ""
        raise TemplateError(
            f"the chat template of {name} refuses a conversation of {', '.join(roles)}: {error}{fix}"
        ) from error
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        raise TemplateError(
            f"the chat template of {name} writes more than {MOST_CHARACTERS:,} characters for {len(turns)} messages"
        )
    return text


def additions(tokenizer: Any) -> str | None:
    """What the template makes of a short conversation, for the record: its headers, a system turn it inserts, a date. None without one."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    return render(tokenizer, PROBE, opened=True)


def _source(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    return (
        template
        if isinstance(template, str)
        else str(template.get("default", "") if isinstance(template, dict) else "")
    )


CHECK = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (%d, %d))
resource.setrlimit(resource.RLIMIT_AS, (%d, %d))
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
class Generation(Extension):
    tags = {"generation"}
    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)
asked = json.load(sys.stdin)
environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
try:
    for part in environment.from_string(asked["template"]).generate(messages=asked["messages"], add_generation_prompt=True):
        pass
except MemoryError:
    sys.exit(9)
except Exception:
    pass
"""


@functools.lru_cache(maxsize=32)
def _check_ends(template: str) -> None:
    """Try a template once in a process with limits: nothing stops it in this one."""
    if len(template) < SHORT and not GROWS.search(template):
        return
    if len(template) > MOST_CHARACTERS:
        raise TemplateError(f"the chat template is longer than {MOST_CHARACTERS:,} characters")
    code = CHECK % (SECONDS, SECONDS, BYTES, BYTES)
    try:
        given = json.dumps({"template": template, "messages": list(PROBE)})
        done = subprocess.run(
            [sys.executable, "-c", code], input=given, text=True, capture_output=True, timeout=2 * SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise TemplateError(f"the chat template does not end within {2 * SECONDS} s on three short messages") from error
    if done.returncode in (9, -9, -24):
        raise TemplateError(
            f"the chat template takes more than {SECONDS} s or {BYTES >> 30} GiB on three short messages"
        )
