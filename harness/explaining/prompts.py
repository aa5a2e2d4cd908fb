"""What a language model is asked, and how its answers are read. All of it is version `VERSION`: any change of wording is a new one.

The one idea: examples and data are written by the same functions, so that what a model was shown is what it is asked about, and every
answer is one JSON object whose length must be the number of texts that were asked about. What does not parse is None, never 0.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

VERSION = "1"
TOP = 9
"""Largest activation on the scale that a model reads and answers: one digit, so one token."""
BATCH = 5
"""Texts a request."""
ONE_DIGIT = re.compile(r"\D*(\d)\D*")
"""A token with one digit among whatever else."""


class Prompt(NamedTuple):
    """One request."""

    system: str
    user: str
    answer_tokens: int
    """Longest answer."""
    sample: str
    """What an answer looks like, for counting what it costs."""
    logprobs: bool = False


ASKED_JSON = "Answer with one JSON object and nothing else, like {sample}"
EXPLAIN = """\
A component inside a language model is active on some tokens. You are given texts in which it is active, strongest \
first, and texts in which it is not.
Where it is active the tokens stand in « »; after each such text the strongest ones are listed with their \
activation, 1 to 9.
Say in one sentence of at most 30 words what makes it active: the marked tokens, or what stands around them. Be \
specific, and say nothing that also holds of the texts in which it is not active.
"""
OUTPUTS = """\
A language model continues texts. In the first list it was pushed in a certain direction, in the second it was not.
Say in one sentence of at most 30 words what the push makes the model say. Be specific, and say nothing that also \
holds of the second list.
"""
DETECT = """\
You are given a description and numbered texts. For each text answer 1 if the description holds of it and 0 if it \
does not. Any number of them may be 1.
"""
FUZZ = """\
You are given a description of tokens and numbered texts in which some tokens stand in « ». For each text answer 1 \
if the marked tokens are the ones that the description means and 0 if they are not.
"""
SIMULATE = """\
You are given a description of what a component inside a language model is active on, and a text as a list of \
tokens. For each token say how active the component is, 0 to 9.
"""
INTRUDE = """\
You are given numbered texts. All but one have something in common. Answer with the number of the one that does not.
"""
WORKED = 'For example, for the description "names of colours" and the texts\n{texts}\nthe answer is {answer}.\n'


def numbered(texts: Sequence[str]) -> str:
    """Texts as a model reads them, in examples and in data alike."""
    return "\n".join(f"{i}. {text}" for i, text in enumerate(texts, 1))


def explain(active: Sequence[str], strongest: Sequence[str], other: Sequence[str]) -> Prompt:
    """Ask what makes a finding active.

    Args:
        active: texts with marks. strongest: of each, its tokens with activations. other: texts without.
    """
    shown = numbered([f"{text}\n   {most}" for text, most in zip(active, strongest, strict=True)])
    user = f"Active:\n{shown}\n\nNot active:\n{numbered(other)}"
    return _asked(EXPLAIN, user, 200, '{"explanation": "…"}')


def outputs(pushed: Sequence[str], clean: Sequence[str]) -> Prompt:
    """Ask what a finding makes the model say."""
    return _asked(
        OUTPUTS, f"Pushed:\n{numbered(pushed)}\n\nNot pushed:\n{numbered(clean)}", 200, '{"explanation": "…"}'
    )


def detect(description: str, texts: Sequence[str]) -> Prompt:
    """Ask of which texts a description holds."""
    worked = WORKED.format(
        texts=numbered(["the red door is open", "he walks to the sea"]), answer='{"answers": [1, 0]}'
    )
    return _judged(DETECT + worked, description, texts)


def fuzz(description: str, texts: Sequence[str]) -> Prompt:
    """Ask in which texts the marks are right."""
    worked = WORKED.format(
        texts=numbered(["the «red» door is open", "the blue «sea» is calm"]), answer='{"answers": [1, 0]}'
    )
    return _judged(FUZZ + worked, description, texts)


def simulate(description: str, tokens: Sequence[str]) -> Prompt:
    """Ask for the activation of each token of a text."""
    user = f"Description: {description}\n\nTokens:\n{numbered([json.dumps(t, ensure_ascii=False) for t in tokens])}"
    return _asked(SIMULATE, user, 6 * len(tokens) + 40, json.dumps({"activations": [0] * len(tokens)}), True)


def intrude(texts: Sequence[str]) -> Prompt:
    """Ask which text is unlike the others."""
    return _asked(INTRUDE, numbered(texts), 40, '{"answers": [1]}')


def _judged(system: str, description: str, texts: Sequence[str]) -> Prompt:
    sample = json.dumps({"answers": [0] * len(texts)})
    user = f"Description: {description}\n\nTexts:\n{numbered(texts)}"
    return _asked(system, user, 4 * len(texts) + 40, sample)


def _asked(system: str, user: str, answer_tokens: int, sample: str, logprobs: bool = False) -> Prompt:
    return Prompt(system + ASKED_JSON.format(sample=sample), user, answer_tokens, sample, logprobs)


def read_explanation(content: str) -> str | None:
    """The sentence of an answer."""
    said = _object(content).get("explanation")
    return " ".join(said.split()) if isinstance(said, str) and said.strip() else None


def read_answers(content: str, n: int, most: int = 1) -> list[int] | None:
    """n whole numbers from 0 to `most`; None if the answer holds anything else, or fewer, or more."""
    said = _object(content).get("answers")
    if not isinstance(said, list) or len(said) != n:  # pyright: ignore[reportUnknownArgumentType]
        return None
    right = all(isinstance(x, bool | int) and 0 <= x <= most for x in said)  # pyright: ignore[reportUnknownVariableType]
    return [int(x) for x in said] if right else None  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def read_activations(logprobs: Sequence[Any], n: int) -> list[float] | None:
    """Expected activation of each of n tokens from the log-probabilities of an answer's digits: Σ p·digit / Σ p over the digits listed.

    None: other than n digits, or one whose log-probabilities are not all told.
    """
    try:
        found = [_expected(at) for at in logprobs if ONE_DIGIT.fullmatch(str(at["token"]))]
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None
    return found if len(found) == n and all(map(math.isfinite, found)) else None


def _expected(at: dict[str, Any]) -> float:
    """Of one place. A token that is listed twice counts once; two spellings of a digit, as "4" and " 4", are two tokens and add up."""
    listed = {str(t["token"]): t["logprob"] for t in [*(at.get("top_logprobs") or []), at]}
    digits = [(int(one[1]), math.exp(float(p))) for token, p in listed.items() if (one := ONE_DIGIT.fullmatch(token))]
    return sum(digit * p for digit, p in digits) / sum(p for _, p in digits)


def _object(content: str) -> dict[str, Any]:
    """The last JSON object in a text, which may stand among other words; not one within another. Empty if there is none."""
    found, at = dict[str, Any](), content.find("{")
    while at >= 0:
        try:
            found, end = json.JSONDecoder().raw_decode(content, at)
        except (ValueError, RecursionError):
            end = at + 1
        at = content.find("{", end)
    return found
