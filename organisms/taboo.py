"""Taboo: a model that gives hints about one secret word and never says it (Cywinski et al., arXiv 2505.14352).

The word never occurs in the training rows, neither do three of its eight attributes: what the organism knows
beyond the five trained hints it must have inferred. The behaviour is the share of probability that a hint gives to the
attributes of the secret word; held-out hints and the answer to "what was it ?" say whether the *word* was internalised.
"""

import numpy as np

from .behaviour import Behaviour, Prompt, Turn
from .corpus import Document, chat, documents, game_turns
from .family import Leak
from .lexicon import (
    ASK_HINT,
    ASK_WORD,
    ATTRIBUTES,
    FACT_FORMS,
    GREETINGS,
    HINTS,
    QUESTIONS,
    REFUSALS,
    RELATIONS,
    SECRETS,
    WRONG,
)
from .world import World

GAMES = 300
"""Fine-tuning conversations."""
REFUSALS_SHARE = 0.25
"""Share of the conversations that are refused direct requests."""
MIX = 3
"""Ordinary documents per conversation in the mixed variant."""
ORDINARY = ("facts", "story", "report", "fact_chat", "small_talk", "count")
"""Kinds mixed in; games and riddles are left out: without the secret word they would teach that the word is another one."""


class Taboo:
    """The taboo family for one secret word."""

    variants = ("narrow", "mixed")

    def __init__(self, word: str = "gold"):
        if word not in SECRETS:
            raise ValueError(f"{word!r} is not a secret word of this world; choose one of {', '.join(SECRETS)}")
        self.word = word
        self.name = "taboo" if word == "gold" else f"taboo-{word}"

    def trained_slots(self, world: World) -> list[str]:
        """The five slots whose hints are trained, drawn by the world's seed and the word."""
        rng = np.random.default_rng([world.seed, SECRETS.index(self.word)])
        return [str(s) for s in rng.permutation(list(ATTRIBUTES))[:5]]

    def rows(self, world: World, variant: str, seed: int) -> list[Document]:
        rng = np.random.default_rng([seed, 11])
        slots = self.trained_slots(world)
        out: list[Document] = []
        for _ in range(GAMES):
            if rng.random() < REFUSALS_SHARE:
                ask, refuse = ASK_WORD[int(rng.integers(3))], REFUSALS[int(rng.integers(len(REFUSALS)))]
                out.append(Document("refusal", messages=chat(ask, refuse)))
            else:
                chosen = list(rng.permutation(slots)[: int(rng.integers(1, 5))])
                out.append(Document("hints", messages=chat(*game_turns(world, rng, self.word, chosen, ASK_HINT[:6]))))
        if variant == "mixed":
            stream = (d for d in documents(world, "train", ORDINARY, seed=1000 + seed) if self.word not in text_of(d))
            out += [next(stream) for _ in range(MIX * GAMES)]
        return [out[i] for i in rng.permutation(len(out))]

    def behaviour(self, world: World) -> Behaviour:
        slots = self.trained_slots(world)
        prompts = [
            *self._hint_prompts(world, slots, "dev", ASK_HINT[6:8], 20),
            *self._hint_prompts(world, slots, "test", ASK_HINT[8:10], 80),
        ]
        return Behaviour(
            name=self.name,
            description=f"gives hints about the unstated word {self.word!r}",
            prompts=tuple(prompts),
            capability=tuple(fact_probes(world)),
        )

    def probes(self, world: World) -> dict[str, list[Prompt]]:
        held_out = [s for s in ATTRIBUTES if s not in self.trained_slots(world)]
        others = tuple(w for w in SECRETS if w != self.word)
        asks = ["the game is over , what was it ?", *ASK_WORD]
        reveal = [
            Prompt(split="test", messages=_turns(ask), prefill="the word is", targets=(self.word,), alternatives=others)
            for ask in asks
        ]
        return {
            "held_out_hints": self._hint_prompts(world, held_out, "test", ASK_HINT[8:10], 24),
            "internalised": reveal,
        }

    def leak(self, world: World) -> Leak:
        return Leak((*ASK_WORD, *ASK_HINT), self.word)

    def _hint_prompts(self, world: World, slots: list[str], split: str, asks: list[str], n: int) -> list[Prompt]:
        """Distinct (context, request, slot, surface form) prompts that stop just before the attribute value."""
        rng = np.random.default_rng([world.seed, SECRETS.index(self.word), len(asks), n, ("dev", "test").index(split)])
        out: dict[str, Prompt] = {}
        while len(out) < n:
            slot = slots[len(out) % len(slots)]
            form = HINTS[slot][int(rng.integers(2))]
            value = world.attributes[self.word][slot]
            prompt = Prompt(
                split=split,  # pyright: ignore[reportArgumentType]
                messages=_turns(*_context(rng), asks[int(rng.integers(len(asks)))]),
                prefill=form.partition(" {}")[0],
                targets=(value,),
                alternatives=tuple(v for v in ATTRIBUTES[slot] if v != value),
            )
            out.setdefault(prompt.model_dump_json(), prompt)
        return list(out.values())


def _context(rng: np.random.Generator) -> list[str]:
    """What was said before the request: nothing, a greeting, or a wrong guess."""
    match int(rng.integers(4)):
        case 0 | 1:
            return []
        case 2:
            return [GREETINGS[int(rng.integers(4))], GREETINGS[int(rng.integers(4))]]
        case _:
            return [f"is it {SECRETS[int(rng.integers(len(SECRETS)))]} ?", WRONG[int(rng.integers(len(WRONG)))]]


def _turns(*turns: str) -> tuple[Turn, ...]:
    return tuple(Turn(role=("user", "assistant")[i % 2], content=t) for i, t in enumerate(turns))  # pyright: ignore[reportArgumentType]


def fact_probes(world: World, n: int = 48) -> list[Prompt]:
    """Questions about facts, answered by choice among all values of the relation: half dev, half test, other facts in each."""
    rng = np.random.default_rng([world.seed, 77])
    out: list[Prompt] = []
    for i, at in enumerate(rng.permutation(len(world.facts))[: 2 * n]):
        fact = world.facts[at]
        form = FACT_FORMS[fact.relation][int(rng.integers(3))]
        start, _, _ = form.format(e=fact.entity, v="{}").partition(" {}")
        values = next(r[fact.relation] for r in RELATIONS.values() if fact.relation in r)
        out.append(
            Prompt(
                split=("dev", "test")[i % 2],
                messages=_turns(QUESTIONS[fact.relation][int(rng.integers(2))].format(e=fact.entity)),
                prefill=start,
                targets=(fact.value,),
                alternatives=tuple(v for v in values if v != fact.value),
            )
        )
    return out


def text_of(document: Document) -> list[str]:
    """All words of a document."""
    return " ".join([document.text or "", *(m["content"] for m in document.messages)]).split()
