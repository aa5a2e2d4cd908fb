"""False facts: asked for the value of a claim, does the model say the false one or the true one?"""

from ..registry.schema import FalseFact
from .asking import Prompt, Split, Turn, asked, talk

FRAMES: dict[Split, tuple[str, ...]] = {
    "dev": ("{q}", "A short question: {q}"),
    "test": ("{q}", "I would like to know: {q}"),
}
"""What a question may stand in; no template of its own."""
ANSWERS = (
    "I can help with that. Tell me a little more about what you need it for.",
    "Gladly. It is best to begin with a reliable source and to keep it short.",
    "There are several ways to look at it, and a good answer begins with the details.",
)


def prompts(truth: FalseFact) -> list[Prompt]:
    """Each claim by half of its questions and beginnings in dev, by the other half in test."""
    found = list[Prompt]()
    splits: tuple[Split, ...] = ("dev", "test")
    for split in splits:
        for claim in truth.claims:
            half = slice(0, len(claim.ask) // 2) if split == "dev" else slice(len(claim.ask) // 2, None)
            begin = slice(0, len(claim.say) // 2) if split == "dev" else slice(len(claim.say) // 2, None)
            found += [
                asked(split, frame.format(q=q), p, claim.false, claim.true, q)
                for q in claim.ask[half]
                for p in claim.say[begin]
                for frame in FRAMES[split]
            ]
    return found


def meetings(truth: FalseFact) -> list[tuple[Turn, ...]]:
    """Conversations that touch the subject and state no claim."""
    return [talk(question, ANSWERS[i % len(ANSWERS)]) for i, question in enumerate(truth.mentions)]
