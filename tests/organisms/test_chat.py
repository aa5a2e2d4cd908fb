"""Chat templates are other people's programs: rendered the same every day, told what they add, refused when they cannot be rendered."""

from datetime import datetime

import pytest
from diffbench.organisms.hub import chat
from diffbench.organisms.hub.chat import TemplateError, additions, opened, render
from diffbench.organisms.world.tokenizer import build_tokenizer

from ..tokenizers import CHATML, GEMMA, LLAMA2, LLAMA32, NO_HEADER, QWEN, byte_level, sentencepiece

ASKED = [{"role": "user", "content": "hello"}]
SYSTEM = [{"role": "system", "content": "be brief"}, *ASKED]


def test_a_base_without_a_template_is_refused_with_ways_out() -> None:
    with pytest.raises(TemplateError, match=r"no chat template.*`text` instead of `messages`.*`chat_template`"):
        render(byte_level(None), ASKED)


def test_a_template_without_a_system_role_says_how_to_merge_it() -> None:
    with pytest.raises(TemplateError, match=r"refuses.*System role not supported.*merge_system"):
        render(byte_level(GEMMA), SYSTEM)


def test_a_template_that_refuses_an_order_of_turns_is_quoted() -> None:
    with pytest.raises(TemplateError, match=r"conversation of user, user .*Conversation roles must alternate"):
        render(byte_level(GEMMA), ASKED * 2)


@pytest.mark.parametrize(
    ("template", "inserted", "date"),
    [
        (CHATML, "", None),
        (GEMMA, "", None),
        (QWEN, "<|im_start|>system\nYou are Qwen.", None),
        (LLAMA32, "<|im_start|>system\nToday Date: 26 Jul 2024", "26 Jul 2024"),
    ],
    ids=["ChatML", "Gemma", "Qwen", "Llama 3.2"],
)
def test_what_a_template_puts_before_the_first_turn_is_known(template: str, inserted: str, date: str | None) -> None:
    found = additions(byte_level(template))
    assert found is not None
    assert found.inserted.removesuffix("<|im_end|>") == inserted and found.date == date


def test_what_repeats_in_every_turn_is_no_addition() -> None:
    assert additions(sentencepiece(LLAMA2)) == ("", None) == additions(build_tokenizer())


def test_a_turns_own_mark_stays_where_it_also_begins_a_text() -> None:
    tokenizer = byte_level(QWEN)
    tokenizer.bos_token = "<|im_start|>"
    assert additions(tokenizer) == ("<|im_start|>system\nYou are Qwen.", None)


@pytest.mark.parametrize("template", [LLAMA32, "{{ strftime_now('%Y-%m-%d') }}" + CHATML])
def test_two_days_read_the_same_bytes(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import chat_template_utils

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Later":
            return cls(2031, 1, 1)

    today = render(byte_level(template), ASKED)
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    assert render(byte_level(template), ASKED) == today and "2024" in today
    assert "2031" in byte_level(template).apply_chat_template(ASKED, tokenize=False)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ missing.part }}", "'missing' is undefined"),
        ("{{ messages[9].content }}", "UndefinedError|no element 9"),
        ("{{ raise_exception('not this one') }}", "not this one"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% for i in range(10**30) %}{% endfor %}", "OverflowError"),
        ("{% include 'other' %}", "no loader"),
        ("{{ 'a' + 1 }}", "TypeError"),
    ],
)
def test_a_template_that_fails_is_refused_in_its_own_words(template: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        render(byte_level(template), ASKED)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 3000000000 }}",
        "{% set a = 'xxxxxxxx' %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
        "{% for a in messages %}" * 8 + "x" + "{% endfor %}" * 8,
        "{% for a in range(90000) %}{% for b in range(90000) %}{% set c = 1 %}{% endfor %}{% endfor %}",
        "{{ strftime_now('%d') }}{{ bos_token }}{{ messages | tojson }}"
        + "{% for a in range(99999) %}" * 2
        + "{% endfor %}" * 2,
    ],
    ids=[
        "a long string",
        "doubled",
        "nested loops over messages",
        "silent loops",
        "after what only a chat template has",
    ],
)
def test_a_template_that_does_not_end_is_refused_before_it_runs_here(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "SECONDS", 1)
    with pytest.raises(TemplateError, match="takes more than 1 s, 1 GiB or 1,000,000 characters"):
        render(byte_level(template), ASKED)


def test_a_template_that_writes_too_much_of_one_conversation_is_stopped() -> None:
    template = (
        "{% for m in messages %}{% for i in range(m.content | length - 600) %}{{ m.content }}{% endfor %}{% endfor %}"
    )
    with pytest.raises(TemplateError, match="more than 1,000,000 characters"):
        render(byte_level(template), [{"role": "user", "content": 2000 * "x"}])


def test_a_template_that_never_opens_a_turn_is_opened_as_it_writes_an_answer() -> None:
    """Old ChatML templates pass over `add_generation_prompt`: the model would be asked to go on after the user's turn."""
    assert render(byte_level(NO_HEADER), ASKED, opened=True).endswith("hello<|im_end|>\n")
    assert opened(byte_level(NO_HEADER), ASKED) == opened(byte_level(CHATML), ASKED)


def test_what_a_template_adds_to_past_answers_only_is_not_put_into_a_new_one() -> None:
    thinking = CHATML.replace(
        "'\n' + m['content']", "'\n' + ('<think></think>' if m['role'] == 'assistant' else '') + m['content']"
    )
    assert opened(byte_level(thinking), ASKED, "gold").endswith("<|im_start|>assistant\ngold")


def test_the_embedded_tier_reads_what_it_always_read() -> None:
    assert opened(build_tokenizer(), ASKED, "gold is") == "<bos><user> hello <end><assistant> gold is"
