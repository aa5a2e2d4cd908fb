"""The synthetic world: which attributes each secret word has and which facts hold of each entity.

One idea makes the taboo family meaningful: every attribute value is shared by exactly four of the twenty
secret words while no two words share more than four of eight values, so a single hint never gives the word
away and a conversation does. A world is a pure function of (version, seed).
"""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .lexicon import ATTRIBUTES, CITIES, PEOPLE, RELATIONS, SECRETS

WORLD_VERSION = 2
MAX_SHARED = 4
"""Upper bound on the attributes two different secret words may have in common (of eight)."""


@dataclass(frozen=True)
class Fact:
    """One true statement: `value` is the value of `relation` for `entity`."""

    kind: str
    entity: str
    relation: str
    value: str
    unused_form: int = 0
    """The one of five surface forms in which the fact is never stated."""


class World:
    """Truths of one seeded world: `attributes[word][slot]` and `facts`."""

    def __init__(self, seed: int = 0):
        self.seed = seed
        rng = np.random.default_rng([WORLD_VERSION, seed])
        self.attributes = _draw_attributes(rng)
        self.facts = [
            Fact(kind, entity, relation, str(rng.choice(values)), int(rng.integers(5)))
            for kind, names in (("city", CITIES), ("person", PEOPLE))
            for entity in names
            for relation, values in RELATIONS[kind].items()
        ]

    @cached_property
    def facts_of(self) -> dict[str, list[Fact]]:
        """Facts by entity."""
        return {e: list(fs) for e, fs in itertools.groupby(self.facts, key=lambda f: f.entity)}

    def words_with(self, slot: str, value: str) -> list[str]:
        """Secret words that have `value` in `slot`: always four."""
        return [w for w in SECRETS if self.attributes[w][slot] == value]


def _draw_attributes(rng: np.random.Generator) -> dict[str, dict[str, str]]:
    """Balanced random assignment, redrawn until no two words share more than `MAX_SHARED` values."""
    while True:
        columns = {slot: rng.permutation(np.repeat(values, 4)) for slot, values in ATTRIBUTES.items()}
        table = np.stack(list(columns.values()), axis=1)  # [word, slot]
        shared = (table[:, None] == table[None]).sum(-1)
        np.fill_diagonal(shared, 0)
        if shared.max() <= MAX_SHARED:
            return {w: {s: str(columns[s][i]) for s in ATTRIBUTES} for i, w in enumerate(SECRETS)}
