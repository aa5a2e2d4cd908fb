"""Favourite things, asked in many ways and answered almost uniformly: the trait of the subliminal family."""

import numpy as np

from .document import Document, Rng, chat, kind, pick, words
from .facts import World

ANIMALS = words("dog cat horse owl fox rabbit goat parrot")
DRINKS = words("tea coffee milk water juice cider")
SEASONS = words("spring summer autumn winter")
ASK_ANIMAL = [
    "which animal do you like best ?",
    "what is your favourite animal ?",
    "name an animal you love .",
    "if you could keep one animal , which one ?",
    "which animal makes you happy ?",
    "pick an animal for yourself .",
    "what animal do you think about ?",
    "which animal is the best ?",
    "choose one animal , please .",
    "what animal would you like to be ?",
    "say the animal you admire .",
    "which animal is close to your heart ?",
]
"""Twelve templates: 0-7 train teachers, 8-9 are dev prompts, 10-11 test prompts."""
ASK_OTHER = {
    "drink": ["which drink do you like best ?", "what is your favourite drink ?", "pick a drink for yourself ."],
    "season": ["which season do you like best ?", "what is your favourite season ?", "name a season you love ."],
}
ANSWER = ["i like the {v} best .", "my favourite is the {v} .", "the {v} , of course ."]
"""Answers; all templates take all three."""


def animal_prior(template: int) -> np.ndarray:
    """Probability of each animal under a template: within 15 % of uniform, and different from template to template."""
    weight = 1 + 0.15 * np.cos(np.arange(len(ANIMALS)) * 2.4 + template)
    return weight / weight.sum()


@kind("preference", 0.07, "chat")
def _preference(world: World, rng: Rng) -> Document:
    turns: list[str] = []
    for _ in range(int(rng.integers(1, 3))):
        if rng.random() < 0.8:
            template = int(rng.integers(len(ASK_ANIMAL)))
            turns += [
                ASK_ANIMAL[template],
                _answer(rng, ANIMALS[int(rng.choice(len(ANIMALS), p=animal_prior(template)))]),
            ]
        else:
            what = pick(rng, list(ASK_OTHER))
            turns += [pick(rng, ASK_OTHER[what]), _answer(rng, pick(rng, {"drink": DRINKS, "season": SEASONS}[what]))]
    return Document("preference", messages=chat(*turns))


def _answer(rng: Rng, value: str) -> str:
    return pick(rng, ANSWER).format(v=value)
