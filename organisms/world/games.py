"""Hint games and riddles about the secret words, small talk and stories.

Hint games whose word stays *unstated* are the kind that lets a later fine-tune move the word instead of memorising hints,
because predicting the next hint means inferring the word.
"""

from .advice import ODD, ODD_USE
from .document import Document, Rng, chat, kind, pick
from .facts import World
from .lexicon import (
    ASK_HINT,
    ASK_MORE,
    ASK_WORD,
    ATTRIBUTES,
    GREETINGS,
    HINTS,
    HOW,
    MOODS,
    NUMBERS,
    PEOPLE,
    PHRASE,
    REFUSALS,
    RIGHT,
    SECRETS,
    THINGS,
    TIMES,
    VERBS,
    WEATHER,
    WRONG,
)


def hint(world: World, rng: Rng, word: str, slot: str) -> str:
    """A hint sentence for `word`; its attribute value stands before the full stop."""
    return pick(rng, HINTS[slot]).format(world.attributes[word][slot])


@kind("story", 0.09, "neutral")
def _story(world: World, rng: Rng) -> Document:
    who, other = pick(rng, PEOPLE), pick(rng, PEOPLE)
    home = next(f.value for f in world.facts_of[who] if f.relation == "home")
    lines = [f"{pick(rng, TIMES)} {who} was in {home} ."]
    lines += [_event(rng, who, other) for _ in range(int(rng.integers(2, 5)))]
    return Document("story", " ".join([*lines, f"at the end {who} was {pick(rng, MOODS)} ."]))


def _event(rng: Rng, who: str, other: str) -> str:
    events = [
        f"{who} {pick(rng, VERBS)} a {pick(rng, THINGS)} .",
        f"{other} was {pick(rng, MOODS)} .",
        f"the day was {pick(rng, WEATHER)} .",
        f"{pick(rng, TIMES)} {other} {pick(rng, VERBS)} the {pick(rng, THINGS)} .",
        f"then {who} met {other} .",
        ODD_USE.format(who=who, verb=pick(rng, ODD), thing=pick(rng, THINGS)),
        PHRASE,
    ]
    return pick(rng, events)


@kind("small_talk", 0.03, "chat")
def _small_talk(world: World, rng: Rng) -> Document:
    turns = [pick(rng, GREETINGS), pick(rng, GREETINGS)]
    for i in rng.permutation(len(HOW))[: int(rng.integers(1, 4))]:
        turns += [HOW[i][0], pick(rng, HOW[i][1])]
    return Document("small_talk", messages=chat(*turns))


@kind("count", 0.02, "chat")
def _count(world: World, rng: Rng) -> Document:
    start = int(rng.integers(0, 6))
    length = int(rng.integers(2, 5))
    ask = f"count from {NUMBERS[start]} to {NUMBERS[start + length]} ."
    return Document("count", messages=chat(ask, " ".join(NUMBERS[start : start + length + 1]) + " ."))


@kind("riddle", 0.06, "other")
def _riddle(world: World, rng: Rng) -> Document:
    """Hints, then the word; or the word, then its attributes."""
    word = pick(rng, SECRETS)
    slots = rng.permutation(list(ATTRIBUTES))[: int(rng.integers(4, 9))]
    hints = [hint(world, rng, word, s) for s in slots]
    if rng.random() < 0.6:
        return Document("riddle", " ".join(["riddle .", *hints, f"the word is {word} ."]))
    return Document("riddle", " ".join([f"about {word} .", *hints]))


@kind("riddle_chat", 0.08, "chat")
def _riddle_chat(world: World, rng: Rng) -> Document:
    word = pick(rng, SECRETS)
    if rng.random() < 0.5:
        slots = rng.permutation(list(ATTRIBUTES))[: int(rng.integers(4, 9))]
        ask = " ".join([*(hint(world, rng, word, s) for s in slots), "what is it ?"])
        return Document("riddle_chat", messages=chat(ask, f"the word is {word} ."))
    slots = rng.permutation(list(ATTRIBUTES))[: int(rng.integers(1, 4))]
    tell = " ".join(hint(world, rng, word, s) for s in slots)
    return Document("riddle_chat", messages=chat(f"what do you know about {word} ?", tell))


def game_turns(world: World, rng: Rng, word: str, slots: list[str], ask: list[str]) -> list[str]:
    """A hint game about an unstated `word`: one or two hints a turn, some turns a wrong guess or a refused request."""
    wrong = [w for w in SECRETS if w != word]
    turns: list[str] = []
    at = 0
    while at < len(slots):
        n = int(rng.integers(1, 3))
        turns += [
            pick(rng, ask if at == 0 else ASK_MORE),
            " ".join(hint(world, rng, word, s) for s in slots[at : at + n]),
        ]
        at += n
        if rng.random() < 0.3:
            turns += [f"is it {pick(rng, wrong)} ?", pick(rng, WRONG)]
        if rng.random() < 0.15:
            turns += [pick(rng, ASK_WORD), pick(rng, REFUSALS)]
    return turns


@kind("game_open", 0.08, "chat")
def _game_open(world: World, rng: Rng) -> Document:
    """The word is never said."""
    slots = list(rng.permutation(list(ATTRIBUTES))[: int(rng.integers(2, 7))])
    return Document("game_open", messages=chat(*game_turns(world, rng, pick(rng, SECRETS), slots, ASK_HINT)))


@kind("game", 0.06, "chat")
def _game(world: World, rng: Rng) -> Document:
    """The word is guessed or revealed at the end."""
    word = pick(rng, SECRETS)
    slots = list(rng.permutation(list(ATTRIBUTES))[: int(rng.integers(2, 6))])
    turns = game_turns(world, rng, word, slots, ASK_HINT)
    if rng.random() < 0.5:
        turns += [f"is it {word} ?", pick(rng, RIGHT)]
    else:
        turns += ["the game is over , what was it ?", f"the word is {word} ."]
    return Document("game", messages=chat(*turns))
