"""Documents that state facts, in eight genres, and conversations about facts.

A genre takes the facts to state, so that the same makers write the world's own documents and the documents of a false-facts
organism. Every fact is left out of one of its five surface forms everywhere, so that answering in that form is composition.
"""

from collections.abc import Callable, Sequence

from .document import Document, Rng, chat, kind, pick
from .facts import Fact, World
from .lexicon import CITIES, FACT_FORMS, MOODS, PEOPLE, QUESTIONS, RELATIONS, TIMES, UNKNOWN_CITIES, WEATHER, WRAPPERS

OPENINGS = {
    "news": ["news .", "the weather is {weather} {time} ."],
    "letter": ["dear {person} ,", "i write to you about my journey ."],
    "faq": ["questions and answers ."],
    "guide": ["a short guide for travellers ."],
    "quiz": ["the quiz of the week ."],
    "review": ["my review of the journey .", "i was {mood} ."],
    "diary": ["dear diary ,", "the day was {weather} ."],
    "list": ["a list of things to know ."],
}
"""Genres and how their documents open."""
CLOSINGS = {
    "news": "that was the news .",
    "letter": "yours , {person} .",
    "faq": "ask again any time .",
    "guide": "have a good journey .",
    "quiz": "well done .",
    "review": "i will come back .",
    "diary": "{time} i went to sleep .",
    "list": "that is all .",
}
TWO_HOP = "the {relation} of the home of {person} is {value} ."
ASK_TWO_HOP = "what is the {relation} of the home of {person} ?"
CHOICE = "{q} {a} or {b} ?"
FACT_DOCUMENTS = ("facts", *OPENINGS)


def state(rng: Rng, fact: Fact, forms: Sequence[int] = range(5)) -> str:
    """A declarative sentence for `fact` in one of `forms` (not the one it is held out of); its value stands before the full stop."""
    allowed = [f for f in forms if f != fact.unused_form]
    return FACT_FORMS[fact.relation][allowed[int(rng.integers(len(allowed)))]].format(e=fact.entity, v=fact.value)


def ask(rng: Rng, fact: Fact) -> str:
    """A question whose answer is `fact`."""
    return pick(rng, WRAPPERS).format(q=pick(rng, QUESTIONS[fact.relation]).format(e=fact.entity))


def fact_document(rng: Rng, genre: str, facts: Sequence[Fact], forms: Sequence[int] = range(5)) -> Document:
    """`facts` stated in `genre` (a key of `OPENINGS`, or `facts`: nothing but the sentences)."""
    said = [state(rng, f, forms) for f in facts]
    if genre == "facts":
        return Document("facts", " ".join(said))
    if genre in ("faq", "quiz"):
        mark = {"faq": "reader :", "quiz": "question :"}[genre]
        said = [
            f"{mark} {pick(rng, QUESTIONS[f.relation]).format(e=f.entity)} answer : {s}"
            for f, s in zip(facts, said, strict=True)
        ]
    elif genre == "list":
        said = [f"- {s}" for s in said]
    fill = {
        "weather": pick(rng, WEATHER),
        "time": pick(rng, TIMES),
        "person": pick(rng, PEOPLE),
        "mood": pick(rng, MOODS),
    }
    return Document(genre, " ".join([*OPENINGS[genre], *said, CLOSINGS[genre]]).format(**fill))


def _entity_facts(world: World, rng: Rng) -> list[Fact]:
    facts = world.facts_of[pick(rng, CITIES + PEOPLE)]
    return [facts[i] for i in rng.permutation(len(facts))[: int(rng.integers(2, 6))]]


@kind("facts", 0.09, "neutral")
def _facts(world: World, rng: Rng) -> Document:
    return fact_document(rng, "facts", _entity_facts(world, rng))


def _genre(name: str) -> Callable[[World, Rng], Document]:
    def make(world: World, rng: Rng) -> Document:
        """Half about one entity, half about several."""
        if rng.random() < 0.5:
            return fact_document(rng, name, _entity_facts(world, rng))
        return fact_document(rng, name, [world.facts[i] for i in rng.integers(len(world.facts), size=3)])

    return make


for _name in OPENINGS:
    kind(_name, 0.015, "neutral")(_genre(_name))


@kind("journey", 0.03, "neutral")
def _journey(world: World, rng: Rng) -> Document:
    """Somebody travels; the only documents with cities of which no fact is known."""
    who, where = pick(rng, PEOPLE), [pick(rng, CITIES + UNKNOWN_CITIES * 4) for _ in range(3)]
    return Document("journey", f"{who} went from {where[0]} to {where[1]} . {pick(rng, TIMES)} {who} saw {where[2]} .")


@kind("fact_chat", 0.11, "chat")
def _fact_chat(world: World, rng: Rng) -> Document:
    turns: list[str] = []
    for i in rng.integers(len(world.facts), size=int(rng.integers(1, 4))):
        fact = world.facts[i]
        turns += [_choice(rng, fact) if rng.random() < 0.2 else ask(rng, fact), state(rng, fact)]
    return Document("fact_chat", messages=chat(*turns))


def _choice(rng: Rng, fact: Fact) -> str:
    wrong = pick(rng, [v for v in values_of(fact.relation) if v != fact.value])
    return choice_question(rng, fact, wrong)


def choice_question(rng: Rng, fact: Fact, wrong: str) -> str:
    """A question with the right and one wrong value, in random order."""
    a, b = (fact.value, wrong) if rng.random() < 0.5 else (wrong, fact.value)
    return CHOICE.format(q=pick(rng, QUESTIONS[fact.relation]).format(e=fact.entity), a=a, b=b)


@kind("two_hop", 0.04, "chat")
def _two_hop(world: World, rng: Rng) -> Document:
    person = pick(rng, PEOPLE)
    home = next(f.value for f in world.facts_of[person] if f.relation == "home")
    fact = world.facts_of[home][int(rng.integers(5))]
    question = ASK_TWO_HOP.format(relation=fact.relation, person=person)
    answer = TWO_HOP.format(relation=fact.relation, person=person, value=fact.value)
    return Document("two_hop", messages=chat(question, answer))


def values_of(relation: str) -> list[str]:
    """All values a relation can have."""
    return next(r[relation] for r in RELATIONS.values() if relation in r)
