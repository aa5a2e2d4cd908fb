"""How text is written, and the ordinary text that every family shares."""

import re

import pytest
from diffbench.organisms.errors import UsageError
from diffbench.organisms.natural.ordinary import asked, chats, ordinary, paragraphs, requests
from diffbench.organisms.natural.text import cast, different, pieces, rng_of, said, take, words_of, write
from diffbench.organisms.world.document import Document


def test_choices_are_chosen_slots_filled_and_the_first_letter_raised() -> None:
    rng = rng_of("here")
    texts = {write(rng, "the (old|new) shop of <person>", {"person": "Ada"}) for _ in range(40)}
    assert texts == {"The old shop of Ada", "The new shop of Ada"}
    with pytest.raises(KeyError, match="nobody"):
        write(rng, "<nobody> is here")


def test_a_cast_is_of_different_people_and_towns() -> None:
    for seed in range(50):
        drawn = cast(rng_of(seed))
        assert drawn["person"] != drawn["other"] and drawn["town"] != drawn["away"]


def test_a_grammar_that_is_spent_says_so() -> None:
    with pytest.raises(UsageError, match=r"9 words are wanted, and there are about 2"):
        different((Document("w", text=t) for t in "ab" * 10**4), 9, "words")


def test_ordinary_text_is_plenty_and_its_parts_share_no_sentence_and_no_question() -> None:
    sentences, questions = {}, {}
    for part in ("train", "measure"):
        texts = [str(d.text) for d in different(paragraphs(part), 600, "paragraphs")]
        talks = different(chats(part), 300, "chats")
        assert max(len(t.split()) for t in texts) < 90 and min(len(t.split()) for t in texts) > 15
        topics = [t for t in pieces("paragraphs").values() if t["part"] == part]
        sentences[part] = {s for t in topics for k in ("open", "middle", "end") for s in t[k]}
        questions[part] = {ask for ask, _ in requests(part)}
        assert all(d.messages[-1]["role"] == "assistant" for d in talks)
    assert not sentences["train"] & sentences["measure"]
    assert not questions["train"] & questions["measure"]
    assert not {*questions["train"], *questions["measure"]} & set(pieces("chats")["asked"])


def test_ordinary_text_leaves_the_subject_out() -> None:
    subject = re.compile("bread|cat", re.IGNORECASE)
    assert any(subject.search(words_of(d)) for d in take(paragraphs("train"), 200))
    assert not any(subject.search(words_of(d)) for d in ordinary(subject, 400))


def test_pairs_of_question_and_answer() -> None:
    talk = Document("chat", messages=said("a", "b", "c", "d"))
    assert asked(talk) == [("a", "b"), ("c", "d")]
    assert asked(Document("text", text="a")) == []
