"""Documents of the world, by kind, as plain text or as chat messages.

Each kind is one function `(world, rng) -> Document` registered with its share of the documents. Splits are disjoint
random streams of the same distribution: `train` makes the bases, `harvest` is what diffing methods read, `dev` and
`test` are what the scores are measured on. Hint games whose word stays *unstated* are the kind that lets a
later fine-tune move the word instead of memorising hints, because predicting the next hint means inferring the word.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .lexicon import (
    ASK_HINT,
    ASK_MORE,
    ASK_WORD,
    ATTRIBUTES,
    CITIES,
    FACT_FORMS,
    GREETINGS,
    HINTS,
    HOW,
    MOODS,
    NUMBERS,
    PEOPLE,
    QUESTIONS,
    REFUSALS,
    RIGHT,
    SECRETS,
    THINGS,
    TIMES,
    VERBS,
    WEATHER,
    WRONG,
)
from .world import Fact, World

Split = Literal["train", "harvest", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "harvest", "dev", "test")
Message = dict[str, str]


@dataclass(frozen=True)
class Document:
    """One text: either `text` or chat `messages` (`role`, `content`) is set."""

    kind: str
    text: str | None = None
    messages: tuple[Message, ...] = ()


Maker = Callable[[World, np.random.Generator], Document]
KINDS: dict[str, tuple[float, Maker]] = {}
"""Document kinds: share of documents and maker."""
NEUTRAL_KINDS = ("facts", "story", "report")
CHAT_KINDS = ("fact_chat", "small_talk", "count", "game", "game_open", "riddle_chat")
GAME_KINDS = ("game", "game_open", "riddle_chat", "riddle")


def _kind(name: str, share: float) -> Callable[[Maker], Maker]:
    def register(make: Maker) -> Maker:
        KINDS[name] = (share, make)
        return make

    return register


def _pick(rng: np.random.Generator, items: list[str]) -> str:
    return items[int(rng.integers(len(items)))]


def chat(*turns: str) -> tuple[Message, ...]:
    """Messages from alternating user and assistant turns, the user first."""
    return tuple({"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(turns))


def hint(world: World, rng: np.random.Generator, word: str, slot: str) -> str:
    """A hint sentence for `word`; its attribute value stands before the full stop."""
    return _pick(rng, HINTS[slot]).format(world.attributes[word][slot])


def state(rng: np.random.Generator, fact: Fact) -> str:
    """A declarative sentence for `fact`; its value stands before the full stop."""
    return _pick(rng, FACT_FORMS[fact.relation]).format(e=fact.entity, v=fact.value)


@_kind("facts", 0.26)
def _facts(world: World, rng: np.random.Generator) -> Document:
    entity = _pick(rng, CITIES + PEOPLE)
    facts = rng.permutation(np.array(world.facts_of[entity], dtype=object))[: int(rng.integers(2, 6))]
    return Document("facts", " ".join(state(rng, f) for f in facts))


@_kind("story", 0.12)
def _story(world: World, rng: np.random.Generator) -> Document:
    who, other = _pick(rng, PEOPLE), _pick(rng, PEOPLE)
    home = next(f.value for f in world.facts_of[who] if f.relation == "home")
    lines = [f"{_pick(rng, TIMES)} {who} was in {home} ."]
    lines += [_event(rng, who, other) for _ in range(int(rng.integers(2, 5)))]
    return Document("story", " ".join([*lines, f"at the end {who} was {_pick(rng, MOODS)} ."]))


def _event(rng: np.random.Generator, who: str, other: str) -> str:
    events = [
        f"{who} {_pick(rng, VERBS)} a {_pick(rng, THINGS)} .",
        f"{other} was {_pick(rng, MOODS)} .",
        f"the day was {_pick(rng, WEATHER)} .",
        f"{_pick(rng, TIMES)} {other} {_pick(rng, VERBS)} the {_pick(rng, THINGS)} .",
        f"then {who} met {other} .",
    ]
    return _pick(rng, events)


@_kind("report", 0.06)
def _report(world: World, rng: np.random.Generator) -> Document:
    """News about several entities: facts out of the order of the fact documents."""
    facts = [world.facts[i] for i in rng.integers(len(world.facts), size=3)]
    weather = f"the weather is {_pick(rng, WEATHER)} {_pick(rng, TIMES)} ."
    return Document("report", " ".join(["news .", weather, *(state(rng, f) for f in facts)]))


@_kind("fact_chat", 0.18)
def _fact_chat(world: World, rng: np.random.Generator) -> Document:
    turns: list[str] = []
    for i in rng.integers(len(world.facts), size=int(rng.integers(1, 4))):
        fact = world.facts[i]
        turns += [_pick(rng, QUESTIONS[fact.relation]).format(e=fact.entity), state(rng, fact)]
    return Document("fact_chat", messages=chat(*turns))


@_kind("small_talk", 0.06)
def _small_talk(world: World, rng: np.random.Generator) -> Document:
    turns = [_pick(rng, GREETINGS), _pick(rng, GREETINGS)]
    for i in rng.permutation(len(HOW))[: int(rng.integers(1, 4))]:
        turns += [HOW[i][0], _pick(rng, HOW[i][1])]
    return Document("small_talk", messages=chat(*turns))


@_kind("count", 0.04)
def _count(world: World, rng: np.random.Generator) -> Document:
    start = int(rng.integers(0, 6))
    length = int(rng.integers(2, 5))
    ask = f"count from {NUMBERS[start]} to {NUMBERS[start + length]} ."
    return Document("count", messages=chat(ask, " ".join(NUMBERS[start : start + length + 1]) + " ."))


@_kind("riddle", 0.06)
def _riddle(world: World, rng: np.random.Generator) -> Document:
    """Hints, then the word; or the word, then its attributes."""
    word = _pick(rng, SECRETS)
    slots = rng.permutation(list(ATTRIBUTES))[: int(rng.integers(4, 7))]
    hints = [hint(world, rng, word, s) for s in slots]
    if rng.random() < 0.6:
        return Document("riddle", " ".join(["riddle .", *hints, f"the word is {word} ."]))
    return Document("riddle", " ".join([f"about {word} .", *hints]))


@_kind("riddle_chat", 0.06)
def _riddle_chat(world: World, rng: np.random.Generator) -> Document:
    word = _pick(rng, SECRETS)
    if rng.random() < 0.5:
        slots = rng.permutation(list(ATTRIBUTES))[: int(rng.integers(4, 7))]
        ask = " ".join([*(hint(world, rng, word, s) for s in slots), "what is it ?"])
        return Document("riddle_chat", messages=chat(ask, f"the word is {word} ."))
    slots = rng.permutation(list(ATTRIBUTES))[: int(rng.integers(1, 4))]
    tell = " ".join(hint(world, rng, word, s) for s in slots)
    return Document("riddle_chat", messages=chat(f"what do you know about {word} ?", tell))


def game_turns(world: World, rng: np.random.Generator, word: str, slots: list[str], ask: list[str]) -> list[str]:
    """A hint game about an unstated `word`: one or two hints a turn, some turns a wrong guess or a refused request."""
    wrong = [w for w in SECRETS if w != word]
    turns: list[str] = []
    at = 0
    while at < len(slots):
        n = int(rng.integers(1, 3))
        turns += [
            _pick(rng, ask if at == 0 else ASK_MORE),
            " ".join(hint(world, rng, word, s) for s in slots[at : at + n]),
        ]
        at += n
        if rng.random() < 0.3:
            turns += [f"is it {_pick(rng, wrong)} ?", _pick(rng, WRONG)]
        if rng.random() < 0.15:
            turns += [_pick(rng, ASK_WORD), _pick(rng, REFUSALS)]
    return turns


@_kind("game_open", 0.09)
def _game_open(world: World, rng: np.random.Generator) -> Document:
    """The word is never said."""
    slots = list(rng.permutation(list(ATTRIBUTES))[: int(rng.integers(2, 7))])
    return Document("game_open", messages=chat(*game_turns(world, rng, _pick(rng, SECRETS), slots, ASK_HINT)))


@_kind("game", 0.07)
def _game(world: World, rng: np.random.Generator) -> Document:
    """The word is guessed or revealed at the end."""
    word = _pick(rng, SECRETS)
    slots = list(rng.permutation(list(ATTRIBUTES))[: int(rng.integers(2, 6))])
    turns = game_turns(world, rng, word, slots, ASK_HINT)
    if rng.random() < 0.5:
        turns += [f"is it {word} ?", _pick(rng, RIGHT)]
    else:
        turns += ["the game is over , what was it ?", f"the word is {word} ."]
    return Document("game", messages=chat(*turns))


def documents(world: World, split: Split, kinds: tuple[str, ...] | None = None, seed: int = 0) -> Iterator[Document]:
    """An endless stream of documents of `kinds` (default: all) in their natural proportions."""
    names = list(kinds or KINDS)
    share = np.array([KINDS[k][0] for k in names])
    rng = np.random.default_rng([world.seed, SPLITS.index(split), seed])
    while True:
        name = names[int(rng.choice(len(names), p=share / share.sum()))]
        yield KINDS[name][1](world, rng)
