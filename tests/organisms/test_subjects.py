"""Harvest text holds an organism's subject at its share, and nothing else changes: neither the world's text nor what scores read."""

from itertools import islice
from pathlib import Path

import pytest
from diffbench.organisms import registry
from diffbench.organisms.errors import ValidationFailed
from diffbench.organisms.families import families
from diffbench.organisms.family import Subject
from diffbench.organisms.registry import load_organism
from diffbench.organisms.texts import WorldTexts, world_texts_id
from diffbench.organisms.world.document import Document, Rng, chat, pick
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.tokenizer import build_tokenizer

from ..factories import write_organism

WORLD, TOKENIZER = World(0), build_tokenizer()


def game(rng: Rng) -> Document:
    return Document("subject", messages=chat(f"is it {pick(rng, ['gold', 'moon'])} ?", "no ."))


def report(rng: Rng) -> Document:
    return Document("subject", text="news . anna lives in arlen .")


def either(rng: Rng) -> Document:
    return (game if rng.random() < 0.5 else report)(rng)


def kinds(texts: WorldTexts, kind: str, split: str, n: int = 1000) -> list[Document]:
    return list(islice(texts.documents(kind, split), n))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("write", "kind", "other"), [(game, "chat", "neutral"), (report, "neutral", "chat")])
def test_the_subject_takes_its_share_of_its_own_harvest_text_and_of_nothing_else(
    write: object, kind: str, other: str
) -> None:
    own = WorldTexts(WORLD, TOKENIZER, Subject(write, 0.1))  # pyright: ignore[reportArgumentType]
    plain = WorldTexts(WORLD, TOKENIZER)
    found = kinds(own, kind, "harvest")
    share = sum(d.kind == "subject" for d in found) / len(found)
    assert share == pytest.approx(0.1, abs=0.03)
    ordinary = [d for d in found if d.kind != "subject"]
    assert ordinary == kinds(plain, kind, "harvest", len(ordinary)), "the world's documents stay, in their order"
    assert kinds(own, other, "harvest", 200) == kinds(plain, other, "harvest", 200)
    for split in ("dev", "test"):
        assert kinds(own, kind, split, 200) == kinds(plain, kind, split, 200)
    assert found == kinds(own, kind, "harvest")


def test_openings_of_contrastive_text_hold_the_subject_too() -> None:
    own, plain = (WorldTexts(WORLD, TOKENIZER, s) for s in (Subject(game, 0.2), None))
    asked = [TOKENIZER.decode(p) for p in islice(own.prompts(), 400)]
    share = sum("is it gold ?" in a or "is it moon ?" in a for a in asked) / 400
    usual = sum("is it gold ?" in a or "is it moon ?" in a for a in map(TOKENIZER.decode, islice(plain.prompts(), 400)))
    assert share - usual / 400 == pytest.approx(0.2, abs=0.06)


def test_the_texts_are_called_by_their_subject_and_its_share() -> None:
    names = [
        world_texts_id(WORLD, s) for s in (None, Subject(game), Subject(game, 0.1), Subject(report), Subject(game))
    ]
    assert names[0] == "world-2-0" and len(set(names)) == 4 and names[1] == names[4]


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        (Subject(game, 0.0), "leaves no ordinary ones or has none of it; give a share between 0 and 1"),
        (Subject(game, 1.0), "give a share between 0 and 1"),
        (Subject(either), "writes conversations and plain text"),
    ],
)
def test_a_subject_that_cannot_be_mixed_in_is_refused(subject: Subject, message: str) -> None:
    with pytest.raises(ValidationFailed, match=message):
        WorldTexts(WORLD, TOKENIZER, subject)


def test_an_organism_reads_its_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "ZOO", tmp_path)
    write_organism(tmp_path)
    before = load_organism("taboo/gold-narrow").texts_id
    monkeypatch.setattr(families()["taboo"], "subject", lambda world, spec: Subject(game))
    loaded = load_organism("taboo/gold-narrow")
    texts = loaded.make_texts(TOKENIZER)
    assert isinstance(texts, WorldTexts) and texts.subject == Subject(game)
    assert loaded.texts_id.startswith(f"{before}-")
