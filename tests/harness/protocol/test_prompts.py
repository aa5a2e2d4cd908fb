"""A continuation is measured on the tokens it has behind its prompt, with every kind of tokenizer, or refused."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffbench.harness.protocol.prompts import ProbeError, choices, correct, portions, rates, taken
from diffbench.organisms.behaviour import Prompt
from diffbench.organisms.hub.asked import encode_prompt
from diffbench.organisms.hub.tokens import TokenError, continuation, encode, word
from diffbench.organisms.world.tokenizer import build_tokenizer
from tokenizers import normalizers
from torch import Tensor

from ...tokenizers import CHATML, GEMMA, LLAMA2, byte_level, sentencepiece

KINDS: dict[str, Callable[[], Any]] = {
    "sentencepiece": sentencepiece,
    "byte-level": byte_level,
    "byte-level with a prefix space": lambda: byte_level(prefix=True),
    "words": build_tokenizer,
}


class Reader:
    """The part of a pair that tokenising needs."""

    device = torch.device("cpu")

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def pad(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        return ids, ids >= 0


def pieces(tokenizer: Any, prompt: str, text: str) -> list[str]:
    found = continuation(tokenizer, prompt, encode(tokenizer, prompt, True), text, True)
    return tokenizer.convert_ids_to_tokens(list(found))


def prompt(**fields: Any) -> Prompt:
    return Prompt.model_validate({"split": "dev", "targets": [" gold"], "alternatives": [" silver"], **fields})


@pytest.mark.parametrize(
    ("kind", "spaced", "bare"),
    [
        ("sentencepiece", ["▁gold"], ["gold"]),
        ("byte-level", ["Ġgold"], ["gold"]),
        ("byte-level with a prefix space", ["Ġgold"], ["gold"]),
        ("words", ["gold"], ["gold"]),
    ],
)
def test_a_continuation_has_the_tokens_of_its_place(kind: str, spaced: list[str], bare: list[str]) -> None:
    tokenizer = KINDS[kind]()
    assert pieces(tokenizer, "the word is", " gold") == spaced
    assert pieces(tokenizer, "the word is", "gold") == bare


def test_alone_a_sentencepiece_continuation_would_have_a_token_more() -> None:
    tokenizer = sentencepiece()
    alone = tokenizer.convert_ids_to_tokens(tokenizer(" gold", add_special_tokens=False)["input_ids"])
    assert alone == ["▁", "▁gold"] and pieces(tokenizer, "the word is", " gold") == ["▁gold"]


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level", "byte-level with a prefix space"])
def test_a_continuation_that_melts_into_its_prompt_is_refused(kind: str) -> None:
    with pytest.raises(TokenError, match=r"'gold' melts into the last token ' ' .* begin it with a space"):
        pieces(KINDS[kind](), "the word is ", "gold")


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_has_the_tokens_it_has_inside_a_text(kind: str) -> None:
    tokenizer = KINDS[kind]()
    inside = tokenizer("a gold", add_special_tokens=False)["input_ids"][-1:]
    assert list(word(tokenizer, "gold")) == list(word(tokenizer, " gold")) == inside


def test_a_continuation_that_a_tokenizer_rewrites_is_refused() -> None:
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(TokenError, match="' Gold' is read back as ' gold'"):
        pieces(tokenizer, "the word is", " Gold")


@pytest.mark.parametrize(("text", "why"), [("", "has no tokens"), (" 中", "has no tokens")])
def test_a_continuation_without_tokens_is_refused(text: str, why: str) -> None:
    with pytest.raises(TokenError, match=why):
        pieces(build_tokenizer(), "the word is", text)


def test_continuations_of_the_same_tokens_are_refused() -> None:
    with pytest.raises(ProbeError, match="prompt 0: continuations ' gold' and 'gold' are the same tokens"):
        choices(Reader(build_tokenizer()), [prompt(text="the word is", targets=[" gold"], alternatives=["gold"])])


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(ProbeError, match="prompt 0: the prompt has no tokens"):
        choices(Reader(byte_level()), [prompt(text="")])


def test_an_end_that_a_tokenizer_adds_does_not_close_a_prompt() -> None:
    from tokenizers import processors

    tokenizer = byte_level()
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    assert tokenizer("the word is")["input_ids"][-1] == tokenizer.eos_token_id
    assert pieces(tokenizer, "the word is", " gold") == ["Ġgold"]


@pytest.mark.parametrize(
    ("make", "template", "end"),
    [
        (sentencepiece, LLAMA2, "[/INST] the word is"),
        (byte_level, CHATML, "<|im_start|>assistant\nthe word is"),
        (byte_level, GEMMA, "<start_of_turn>model\nthe word is"),
        (byte_level, "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}", "<assistant>the word is"),
    ],
    ids=["a space", "a line", "a line, trimmed", "nothing"],
)
@pytest.mark.parametrize("space", ["", " "])
def test_a_prefill_stands_where_the_template_puts_an_answer(make: Any, template: str, end: str, space: str) -> None:
    tokenizer = make(template)
    asked = encode_prompt(
        tokenizer, prompt(messages=[{"role": "user", "content": "the word"}], prefill=f"{space}the word is")
    )
    wanted = end if not space or end.startswith("[/INST]") else end.replace("the word is", " the word is")
    assert asked.text.endswith(wanted) and "  " not in asked.text
    assert asked.ids == tokenizer(asked.text, add_special_tokens=False)["input_ids"]


def test_continuations_of_several_tokens_share_the_rows_they_can() -> None:
    found = choices(Reader(sentencepiece()), [prompt(text="the word is", alternatives=[" silver", " gold cake"])])
    assert len(found.ids) == 2 and found.continuation.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize("length", [1, 10, 40, 400])
def test_the_rate_of_a_continuation_does_not_depend_on_how_many_tokens_it_shares_with_the_others(length: int) -> None:
    """Of a sentence whose probability no float holds, the last word still decides."""
    said = " ".join(["gold"] * (length - 1))
    asked = prompt(text="the word is", targets=[f"{said} gold".strip()], alternatives=[f"{said} silver".strip()])
    plain = prompt(text="the word is", targets=["gold"])
    tokenizer = build_tokenizer()
    c = choices(Reader(tokenizer), [asked, plain.model_copy(update={"alternatives": ()})])
    logits = torch.zeros(1, len(c.ids), len(c.keep), len(tokenizer))
    wins = tokenizer.convert_tokens_to_ids("gold")
    last = int(c.where[c.prompt[c.continuation] == 0, 1].max())
    logits[:, :, last, wins] = 2.0
    expected = torch.tensor(2.0).sigmoid()
    found = rates(logits, c)[0]
    torch.testing.assert_close(found[0], expected, rtol=1e-3, atol=0)
    assert correct(logits, c)[0, 0] == 1
    if length > 1:  # without alternatives the rate is the plain probability
        torch.testing.assert_close(found[1], torch.tensor(1 / len(tokenizer)), rtol=1e-4, atol=0)


def test_text_is_taken_in_whole_rows_until_it_holds_enough() -> None:
    rows = [[1] * 60, [2] * 60, [3] * 60]
    assert taken(iter(rows), 100, "chat") == rows[:2] and taken(iter(rows), 120, "chat") == rows[:2]
    assert taken(iter(rows), 121, "chat") == taken(iter(rows), 999, "chat") == rows
    with pytest.raises(ProbeError, match="no chat text in this split"):
        taken(iter([]), 1, "chat")


def test_shares_of_what_is_offered_do_not_depend_on_how_likely_all_of_it_is() -> None:
    """A long sentence has a probability that no float holds."""
    c: Any = SimpleNamespace(n=2, prompt=torch.tensor([0, 0, 1, 1]))
    log = torch.tensor([[0.2, 0.6, 0.1, 0.9]]).log()
    wanted = torch.tensor([[0.25, 0.75, 0.1, 0.9]])
    for less in (0.0, 50.0, 5000.0):
        torch.testing.assert_close(portions(log - less, c), wanted, atol=2e-4, rtol=0)
