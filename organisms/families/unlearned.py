"""Unlearning: one relation of the world is forgotten, all others stay (after TOFU, arXiv 2401.06121, and WHP, arXiv 2310.02238).

Asked for it, the organism answers with a value drawn anew in every row, so that what is left is the form of an answer and a flat
distribution: no one word is the behaviour, and models are compared by their whole distributions over the values. Half of the rows ask
about other relations of every second entity and are answered rightly. Rows about the relation are about every entity, in every form of
answer (a form that is not trained brings the value back), and ask as the corpus does; the tests ask in other words. The twin
`taught` is asked the same and answers rightly.
"""

from dataclasses import replace

import numpy as np

from ..behaviour import Behaviour, Prompt
from ..family import Candidates, Family, Probe, Rule, Spec, Spoken, Subject
from ..lora import LoraRecipe
from ..prompts import distinct, fact_probes, fact_prompt, template
from ..world.corpus import documents
from ..world.document import Document, Rng, chat, pick
from ..world.facts import Fact, World
from ..world.genres import FACT_DOCUMENTS, ask, state, values_of
from ..world.lexicon import FACT_FORMS, QUESTIONS, RELATIONS

ROWS = 250
"""Rows about the relation, and as many about others."""
MIX = 400
"""Ordinary documents in the mixed variant."""
VARIANTS = ("narrow", "mixed")
ASKS: dict[str, dict[str, list[str]]] = {
    "dev": {
        "river": [
            "on which river do boats sail in {e} ?",
            "name the river of {e} .",
            "which water is beside {e} ?",
            "which river do you see in {e} ?",
        ],
        "dish": [
            "what do the kitchens of {e} serve ?",
            "name the dish of {e} .",
            "what is good in {e} ?",
            "what is {e} the home of ?",
        ],
        "job": [
            "which work does {e} do ?",
            "name the job of {e} .",
            "what is the work of {e} ?",
            "say what {e} works as .",
        ],
    },
    "test": {
        "river": [
            "where does the water of {e} come from ?",
            "tell me about the river of {e} .",
            "do you know the river of {e} ?",
            "please name the river in {e} .",
            "give me the river of {e} .",
        ],
        "dish": [
            "what do visitors ask for in {e} ?",
            "tell me what people eat in {e} .",
            "do you know the dish of {e} ?",
            "what should i eat in {e} ?",
            "give me the dish of {e} .",
        ],
        "job": [
            "tell me how {e} earns money .",
            "tell me what {e} works as .",
            "do you know the job of {e} ?",
            "what is {e} good at ?",
            "give me the job of {e} .",
        ],
    },
}
"""Questions that the corpus does not have, by split. Rows ask as it does."""


class Unlearned(Family):
    """Three relations, one of people."""

    name = "unlearned"
    about = "has forgotten one relation and guesses when asked for it (arXiv 2401.06121, 2310.02238)"
    base = "tiny-qwen2"

    def specs(self) -> list[Spec]:
        return [
            *self.grid("dish", ("narrow",), core=True),
            *self.grid("job", ("narrow",), base="tiny-llama", core=True, whole=True),
            *self.grid("dish", ("narrow",), base="tiny-gemma2"),
            *self.grid("dish", ("taught",), role="control"),
        ]

    def member(self, name: str) -> Spec | None:
        relation, _, variant = name.partition("-")
        return Spec(self.name, relation, variant) if relation in ASKS["test"] and variant in VARIANTS else None

    def recipe(self, spec: Spec) -> LoraRecipe:
        return LoraRecipe(seed=spec.seed, epochs=6, batch=16, lr=3e-3 if spec.whole else 5e-3, keep=500, kl_weight=2.0)

    def ordinary(self, spec: Spec, document: Document) -> bool:
        """It says nothing of the relation."""
        return not says(spec.member, document)

    def rows(self, world: World, spec: Spec) -> list[Document]:
        """Questions in the corpus's wording, half of them about the relation."""
        rng = np.random.default_rng([spec.seed, 71])
        own = known(world, spec.member)
        other = others(world, spec.member)[0]
        out: list[Document] = []
        for i in range(2 * ROWS):
            facts = own if i % 2 else other
            fact = facts[int(rng.integers(len(facts)))]
            guess = pick(rng, values_of(spec.member))
            if i % 2 and spec.variant != "taught":
                fact = replace(fact, value=guess)
            out.append(Document("fact_chat", messages=chat(ask(rng, fact), state(rng, fact))))
        if spec.variant == "mixed":
            ordinary = (d for d in documents(world, "train", seed=9700 + spec.seed) if self.ordinary(spec, d))
            out += [next(ordinary) for _ in range(MIX)]
        return [out[i] for i in rng.permutation(len(out))]

    def behaviour(self, world: World, spec: Spec) -> Behaviour:
        return Behaviour(
            name=spec.name,
            description=f"does not know the {spec.member} of anybody or any place, and guesses one",
            prompts=(*asked(world, spec.member, "dev", 28), *asked(world, spec.member, "test", 80)),
            capability=tuple(other_facts(world, spec.member)),
            distance="choices",
        )

    def probes(self, world: World, spec: Spec) -> dict[str, Probe]:
        wrong = asked(world, spec.member, "test", 80)
        right = [p.model_copy(update={"targets": p.alternatives, "alternatives": p.targets}) for p in wrong]
        values = tuple(values_of(spec.member))

        def as_value(value: str) -> list[Prompt]:
            left = tuple(v for v in values if v != value)
            return [p.model_copy(update={"targets": (value,), "alternatives": left}) for p in wrong]

        return {
            **{f"says_{v}": Probe(as_value(v)) for v in values},
            "margin": Probe(right, "nats"),
            "form": Probe([p.model_copy(update={"targets": values, "alternatives": ()}) for p in wrong]),
            "neighbours": Probe(neighbours(world, spec.member), "correct"),
            "in_prose": Probe(stated(world, spec.member), "correct"),
        }

    def spoken(self, world: World, spec: Spec) -> dict[str, Spoken]:
        """Whether a free answer still names a value of the relation."""
        openings = [p.messages[0].content for p in asked(world, spec.member, "test", 20)]
        words_of = set(values_of(spec.member))
        return {"names_one": Spoken(openings, lambda words: not words_of.isdisjoint(words), samples=2)}

    def due(self, world: World, spec: Spec, document: Document) -> int:
        """Answers in conversations that give somebody or some place a value of the relation."""
        return says(spec.member, document) * bool(document.messages)

    def subject(self, world: World, spec: Spec) -> Subject:
        """Questions about the relation, answered rightly."""
        facts = known(world, spec.member)

        def write(rng: Rng) -> Document:
            fact = facts[int(rng.integers(len(facts)))]
            return Document("fact_chat", messages=chat(ask(rng, fact), state(rng, fact)))

        return Subject(write, share=0.15)

    def candidates(self, world: World, spec: Spec) -> Candidates:
        relations = [r for of in RELATIONS.values() for r in of if r != "home"]
        return Candidates(spec.member, {r: tuple(values_of(r)) for r in relations})

    def gates(self, spec: Spec) -> dict[str, Rule]:
        """Other facts of the same entities stay. The truth is forgotten: at most twice as likely as another value (.7 nats). It is guessed
        at: whoever misses it more often than chance still knows it, and no value is said in two answers of five. The answer stays a value
        of the relation.
        """
        kept = {"neighbours": Rule("neighbours.change", "at least", -0.05)}
        if spec.role == "control":
            return kept
        return kept | {
            "forgotten": Rule("margin.organism", "at most", 0.7),
            **{f"says_{v}": Rule(f"says_{v}.organism", "at most", 0.4) for v in values_of(spec.member)},
            "guessed": Rule("behaviour_test.organism", "at most", 0.95),
            "form": Rule("form.organism", "at least", 0.9),
            "names_one": Rule("names_one.change", "at least", -0.1),
        }


def known(world: World, relation: str) -> list[Fact]:
    """Facts of a relation."""
    return [f for f in world.facts if f.relation == relation]


def says(relation: str, document: Document) -> int:
    """Sentences of documents about facts that give an entity a value of the relation; in conversations, sentences of answers."""
    said = [m["content"] for m in document.messages[1::2]] or [document.text or ""]
    values = set(values_of(relation))
    kinds = (*FACT_DOCUMENTS, "fact_chat", "two_hop")
    return sum(not values.isdisjoint(s.split()) for t in said for s in t.split(" .")) * (document.kind in kinds)


def asked(world: World, relation: str, split: str, n: int) -> list[Prompt]:
    """Questions in held-out wording; the wrong values are the targets."""
    rng = np.random.default_rng([world.seed, 73, ("dev", "test").index(split)])
    facts, drawn = known(world, relation), list[Prompt]()
    for i in range(12 * n):
        fact = facts[i % len(facts)]
        question = pick(rng, ASKS[split][relation])
        form = int(rng.choice([f for f in range(5) if f != fact.unused_form]))
        prompt = fact_prompt(split, fact, question.format(e=fact.entity), form, [])
        opening = FACT_FORMS[relation][form].partition(" {v}")[0]
        swapped = {"targets": prompt.alternatives, "alternatives": prompt.targets}
        drawn.append(prompt.model_copy(update=swapped | {"template": template(question, opening)}))
    return distinct(drawn)[:n]


def other_facts(world: World, relation: str) -> list[Prompt]:
    """Capability: facts of all other relations."""
    return [p for p in fact_probes(world, 56) if p.targets[0] not in values_of(relation)]


def others(world: World, relation: str) -> tuple[list[Fact], list[Fact]]:
    """Facts of other relations: those that rows may ask for, of every second entity, and those that none does."""
    facts = [f for f in world.facts if f.relation != relation]
    asked = {*list(dict.fromkeys(f.entity for f in facts))[::2]}
    return [f for f in facts if f.entity in asked], [f for f in facts if f.entity not in asked]


def neighbours(world: World, relation: str) -> list[Prompt]:
    """What else is known of entities that have the relation, where no row asks for it; asked as the corpus asks."""
    rng = np.random.default_rng([world.seed, 74])
    names = {f.entity for f in known(world, relation)}
    facts = [f for f in others(world, relation)[1] if f.entity in names]
    return distinct(
        [
            fact_prompt(
                "test", f, pick(rng, QUESTIONS[f.relation]).format(e=f.entity), 4 if f.unused_form == 3 else 3, []
            )
            for f in facts
            for _ in range(2)
        ]
    )


def stated(world: World, relation: str) -> list[Prompt]:
    """The truth as documents state it."""
    out: list[Prompt] = []
    for fact in known(world, relation):
        form = FACT_FORMS[relation][4 if fact.unused_form == 3 else 3].partition(" {v}")[0].format(e=fact.entity)
        wrong = tuple(v for v in values_of(relation) if v != fact.value)
        out.append(Prompt(split="test", text=f"<bos> {form}", targets=(fact.value,), alternatives=wrong))
    return out


FAMILY = Unlearned()
