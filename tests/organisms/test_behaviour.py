"""A behaviour file says what is wrong with it."""

from pathlib import Path

import pytest
from diffbench.organisms.behaviour import Behaviour, BehaviourError, load_behaviour
from diffbench.organisms.families import family, find_spec
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
