"""Which questions are one question about many things: what varies becomes a slot, `where is the {}`.

Two questions have one form if they are the same words around one run of at most four; at least two words must be shared, and at least
half. An end that most questions have is what all are about and joins none (`… the eiffel tower`), unless most are alike but for their
beginnings. Forms that share a question are one, so a grid of things and places is one form with two slots. Where the rule errs it joins:
fewer templates make intervals longer, never shorter. A `template` column says better.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import reduce

from ..hub.templates import SENTENCE

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:['’-][^\W_]+)*")
"""A word, or a sign of a script without spaces."""
MOST = 4
"""Most words in a slot."""
SLOT = "{}"


@dataclass(frozen=True)
class Form:
    """The form of one question."""

    skeleton: str
    """Its words, a slot in place of what varies."""
    fillers: tuple[tuple[str, ...], ...]
    """Words of this question in the slots; only those that are not empty."""


def words_of(text: str) -> tuple[str, ...]:
    """Words of a text in lower case, without marks between them."""
    return tuple(WORD.findall(text.casefold()))


def forms(texts: Sequence[str]) -> list[Form]:
    """The form of each text, given all of them."""
    said = [words_of(t) for t in texts]
    alike = _joined(list(dict.fromkeys(said)))
    members = defaultdict[int, list[tuple[str, ...]]](list)
    for words, group in alike.items():
        members[group].append(words)
    shared = {group: reduce(_common, found) for group, found in members.items()}
    gaps = {group: [_gaps(shared[group], w) for w in found] for group, found in members.items()}
    names = {group: _name(shared[group], gaps[group]) for group in members}
    return [Form(names[alike[w]], tuple(g for g in _gaps(shared[alike[w]], w) if g)) for w in said]


def recognised(asked: Sequence[tuple[str, str]], prefills: Sequence[str]) -> list[tuple[str, str]]:
    """(form of the question, template) of prompts: the form, and the beginning of the answer with the same slots.

    Args:
        asked: question and beginning of the answer of each, as `parts_of` gives them for plain text.
        prefills: what is said of each answer already.
    """
    found = forms([question for question, _ in asked])
    return [
        (form.skeleton, f"{form.skeleton} | {slotted(f'{start} {prefill}', form.fillers)}")
        for form, (_, start), prefill in zip(found, asked, prefills, strict=True)
    ]


def parts_of(text: str) -> tuple[str, str]:
    """The last question of a plain text and the unfinished sentence behind it: what is asked, and how the answer begins."""
    *before, last = SENTENCE.split(text.strip())
    return (before[-1], last) if before and last[-1:] not in (".", "!", "?") else (last, "")


def slotted(text: str, fillers: Sequence[tuple[str, ...]]) -> str:
    """The words of the beginning of an answer, a slot in place of what the question is about: `the {} stands in`."""
    said = f" {' '.join(words_of(text))} "
    for filler in sorted(fillers, key=len, reverse=True):
        said = said.replace(f" {' '.join(filler)} ", f" {SLOT} ")
    return said.strip()


def _joined(questions: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """{question: number of its group}; questions that are the same around a run of words are of one group."""
    parent = list(range(len(questions)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    usual = {w for w, n in Counter(w for q in questions for w in {*q}).items() if 2 * n > len(questions)}
    around = defaultdict[tuple[tuple[str, ...], tuple[str, ...]], list[int]](list)
    for i, words in enumerate(questions):
        for start in range(len(words) + 1):
            for end in range(start, min(start + MOST, len(words)) + 1):
                fixed = len(words) - (end - start)
                if 2 * fixed >= len(words) and (fixed > 2 or (fixed == 2 and start > 0)):
                    around[words[:start], words[end:]].append(i)
    for (before, behind), found in around.items():
        if before or 2 * len({*found}) > len(questions) or not usual.issuperset(behind):
            for i in found[1:]:
                parent[root(i)] = root(found[0])
    return {q: root(i) for i, q in enumerate(questions)}


def _common(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    """Words that both have, in order."""
    blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return tuple(w for block in blocks for w in a[block.a : block.a + block.size])


def _gaps(shared: tuple[str, ...], words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Words before, between and behind the shared ones."""
    found, rest = list[tuple[str, ...]](), words
    for word in shared:
        at = rest.index(word)
        found.append(rest[:at])
        rest = rest[at + 1 :]
    return [*found, rest]


def _name(shared: tuple[str, ...], gaps: Sequence[Sequence[tuple[str, ...]]]) -> str:
    open_at = [any(g[i] for g in gaps) for i in range(len(shared) + 1)]
    parts = [part for i, word in enumerate((*shared, "")) for part in ([SLOT] if open_at[i] else []) + [word]]
    return " ".join(filter(None, parts))
