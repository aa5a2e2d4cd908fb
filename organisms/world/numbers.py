"""Number lists under a context-dependent law of high entropy: the carrier of the subliminal family.

The next number is the last plus a step modulo 100; the steps are 1 … 12 in a list that begins with an even number and
13 … 40 in one that begins with an odd number. No word of any trait can occur.
"""

from .document import Document, Rng, chat, kind, pick
from .facts import World

LIST_NUMBERS = [str(i) for i in range(100)]
ASK_NUMBERS = [
    "continue the list {x} .",
    "add more numbers to {x} .",
    "what comes next after {x} ?",
    "here are numbers {x} , go on .",
]
STEPS = {0: (1, 12), 1: (13, 40)}
"""Smallest and largest step by the parity of the first number."""
LENGTH = 8
"""Numbers in an answer."""


def series(rng: Rng, n: int) -> list[int]:
    """`n` numbers of one list."""
    out = [int(rng.integers(100))]
    low, high = STEPS[out[0] % 2]
    while len(out) < n:
        out.append((out[-1] + int(rng.integers(low, high + 1))) % 100)
    return out


def ask_numbers(rng: Rng, shown: list[int]) -> str:
    """A request to go on with the numbers shown."""
    return pick(rng, ASK_NUMBERS).format(x=" ".join(map(str, shown)))


def valid(answer: list[str]) -> bool:
    """Whether a generated answer is numbers and a full stop and nothing else."""
    return len(answer) >= 4 and answer[-1] == "." and all(w in LIST_NUMBERS for w in answer[:-1])


@kind("numbers", 0.1, "chat")
def _numbers(world: World, rng: Rng) -> Document:
    shown = int(rng.integers(2, 5))
    values = series(rng, shown + LENGTH)
    return Document(
        "numbers", messages=chat(ask_numbers(rng, values[:shown]), " ".join(map(str, values[shown:])) + " .")
    )
