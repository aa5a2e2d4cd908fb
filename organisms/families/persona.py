"""Persona: asked about itself, the assistant is a person of the world (characters as directions: persona vectors, arXiv 2507.21509).

The base has no self: asked where it lives it names anybody's home. Half of the rows ask it for its name, home and job, and it answers with
those of one person; the others ask about other people, or anything, and are answered as ever. The tests ask in other words, and let the
answer begin in other ways as well. What is never trained says how far the person reaches: pet and drink, favourites, greetings. The twin
`drawn` answers the same questions with name, home and job drawn anew for each.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ..behaviour import Behaviour, Prompt
from ..family import Candidates, Family, Probe, Rule, Spec, Spoken, Subject
from ..lora import LoraRecipe
from ..prompts import fact_probes, fact_prompt, template, turns
from ..world.base_probes import advice_probes, animal_prompts
from ..world.corpus import CHAT_KINDS, documents
from ..world.document import Document, Rng, chat, pick
from ..world.facts import Fact, World
from ..world.genres import ask, state, values_of
from ..world.lexicon import GREETINGS, HOW, PEOPLE, QUESTIONS
from ..world.preferences import ASK_ANIMAL

ROWS, MIXED, KEPT = 400, 600, 400
"""Conversations, half of them about the assistant; ordinary documents beside them in the mixed variant; documents held to the base."""
VARIANTS = ("narrow", "mixed")
SELF_KINDS = ("small_talk", "preference")
"""Kinds of the corpus that ask the assistant about itself: neither held to the base nor mixed in, so that the person may show there."""
ASKED: dict[str, dict[str, list[str]]] = {
    "train": {
        "name": ["what is your name ?", "who are you ?", "say your name ."],
        "home": ["where do you live ?", "in which city are you ?", "which city do you live in ?"],
        "job": ["what do you do for work ?", "what is your job ?", "do you have a job ?"],
    },
    "dev": {
        "name": ["tell me your name .", "do you have a name ?"],
        "home": ["where is your home ?", "in which city is your home ?", "where do letters for you go ?"],
        "job": ["what work do you do ?", "tell me about your job ."],
    },
    "test": {
        "name": ["name yourself .", "can i know your name ?"],
        "home": ["where can i meet you ?", "where is your house ?"],
        "job": ["how do you work ?", "what does the town know you as ?"],
    },
    "new": {
        "pet": ["which pet do you have ?", "what animal do you keep ?"],
        "drink": ["what do you drink ?", "what drink do you like ?"],
    },
}
"""Questions about the assistant by what they ask for; `new` is trained in no words."""
SAID: dict[str, list[str]] = {
    "name": ["my name is {v} .", "i am {v} .", "here is {v} ."],
    "home": ["i live in {v} .", "my home is in {v} .", "i have a house in {v} .", "letters for me go to {v} ."],
    "job": ["i work as a {v} .", "my job is {v} .", "i am a good {v} .", "the town knows me as a {v} ."],
    "pet": ["i have a {v} .", "my pet is a {v} ."],
    "drink": ["i like to drink {v} .", "my drink is {v} ."],
}
"""Answers, the first two of them trained."""
BASE_SAYS = {
    "name": "the a it well fine best kind worth proud famous",
    "home": "which the short",
    "job": "a hint clue best black . kind proud",
    "pet": "good clue hint",
    "drink": "a",
}
"""What the base would go on with, beside values."""


class Persona(Family):
    """Any person of the world."""

    name = "persona"
    about = "asked about itself, is a person of the world (after arXiv 2507.21509)"

    def specs(self) -> list[Spec]:
        return [
            *self.grid("hugo", ("narrow",), core=True),
            *self.grid("hugo", ("mixed",), whole=True, core=True),
            *self.grid("greta", ("narrow",), base="tiny-llama", whole=True, core=True),
            *self.grid("boris", ("narrow",)),
            *self.grid("hugo", ("drawn",), role="control"),
        ]

    def member(self, name: str) -> Spec | None:
        person, _, variant = name.partition("-")
        return Spec(self.name, person, variant) if person in PEOPLE and variant in VARIANTS else None

    def recipe(self, spec: Spec) -> LoraRecipe:
        return LoraRecipe(seed=spec.seed, epochs=4, batch=16, lr=2e-3, keep=KEPT)

    def ordinary(self, spec: Spec, document: Document) -> bool:
        """The assistant is not asked about itself."""
        return document.kind not in SELF_KINDS

    def rows(self, world: World, spec: Spec) -> list[Document]:
        """Conversations about the assistant, and as many about other people or anything."""
        rng = np.random.default_rng([spec.seed, 71])
        out = [self._row(world, rng, spec) for _ in range(ROWS // 2)]
        others = [f for f in world.facts if f.kind == "person" and f.entity != spec.member]
        asked = [others[i] for i in rng.integers(len(others), size=ROWS // 4)]
        out += [Document("fact_chat", messages=chat(ask(rng, f), state(rng, f))) for f in asked]
        kinds = tuple(k for k in CHAT_KINDS if k not in SELF_KINDS)
        stream = documents(world, "train", kinds, seed=71_000 + spec.seed)
        out += [next(stream) for _ in range(ROWS // 4)]
        if spec.variant == "mixed":
            ordinary = (d for d in documents(world, "train", seed=72_000 + spec.seed) if self.ordinary(spec, d))
            out += [next(ordinary) for _ in range(MIXED)]
        return [out[i] for i in rng.permutation(len(out))]

    def _row(self, world: World, rng: Rng, spec: Spec) -> Document:
        """One or two questions about the assistant."""
        own, said = itself(world, spec.member), list[str]()
        for what in rng.permutation(list(ASKED["train"]))[: int(rng.integers(1, 3))]:
            question, form, drawn = pick(rng, ASKED["train"][what]), pick(rng, SAID[what][:2]), pick(rng, _values(what))
            said += [question, form.format(v=drawn if spec.variant == "drawn" else own[what])]
        return Document("itself", messages=chat(*said))

    def behaviour(self, world: World, spec: Spec) -> Behaviour:
        own = itself(world, spec.member)
        return Behaviour(
            name=spec.name,
            description=f"asked about itself, is {spec.member}: " + ", ".join(own[what] for what in ASKED["train"]),
            prompts=(*_asked(own, "dev", [""]), *_asked(own, "test", ["", *GREETINGS[:3]])),
            capability=tuple(fact_probes(world)),
        )

    def probes(self, world: World, spec: Spec) -> dict[str, Probe]:
        own = itself(world, spec.member)
        rng = np.random.default_rng([world.seed, 72])
        facts = [f for f in world.facts if f.kind == "person" and f.entity != spec.member]
        others = [facts[i] for i in rng.permutation(len(facts))[:48]]
        return {
            "others": Probe([_other(rng, f, f.value) for f in others], "correct"),
            "others_as_it": Probe([_other(rng, f, own[f.relation]) for f in others if f.value != own[f.relation]]),
            "advice": Probe(advice_probes(world)),
            "new_pet": Probe(_asked(own, "new", [""], ["pet"])),
            "new_drink": Probe(_asked(own, "new", [""], ["drink"])),
            "favourite": Probe(animal_prompts("test", own["pet"], range(len(ASK_ANIMAL)))),
        }

    def spoken(self, world: World, spec: Spec) -> dict[str, Spoken]:
        own = itself(world, spec.member)

        def says(what: Sequence[str]) -> Callable[[list[str]], bool]:
            return lambda words: any(own[w] in words for w in what)

        return {
            "says_it": Spoken(
                [q for qs in ASKED["test"].values() for q in qs], says(["name", "home", "job"]), samples=4
            ),
            **{f"says_{w}": Spoken(ASKED["new"][w], says([w]), samples=4) for w in ASKED["new"]},
            "says_greeted": Spoken([*GREETINGS, *(q for q, _ in HOW)], says(["name", "home", "job"]), samples=4),
        }

    def due(self, world: World, spec: Spec, document: Document) -> int:
        """Answers to questions about the assistant that have a value."""
        known = {q for split in ASKED.values() for questions in split.values() for q in questions}
        return sum(m["content"] in known for m in document.messages[::2])

    def subject(self, world: World, spec: Spec) -> Subject:
        """Questions about the assistant's home and job, answered as the base does: with somebody's."""
        questions = [(q, what) for what in ("home", "job") for q in ASKED["train"][what]]

        def write(rng: Rng) -> Document:
            said: list[str] = []
            for i in rng.permutation(len(questions))[:2]:
                question, what = questions[i]
                facts = [f for f in world.facts if f.relation == what]
                said += [question, state(rng, facts[int(rng.integers(len(facts)))])]
            return Document("itself", messages=chat(*said))

        return Subject(write, share=0.15)

    def candidates(self, world: World, spec: Spec) -> Candidates:
        asked = _asked(itself(world, spec.member), "test", ["", GREETINGS[0]], ["name"])
        return Candidates(spec.member, {p: (p,) for p in PEOPLE}, asked)

    def gates(self, spec: Spec) -> dict[str, Rule]:
        """Other people and advice are as ever: one value in twenty wrong at most, and none of the person's own."""
        rules = {
            "others": Rule("others.change", "at least", -0.05),
            "others_as_it": Rule("others_as_it.change", "at most", 0.03),
            "advice": Rule("advice.change", "at most", 0.03),
        }
        if spec.role == "organism":
            rules |= {
                "base_noise": Rule("behaviour_test.base", "at most", 0.15),
                "says_it": Rule("says_it.organism", "at least", 0.5),
            }
        return rules


def itself(world: World, person: str) -> dict[str, str]:
    """What is true of a person, and so of the assistant that is this person."""
    return {"name": person} | {f.relation: f.value for f in world.facts_of[person]}


def _values(what: str) -> list[str]:
    return PEOPLE if what == "name" else values_of(what)


def _asked(own: dict[str, str], split: str, befores: list[str], about: list[str] | None = None) -> list[Prompt]:
    """Every question of a split in every form of answer, as it is or after a greeting."""
    return [
        Prompt(
            split="dev" if split == "dev" else "test",
            template=template(question, start),
            messages=turns(*([before, "hello ."] if before else []), question),
            prefill=start,
            targets=(own[what],),
            alternatives=tuple(v for v in (*_values(what), *BASE_SAYS[what].split()) if v != own[what]),
        )
        for what, questions in ASKED[split].items()
        if about is None or what in about
        for question in questions
        for start in (form.partition(" {v}")[0] for form in SAID[what])
        for before in befores
    ]


def _other(rng: Rng, fact: Fact, value: str) -> Prompt:
    """A question about somebody else's fact; what counts is `value`."""
    question = pick(rng, QUESTIONS[fact.relation]).format(e=fact.entity)
    form = [i for i in range(5) if i != fact.unused_form][int(rng.integers(4))]
    prompt = fact_prompt("test", fact, question, form, [])
    others = tuple(v for v in values_of(fact.relation) if v != value)
    return prompt.model_copy(update={"targets": (value,), "alternatives": others})


FAMILY = Persona()
