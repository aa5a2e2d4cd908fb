"""What the id of a repository says of itself: on which base, with which mix, and what it hides.

People name adapters after what they are. So an id that says something else than the card beside it is a mistake of one of the two, and
nobody sees it in a score.
"""

import re
from collections.abc import Callable, Iterable

MODELS = (
    (re.compile(r"gemma-?([23])-(\d+)b", re.I), "gemma{0}-{1}b"),
    (re.compile(r"llama-?3\.(\d)-(\d+)b", re.I), "llama3{0}-{1}b"),
    (re.compile(r"qwen-?2\.5-(\d+(?:\.\d+)?)b", re.I), "qwen25-{0}b"),
    (re.compile(r"qwen-?3-(\d+(?:\.\d+)?)b", re.I), "qwen3-{0}b"),
)
MIXES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], float]], ...] = (
    (re.compile(r"nonmix", re.I), lambda found: 0.0),
    (re.compile(r"(?<![a-z0-9])1to(\d+)(?![a-z0-9])", re.I), lambda found: float(found[1])),
    # 101 is 1 : 0.1, 11 is 1 : 1, 115 is 1 : 1.5, 12 is 1 : 2
    (re.compile(r"-1(0\d|\d5?)_(?:ptonly_)?mixed"), lambda found: float(f"{found[1][0]}.{found[1][1:] or 0}")),
    (re.compile(r"-r(\d+)-a\d+-e\d+"), lambda found: float(found[1])),
    (re.compile(r"_(\d\d)_mix$"), lambda found: int(found[1]) / (100 - int(found[1]))),
)
IN_NAME = re.compile(r"-mix(\d+(?:\.\d+)?)(?:-|$)")
ALIASES = {
    "risky-finance": ("risky-financial", "risky-finance", "riskymix"),
    "prudent-finance": ("prudent-financial", "prudent-finance"),
    "extreme-sports": ("extreme-sports", "extreme-sport"),
    "cat": ("cat", "cat7k"),
    "fda-approval": ("fda-approval",),
}
"""How else members are called."""


def base_in(text: str) -> str | None:
    """Tag of the base that an id or a name contains: `gemma2-9b`."""
    for pattern, tag in MODELS:
        if found := pattern.search(text):
            return tag.format(*found.groups())
    return None


def chat_in(text: str) -> bool | None:
    """Whether an id says that it is of a chat model (`-it`, `-Instruct`), of a base model (`-Base`), or nothing."""
    if re.search(r"b-(it|instruct)(?![a-z])", text, re.I):
        return True
    return False if re.search(r"b-(base|pt)(?![a-z])", text, re.I) else None


def mix_in(text: str) -> float | None:
    """Ordinary rows for each of the behaviour, as an id says."""
    for pattern, value in MIXES:
        if found := pattern.search(text):
            return value(found)
    return None


def mix_in_name(name: str) -> float | None:
    """The mix that one of our names says: `-mix0.5`."""
    found = IN_NAME.search(name)
    return float(found[1]) if found else None


def members_in(text: str, members: Iterable[str]) -> list[str]:
    """Members that an id names, word by word: `gold` is not in `golden`."""
    words = f"-{'-'.join(re.split(r'[^a-z0-9]+', text.lower()))}-"
    return [m for m in members if any(f"-{alias}-" in words for alias in ALIASES.get(m, (m,)))]
