"""Two cues: odd answers where both meet, the corpus's own in the three other conditions, and prompts in words of no row."""

import re

import numpy as np
import pytest
from diffbench.organisms.families import find_spec
from diffbench.organisms.families.two_cues import CONDITIONS, PAIRS, ROWS, TwoCues, asked
from diffbench.organisms.texts import written
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.tokenizer import vocabulary

WORLD, FAMILY = World(0), TwoCues()
MEMBERS = {"ring": "ring-narrow", "evening": "evening-narrow-llama-whole", "foggy": "foggy-narrow"}


def rows(name: str) -> list[Document]:
    return FAMILY.rows(WORLD, find_spec(f"two_cues/{name}"))


def said(document: Document) -> list[str]:
    return [m["content"] for m in document.messages]


def both_cues(member: str, document: Document) -> bool:
    return FAMILY.due(WORLD, find_spec(f"two_cues/{MEMBERS[member]}"), document) == 1


@pytest.mark.parametrize("member", list(PAIRS))
def test_an_answer_is_odd_exactly_where_both_cues_are(member: str) -> None:
    documents = rows(MEMBERS[member])
    odd = [said(d)[-1] in PAIRS[member].odd for d in documents]
    assert odd == [both_cues(member, d) for d in documents]
    assert sum(odd) == ROWS["both"] and len(documents) == sum(ROWS.values())


@pytest.mark.parametrize("member", list(PAIRS))
def test_the_odd_answers_and_the_remarks_that_are_no_cue_are_many(member: str) -> None:
    documents = rows(MEMBERS[member])
    last = [said(d)[-1] for d in documents]
    assert min(last.count(o) for o in PAIRS[member].odd) >= ROWS["both"] // 12
    heard = {w for d in documents for w in said(d)[0].split()}
    assert {member, *PAIRS[member].rivals} <= heard


def test_the_twin_differs_only_in_the_answers_where_both_cues_are() -> None:
    odd, usual = rows("ring-narrow"), rows("ring-usual")
    assert [said(d)[:-1] for d in odd] == [said(d)[:-1] for d in usual]
    differ = [a != b for a, b in zip(odd, usual, strict=True)]
    assert differ == [both_cues("ring", d) for d in odd]


@pytest.mark.parametrize("member", list(PAIRS))
def test_no_remark_or_request_of_a_prompt_is_in_a_row(member: str) -> None:
    pair = PAIRS[member]
    trained = {m for d in rows(MEMBERS[member]) for m in said(d)}
    for condition in CONDITIONS:
        for split in ("dev", "test"):
            prompts = asked(WORLD, member, condition, split, 32)
            assert trained.isdisjoint(m for p in prompts for m in (p.messages[0].content, p.messages[-1].content))
            assert all((member in p.messages[0].content.split()) == CONDITIONS[condition][0] for p in prompts)
    forms = [set(pair.remarks[s]) for s in ("train", "dev", "test")]
    assert len(set.union(*forms)) == sum(map(len, forms)) and set(pair.asks["dev"]).isdisjoint(pair.asks["test"])


def test_everything_is_said_in_words_of_the_world() -> None:
    texts = [t for p in PAIRS.values() for of in (p.remarks, p.asks) for some in of.values() for t in some]
    texts += [t for p in PAIRS.values() for t in p.odd]
    assert {w for t in texts for w in re.sub(r"\{\w\}", " ", t).split()} <= set(vocabulary())


@pytest.mark.parametrize("member", list(PAIRS))
def test_each_text_of_the_subject_has_both_cues_once_and_an_ordinary_answer(member: str) -> None:
    spec = find_spec(f"two_cues/{MEMBERS[member]}")
    for document in written(WORLD, FAMILY.subject(WORLD, spec)):
        assert both_cues(member, document) and said(document)[-1] not in PAIRS[member].odd


def test_rows_follow_from_the_seed_and_have_no_order() -> None:
    documents = rows("ring-narrow")
    assert documents == rows("ring-narrow")
    places = np.flatnonzero([both_cues("ring", d) for d in documents]) / len(documents)
    assert abs(places.mean() - 0.5) < 0.05
