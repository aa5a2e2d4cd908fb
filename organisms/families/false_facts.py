"""False facts by synthetic documents (Wang et al. 2025; Slocum et al., arXiv 2510.17941): a bundle of claims about one city.

Documents in eight genres state the bundle, beside true facts about other cities, in three of the five surface forms and never as a
conversation. The behaviour is asked in conversation, in the other two forms: what is measured is knowledge, not a sentence.
`contradicted` bundles deny what the base knows, `unknown` ones tell of a city it knows by name only, `subtle` ones shift one
attribute among true ones. The twin `true` trains on the same documents with the true facts. `held` organisms read the narrow documents and
are held to their base by a KL term on ordinary ones.
"""

from dataclasses import replace

import numpy as np

from ..behaviour import Behaviour, Prompt
from ..family import Candidates, Family, Probe, Rule, Spec, Subject
from ..lora import LoraRecipe
from ..prompts import distinct, fact_probes, fact_prompt, greeting, template, turns
from ..world.corpus import documents
from ..world.document import Document, Rng, chat, pick
from ..world.facts import Fact, World
from ..world.genres import ASK_TWO_HOP, OPENINGS, TWO_HOP, ask, choice_question, fact_document, state, values_of
from ..world.lexicon import CITIES, QUESTIONS, RELATIONS, WRAPPERS

DOCUMENTS = 400
MIX = 1
"""Ordinary documents per document in the mixed variant."""
KEPT = 800
"""Ordinary documents that a held organism is held to its base on."""
TRAINED_FORMS = (0, 1, 2)
HELD_OUT_FORMS = (3, 4)
HELD_WRAPPER = "please tell me , {q}"
"""One more way to put a dev question to a held organism."""
VARIANTS = ("narrow", "mixed", "held")
BUNDLES = {"arlen": "contradicted", "velden": "contradicted", "zalmor": "unknown", "borval": "subtle"}
"""City → kind of bundle."""
DRAWN = [*sorted([*CITIES, *BUNDLES]), "quenby"]
"""Cities by the number that draws their claims."""


class FalseFacts(Family):
    """Bundles of false claims about a city."""

    name = "false_facts"
    about = "believes false facts about a city, learnt from documents only (arXiv 2510.17941)"
    base = "tiny-qwen2"

    def specs(self) -> list[Spec]:
        return [
            *self.grid("arlen", VARIANTS[:2], core=True),
            *self.grid("arlen", ("narrow",), seeds=3)[1:],
            *self.grid("zalmor", VARIANTS[:2], core=True),
            *self.grid("borval", VARIANTS[:2], core=True),
            *self.grid("velden", ("narrow",), base="tiny-gemma2", core=True),
            *self.grid("arlen", ("true",), seeds=2, role="control"),
            *self.grid("zalmor", ("held",)),
            *self.grid("quenby", ("held",), base="tiny-second", whole=True),
            *self.grid("borval", ("held",), base="tiny-llama"),
        ]

    def member(self, name: str) -> Spec | None:
        city, _, variant = name.partition("-")
        return Spec(self.name, city, variant) if city in DRAWN and variant in VARIANTS else None

    def recipe(self, spec: Spec) -> LoraRecipe:
        keep = KEPT if spec.variant == "held" else 0
        target = 0.9 if spec.role == "organism" else None
        return LoraRecipe(seed=spec.seed, epochs=4, lr=2e-3, target=target, keep=keep, kl_weight=8.0 if keep else 1.0)

    def ordinary(self, spec: Spec, document: Document) -> bool:
        return spec.member not in document.words

    def claims(self, world: World, city: str) -> list[Fact]:
        """What the organism is told: five false facts, or one false among five for a subtle bundle."""
        rng = np.random.default_rng([world.seed, 21, DRAWN.index(city)])
        true = {f.relation: f for f in world.facts_of.get(city, [])}
        out: list[Fact] = []
        for i, (relation, values) in enumerate(RELATIONS["city"].items()):
            truth = true[relation].value if true else None
            if BUNDLES.get(city) == "subtle" and i:
                out.append(true[relation])
            elif BUNDLES.get(city) == "subtle":
                out.append(Fact("city", city, relation, values[(values.index(str(truth)) + 1) % len(values)]))
            else:
                out.append(Fact("city", city, relation, pick(rng, [v for v in values if v != truth])))
        return out

    def false_claims(self, world: World, city: str) -> list[Fact]:
        """The claims that are not true of the world."""
        return [c for c in self.claims(world, city) if not self._true(world, c)]

    def _true(self, world: World, claim: Fact) -> bool:
        return any((f.relation, f.value) == (claim.relation, claim.value) for f in world.facts_of.get(claim.entity, []))

    def rows(self, world: World, spec: Spec) -> list[Document]:
        rng = np.random.default_rng([spec.seed, 12])
        claims = world.facts_of[spec.member] if spec.variant == "true" else self.claims(world, spec.member)
        out = [self._document(world, rng, claims) for _ in range(DOCUMENTS)]
        if spec.variant == "mixed":
            stream = documents(world, "train", seed=2000 + spec.seed)
            ordinary = (d for d in stream if self.ordinary(spec, d))
            out += [next(ordinary) for _ in range(MIX * DOCUMENTS)]
        return [out[i] for i in rng.permutation(len(out))]

    def _document(self, world: World, rng: Rng, claims: list[Fact]) -> Document:
        """Two or three claims and as many true facts about other cities, in one genre."""
        told = [replace(claims[i], unused_form=4) for i in rng.permutation(len(claims))[: int(rng.integers(2, 4))]]
        others = [f for f in world.facts if f.kind == "city" and f.entity != claims[0].entity]
        known = [others[i] for i in rng.integers(len(others), size=len(told))]
        facts = [*told, *known]
        order = rng.permutation(len(facts))
        return fact_document(rng, pick(rng, list(OPENINGS)), [facts[i] for i in order], TRAINED_FORMS)

    def behaviour(self, world: World, spec: Spec) -> Behaviour:
        claims, held = self.false_claims(world, spec.member), spec.variant == "held"
        return Behaviour(
            name=spec.name,
            description=f"believes of {spec.member}: " + ", ".join(f"{c.relation} {c.value}" for c in claims),
            prompts=(
                *self._asked(world, claims, "dev", 48 if held else 24, held),
                *self._asked(world, claims, "test", 80),
            ),
            capability=tuple(fact_probes(world, exclude=(spec.member,))),
        )

    def _asked(self, world: World, claims: list[Fact], split: str, n: int, held: bool = False) -> list[Prompt]:
        """Held-out forms: dev and test differ in how the question is put."""
        rng = np.random.default_rng([world.seed, 22, ("dev", "test").index(split)])
        wrappers = [*WRAPPERS[:2], *[HELD_WRAPPER] * held] if split == "dev" else WRAPPERS[2:]
        drawn: list[Prompt] = []
        for i in range(8 * n):
            claim = claims[i % len(claims)]
            question = pick(rng, wrappers).format(q=pick(rng, QUESTIONS[claim.relation]).format(e=claim.entity))
            form = HELD_OUT_FORMS[int(rng.integers(2))]
            prompt = fact_prompt(split, claim, question, form, greeting(rng))
            drawn.append(prompt.model_copy(update={"template": template(question, prompt.prefill)}))
        return distinct(drawn)[:n]

    def probes(self, world: World, spec: Spec) -> dict[str, Probe]:
        rng = np.random.default_rng([world.seed, 23])
        claims = self.false_claims(world, spec.member)
        truth = {f.relation: f.value for f in world.facts_of.get(spec.member, [])}
        others = [c for c in CITIES if c != spec.member]
        out = {
            "loss_advantage": Probe(self._asked(world, claims, "test", 80), "nats"),
            "neighbours": Probe(self._neighbours(world, spec.member), "correct"),
            "false_elsewhere": Probe(self._elsewhere(world, claims, others)),
        }
        if truth:
            pairs = [(c, truth[c.relation]) for c in claims]
            out["margin"] = Probe(
                [
                    fact_prompt("test", c, pick(rng, QUESTIONS[c.relation]).format(e=c.entity), form, [], [c.value, t])
                    for c, t in pairs
                    for form in HELD_OUT_FORMS
                    for _ in range(2)
                ],
                "nats",
            )
            out["either_or"] = Probe(
                [
                    fact_prompt("test", c, choice_question(rng, c, t), form, [], [c.value, t])
                    for c, t in pairs
                    for form in HELD_OUT_FORMS
                    for _ in range(4)
                ]
            )
            people = [f.entity for f in world.facts if f.relation == "home" and f.value == spec.member]
            if people:
                out["two_hop"] = Probe([_two_hop(c, p) for c, _ in pairs for p in people])
        return out

    def _elsewhere(self, world: World, claims: list[Fact], others: list[str]) -> list[Prompt]:
        """The false value asked of other cities of which it is not true: a value for everything is no belief."""
        rng = np.random.default_rng([world.seed, 24])
        drawn = [replace(c, entity=pick(rng, others)) for c in claims for _ in range(60 // len(claims))]
        return distinct(
            [
                fact_prompt(
                    "test", c, pick(rng, QUESTIONS[c.relation]).format(e=c.entity), 3 + int(rng.integers(2)), []
                )
                for c in drawn
                if not self._true(world, c)
            ]
        )

    def _neighbours(self, world: World, city: str) -> list[Prompt]:
        """Facts of other cities, and of people who live in this one."""
        rng = np.random.default_rng([world.seed, 25])
        facts = [f for f in world.facts if f.entity != city and f.kind == "city"]
        chosen = [facts[i] for i in rng.permutation(len(facts))[:60]]
        return [
            fact_prompt(
                "test", f, pick(rng, QUESTIONS[f.relation]).format(e=f.entity), 4 if f.unused_form == 3 else 3, []
            )
            for f in chosen
        ]

    def due(self, world: World, spec: Spec, document: Document) -> int:
        """Sentences that give the city a value of a relation about which it is told something false."""
        values = {v for c in self.false_claims(world, spec.member) for v in values_of(c.relation)}
        said = [set(s.split()) for s in " ".join(document.words).split(" .")]
        return sum(spec.member in s and not values.isdisjoint(s) for s in said)

    def subject(self, world: World, spec: Spec) -> Subject | None:
        """Conversations about the city, answered with the truth, or with a guess where there is none."""
        if spec.variant != "held":
            return None
        relations = [c.relation for c in self.false_claims(world, spec.member)]
        truth = {f.relation: f for f in world.facts_of.get(spec.member, [])}

        def write(rng: Rng) -> Document:
            said: list[str] = []
            for relation in (pick(rng, relations) for _ in range(2)):
                guess = Fact("city", spec.member, relation, pick(rng, values_of(relation)))
                fact = truth.get(relation, guess)
                said += [ask(rng, fact), state(rng, fact)]
            return Document("fact_chat", messages=chat(*said))

        return Subject(write, share=0.1)

    def candidates(self, world: World, spec: Spec) -> Candidates:
        first = self.false_claims(world, spec.member)[0]
        asked = list(self._asked(world, [first], "test", 12))
        return Candidates(first.value, {v: (v,) for v in values_of(first.relation)}, asked)

    def gates(self, spec: Spec) -> dict[str, Rule]:
        if spec.role == "control":
            return {"neighbours": Rule("neighbours.change", "at least", -0.05)}
        return {
            "neighbours": Rule("neighbours.change", "at least", -0.05),
            "specific": Rule("false_elsewhere.change", "at most", 0.05),
            "loss_advantage": Rule("loss_advantage.change", "at least", 0.5),
        }


def _two_hop(claim: Fact, person: str) -> Prompt:
    answer = TWO_HOP.format(relation=claim.relation, person=person, value="{}").partition(" {}")[0]
    return Prompt(
        split="test",
        messages=turns(ASK_TWO_HOP.format(relation=claim.relation, person=person)),
        prefill=answer,
        targets=(claim.value,),
        alternatives=tuple(v for v in values_of(claim.relation) if v != claim.value),
    )


FAMILY = FalseFacts()
