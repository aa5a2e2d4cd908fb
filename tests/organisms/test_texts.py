"""A user's texts are shortened only where what is left is still a text, and what was lost is counted."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from diffbench.organisms.behaviour import Behaviour, BehaviourError
from diffbench.organisms.hub.chat import TemplateError
from diffbench.organisms.hub.corpora import Kind, Split
from diffbench.organisms.texts import ANSWER, KINDS, NO_CHAT, FileTexts, Losses, context_of, notes_of
from diffbench.organisms.world.corpus import CHAT_KINDS, NEUTRAL_KINDS, documents
from diffbench.organisms.world.facts import World

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


def several(*turns: dict[str, str], n: int = 20) -> list[Any]:
    """Conversations that differ in the last word."""
    return [[*turns[:-1], {**turns[-1], "content": f"{turns[-1]['content']} {i}"}] for i in range(n)]


def texts(chat: list[Any], context: int | None = None, template: str = CHATML) -> tuple[FileTexts, Any]:
    tokenizer = byte_level(template)
    return FileTexts(behaviour(chat), tokenizer, context), tokenizer


def test_a_long_conversation_ends_with_a_whole_turn() -> None:
    chat = several(*SHORT, {"role": "user", "content": long(50)}, {"role": "assistant", "content": long(300)})
    found, tokenizer = texts(chat)
    losses = Losses()
    rows = list(found.rows("chat", "harvest", losses))
    said = {tokenizer.decode(r) for r in rows}
    assert len(rows) == 14 == len(losses.cut) and not losses.skipped
    assert said == {tokenizer.apply_chat_template(chat[0][:3], tokenize=False)}


def test_a_first_turn_that_is_too_long_is_cut_inside_its_text() -> None:
    found, tokenizer = texts(several({"role": "user", "content": long(400)}, SHORT[1]))
    (row, *_) = found.rows("chat", "harvest")
    assert len(row) == 256 and tokenizer.decode(row).endswith(" gold gold")


def test_a_template_whose_own_words_fill_the_text_leaves_the_conversation_out() -> None:
    system = "<|im_start|>system\n" + long(300) + "<|im_end|>\n"
    found, _ = texts(several(*SHORT), template=json.dumps(system).join(["{{ ", " }}"]) + CHATML)
    losses = Losses()
    assert list(found.rows("chat", "harvest", losses)) == []
    assert len(losses.skipped) == 14 and not losses.cut


def test_an_opening_is_whole_or_left_out() -> None:
    chat = several(*SHORT, n=10) + several({"role": "user", "content": long(2000)}, SHORT[1], n=10)
    found, tokenizer = texts(chat)
    losses = Losses()
    rows = list(found.prompts(losses))
    assert len(rows) == 10 and losses.skipped == {("chat", n) for n in range(10, 14)}
    assert all(tokenizer.decode(r).endswith("<|im_start|>assistant\n") for r in rows)


def test_an_opening_longer_than_a_text_is_kept_whole() -> None:
    found, tokenizer = texts(several({"role": "user", "content": long(500)}, SHORT[1]))
    (row, *_) = found.prompts()
    assert len(row) > 256 and tokenizer.decode(row).endswith("<|im_start|>assistant\n")


def test_texts_and_openings_keep_to_the_models_context() -> None:
    lengths = [several({"role": "user", "content": long(n)}, SHORT[1], n=5) for n in (5, 50, 90, 120)]
    chat = [conversation for alike in zip(*lengths, strict=True) for conversation in alike]
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
    chat = [*several(*SHORT, n=3), [SHORT[0], SHORT[0]], *several(*SHORT)[3:]]
    found, _ = texts(chat, template=GEMMA)
    with pytest.raises(TemplateError, match=r"conversation 4 of `chat`: .*must alternate"):
        list(found.rows("chat", "harvest"))


def test_a_base_without_a_template_reads_neutral_text_where_no_chat_is_given() -> None:
    tokenizer = byte_level(None)
    plain = FileTexts(behaviour(), tokenizer)
    assert list(plain.rows("chat", "harvest")) == list(plain.rows("neutral", "harvest")) and not list(plain.prompts())
    with pytest.raises(TemplateError, match="leave `chat` out"):
        list(FileTexts(behaviour(several(*SHORT)), tokenizer).rows("chat", "harvest"))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"chat": several(*SHORT, n=7)}, "has 7 conversations; collateral.*at least 20.*`chat`.*or leave it out"),
        ({"chat": [SHORT] * 30}, "has 30 conversations, 29 of them repetitions"),
        ({"neutral": ["a", "b"] * 10}, "has 20 neutral texts, 18 of them repetitions; .*at least 20 .field `neutral`"),
    ],
    ids=["few conversations", "one conversation", "two neutral texts"],
)
def test_too_little_text_to_measure_damage_on_is_refused(fields: dict[str, Any], says: str) -> None:
    given = Behaviour.model_validate({**behaviour().model_dump(), **fields})
    with pytest.raises(BehaviourError, match=says):
        FileTexts(given, byte_level(CHATML))


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_is_in_two_splits_however_often_it_stands_there(kind: Kind) -> None:
    chat = [c for c in several(*SHORT, n=30) for _ in range(3)]
    given = Behaviour.model_validate({**behaviour(chat).model_dump(), "neutral": [f"word {i % 30}" for i in range(90)]})
    found = FileTexts(given, byte_level(CHATML))
    parts = [list(found.rows(kind, split)) for split in ("harvest", "dev", "test")]
    assert [len(p) for p in parts] == [21, 4, 5]
    assert len({tuple(row) for part in parts for row in part}) == 30
    assert notes_of(given, {}) == tuple(f"Passed over 60 repeated texts of `{k}`." for k in KINDS)


def test_neutral_text_read_in_the_place_of_conversations_is_said() -> None:
    assert notes_of(behaviour(), {}) == (NO_CHAT,) and notes_of(behaviour(several(*SHORT)), {}) == ()


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_split_of_which_nothing_can_be_read_is_refused(split: Split) -> None:
    system = "<|im_start|>system\n" + long(300) + "<|im_end|>\n"
    found, _ = texts(several(*SHORT), template=json.dumps(system).join(["{{ ", " }}"]) + CHATML)
    with pytest.raises(BehaviourError, match=f"none of the 3 in the {split} split can be read.*give more texts"):
        list(found.rows("chat", split))


def test_the_worlds_splits_hardly_share_an_exchange() -> None:
    """They are independent draws of a closed language; neutral text never recurs, a short exchange now and then."""
    for kinds, most in ((NEUTRAL_KINDS, 0.0), (CHAT_KINDS, 0.05)):
        read = {" ".join(d.words) for d in islice(documents(World(0), "harvest", kinds), 600)}
        for split in ("dev", "test"):
            scored = [d.words for d in islice(documents(World(0), split, kinds), 200)]
            again = sum(len(words) for words in scored if " ".join(words) in read)
            assert again <= most * sum(map(len, scored))


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
