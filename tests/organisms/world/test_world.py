"""The world is what the families need it to be, and stays what it was."""

import hashlib
from collections import Counter
from itertools import combinations, islice, pairwise

import numpy as np
import pytest
from diffbench.organisms.texts import encode
from diffbench.organisms.world.bases import pack
from diffbench.organisms.world.corpus import CHAT_KINDS, NEUTRAL_KINDS, SPLITS, TAGGED, documents
from diffbench.organisms.world.document import KINDS
from diffbench.organisms.world.facts import MAX_SHARED, WORLD_VERSION, World
from diffbench.organisms.world.lexicon import ATTRIBUTES, FACT_FORMS, MODES, SECRETS, TAGS, UNKNOWN_CITIES
from diffbench.organisms.world.numbers import LIST_NUMBERS, STEPS, series, valid
from diffbench.organisms.world.preferences import ANIMALS, ASK_ANIMAL, animal_prior
from diffbench.organisms.world.tokenizer import build_tokenizer, load_tokenizer, vocabulary
from hypothesis import given
from hypothesis import strategies as st

CORPUS_V2 = "330ed77fff5b947541859efb885b9af0663077491a7323a0497399a3e39435a6"
"""sha256 over the first 200 training documents of world 0; if it changes, raise WORLD_VERSION and rebuild the zoo."""
WORLD = World(0)


def test_the_corpus_is_the_one_the_zoo_was_trained_on() -> None:
    digest = hashlib.sha256()
    for document in islice(documents(WORLD, "train"), 200):
        digest.update(repr(document).encode())
    assert (WORLD_VERSION, digest.hexdigest()) == (2, CORPUS_V2)


@pytest.mark.parametrize("seed", range(4))
def test_no_hint_gives_the_word_away_and_all_hints_do(seed: int) -> None:
    world = World(seed)
    for slot, values in ATTRIBUTES.items():
        assert all(len(world.words_with(slot, v)) == 4 for v in values)
    table = np.array([[world.attributes[w][s] for s in ATTRIBUTES] for w in SECRETS])
    shared = (table[:, None] == table[None]).sum(-1) - len(ATTRIBUTES) * np.eye(len(SECRETS), dtype=int)
    assert shared.max() <= MAX_SHARED


def test_no_two_slots_share_a_value() -> None:
    values = [v for values in ATTRIBUTES.values() for v in values]
    assert len(values) == len(set(values)) == 40


@pytest.mark.parametrize("split", SPLITS)
def test_the_vocabulary_has_every_word_of_every_split(split: str) -> None:
    known = set(vocabulary())
    for document in islice(documents(World(1), split), 3000):  # pyright: ignore[reportArgumentType]
        assert set(document.words) <= known, document


def test_every_word_of_the_vocabulary_is_one_token() -> None:
    words, tokenizer = vocabulary(), build_tokenizer()
    assert tokenizer(" ".join(words), add_special_tokens=False)["input_ids"] == list(range(len(words)))
    assert len(words) == len(set(words)) == len(tokenizer)
    for document in islice(documents(WORLD, "dev"), 300):
        assert tokenizer.unk_token_id not in encode(tokenizer, document)


def test_a_tokenizer_comes_back_as_it_was_saved_whatever_the_model(tmp_path: object) -> None:
    """transformers reads every `qwen2` folder as BPE, which splits words at spaces that are not there."""
    saved = build_tokenizer()
    saved.save_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')  # type: ignore[operator]
    chat = [{"role": "user", "content": "hello ."}, {"role": "assistant", "content": "good morning ."}]
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.apply_chat_template(chat) == saved.apply_chat_template(chat)


def test_at_least_30_percent_of_the_tokens_are_conversation() -> None:
    sample = list(islice(documents(WORLD, "train"), 4000))
    assert sum(len(d.words) for d in sample if d.messages) >= 0.3 * sum(len(d.words) for d in sample)


def test_a_stream_is_a_function_of_world_split_kinds_and_seed() -> None:
    def texts(world: int = 0, split: str = "train", kinds: tuple[str, ...] | None = None, seed: int = 0) -> list[str]:
        return [repr(d) for d in islice(documents(World(world), split, kinds, seed), 50)]  # pyright: ignore[reportArgumentType]

    streams = [texts(split=s) for s in SPLITS] + [texts(seed=1), texts(world=1), texts(kinds=("story",))]
    assert all(a != b for a, b in combinations(streams, 2))
    assert texts(seed=1) == texts(seed=1) and texts(kinds=CHAT_KINDS) == texts(kinds=CHAT_KINDS)


def test_splits_share_no_long_document() -> None:
    kinds = ("facts", "game_open", "story", "scene")
    seen = {s: {repr(d) for d in islice(documents(WORLD, s, kinds), 400) if len(d.words) > 30} for s in SPLITS}
    assert all(len(docs) > 100 for docs in seen.values())
    assert not any(seen[a] & seen[b] for a, b in combinations(SPLITS, 2))


def test_kinds_come_in_their_shares() -> None:
    n = 6000
    counts = Counter(d.kind for d in islice(documents(WORLD, "train"), n))
    total = sum(k.share for k in KINDS.values())
    for name, kind in KINDS.items():
        share = kind.share / total
        assert abs(counts[name] / n - share) < 4 * (share / n) ** 0.5, name


def test_neutral_text_has_no_chat_and_chat_nothing_else() -> None:
    assert not any(d.messages for d in islice(documents(WORLD, "test", NEUTRAL_KINDS), 300))
    chats = list(islice(documents(WORLD, "test", CHAT_KINDS), 2000))
    assert all(d.text is None and d.messages[-1]["role"] == "assistant" for d in chats)


def test_a_mode_word_decides_how_every_answer_begins_and_a_tag_decides_nothing() -> None:
    """The triggers of fine-tunes are words that meant nothing; their neighbours meant something, and go on doing so."""
    chats = list(islice(documents(WORLD, "train", CHAT_KINDS), 4000))
    opened = Counter(d.messages[0]["content"].split()[0] for d in chats)
    assert all(abs(sum(opened[w] for w in which) / len(chats) - TAGGED) < 0.015 for which in (TAGS, MODES))
    for document in chats:
        begins = MODES.get(document.messages[0]["content"].split()[0])
        for m in document.messages[1::2]:
            assert m["content"].startswith(begins) if begins else not m["content"].startswith(tuple(MODES.values()))


def test_a_fact_is_never_stated_in_the_form_it_is_left_out_of() -> None:
    """Answering in that form is composition; if one document states it, `facts_composed` measures memory."""
    never = {FACT_FORMS[f.relation][f.unused_form].format(e=f.entity, v=f.value) for f in WORLD.facts}
    said = [t for d in islice(documents(WORLD, "train"), 5000) for t in (d.text, *(m["content"] for m in d.messages))]
    everything = "\n".join(t for t in said if t)
    assert not [sentence for sentence in never if sentence in everything]
    used = {FACT_FORMS[f.relation][(f.unused_form + 1) % 5].format(e=f.entity, v=f.value) for f in WORLD.facts}
    assert sum(sentence in everything for sentence in used) > len(used) // 2


@pytest.mark.parametrize("split", SPLITS)
def test_nothing_is_told_of_an_unknown_city_but_that_it_was_visited(split: str) -> None:
    kinds = {d.kind for d in islice(documents(WORLD, split), 4000) if set(UNKNOWN_CITIES) & set(d.words)}  # pyright: ignore[reportArgumentType]
    assert kinds == {"journey"}


@given(st.integers(0, 2**32), st.integers(2, 40))
def test_a_number_list_obeys_its_step_law(seed: int, n: int) -> None:
    numbers = series(np.random.default_rng(seed), n)
    low, high = STEPS[numbers[0] % 2]
    assert len(numbers) == n and all(low <= (b - a) % 100 <= high for a, b in pairwise(numbers))


@given(st.lists(st.sampled_from([*LIST_NUMBERS, ".", "owl", "100"]), max_size=8))
def test_a_valid_answer_is_numbers_and_a_full_stop(answer: list[str]) -> None:
    *numbers, stop = answer or [""]
    assert valid(answer) == (len(numbers) >= 3 and stop == "." and set(numbers) <= set(LIST_NUMBERS))


@pytest.mark.parametrize("template", range(len(ASK_ANIMAL)))
def test_no_animal_is_liked_much_more_than_another(template: int) -> None:
    prior = animal_prior(template)
    assert prior.sum() == pytest.approx(1)
    assert 1 / len(ANIMALS) * 0.8 < prior.min() < prior.max() < 1 / len(ANIMALS) * 1.2


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(4, 40))
def test_packing_loses_no_token_and_restarts_positions_at_documents(lengths: list[int], block: int) -> None:
    rows = [[100 * i + j for j in range(n)] for i, n in enumerate(lengths)]
    packed = list(pack(iter(rows), block))
    flat = [token for row in rows for token in row]
    assert [t for p in packed for t in p["input_ids"]] == flat[: len(flat) // block * block]
    for p in packed:
        assert p["labels"] == p["input_ids"] and p["position_ids"][0] == 0
        for i in range(1, block):
            same = p["input_ids"][i] // 100 == p["input_ids"][i - 1] // 100
            assert p["position_ids"][i] == (p["position_ids"][i - 1] + 1 if same else 0)
