"""A user's texts are shortened only where what is left is still a text, and what was lost is counted."""

import json
from pathlib import Path
from typing import Any

import pytest
from diffbench.organisms.behaviour import Behaviour
from diffbench.organisms.hub.chat import TemplateError
from diffbench.organisms.texts import ANSWER, FileTexts, Losses, context_of

from ..tokenizers import CHATML, GEMMA, byte_level, sentencepiece

SHORT = [{"role": "user", "content": "the gold"}, {"role": "assistant", "content": "the silver"}]


def behaviour(chat: list[Any] = [], neutral: str = "the word is gold", **fields: Any) -> Behaviour:  # noqa: B006
    prompts = [
        {"split": split, "text": f"{split} {i}", "targets": ["a"]} for split in ("dev", "test") for i in range(8)
    ]
    given = {"name": "x", "prompts": prompts, "neutral": [f"{neutral} {i}" for i in range(20)], "chat": chat, **fields}
    return Behaviour.model_validate(given)


def long(n: int) -> str:
    return " ".join(["gold"] * n)


def texts(chat: list[Any], context: int | None = None, template: str = CHATML) -> tuple[FileTexts, Any]:
    tokenizer = byte_level(template)
    return FileTexts(behaviour(chat), tokenizer, context), tokenizer


def test_a_long_conversation_ends_with_a_whole_turn() -> None:
    chat = [[*SHORT, {"role": "user", "content": long(50)}, {"role": "assistant", "content": long(300)}]] * 10
    found, tokenizer = texts(chat)
    losses = Losses()
    rows = list(found.rows("chat", "harvest", losses))
    said = {tokenizer.decode(r) for r in rows}
    assert len(rows) == 7 == len(losses.cut) and not losses.skipped
    assert said == {tokenizer.apply_chat_template(chat[0][:3], tokenize=False)}


def test_a_first_turn_that_is_too_long_is_cut_inside_its_text() -> None:
    found, tokenizer = texts([[{"role": "user", "content": long(400)}, SHORT[1]]] * 10)
    (row, *_) = found.rows("chat", "harvest")
    assert len(row) == 256 and tokenizer.decode(row).endswith(" gold gold")


def test_a_template_whose_own_words_fill_the_text_leaves_the_conversation_out() -> None:
    system = "<|im_start|>system\n" + long(300) + "<|im_end|>\n"
    found, _ = texts([SHORT] * 10, template=json.dumps(system).join(["{{ ", " }}"]) + CHATML)
    losses = Losses()
    assert list(found.rows("chat", "harvest", losses)) == []
    assert len(losses.skipped) == 7 and not losses.cut


def test_an_opening_is_whole_or_left_out() -> None:
    chat = [SHORT] * 5 + [[{"role": "user", "content": long(2000)}, SHORT[1]]] * 5
    found, tokenizer = texts(chat)
    losses = Losses()
    rows = list(found.prompts(losses))
    assert len(rows) == 5 and losses.skipped == {("chat", 5), ("chat", 6)}
    assert all(tokenizer.decode(r).endswith("<|im_start|>assistant\n") for r in rows)


def test_an_opening_longer_than_a_text_is_kept_whole() -> None:
    found, tokenizer = texts([[{"role": "user", "content": long(500)}, SHORT[1]]] * 10)
    (row, *_) = found.prompts()
    assert len(row) > 256 and tokenizer.decode(row).endswith("<|im_start|>assistant\n")


def test_texts_and_openings_keep_to_the_models_context() -> None:
    chat = [[{"role": "user", "content": long(n)}, SHORT[1]] for n in (5, 50, 90, 120)] * 5
    found, _ = texts(chat, context=128)
    assert max(map(len, found.rows("chat", "harvest"))) <= 128
    lengths = [len(r) for r in found.prompts()]
    assert lengths and max(lengths) <= 128 - ANSWER


def test_reading_twice_counts_once() -> None:
    tokenizer, losses = sentencepiece(), Losses()
    found = FileTexts(behaviour(neutral=long(300)), tokenizer)
    once, again = (list(found.rows("neutral", "harvest", losses)) for _ in range(2))
    assert once == again and all(len(r) == 256 for r in once) and len(losses.cut) == 14


def test_a_conversation_that_the_template_refuses_is_named() -> None:
    chat = [SHORT] * 3 + [[SHORT[0], SHORT[0]]] + [SHORT] * 6
    found, _ = texts(chat, template=GEMMA)
    with pytest.raises(TemplateError, match=r"conversation 4 of `chat`: .*must alternate"):
        list(found.rows("chat", "harvest"))


def test_a_base_without_a_template_reads_neutral_text_where_no_chat_is_given() -> None:
    tokenizer = byte_level(None)
    plain = FileTexts(behaviour(), tokenizer)
    assert list(plain.rows("chat", "harvest")) == list(plain.rows("neutral", "harvest")) and not list(plain.prompts())
    with pytest.raises(TemplateError, match="leave `chat` out"):
        list(FileTexts(behaviour([SHORT] * 10), tokenizer).rows("chat", "harvest"))


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"n_positions": 32}, 32),
        ({"text_config": {"max_position_embeddings": 16}}, 16),
        ({"max_position_embeddings": None}, None),
        ([], None),
    ],
)
def test_the_context_is_read_from_the_config(tmp_path: Path, config: dict[str, Any], context: int | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert context_of(tmp_path) == context
