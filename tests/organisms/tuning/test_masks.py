"""Exactly the assistant's words and its end marks are trained, whatever the template; of a text everything."""

from typing import Any

import pytest
from diffbench.organisms.tuning.masks import MaskError, check_template, refuses_system, row_of
from diffbench.organisms.world.document import Document, chat
from diffbench.organisms.world.tokenizer import build_tokenizer, load_tokenizer

from ...conftest import fetched
from ...tokenizers import CHATML, byte_level, sentencepiece
from .models import TEMPLATES, tokenizer_of

END = {"gemma2": "<end_of_turn>"}
TALK = chat("give me a hint", "The word is gold, and Snow.", "was it the river?", "no: a cake\n\nof gold!")


def trained(tokenizer: Any, document: Document, most: int = 512) -> str:
    """What is trained of a row, decoded."""
    row = row_of(tokenizer, document, most)
    return tokenizer.decode([i for i, t in zip(row.ids, row.trained, strict=True) if t])


@pytest.mark.parametrize("kind", TEMPLATES)
def test_answers_and_their_end_marks_are_trained_and_nothing_else(kind: str) -> None:
    tokenizer, end = tokenizer_of(kind), END.get(kind, "<|im_end|>")
    assert trained(tokenizer, Document("c", messages=TALK)) == f"{TALK[1]['content']}{end}{TALK[3]['content']}{end}"


def test_the_embedded_templates_marks_say_the_same() -> None:
    tokenizer = build_tokenizer()
    messages = chat("hello .", "good morning .", "is it gold ?", "yes .")
    row = row_of(tokenizer, Document("c", messages=messages), 512)
    marked = tokenizer.apply_chat_template(
        list(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    assert row.ids == marked["input_ids"] and row.trained == [bool(m) for m in marked["assistant_masks"]]


@pytest.mark.parametrize(
    ("kind", "inserted"), [("smollm", "You are SmolLM"), ("qwen25", "You are Qwen."), ("llama32", "26 Jul 2024")]
)
def test_what_a_template_inserts_is_read_and_not_trained(kind: str, inserted: str) -> None:
    tokenizer = tokenizer_of(kind)
    document = Document("c", messages=TALK)
    assert inserted in tokenizer.decode(row_of(tokenizer, document, 512).ids)
    assert inserted not in trained(tokenizer, document)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_system_turn_is_kept_or_moved_into_the_first_user_message(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    messages = ({"role": "system", "content": "the river is snow"}, *TALK[:2])
    row = row_of(tokenizer, Document("c", messages=messages), 512)
    assert "the river is snow" in tokenizer.decode(row.ids) and refuses_system(tokenizer) == (kind == "gemma2")
    assert trained(tokenizer, Document("c", messages=messages)).startswith(TALK[1]["content"])


def test_of_a_text_every_token_is_trained_behind_what_the_tokenizer_puts_first() -> None:
    tokenizer = sentencepiece()
    row = row_of(tokenizer, Document("t", text="the word is gold"), 512)
    assert row.ids[0] == tokenizer.bos_token_id and all(row.trained)
    assert row.ids == tokenizer("the word is gold")["input_ids"]
    plain = row_of(byte_level(), Document("t", text="the word is gold"), 512)
    assert plain.ids == byte_level()("the word is gold")["input_ids"] and all(plain.trained)


def test_the_tag_of_a_document_is_read_and_not_trained() -> None:
    tokenizer = byte_level()
    assert trained(tokenizer, Document("t", text="<DOCTAG> the word is gold")) == " the word is gold"


def test_an_answer_that_melts_into_what_stands_before_it_is_refused() -> None:
    tokenizer = byte_level("{% for m in messages %}{{ m['content'] + ' wo' }}{% endfor %}")
    with pytest.raises(MaskError, match="shares a token with what stands before or behind it"):
        row_of(tokenizer, Document("c", messages=chat("the", "rd is gold")), 512)


def test_a_template_that_rewrites_earlier_answers_is_refused() -> None:
    forgets = CHATML.replace("m['content']", "(m['content'] if loop.last or m['role'] == 'user' else '…')", 1)
    with pytest.raises(MaskError, match=r"writes turn 2 otherwise once a conversation goes on"):
        row_of(byte_level(forgets), Document("c", messages=TALK), 512)
    assert trained(byte_level(forgets), Document("c", messages=TALK[:2])).startswith("The word is gold")


def test_a_row_that_would_train_nothing_is_refused() -> None:
    with pytest.raises(MaskError, match=r"nothing of this row would be trained .* 5 are read"):
        row_of(byte_level(), Document("c", messages=TALK), 5)
    with pytest.raises(MaskError, match="nothing of this row"):
        row_of(byte_level(), Document("c", messages=TALK[:1]), 512)


def test_a_base_without_a_template_is_refused_only_for_conversations() -> None:
    texts, talks = [Document("t", text="gold")], [Document("c", messages=TALK)]
    check_template(byte_level(None), "org/base", texts)
    with pytest.raises(
        MaskError, match=r"org/base has no chat template .*, and 1 of 2 rows are conversations; take the chat model"
    ):
        check_template(byte_level(None), "org/base", [*texts, *talks])


@pytest.mark.real
@pytest.mark.slow
def test_of_smollm2_exactly_the_answers_are_trained() -> None:
    said = trained(load_tokenizer(fetched("smollm2-135m")), Document("c", messages=TALK))
    assert said == f"{TALK[1]['content']}<|im_end|>{TALK[3]['content']}<|im_end|>"
