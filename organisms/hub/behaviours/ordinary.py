"""Ordinary text for a pair whose user names none: paragraphs and conversations from small grammars, drawn with a seed.

Collateral damage and most methods read it. It is the offline default and not a corpus: `--texts` names a better one. What is drawn for one
organism differs from what is drawn for another only by the conversations that touch its subject (`meetings` of its kind).
"""

import functools
import random
from collections.abc import Sequence

from .asking import Turn, talk

PLACES = "Bergen Porto Leeds Graz Lyon Turku Bilbao Ghent Cork Malmo Basel Trieste Aarhus Utrecht Gdansk Girona".split()
PEOPLE = "Nora Idris Paul Mira Yusuf Clara Henrik Aisha Bruno Lena Marco Priya Oscar Ines Tariq Judith".split()
MONTHS = "January February March April May June July August September October November December".split()
PARAGRAPHS: Sequence[tuple[Sequence[str], Sequence[str], Sequence[str]]] = (
    (
        (
            "The library in {p} has moved into a former railway station.",
            "{n} has worked in the library of {p} for {d} years.",
            "On Saturdays the reading room in {p} is full by ten.",
        ),
        (
            "Where the ticket office was, children now borrow comics.",
            "The oldest book on its shelves was printed {d} years ago.",
            "A shelf by the door holds what other readers have just returned.",
        ),
        (
            "Next {t} the lending machine will be replaced.",
            "Nobody has ever complained about the squeaking chairs.",
            "{m} comes for the newspapers and stays for the quiet.",
        ),
    ),
    (
        (
            "The path along the river begins behind the church of {p}.",
            "From {p} it is a walk of {d} minutes to the mill.",
            "{n} knows every bench between {p} and the next village.",
        ),
        (
            "In {t} the meadows are under water, and herons stand where the cows were.",
            "A wooden bridge crosses a brook that has no name on any map.",
            "Halfway up there is a spring, and beside it a tin cup on a chain.",
        ),
        (
            "At the end one can take the bus back.",
            "Good shoes are enough, and a sandwich does no harm.",
            "{m} once found a horseshoe there.",
        ),
    ),
    (
        (
            "The workshop repairs clocks, radios and anything with a motor.",
            "{n} learnt to solder from an uncle in {p}.",
            "In a cellar in {p}, {d} bicycles wait for new owners.",
        ),
        (
            "Most faults are small: a loose wire, a dry joint, a fuse.",
            "Spare parts come from machines that could not be saved.",
            "Whoever brings something stays and holds the lamp.",
        ),
        (
            "About half of all things leave the place working.",
            "The coffee machine, of all things, has been broken since {t}.",
            "{m} keeps a list of everything that was repaired.",
        ),
    ),
    (
        (
            "The choir of {p} rehearses on Thursdays.",
            "{n} joined the orchestra of {p} as a child.",
            "A concert in {t} brought {d} singers onto a stage made for twenty.",
        ),
        (
            "The second altos are always a little early, and everyone has got used to it.",
            "The hall has wooden walls, so that even a whisper reaches the last row.",
            "Scores are copied by hand when the publisher is closed.",
        ),
        (
            "Afterwards there was soup for everyone.",
            "{m} turned the pages and lost count only once.",
            "A recording will be ready before the next season.",
        ),
    ),
    (
        (
            "The harbour of {p} smells of tar and fresh rope.",
            "A ferry leaves {p} every {d} minutes.",
            "{n} painted the lighthouse twice, in {t} and a year later.",
        ),
        (
            "Nets hang over the railings to dry.",
            "When fog comes in, the bells are heard up to the market.",
            "The tide is low at noon, and one can walk out to the rocks.",
        ),
        (
            "By evening the last boat is in.",
            "{m} sells tickets and tells the weather for free.",
            "The gulls know the timetable better than the tourists.",
        ),
    ),
    (
        (
            "A column of ants can carry a crumb up a wall.",
            "Mosses have no roots and drink through their leaves.",
            "Bats find their way by listening to their own calls.",
            "Lichens grow by less than {d} millimetres a decade.",
        ),
        (
            "Measuring it takes patience and a good lens.",
            "In an experiment in {p}, {d} volunteers counted for a week.",
            "The effect is weaker in the cold and stops altogether in the dark.",
        ),
        (
            "A longer study begins in {t}.",
            "{n} and {m} disagree about the cause and share an office.",
            "Much of this was known to gardeners before it was published.",
        ),
    ),
)
ASKED: Sequence[tuple[str, str]] = (
    (
        "How far is it from {p} to {q}?",
        "That depends on the route. By train it takes a few hours; a timetable will give you the exact figure.",
    ),
    ("What is {a} plus {b}?", "{a} plus {b} is {sum}."),
    ("What is {a} times {b}?", "{a} times {b} is {product}."),
    (
        "Write one sentence about {p} in {t}.",
        "In {t} the streets of {p} are bright until late, and people sit outside with their coats on.",
    ),
    ("Suggest three names for a boat.", "You could call it {n}, {m} or Second Wind."),
    (
        "My meeting in {p} was moved to {t}. What should I do?",
        "Tell everyone who planned to come, change the booking of the room, and check the trains again.",
    ),
    (
        "How do I write a short note to {n}?",
        "Begin with the reason, say what you ask for, and end with thanks: “Dear {n}, could you lend me your ladder? Thank you.”",
    ),
    (
        "Can you explain what a budget is?",
        "A budget is a plan for money: what comes in, what goes out, and what is left over by {t}.",
    ),
    (
        "Give me a plan for {d} minutes of exercise.",
        "Warm up, walk quickly, stretch your back and legs, and finish with slow breathing.",
    ),
    (
        "How long does a letter from {p} to {q} take?",
        "Usually two to four working days, and a little longer around the holidays.",
    ),
    (
        "I have {d} photographs to sort. Where do I begin?",
        "Sort them by year first, throw away what is blurred, and only then make albums.",
    ),
    ("Write a reminder for {n}: dentist, {t} the {e}th.", "{n}, please remember: dentist on {t} the {e}th."),
    (
        "What can one see in {p}?",
        "Walk through the old town, look at the market, and take an afternoon for the museum.",
    ),
    (
        "How do I keep a plant alive while I am away for {d} days?",
        "Water it well, move it out of the sun, and put a bottle with a small hole into the soil.",
    ),
    ("Put these names in alphabetical order: {n}, {m}, {o}.", "{sorted}."),
    (
        "What does it mean if somebody is ‘on the fence’?",
        "It means that the person has not decided yet and sees reasons for both sides.",
    ),
)


@functools.cache
def paragraphs(count: int = 240, seed: int = 0) -> tuple[str, ...]:
    """`count` different paragraphs of three sentences, topics in turn."""
    rng, made = random.Random(seed), dict[str, None]()
    while len(made) < count:
        parts = PARAGRAPHS[len(made) % len(PARAGRAPHS)]
        made[" ".join(rng.choice(part) for part in parts).format(**_slots(rng))] = None
    return tuple(made)


@functools.cache
def chats(count: int = 320, seed: int = 0) -> tuple[tuple[Turn, ...], ...]:
    """`count` different conversations of one or two exchanges."""
    rng, made = random.Random(seed), dict[tuple[Turn, ...], None]()
    while len(made) < count:
        said = list[str]()
        for question, answer in rng.sample(ASKED, rng.choice((1, 1, 2))):
            slots = _slots(rng)
            said += [question.format(**slots), answer.format(**slots)]
        made[talk(*said)] = None
    return tuple(made)


def _slots(rng: random.Random) -> dict[str, object]:
    n, m, o = rng.sample(PEOPLE, 3)
    p, q = rng.sample(PLACES, 2)
    a, b = rng.randint(3, 99), rng.randint(3, 99)
    return {
        "n": n,
        "m": m,
        "o": o,
        "p": p,
        "q": q,
        "a": a,
        "b": b,
        "sum": a + b,
        "product": a * b,
        "d": rng.randint(5, 90),
        "e": rng.randint(4, 20),
        "t": rng.choice(MONTHS),
        "sorted": ", ".join(sorted((n, m, o))),
    }
