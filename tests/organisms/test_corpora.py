"""Large text named in a file: mixed by weight, split by its own bytes, read without a network, and said in the record."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from diffbench.organisms.behaviour import load_behaviour
from diffbench.organisms.errors import PrerequisiteError
from diffbench.organisms.hub.corpora import Corpus, CorpusError, Tally, read_corpora
from diffbench.organisms.texts import FileTexts, Losses

from ..tokenizers import CHATML, byte_level
from .test_texts import behaviour

Write = Callable[..., Path]
TURNS = [{"role": "user", "content": "say {}"}, {"role": "assistant", "content": "{}"}]
REVISION = "0123456789abcdef"


def conversation(i: int) -> list[dict[str, str]]:
    return [{"role": t["role"], "content": t["content"].format(i)} for t in TURNS]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file of texts with the local files it names; returns its path."""

    def written(name: str = "texts.yaml", **kinds: Any) -> Path:
        (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"a {i}", "n": i}) + "\n" for i in range(200)))
        (tmp_path / "b.txt").write_text("\n\n".join(f"b {i}\nin two lines" for i in range(100)))
        pq.write_table(pa.table({"body": [f"c {i}" for i in range(50)]}), tmp_path / "c.parquet")
        chats = "".join(json.dumps({"messages": conversation(i)}) + "\n" for i in range(100))
        (tmp_path / "chat.jsonl").write_text(chats)
        path = tmp_path / name
        path.write_text(json.dumps(kinds) if name.endswith("json") else yaml.safe_dump(kinds))
        return path

    return written


MIXED = [
    {"path": "a.jsonl", "weight": 2, "licence": "CC0"},
    {"path": "b.txt", "weight": 1},
    {"path": "c.parquet", "column": "body", "weight": 0.5},
]


def corpus(path: Path, kind: Any = "neutral") -> Corpus:
    return read_corpora(path)[0][kind]


def test_local_files_of_every_kind_are_read_whole_and_once(write: Write) -> None:
    found = corpus(write(neutral=MIXED))
    texts = [t for split in ("harvest", "dev", "test") for _, t in found.documents(split)]
    assert len(texts) == len(set(texts)) == 350 and "b 7\nin two lines" in texts and "c 49" in texts


def test_parts_that_are_opened_at_once_do_not_take_each_others_lock(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that a thread finds missing it makes and deletes, and another thread that wanted it fails."""
    from datasets.utils.tqdm import tqdm

    for each in (c for c in tqdm.__mro__ if "_lock" in vars(c)):
        monkeypatch.delattr(each, "_lock")
    interleave, there = datasets.interleave_datasets, list[bool]()
    monkeypatch.setattr(
        datasets, "interleave_datasets", lambda *a, **k: there.append(hasattr(tqdm, "_lock")) or interleave(*a, **k)
    )
    next(iter(corpus(write(neutral=MIXED)).documents("harvest")))
    assert there == [True]


def test_the_weights_say_who_comes_how_often_and_the_seed_when(write: Write) -> None:
    first = [t[0] for _, t in islice(corpus(write(neutral=MIXED)).documents("harvest"), 60)]
    counts = Counter(first)
    assert counts["a"] > counts["b"] > counts["c"] > 0
    again = [t[0] for _, t in islice(corpus(write(neutral=MIXED)).documents("harvest"), 60)]
    other = [t[0] for _, t in islice(corpus(write(neutral=MIXED, seed=1)).documents("harvest"), 60)]
    assert again == first != other


def test_splits_never_share_a_document_however_often_it_stands_there(write: Write, tmp_path: Path) -> None:
    path = write(neutral=[{"path": "a.jsonl"}])
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"a {i % 40}"}) + "\n" for i in range(200)))
    found, tallies = corpus(path), dict[Any, Tally]()
    parts = {split: [t for _, t in found.documents(split, tallies)] for split in ("harvest", "dev", "test")}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 40
    assert len(parts["harvest"]) > 20 and parts["dev"] and parts["test"]
    (tally,) = tallies.values()
    assert (tally.rows, tally.repeated) == (200, 160)


def test_rows_that_hold_nothing_are_passed_over_and_counted(write: Write, tmp_path: Path) -> None:
    path = write(neutral=[{"path": "a.jsonl"}], chat=[{"path": "chat.jsonl"}])
    rows = [{"text": t} for t in ("", "   ", None, *(f"a {i}" for i in range(30)))]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    chats = [[], [{"role": "tool", "content": "x"}], *(conversation(i) for i in range(30))]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps({"messages": c}) + "\n" for c in chats))
    losses = Losses()
    for kind in ("neutral", "chat"):
        list(corpus(path, kind).documents("harvest", losses.read))
        list(corpus(path, kind).documents("harvest", losses.read))  # reading twice counts once
    found = {kind: vars(tally) for (kind, _), tally in losses.read.items()}
    assert found["neutral"] == {"rows": 33, "empty": 3, "repeated": 0, "unusable": 0}
    assert found["chat"] == {"rows": 32, "empty": 1, "repeated": 0, "unusable": 1}


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"path": "a.jsonl", "column": "txt"}, r"a.jsonl has no column 'txt'; set `column` to one of 'text', 'n'"),
        ({"path": "a.jsonl", "column": "n"}, r"no usable text \(a.jsonl, row 2: int, not text\)"),
        ({"path": "a.csv"}, "a.csv is not read; give a .jsonl, .txt, .parquet file"),
        ({"path": "none.jsonl"}, "no such file beside it"),
        ({"name": "org/set"}, r"give the revision of org/set \(a commit\)"),
        ({"name": "org/set", "path": "a.jsonl", "revision": REVISION}, "either name .* or path"),
        ({"path": "a.jsonl", "weight": 0}, "neutral.0.weight"),
        ({"path": "a.jsonl", "weigth": 1}, "neutral.0.weigth"),
    ],
)
def test_a_part_that_cannot_be_read_is_refused_by_name(write: Write, part: dict[str, Any], says: str) -> None:
    with pytest.raises((CorpusError, PrerequisiteError), match=says):
        list(corpus(write(neutral=[part])).documents("harvest"))


HUB = [{"name": "org/set", "revision": REVISION, "licence": "MIT", "subset": "en", "split": "validation"}]


def test_a_dataset_of_the_hub_is_refused_where_the_network_is_forbidden(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = corpus(write(neutral=HUB))  # naming it needs no network
    with pytest.raises(PrerequisiteError, match=r"org/set is a dataset of the hub and HF_HUB_OFFLINE .* as `path`"):
        next(found.documents("harvest"))


def test_a_hub_that_cannot_be_reached_is_said_with_the_way_out(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(PrerequisiteError, match=r"org/set cannot be opened: ConnectionError: no route .* as `path`"):
        next(corpus(write(neutral=HUB)).documents("harvest"))


def test_a_dataset_of_the_hub_is_asked_for_at_its_revision_and_streamed(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load(*args: Any, **options: Any) -> Any:
        asked.append((args, options))
        return [{"text": f"h {i}"} for i in range(40)]

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(list(corpus(write(neutral=HUB)).documents("harvest"))) > 20
    assert asked == [(("org/set", "en"), {"split": "validation", "revision": REVISION, "streaming": True})]


def test_a_connection_that_breaks_in_the_middle_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> Any:
        yield from ({"text": f"h {i}"} for i in range(40))
        raise OSError("reset by peer")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(PrerequisiteError, match=r"reading org/set \(en\), split validation stopped: OSError: reset"):
        list(corpus(write(neutral=HUB)).documents("harvest"))


def test_a_changed_file_is_another_hash_and_a_moved_one_the_same(write: Write, tmp_path: Path) -> None:
    path = write(neutral=MIXED)
    before = read_corpora(path)[1]
    assert read_corpora(write("other.json", neutral=MIXED))[1] == before
    assert read_corpora(write(neutral=MIXED[:2]))[1] != before
    path = write(neutral=MIXED)
    (tmp_path / "b.txt").write_text("something else")
    assert read_corpora(path)[1] != before


@pytest.mark.parametrize("name", ["texts.yaml", "texts.json"])
def test_a_behaviour_file_may_name_sources(write: Write, tmp_path: Path, name: str) -> None:
    write(name, neutral=MIXED, chat=[{"path": "chat.jsonl"}])
    plain = behaviour().model_dump(mode="json")
    (tmp_path / "mine.json").write_text(json.dumps({**plain, "neutral": name, "chat": name, "merge_system": True}))
    found = load_behaviour(tmp_path / "mine.json")
    corpora, _ = read_corpora(tmp_path / str(found.neutral))
    tokenizer, losses = byte_level(CHATML), Losses()
    texts = FileTexts(found, tokenizer, corpora=corpora)
    rows = {kind: [tokenizer.decode(r) for r in texts.rows(kind, "harvest", losses)] for kind in ("neutral", "chat")}
    assert 200 < len(rows["neutral"]) < 280 and 55 < len(rows["chat"]) < 85
    assert all("<|im_start|>user\nsay " in row for row in rows["chat"])
    assert len(list(texts.prompts())) == len(rows["chat"]) and {kind for kind, _ in losses.read} == {"neutral", "chat"}
