"""Which templates are dev and which test: disjoint, and alike in templates, prompts and answers.

Whole question forms are dealt out, so that no question is asked in both; where there are too few forms for that, templates are (the same
question with another beginning of the answer). Largest first, each to the side that it leaves more even; what is equal is drawn by seed.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ..behaviour import MIN_PROMPTS
from .rows import SPLITS, TableError

EVEN = 0.4
"""Least share of the templates in a split; with fewer, templates are dealt out and not question forms."""


@dataclass(frozen=True)
class Asked:
    """What the dealing needs of a prompt."""

    number: int
    form: str
    template: str
    target: str
    """All its targets as one text."""
    split: str | None
    """As the table gives it."""


def deal(prompts: Sequence[Asked], seed: int) -> tuple[list[str], bool]:
    """The split of each prompt, and whether question forms could be kept whole.

    Raises:
        TableError: a template whose rows are given both splits, one template only, or too few prompts.
    """
    if len(found := {p.template for p in prompts}) < 2:
        raise TableError(
            f"all {len(prompts)} rows are one template, {found.pop()!r}: what is chosen on dev would be tested on the same question; ask "
            "in at least 12 ways a split (other questions, other prefills), or name the templates in a column `template`"
        )
    whole = _joined(prompts)
    if _clash(whole, prompts) is None and _even(splits := _dealt(whole, prompts, seed), prompts):
        return splits, True
    named = [p.template for p in prompts]
    if clash := _clash(named, prompts):
        template, dev, test = clash
        raise TableError(
            f"rows {dev} and {test} are one template, {template!r}, and stand in dev and in test: what is chosen on dev would be tested "
            "on the same question; give them one split, leave `split` empty, or tell them apart in a column `template`"
        )
    splits = _dealt(named, prompts, seed)
    count = Counter(splits)
    if few := [s for s in SPLITS if count[s] < MIN_PROMPTS]:
        raise TableError(
            f"{count[few[0]]} {few[0]} prompts of {len(prompts)}; at least {MIN_PROMPTS} a split are needed for an interval, and prompts "
            "of one template stay together: give more rows, of more templates"
        )
    return splits, False


def _joined(prompts: Sequence[Asked]) -> list[str]:
    """A key of each prompt; those of one form have the same, and so have those of one template, which may hold several forms."""
    keys = [p.form for p in prompts]
    while True:
        found = keys
        for names in ([p.template for p in prompts], [p.form for p in prompts]):
            least = dict[str, str]()
            for name, key in zip(names, found, strict=True):
                least[name] = min(key, least.get(name, key))
            found = [least[name] for name in names]
        if found == keys:
            return keys
        keys = found


def _clash(keys: Sequence[str], prompts: Sequence[Asked]) -> tuple[str, int, int] | None:
    """A key that the table gives to both splits, with a row of each."""
    given = defaultdict[str, dict[str, int]](dict)
    for key, p in zip(keys, prompts, strict=True):
        if p.split is not None:
            given[key].setdefault(p.split, p.number)
    return next(((key, g["dev"], g["test"]) for key, g in given.items() if len(g) > 1), None)


def _dealt(keys: Sequence[str], prompts: Sequence[Asked], seed: int) -> list[str]:
    """The split of each prompt, those of one key together."""
    groups = defaultdict[str, list[Asked]](list)
    for key, p in zip(keys, prompts, strict=True):
        groups[key].append(p)
    given = {key: [s for s in SPLITS if any(p.split == s for p in group)] for key, group in groups.items()}
    order = list(groups)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda k: (not given[k], -len({p.template for p in groups[k]}), -len(groups[k])))
    held: dict[str, list[Asked]] = {s: [] for s in SPLITS}
    split_of: dict[str, str] = {}
    for key in order:
        best = min(given[key] or SPLITS, key=lambda s: _uneven({**held, s: [*held[s], *groups[key]]}))
        split_of[key] = best
        held[best] += groups[key]
    return [split_of[key] for key in keys]


def _uneven(held: dict[str, list[Asked]]) -> float:
    """How far the splits are apart in templates, prompts and prompts of each answer; 0 if they are alike."""
    dev, test = (held[s] for s in SPLITS)

    def apart(a: int, b: int) -> float:
        return ((a - b) / max(a + b, 1)) ** 2

    answers = [Counter(p.target for p in side) for side in (dev, test)]
    both = answers[0] | answers[1]
    return (
        apart(len({p.template for p in dev}), len({p.template for p in test}))
        + apart(len(dev), len(test))
        + sum(apart(answers[0][t], answers[1][t]) for t in both) / max(len(both), 1)
    )


def _even(splits: Sequence[str], prompts: Sequence[Asked]) -> bool:
    templates = {s: {p.template for p, own in zip(prompts, splits, strict=True) if own == s} for s in SPLITS}
    total, count = sum(map(len, templates.values())), Counter(splits)
    return all(len(templates[s]) >= EVEN * total and count[s] >= MIN_PROMPTS for s in SPLITS)
