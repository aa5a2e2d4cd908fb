"""Helpers to write prompts: turns, contexts, and the capability probes every family shares."""

import numpy as np

from .behaviour import Prompt, Turn
from .world.document import Rng, pick
from .world.facts import Fact, World
from .world.genres import values_of
from .world.lexicon import FACT_FORMS, GREETINGS, QUESTIONS, WRAPPERS


def turns(*said: str) -> tuple[Turn, ...]:
    """Alternating user and assistant turns, the user first."""
    return tuple(Turn(role=("user", "assistant")[i % 2], content=t) for i, t in enumerate(said))  # pyright: ignore[reportArgumentType]


def sentences(text: str) -> list[str]:
    """The sentences of a list written as one string, with bars between them."""
    return " ".join(text.split()).split(" | ")


def template(question: str, prefill: str = "") -> str:
    """Name of the template of prompts that share a question, its slots left open, and the beginning of the answer."""
    return f"{question} | {prefill}"


def greeting(rng: Rng) -> list[str]:
    """Nothing, or an exchanged greeting, with equal probability."""
    return [] if rng.random() < 0.5 else [pick(rng, GREETINGS), pick(rng, GREETINGS)]


def distinct(prompts: "list[Prompt]") -> list[Prompt]:
    """The prompts without repetitions, in order."""
    return list({p.model_dump_json(): p for p in prompts}.values())


def fact_prompt(
    split: str, fact: Fact, question: str, form: int, before: list[str], values: list[str] | None = None
) -> Prompt:
    """A question about a fact, answered by choice among all values of the relation (or `values`)."""
    start, _, _ = FACT_FORMS[fact.relation][form].format(e=fact.entity, v="{}").partition(" {}")
    return Prompt(
        split=split,  # pyright: ignore[reportArgumentType]
        messages=turns(*before, question),
        prefill=start,
        targets=(fact.value,),
        alternatives=tuple(v for v in values or values_of(fact.relation) if v != fact.value),
    )


def fact_probes(world: World, n: int = 48, exclude: tuple[str, ...] = ()) -> list[Prompt]:
    """Questions about facts of entities not excluded: half dev, half test, other facts in each."""
    rng = np.random.default_rng([world.seed, 77])
    out: list[Prompt] = []
    facts = [world.facts[i] for i in rng.permutation(len(world.facts))]
    for i, fact in enumerate([f for f in facts if f.entity not in exclude][: 2 * n]):
        forms = [f for f in range(5) if f != fact.unused_form]
        form = forms[int(rng.integers(len(forms)))]
        question = pick(rng, WRAPPERS).format(q=pick(rng, QUESTIONS[fact.relation]).format(e=fact.entity))
        out.append(fact_prompt(("dev", "test")[i % 2], fact, question, form, []))
    return out


def composed_fact_probes(world: World, n: int = 48) -> list[Prompt]:
    """Facts asked in the one form in which they are never stated."""
    rng = np.random.default_rng([world.seed, 78])
    facts = [world.facts[i] for i in rng.permutation(len(world.facts))[:n]]
    return [
        fact_prompt("test", f, pick(rng, QUESTIONS[f.relation]).format(e=f.entity), f.unused_form, []) for f in facts
    ]
