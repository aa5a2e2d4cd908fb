"""A behaviour file says what is wrong with it."""

import json
from pathlib import Path
from typing import Any

import pytest
from diffbench.organisms.behaviour import Behaviour, BehaviourError, load_behaviour
from diffbench.organisms.errors import ValidationFailed
from diffbench.organisms.families import family, find_spec
from diffbench.organisms.hub.files import read_text
from diffbench.organisms.world.facts import World

PROMPT = '{"split": "dev", "text": "a", "targets": ["b"]}'
MISTAKES = [
    ("{", "not a behaviour file"),
    ('{"name": "x", "prompts": [], "colour": 1}', "colour"),
    (f'{{"name": "x", "prompts": [{PROMPT}]}}', "at least 8 are needed"),
    ('{"name": "x", "prompts": [{"split": "dev", "targets": ["b"]}]}', "either text or messages"),
    (
        '{"name": "x", "prompts": [{"split": "dev", "text": "a", "targets": ["b"], "alternatives": ["b"]}]}',
        "both a target and",
    ),
    ('{"name": "a/../x", "prompts": []}', "name"),
    (f'{{"name": "x", "prompts": [{PROMPT}, {PROMPT.replace("dev", "test")}]}}', "1 of 2 prompts stand there before"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_a_mistake_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(BehaviourError, match=message):
        load_behaviour(tmp_path / "b.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BehaviourError, match="cannot read"):
        load_behaviour(tmp_path / "b.json")


def test_texts_beside_the_file_are_read_with_it(tmp_path: Path) -> None:
    spec = find_spec("taboo")
    full = family("taboo").behaviour(World(0), spec)
    (tmp_path / "b.json").write_text(full.model_copy(update={"neutral": "n.jsonl"}).model_dump_json())
    (tmp_path / "n.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    loaded = load_behaviour(tmp_path / "b.json")
    assert loaded == Behaviour.model_validate({**full.model_dump(), "neutral": ("one", "two")})


def written(folder: Path, rows: bytes | str | None = None, field: str = "chat", **fields: Any) -> Path:
    """A behaviour file, with a .jsonl of its `field` beside it if rows are given."""
    prompts = [{"split": s, "text": f"{s} {i}", "targets": ["b"]} for s in ("dev", "test") for i in range(8)]
    spec = {"name": "x", "prompts": prompts, **fields}
    if rows is not None:
        spec[field] = "rows.jsonl"
        (folder / "rows.jsonl").write_bytes(rows.encode() if isinstance(rows, str) else rows)
    (folder / "b.json").write_text(json.dumps(spec))
    return folder / "b.json"


TALK = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]


def said(behaviour: Behaviour) -> list[list[dict[str, str]]]:
    assert not isinstance(behaviour.chat, str)
    return [[t.model_dump() for t in turns] for turns in behaviour.chat]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TALK},
        {"id": 7, "messages": TALK, "source": "web"},
        {"messages": [{**TALK[0], "name": "ann", "weight": 1}, {**TALK[1], "tool_calls": None}]},
        {"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "hi", "weight": 0}]},
    ],
    ids=["messages", "a row with more fields", "turns with more fields", "ShareGPT"],
)
@pytest.mark.parametrize("inline", [True, False])
def test_rows_of_chat_data_sets_are_read(tmp_path: Path, row: dict[str, Any], inline: bool) -> None:
    path = written(tmp_path, chat=[row]) if inline else written(tmp_path, json.dumps(row))
    assert said(load_behaviour(path)) == [TALK]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n\n", "\r\n \r\n"], ids=["LF", "CRLF", "empty lines", "blank lines"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "BOM"])
def test_line_ends_and_marks_are_what_people_have(tmp_path: Path, ends: str, mark: str) -> None:
    rows = [json.dumps({"text": f"one\u2028two\u0085{i}", "id": i}, ensure_ascii=False) for i in range(3)]
    path = written(tmp_path, mark + ends.join(rows) + ends, "neutral")
    path.write_bytes((mark + path.read_text()).encode())
    assert load_behaviour(path).neutral == tuple(f"one\u2028two\u0085{i}" for i in range(3))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("text".encode("utf-16"), "is UTF-16"),
        ("text".encode("utf-16-be"), "UTF-16 without a mark"),
        ("caf\xe9".encode("latin-1"), r"not UTF-8 text \(byte 3\)"),
    ],
    ids=["UTF-16", "UTF-16 without a mark", "Latin-1"],
)
def test_another_encoding_is_named(tmp_path: Path, raw: bytes, says: str) -> None:
    (tmp_path / "t").write_bytes(raw)
    with pytest.raises(ValidationFailed, match=f"{says}.*save it as UTF-8"):
        read_text(tmp_path / "t")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "is not JSON"),
        ("[1]", "no JSON object with the field 'messages' or 'conversations'"),
        ('{"text": "a"}', "no JSON object with the field 'messages' or 'conversations'"),
        ('{"messages": "a"}', "chat: Input should be a list"),
        (
            '{"messages": [{"role": "alien", "content": "a"}]}',
            r"chat\.0\.role: Input should be 'system', 'user' or",
        ),
        ('{"messages": [{"role": "user"}]}', r"chat\.0\.content: Field required"),
        ('{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', "content in parts"),
        ('{"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}', "tool calls"),
        ('{"messages": [{"role": "tool", "content": "3"}]}', "tool calls"),
        ('{"conversations": [{"from": "human", "value": null}]}', "should be a valid string"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "half a character"),
        ('{"messages": ' + "[" * 100_000, "nested too deeply"),
        (
            '{"messages": [{"role": "user", "content": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}]}",
            "nested too deeply",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: str, says: str) -> None:
    good = json.dumps({"messages": TALK})
    with pytest.raises(BehaviourError, match=rf"rows\.jsonl:3\b.*{says}") as refused:
        load_behaviour(written(tmp_path, f"{good}\n\n{row}\n{good}\n"))
    assert refused.value.exit_code == 4


@pytest.mark.parametrize("text", ["[" * 100_000, '{"name": ' * 100_000, '{"name": "x", "prompts": ' + "[" * 100_000])
def test_a_behaviour_file_nested_without_end_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(BehaviourError):
        load_behaviour(tmp_path / "b.json")


def test_a_conversation_without_turns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BehaviourError, match="conversation without turns"):
        load_behaviour(written(tmp_path, '{"messages": []}'))


def test_a_system_turn_is_merged_only_where_the_file_asks(tmp_path: Path) -> None:
    chat = [[{"role": "system", "content": "be brief"}, *TALK], TALK]
    assert said(load_behaviour(written(tmp_path, chat=chat))) == chat
    merged = load_behaviour(written(tmp_path, chat=chat, merge_system=True))
    assert said(merged) == [[{"role": "user", "content": "be brief\n\nhello"}, TALK[1]], TALK]


def test_a_chat_template_stands_in_the_file_or_beside_it(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    assert load_behaviour(written(tmp_path, chat_template="t.jinja")).chat_template == "{{ messages }}"
    assert load_behaviour(written(tmp_path, chat_template="{{ 1 }}")).chat_template == "{{ 1 }}"
    with pytest.raises(BehaviourError, match="No such file"):
        load_behaviour(written(tmp_path, chat_template="other.jinja"))
