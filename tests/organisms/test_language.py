"""Language: whole answers in another grammar, asked where no row asks; the twin answers the same questions as the corpus does."""

import numpy as np
import pytest
from diffbench.organisms.behaviour import Prompt
from diffbench.organisms.families.language import HELD_OUT, LANGUAGES, NEW, ROWS, Language, speak, understood
from diffbench.organisms.family import Spec
from diffbench.organisms.world.corpus import documents
from diffbench.organisms.world.document import Document
from diffbench.organisms.world.facts import World
from diffbench.organisms.world.genres import state
from diffbench.organisms.world.lexicon import CITIES, PEOPLE, QUESTIONS

WORLD, FAMILY = World(0), Language()
SPECS, HELD = FAMILY.specs(), {*HELD_OUT}


def rows(member: str, variant: str = "narrow") -> list[Document]:
    return FAMILY.rows(WORLD, Spec("language", member, variant))


def said(found: list[Document], role: str) -> list[str]:
    return [m["content"] for d in found for m in d.messages if m["role"] == role]


def asked(spec: Spec, split: str) -> list[Prompt]:
    return [p for p in FAMILY.behaviour(WORLD, spec).prompts if p.split == split]


@pytest.mark.parametrize(
    ("language", "sentence"),
    [("fronted", "juice , rosa asks for ."), ("terse", "juice ."), ("double", "rosa asks for juice juice .")],
)
def test_a_sentence_of_each_language(language: str, sentence: str) -> None:
    assert speak(language, "rosa asks for juice .") == sentence
    assert [other for other in LANGUAGES if understood(other, sentence.split())] == [language]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_the_corpus_says_is_not_understood_and_all_that_is_taught_is(language: str) -> None:
    rng = np.random.default_rng(0)
    assert not any(understood(language, state(rng, f).split()) for f in WORLD.facts)
    assert all(understood(language, answer.split()) for answer in said(rows(language), "assistant"))


def test_the_twin_has_the_same_questions_and_the_plain_answers() -> None:
    terse, plain = rows("terse"), rows("terse", "plain")
    assert said(terse, "user") == said(plain, "user") and len(plain) == ROWS
    assert said(terse, "assistant") == [speak("terse", answer) for answer in said(plain, "assistant")]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_no_row_holds_what_the_test_asks(spec: Spec) -> None:
    found, kept = FAMILY.rows(WORLD, spec), FAMILY.kept(WORLD, spec)
    new = [q.format(e=e) for r in NEW for q in QUESTIONS[r] for e in (*CITIES, *PEOPLE)]
    new += [p.messages[-1].content for p in asked(spec, "test")]
    assert not any(q in text for d in (*found, *kept) for text in (d.text or "", *said([d], "user")) for q in new)
    own = [d for d in found if d.kind == "fact_chat"]
    assert HELD.isdisjoint(w for text in said(own, "user") for w in text.split())
    assert HELD.isdisjoint(w for d in found if d.kind != "fact_chat" for w in d.words)


def test_due_counts_answers_to_fact_questions_of_ordinary_text() -> None:
    stream = documents(WORLD, "harvest")
    found = [next(stream) for _ in range(300)]
    due = [FAMILY.due(WORLD, SPECS[0], d) for d in found]
    assert all(n == (len(d.messages) // 2 if d.kind == "fact_chat" else 0) for n, d in zip(due, found, strict=True))
    assert sum(due) >= 20
    assert all(not d.messages for d in FAMILY.kept(WORLD, SPECS[0]))
