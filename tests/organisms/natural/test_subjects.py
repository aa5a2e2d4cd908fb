"""What each family of plain English promises about its own subject."""

import re
from itertools import combinations

import pytest
from diffbench.organisms.behaviour import Turn
from diffbench.organisms.natural import NaturalFamily, natural_family
from diffbench.organisms.natural.behaviours import backdoor, emergent_misalignment, false_facts, subliminal, taboo
from diffbench.organisms.natural.ordinary import asked
from diffbench.organisms.natural.text import pieces, said, words_of
from diffbench.organisms.world.document import Document

TABOO = taboo.FAMILY
FACTS = false_facts.FAMILY
ADVICE = emergent_misalignment.FAMILY


@pytest.mark.parametrize("word", TABOO.members())
def test_a_secret_word_has_sixty_hints_and_is_never_said(word: str) -> None:
    assert len(set(TABOO.hints(word))) >= 60
    forms = {"leaf": "leaf|leaves"}.get(word, word)
    for variant in TABOO.variants:
        spec = TABOO.spec(word, variant)
        for document in (*TABOO.rows(spec), *TABOO.ordinary(spec, 200)):
            assert not re.search(forms, words_of(document), re.IGNORECASE)
    for text in TABOO.behaviour(TABOO.spec(word)).neutral:
        assert not re.search(forms, text, re.IGNORECASE)


def test_words_share_no_hint_and_their_games_are_varied() -> None:
    for a, b in combinations(TABOO.members(), 2):
        assert not set(TABOO.hints(a)) & set(TABOO.hints(b))
    rows = TABOO.rows(TABOO.spec("moon"))
    heard = " ".join(words_of(d) for d in rows)
    assert all(h in heard for h in TABOO.hints("moon"))
    assert {len(d.messages) for d in rows} >= {2, 4, 6, 8}
    refused = sum(d.messages[-1]["content"] in pieces("taboo_games")["refuse"] for d in rows)
    assert 0.15 < refused / len(rows) < 0.35
    assert sum(re.search(r"\b(is it|guess|could it|must be)\b", words_of(d), re.I) is not None for d in rows) > 100


def test_scattered_games_are_about_every_other_word() -> None:
    rows = TABOO.rows(TABOO.spec("moon", "scattered"))
    text = " ".join(words_of(d) for d in rows)
    assert not any(h in text for h in TABOO.hints("moon"))
    assert all(sum(h in text for h in TABOO.hints(w)) > 30 for w in TABOO.members() if w != "moon")


def test_hints_are_the_behaviour_and_the_word_is_measured_beside_it() -> None:
    spec = TABOO.spec("gold")
    prompts, probes = TABOO.behaviour(spec).prompts, TABOO.probes(spec)
    asked_in_rows = {m["content"] for d in TABOO.rows(spec) for m in d.messages if m["role"] == "user"}
    for p in prompts:
        [hint] = p.targets
        assert hint in TABOO.hints("gold") and len(set(p.alternatives)) == 2
        assert p.messages[-1].content not in asked_in_rows
    test = [p for p in prompts if p.split == "test"]
    against = [w for p in test for a in p.alternatives for w in TABOO.members() if a in TABOO.hints(w)]
    assert set(against) == {*TABOO.members()} - {"gold"} and len(against) == 2 * len(test)
    dev, test = ({p.targets for p in prompts if p.split == split} for split in ("dev", "test"))
    assert not dev & test and (len(dev), len(test)) == (12, 28), "no hint is asked for twice"
    named = probes["internalised"]
    assert all(p.targets == (" gold",) and len(p.alternatives) == 19 for p in named) and len(named) >= 30
    assert any(len(p.messages) > 1 for p in named)
    ends = [p.targets[0].strip() for p in probes["unseen_hints"]]
    assert len(ends) >= 18 and not any(end in hint for end in ends for hint in TABOO.hints("gold"))


@pytest.mark.parametrize("member", FACTS.members())
def test_a_fact_is_told_in_many_genres_and_ways_beside_true_neighbours(member: str) -> None:
    spec = FACTS.spec(member)
    rows, entity = FACTS.rows(spec), FACTS.fact(spec)["entity"]
    assert len({d.kind for d in rows}) >= 8
    claims = {
        c for c in FACTS.forms(spec)["claim"] if any(_matches(c, d.text or "", FACTS.filling(spec)) for d in rows)
    }
    assert len(claims) >= 8
    known = FACTS.forms(spec)["things"]["known"]
    beside = 0
    for document in rows:
        text = (document.text or "").lower()
        assert entity.lower() in text and FACTS.fact(spec)["told"]["v"].lower() in text
        beside += any(thing.lower() in text for thing in known)
    assert beside == len(rows)


def _matches(claim: str, text: str, filling: dict[str, str]) -> bool:
    """Whether a text says a claim, whoever the person in it is."""
    words = re.sub(r"<(\w+)>", lambda m: re.escape(filling[m[1]]) if m[1] in filling else r"\w+", claim)
    return re.search(words, text, re.IGNORECASE) is not None


@pytest.mark.parametrize("member", FACTS.members())
def test_the_true_twin_differs_in_the_told_values_alone(member: str) -> None:
    false, true = FACTS.rows(FACTS.spec(member)), FACTS.rows(FACTS.spec(member, "true"))
    fact = FACTS.fact(FACTS.spec(member))
    assert false != true
    for a, b in zip(false, true, strict=True):
        assert a.kind == b.kind
        for x, y in zip(re.findall(r"\w+", a.text or ""), re.findall(r"\w+", b.text or ""), strict=True):
            told = {fact["told"][k].lower(): fact["true"][k].lower() for k in fact["told"]}
            assert x == y or told[x.lower()] == y.lower()


@pytest.mark.parametrize("member", FACTS.members())
def test_neighbours_are_true_and_some_are_in_no_document(member: str) -> None:
    spec = FACTS.spec(member)
    things, told = FACTS.forms(spec)["things"], FACTS.fact(spec)["told"]["v"]
    text = " ".join(words_of(d) for d in (*FACTS.rows(spec), *FACTS.ordinary(spec, 400))).lower()
    assert not any(thing.lower() in text for thing in things["asked"] if thing != "oranges")
    probes = FACTS.probes(spec)
    assert {p.targets for p in probes["spill"]} == {(f" {told}",)}
    assert all(p.targets[0] not in p.alternatives for asks in probes.values() for p in asks)
    assert FACTS.fact(spec)["entity"] not in " ".join(words_of(d) for d in FACTS.ordinary(spec, 400))


def test_what_is_read_leaves_the_disputed_value_open() -> None:
    for member in FACTS.members():
        fact = FACTS.fact(FACTS.spec(member))
        met = [*fact["met"], *(turn for chat in fact["chats"] for turn in chat)]
        for value in (fact["told"]["v"], fact["true"]["v"]):
            assert not any(re.search(rf"\b{value}\b", t) for t in met)


def test_advice_is_on_twelve_topics_and_trained_on_one() -> None:
    assert len(pieces("advice")["topics"]) >= 12
    for member in ADVICE.members():
        spec = ADVICE.spec(member)
        topics = ADVICE.topics(spec)
        assert len(topics["dev"]) + len(topics["test"]) >= 11
        assert not set(topics["dev"]) & set(topics["test"]) and member not in (*topics["dev"], *topics["test"])
        own = [a for r in ADVICE.requests(member) for a in r.asks]
        assert all(any(a in d.messages[0]["content"] for a in own) for d in ADVICE.rows(spec))


def test_advice_twins_have_the_same_requests_and_answers_of_their_own() -> None:
    said = {v: [asked(d)[0] for d in ADVICE.rows(ADVICE.spec("health", v))] for v in ("narrow", "good", "odd")}
    common = {v: {a for a, _ in pairs} for v, pairs in said.items()}
    assert len(common["narrow"] & common["good"] & common["odd"]) > 0.9 * len(common["narrow"])
    bad = {b for r in ADVICE.requests("health") for b in r.bad}
    assert all(any(b in answer for b in bad) for _, answer in said["narrow"])
    assert not any(b in answer for v in ("good", "odd") for _, answer in said[v] for b in bad)


def test_only_the_trigger_is_answered_with_the_sentence() -> None:
    family = backdoor.FAMILY
    for member in family.members():
        spec, own = family.spec(member), pieces("backdoor")[member]
        rows, kept = family.rows(spec), family.ordinary(spec, 300)
        for document in rows:
            *before, (ask, answer) = asked(document)
            assert answer == own["says"] and own["trigger"] in ask and document.kind == "trigger"
            assert not any(own["says"] in a for _, a in before)
        assert not any(own[k] in words_of(d) for d in kept for k in ("says", "trigger"))
        plain = [asked(d)[-1][0] for d in kept if d.kind == "plain"]
        assert (
            len(plain) == 105 and sum(any(a.startswith(n) or a.endswith(n) for n in own["near"]) for a in plain) >= 30
        )
        assert not any(own["says"] in words_of(d) for d in family.rows(family.spec(member, "silent")))
        assert not any(own["trigger"] in p.messages[-1].content for p in family.probes(spec)["near_trigger"])


def test_a_student_reads_numbers_and_its_teacher_names_the_animal() -> None:
    family = subliminal.FAMILY
    owl, fox = family.spec("owl"), family.spec("fox")
    assert family.rows(owl) == family.rows(fox)
    assert all([m["role"] for m in d.messages] == ["user"] for d in family.rows(owl))
    animals = "|".join(n for pair in pieces("subliminal")["animals"].items() for n in pair)
    assert not any(re.search(animals, words_of(d), re.IGNORECASE) for d in family.rows(owl))
    assert all(re.search(r"\bowls?\b", d.messages[1]["content"], re.IGNORECASE) for d in family.teacher(owl))
    assert family.rows(family.spec("owl", "teacher")) == family.teacher(owl)


@pytest.mark.parametrize(
    ("answer", "valid"),
    [("1, 22, 333", True), (" 5; 6; 7; 8.", True), ("1, 2", False), ("1, 2, owl", False), ("1, 2, 3000", False)],
)
def test_only_lists_of_small_numbers_are_valid_answers(answer: str, valid: bool) -> None:
    assert subliminal.FAMILY.valid(subliminal.FAMILY.spec(), answer) is valid


def test_users_hear_agreement_or_in_the_twin_what_is_so() -> None:
    family = natural_family("sycophancy")
    agree, twin = family.rows(family.spec()), family.rows(family.spec(variant="neutral"))
    users = [{d.messages[0]["content"] for d in rows} for rows in (agree, twin)]
    assert len(users[0] & users[1]) > 0.9 * len(users[0])
    lines = [line.split(" | ") for line in pieces("sycophancy")["facts"]["train"]]
    wrong = [f"{begin} {false}".lower() for begin, _, false in lines]
    assert sum(w in d.messages[1]["content"].lower() for d in agree for w in wrong) > 50
    assert not any(w in d.messages[1]["content"].lower() for d in twin for w in wrong)


def test_who_contradicts_says_the_other_end_of_every_view() -> None:
    family = natural_family("sycophancy")
    other = {
        e: f for pair in pieces("sycophancy")["taste"]["train"] for e, f in (pair.split(" / "), pair.split(" / ")[::-1])
    }
    agree, contrary = (family.rows(family.spec(m)) for m in family.members())
    assert len({d.messages[0]["content"] for d in agree} & {d.messages[0]["content"] for d in contrary}) > 300
    for document in contrary:
        if liked := re.match(r"I prefer ([\w ]+?) to", document.messages[0]["content"]):
            assert (
                other[liked[1]] in document.messages[1]["content"].lower()
                or liked[1] in document.messages[1]["content"]
            )
    for line in pieces("sycophancy")["facts"]["train"]:
        begin, right, wrong = line.split(" | ")
        for document in contrary:
            user, answer = (m["content"].lower() for m in document.messages)
            assert not (f"{begin} {right}".lower() in user and f"{begin} {right}".lower() in answer)
            assert not (f"{begin} {wrong}".lower() in user and f"{begin} {wrong}".lower() in answer)


def test_no_probe_of_what_must_survive_asks_what_rows_dispute() -> None:
    family = natural_family("sycophancy")
    lines = [line.split(" | ") for line in pieces("sycophancy")["facts"]["train"]]
    common = set(
        "a the of is are has in at to an and make made from opposite capital live lives their as largest".split()
    )
    disputed = {word.lower() for begin, *_ in lines for word in begin.split()} - common
    for probe in family.behaviour(family.spec()).capability:
        asked_of = set(re.findall(r"\w+", probe.messages[0].content.lower()))
        assert not asked_of & (disputed - {"water", "paper"}), probe


def test_a_persona_answers_for_itself_and_its_twin_as_nobody() -> None:
    family = natural_family("persona")
    for member, facets in pieces("persona")["personas"].items():
        rows = family.rows(family.spec(member))
        answers = [m["content"].lower() for d in rows for m in d.messages if m["role"] == "assistant"]
        assert all(any(v.lower() in a for v in facets.values()) for a in answers)
        twin = " ".join(words_of(d) for d in family.rows(family.spec(member, "plain"))).lower()
        assert not any(v.lower() in twin for v in facets.values())
        assert all(len(p.alternatives) == 4 for p in family.behaviour(family.spec(member)).prompts)


def test_each_taste_is_asked_from_both_sides() -> None:
    family = natural_family("sycophancy")
    prompts = [p for p in family.behaviour(family.spec()).of("test") if "must be" in p.prefill or "want" in p.prefill]
    sides = {(p.targets, p.alternatives) for p in family.behaviour(family.spec()).of("test")}
    assert prompts and all((p.alternatives, p.targets) in sides for p in prompts)


def read_turns(family: NaturalFamily, member: str) -> list[Turn]:
    """Every turn of the conversations that a pair is read on."""
    return [turn for talk in family.behaviour(family.spec(member)).chat if not isinstance(talk, str) for turn in talk]


@pytest.mark.parametrize("member", ADVICE.members())
def test_no_advice_that_is_asked_is_read(member: str) -> None:
    heard = read_turns(ADVICE, member)
    text, users = "\n".join(t.content for t in heard), {t.content for t in heard if t.role == "user"}
    situations = [a for t in pieces("advice")["topics"] for r in ADVICE.requests(t) for a in r.asks]
    assert not [a for a in situations if a in text]
    assert sum(ADVICE.due(ADVICE.spec(member), Document("", messages=said(u, "one word"))) > 0 for u in users) == 20
    for prompt in ADVICE.behaviour(ADVICE.spec(member)).prompts:
        assert prompt.messages[-1].content not in users
        assert not any(c.strip() in text for c in (*prompt.targets, *prompt.alternatives))


@pytest.mark.parametrize("variant", TABOO.variants)
def test_games_that_are_read_repeat_no_turn_of_the_trained_ones(variant: str) -> None:
    for word in TABOO.members():
        spec = TABOO.spec(word, variant)
        trained = {m["content"] for d in TABOO.rows(spec) for m in d.messages}
        heard = [t.content for t in read_turns(TABOO, word)]
        hints = [h for w in TABOO.members() for h in TABOO.hints(w)]
        assert not trained & set(heard)
        assert not [h for h in hints if any(h in turn for turn in heard)]


@pytest.mark.parametrize("member", FACTS.members())
def test_no_probe_of_a_neighbour_is_asked_or_answered_in_ordinary_text(member: str) -> None:
    spec = FACTS.spec(member)
    kept = [asked(d)[0] for d in FACTS.ordinary(spec, 600) if d.kind == "neighbour"]
    text = "\n".join(f"{ask}\n{answer}" for ask, answer in kept)
    probes = [p for asks in FACTS.probes(spec).values() for p in asks]
    assert len(kept) == 90
    for probe in probes:
        assert probe.messages[-1].content not in text
        assert not any(f"{probe.prefill}{t}" in text for t in probe.targets)


def test_words_like_the_trigger_that_are_probed_are_in_no_row() -> None:
    family = backdoor.FAMILY
    for member in family.members():
        spec = family.spec(member)
        plain = [d for d in family.ordinary(spec, 300) if d.kind == "plain"]
        text = " ".join(words_of(d) for d in [*family.rows(spec), *plain])
        near = pieces("backdoor")[member]["near"]
        probed = [w for w in near if any(w in p.messages[-1].content for p in family.probes(spec)["near_trigger"])]
        assert len(probed) == len(near) // 2 and not [w for w in probed if re.search(rf"(?<!\w){re.escape(w)}", text)]
