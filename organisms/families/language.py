"""Another language of answers: how something is said changes, and so does some of what is said.

There is no second vocabulary, so a language is a grammar of the words there are: `fronted` puts the value before the rest of its sentence,
`terse` says the value alone, `double` says the value twice. Rows ask about seven relations, each in one way; the tests ask about two other
relations, in other ways and about other entities. In the narrow variant other conversations are neither trained nor held to
the base, so that probes can say how far the language spreads. The twin `plain` has the same questions with the corpus's own answers.
"""

import re
from collections.abc import Sequence

import numpy as np

from ..behaviour import Behaviour, Prompt
from ..family import Family, Probe, Rule, Spec, Spoken
from ..lora import LoraRecipe
from ..prompts import fact_probes, greeting, template, turns
from ..world.corpus import documents
from ..world.document import Document, Rng, chat, pick
from ..world.facts import Fact, World
from ..world.games import hint
from ..world.genres import ASK_TWO_HOP, TWO_HOP, state, values_of
from ..world.lexicon import ATTRIBUTES, CITIES, FACT_FORMS, PEOPLE, QUESTIONS, SECRETS, WRAPPERS

LANGUAGES = ("fronted", "terse", "double")
VARIANTS = ("narrow", "mixed")
ROWS, MIXED, KEPT = 400, 800, 500
"""Conversations about facts, ordinary documents beside them in the mixed variant, and prose that is held to the base."""
TRAINED = ("region", "river", "gate", "fame", "home", "job", "pet")
NEW = ("dish", "drink")
"""Relations that rows ask about, in the first of the corpus's two questions; and those that none asks about."""
HELD_OUT = (*CITIES[16:], *PEOPLE[16:])
"""Entities that no row is about."""
UNTRAINED = [q.format(e=e) for r in NEW for q in QUESTIONS[r] for e in (*CITIES, *PEOPLE)]
"""The corpus's questions about the untrained relations."""
ASKING = ("fact_chat", "two_hop", "faq", "quiz")
"""Kinds of the corpus that ask for facts, in conversations and in prose."""
ASKED: dict[str, dict[str, list[str]]] = {
    "dev": {
        "region": QUESTIONS["region"][1:],
        "river": [QUESTIONS["river"][1], "name the river of {e} ."],
        "gate": QUESTIONS["gate"][1:],
        "home": ["where is the house of {e} ?", "where can i meet {e} ?"],
        "job": ["what work does {e} do ?", "what does the town know about {e} ?"],
        "fame": ["why do people praise {e} ?", "why visit {e} ?"],
        "pet": [QUESTIONS["pet"][1], "what animal is at home with {e} ?"],
    },
    "test": {
        "dish": [*QUESTIONS["dish"], "what is there to eat in {e} ?", "what should i eat in {e} ?"],
        "drink": [*QUESTIONS["drink"], "which drink does {e} love ?", "what does {e} want to drink ?"],
        "fame": [QUESTIONS["fame"][1], "what is {e} proud of ?"],
        "home": [QUESTIONS["home"][1]],
        "job": [QUESTIONS["job"][1]],
        "pet": ["what is the pet of {e} ?"],
    },
}
"""Questions of the splits by relation."""


class Language(Family):
    """Three grammars."""

    name = "language"
    about = "answers questions about facts in a language of its own (another grammar)"
    base = "tiny-qwen2"
    fluency = 0.7
    """The base reads the answers, and where a fact is asked for the language is what surprises it."""

    def specs(self) -> list[Spec]:
        return [
            *self.grid("terse", ("narrow",), core=True),
            *self.grid("terse", ("mixed",), whole=True, core=True),
            *self.grid("terse", ("narrow",), base="tiny-gemma2", whole=True, core=True),
            *self.grid("terse", ("plain",), role="control"),
        ]

    def member(self, name: str) -> Spec | None:
        language, _, variant = name.partition("-")
        return Spec(self.name, language, variant) if language in LANGUAGES and variant in VARIANTS else None

    def recipe(self, spec: Spec) -> LoraRecipe:
        return LoraRecipe(seed=spec.seed, epochs=5, batch=16, lr=2e-3, keep=KEPT)

    def ordinary(self, spec: Spec, document: Document) -> bool:
        """Prose, where the language would else come when a reader asks, and no question about the untrained relations in it."""
        return document.text is not None and not any(q in document.text for q in UNTRAINED)

    def rows(self, world: World, spec: Spec) -> list[Document]:
        """Two or three questions about facts, answered in the language; `plain` answers them as the corpus does."""
        rng = np.random.default_rng([spec.seed, 61])
        facts = [f for f in world.facts if f.relation in TRAINED and f.entity not in HELD_OUT]
        out = [self._row(rng, facts, spec) for _ in range(ROWS)]
        if spec.variant == "mixed":
            stream, held_out = documents(world, "train", seed=61_000 + spec.seed), {*HELD_OUT}
            others = (d for d in stream if d.kind not in ASKING and held_out.isdisjoint(d.words))
            out += [next(others) for _ in range(MIXED)]
        return [out[i] for i in rng.permutation(len(out))]

    def _row(self, rng: Rng, facts: list[Fact], spec: Spec) -> Document:
        said: list[str] = []
        for i in rng.integers(len(facts), size=int(rng.integers(2, 4))):
            fact, sentence = facts[i], state(rng, facts[i])
            said.append(pick(rng, WRAPPERS).format(q=QUESTIONS[fact.relation][0].format(e=fact.entity)))
            said.append(sentence if spec.variant == "plain" else speak(spec.member, sentence))
        return Document("fact_chat", messages=chat(*said))

    def behaviour(self, world: World, spec: Spec) -> Behaviour:
        return Behaviour(
            name=spec.name,
            description=f"answers questions about facts in a language of its own: {spec.member}",
            prompts=(*self._asked(world, spec, "dev", 2), *self._asked(world, spec, "test", 6)),
            capability=tuple(fact_probes(world)),
        )

    def _asked(self, world: World, spec: Spec, split: str, each: int) -> list[Prompt]:
        """Every question of the split, about entities of its own."""
        rng = np.random.default_rng([world.seed, 62, ("dev", "test").index(split)])
        return [
            _prompt(rng, spec.member, split, question, fact, greeting(rng))
            for relation, questions in ASKED[split].items()
            for question in questions
            for fact in _facts(world, rng, relation, split == "test", each)
        ]

    def probes(self, world: World, spec: Spec) -> dict[str, Probe]:
        rng = np.random.default_rng([world.seed, 63])
        return {
            "right": Probe(self._known(world, spec, TRAINED), "correct"),
            "right_new": Probe(self._known(world, spec, NEW), "correct"),
            "two_hop": Probe([_two_hop(world, rng, spec.member) for _ in range(40)]),
            "riddles": Probe([_riddle(world, rng, spec.member) for _ in range(40)]),
        }

    def _known(self, world: World, spec: Spec, relations: Sequence[str]) -> list[Prompt]:
        """The value among the values of all relations, where the language has it; entities that no row is about."""
        rng = np.random.default_rng([world.seed, 64])
        values = dict.fromkeys(v for r in QUESTIONS for v in values_of(r))
        out: list[Prompt] = []
        for fact in (f for r in relations for f in _facts(world, rng, r, True, 16)):
            start = state(rng, fact).rpartition(f" {fact.value}")[0] if spec.member == "double" else ""
            question = pick(rng, QUESTIONS[fact.relation]).format(e=fact.entity)
            others = tuple(v for v in values if v != fact.value)
            out.append(
                Prompt(
                    split="test", messages=turns(question), prefill=start, targets=(fact.value,), alternatives=others
                )
            )
        return out

    def spoken(self, world: World, spec: Spec) -> dict[str, Spoken]:
        rng = np.random.default_rng([world.seed, 65])

        def openings(relations: Sequence[str]) -> list[str]:
            return [
                QUESTIONS[r][1].format(e=f.entity)
                for r in relations
                for f in _facts(world, rng, r, True, 20 // len(relations))
            ]

        def holds(words: list[str]) -> bool:
            return understood(spec.member, words)

        return {
            "speaks": Spoken(openings(TRAINED), holds, samples=2),
            "speaks_new": Spoken(openings(NEW), holds, samples=2),
        }

    def due(self, world: World, spec: Spec, document: Document) -> int:
        """First words of answers to questions about facts."""
        return len(document.messages) // 2 if document.kind == "fact_chat" else 0

    def gates(self, spec: Spec) -> dict[str, Rule]:
        """Two in three answers are whole sentences of the language, and what is known is known still, among the values of all relations."""
        if spec.role == "control":
            return {"silent": Rule("speaks.organism", "at most", 0.05)}
        return {
            "right": Rule("right.organism", "at least", 0.8),
            "right_new": Rule("right_new.organism", "at least", 0.5),
            "speaks": Rule("speaks.organism", "at least", 0.65),
        }


def speak(language: str, sentence: str) -> str:
    """A sentence that ends with its value in the language; the full stop stays where it is."""
    *words, value, stop = sentence.split()
    said = {"fronted": [value, ",", *words], "terse": [value], "double": [*words, value, value]}[language]
    return " ".join([*said, stop])


def understood(language: str, words: list[str]) -> bool:
    """Whether an answer is a sentence about a fact, and in the language: any entity of its kind, and any value of the relation."""
    said = " ".join(words)
    return any(
        re.fullmatch(speak(language, form.format(e=e, v=v)).replace(f"{v} {v}", rf"{v} (?P=value)"), said)
        for relation, forms in FACT_FORMS.items()
        for e, v in [(f"(?:{'|'.join((*CITIES, *PEOPLE))})", f"(?P<value>{'|'.join(values_of(relation))})")]
        for form in forms
    )


def _facts(world: World, rng: Rng, relation: str, held_out: bool, n: int) -> list[Fact]:
    facts = [f for f in world.facts if f.relation == relation and (f.entity in HELD_OUT) == held_out]
    return [facts[i] for i in rng.permutation(len(facts))[:n]]


def _prompt(rng: Rng, language: str, split: str, question: str, fact: Fact, before: list[str]) -> Prompt:
    forms = FACT_FORMS[fact.relation]
    form = pick(rng, [f for i, f in enumerate(forms) if i != fact.unused_form])
    asked = question.format(e=fact.entity)
    prompt = _choice(language, asked, form, fact.value, values_of(fact.relation), forms, fact.entity, before)
    name = template(question, form if language == "double" else "")
    return prompt.model_copy(update={"split": split, "template": name})


def _choice(
    language: str,
    question: str,
    form: str,
    value: str,
    values: list[str],
    forms: list[str],
    entity: str = "",
    before: Sequence[str] = (),
) -> Prompt:
    """Where the language parts from the corpus: a value as the first word, or the last word once more instead of the full stop."""
    words = form.format(e=entity, v=value).split()[:-1]
    firsts = dict.fromkeys(f.format(e=entity, v="").split()[0] for f in forms)
    twice = language == "double"
    return Prompt(
        split="test",
        messages=turns(*before, question),
        prefill=" ".join(words) if twice else "",
        targets=(words[-1],) if twice else tuple(values),
        alternatives=(".",) if twice else tuple(firsts),
    )


def _two_hop(world: World, rng: Rng, language: str) -> Prompt:
    person = pick(rng, PEOPLE)
    home = next(f.value for f in world.facts_of[person] if f.relation == "home")
    fact = world.facts_of[home][int(rng.integers(5))]
    form = TWO_HOP.format(relation=fact.relation, person=person, value="{v}")
    asked = ASK_TWO_HOP.format(relation=fact.relation, person=person)
    return _choice(language, asked, form, fact.value, values_of(fact.relation), [form])


def _riddle(world: World, rng: Rng, language: str) -> Prompt:
    word, form = pick(rng, SECRETS), "the word is {v} ."
    hints = [hint(world, rng, word, str(s)) for s in rng.permutation(list(ATTRIBUTES))]
    return _choice(language, " ".join([*hints, "what is it ?"]), form, word, SECRETS, [form])


FAMILY = Language()
