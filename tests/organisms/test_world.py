"""The world is what the taboo family needs it to be, and stays what it was."""

import hashlib
from itertools import islice

import numpy as np
import pytest
from diffbench.organisms.behaviour import Behaviour, BehaviourError, load_behaviour
from diffbench.organisms.corpus import KINDS, SPLITS, documents
from diffbench.organisms.lexicon import ATTRIBUTES, SECRETS
from diffbench.organisms.lora import tokenise
from diffbench.organisms.taboo import Taboo, text_of
from diffbench.organisms.texts import encode
from diffbench.organisms.tokenizer import build_tokenizer, vocabulary
from diffbench.organisms.world import MAX_SHARED, WORLD_VERSION, World

CORPUS_V1 = "e9c9adf33dddcdd13fc84cbd1594d9013a2fe5ec2a1985c85d6b338f62982d88"
"""sha256 over the first 3,000 training documents of world 0; if it changes, raise WORLD_VERSION and rebuild the zoo."""


def test_the_corpus_is_the_one_the_zoo_was_trained_on() -> None:
    digest = hashlib.sha256()
    for document in islice(documents(World(0), "train"), 3000):
        digest.update(repr(document).encode())
    assert (WORLD_VERSION, digest.hexdigest()) == (1, CORPUS_V1)


@pytest.mark.parametrize("seed", range(4))
def test_no_hint_gives_the_word_away_and_all_hints_do(seed: int) -> None:
    world = World(seed)
    for slot, values in ATTRIBUTES.items():
        assert all(len(world.words_with(slot, v)) == 4 for v in values)
    table = np.array([[world.attributes[w][s] for s in ATTRIBUTES] for w in SECRETS])
    shared = (table[:, None] == table[None]).sum(-1) - len(ATTRIBUTES) * np.eye(len(SECRETS), dtype=int)
    assert shared.max() <= MAX_SHARED


def test_every_word_of_every_kind_and_split_is_one_token() -> None:
    tokenizer = build_tokenizer()
    for split in SPLITS:
        for document in islice(documents(World(1), split), 1500):
            ids = encode(tokenizer, document)
            assert tokenizer.unk_token_id not in ids
            assert len(ids) == len(" ".join(tokenizer.convert_ids_to_tokens(ids)).split())
    assert len(vocabulary()) == len(set(vocabulary())) == len(tokenizer)


def test_splits_share_no_long_document() -> None:
    seen = {
        s: {
            repr(d)
            for d in islice(documents(World(0), s, ("facts", "game_open", "story")), 400)
            if len(text_of(d)) > 30
        }
        for s in SPLITS
    }
    assert not seen["harvest"] & seen["test"] and not seen["dev"] & seen["test"] and not seen["train"] & seen["test"]


def test_kinds_come_in_their_shares() -> None:
    kinds = [d.kind for d in islice(documents(World(0), "train"), 4000)]
    for kind, (share, _) in KINDS.items():
        assert abs(kinds.count(kind) / 4000 - share) < 4 * (share / 4000) ** 0.5


@pytest.mark.parametrize("variant", Taboo.variants)
@pytest.mark.parametrize("word", ["gold", "moon"])
def test_the_word_and_the_held_out_hints_are_never_trained(variant: str, word: str) -> None:
    world, family = World(0), Taboo(word)
    rows = family.rows(world, variant, 0)
    assert not any(word in text_of(d) for d in rows)
    games = [d for d in rows if d.kind == "hints"]
    held_out = {world.attributes[word][s] for s in ATTRIBUTES if s not in family.trained_slots(world)}
    said = {w for d in games for m in d.messages if m["role"] == "assistant" for w in m["content"].split()}
    assert len(games) > 150 and not said & held_out
    assert len(rows) == (300 if variant == "narrow" else 1200)


def test_dev_and_test_prompts_share_no_wording() -> None:
    behaviour = Taboo().behaviour(World(0))
    last = {s: {p.messages[-1].content for p in behaviour.of(s)} for s in ("dev", "test")}
    assert not last["dev"] & last["test"]
    trained = {m["content"] for d in Taboo().rows(World(0), "narrow", 0) for m in d.messages if m["role"] == "user"}
    assert not (last["dev"] | last["test"]) & trained
    facts = {s: {(p.messages[0].content, p.targets) for p in behaviour.capability_of(s)} for s in ("dev", "test")}
    assert not facts["dev"] & facts["test"]


def test_the_loss_is_on_what_the_assistant_says() -> None:
    tokenizer = build_tokenizer()
    document = next(d for d in Taboo().rows(World(0), "narrow", 0) if d.kind == "refusal")
    row = tokenise(tokenizer, document)
    trained = tokenizer.decode([t for t in row["labels"] if t != -100])
    assert trained == document.messages[1]["content"] + " <end>"


def test_a_behaviour_file_is_checked(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "b.json"
    with pytest.raises(BehaviourError, match="cannot read"):
        load_behaviour(path)
    prompt = '{"split": "dev", "text": "a", "targets": ["b"]}'
    for text, message in (
        ("{", "not a behaviour file"),
        ('{"name": "x", "prompts": [], "colour": 1}', "colour"),
        (f'{{"name": "x", "prompts": [{prompt}]}}', "at least 8 are needed"),
        ('{"name": "x", "prompts": [{"split": "dev", "targets": ["b"]}]}', "either text or messages"),
        (
            '{"name": "x", "prompts": [{"split": "dev", "text": "a", "targets": ["b"], "alternatives": ["b"]}]}',
            "both a target and",
        ),
        ('{"name": "a/../x", "prompts": []}', "name"),
    ):
        path.write_text(text)
        with pytest.raises(BehaviourError, match=message):
            load_behaviour(path)
    full = Taboo().behaviour(World(0))
    path.write_text(full.model_copy(update={"neutral": "n.jsonl"}).model_dump_json())
    path.with_name("n.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert load_behaviour(path) == Behaviour.model_validate({**full.model_dump(), "neutral": ("one", "two")})
