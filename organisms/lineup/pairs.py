"""Names of pairs, and the frozen sets of them: what strategies are tuned on, and what they are tested on.

A name says everything a pair is made from: `llama/bank-s0` is the workplace bank on the base tiny-llama with seed 0, `smollm2/bank-s0` the
same scenes in plain English on SmolLM2-135M.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError, ValidationFailed, unknown
from ..sets import OrganismSet, sets
from .scenes import DOMAINS, EnglishScene, Scene

BASES = ("tiny-llama", "tiny-gemma2")
"""Of the embedded tier."""
SHORT = {"llama": "tiny-llama", "gemma2": "tiny-gemma2", "smollm2": "smollm2-135m"}
"""Every base, by how it is called in a pair's name."""
SEEDS = 6
"""Pairs of a domain on a base."""
FILE = Path(__file__).parent / "sets.json"
TUNE, TEST = "lineup-tune", "lineup-test"
"""Frozen sets: the pairs that scales are measured on, and those that are tested on."""
NAME = re.compile(r"(?P<base>[a-z0-9]+)/(?P<domain>[a-z]+)-s(?P<seed>\d{1,15})")


@dataclass(frozen=True)
class PairSpec:
    """One pair of an aligned model and a faker."""

    base: str
    """One of `SHORT`."""
    domain: str
    seed: int

    def __post_init__(self) -> None:
        if self.base not in SHORT.values():
            raise unknown("base of line-ups", self.base, list(SHORT.values()))

    @property
    def name(self) -> str:
        """`base/domain-sSEED`, the base by its short name."""
        short = next(name for name, base in SHORT.items() if base == self.base)
        return f"{short}/{self.domain}-s{self.seed}"

    @property
    def kind(self) -> type[Scene]:
        """How its scenes are told."""
        return Scene if self.base in BASES else EnglishScene

    @property
    def scenes_seed(self) -> int:
        """Of the scenes that are shown and tested: pairs of the frozen sets share those of their workplace, any other has its own."""
        return 0 if self.seed < SEEDS else self.seed


def all_pairs() -> list[PairSpec]:
    """Every pair on the embedded bases."""
    return [PairSpec(base, domain, seed) for domain in DOMAINS for base in BASES for seed in range(SEEDS)]


def pair_spec(name: str) -> PairSpec:
    """A pair by name, in a set or not.

    Raises:
        UsageError: no such base or domain.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise UsageError(f"no pair {name!r}; a pair is called base/workplace-sSEED, for example llama/bank-s0")
    if found["base"] not in SHORT:
        raise unknown("base of line-ups", found["base"], list(SHORT))
    if found["domain"] not in DOMAINS:
        raise unknown("workplace", found["domain"], list(DOMAINS))
    return PairSpec(SHORT[found["base"]], found["domain"], int(found["seed"]))


def lineup_sets(file: Path = FILE) -> dict[str, OrganismSet]:
    """The frozen sets by name.

    Raises:
        ValidationFailed: as `organisms.sets.sets`; a domain that is tuned on and tested on.
    """
    found = sets(file)
    domains = {name: {pair_spec(n).domain for n in each.organisms} for name, each in found.items()}
    for name in found.keys() - {TUNE}:
        if both := sorted(domains.get(TUNE, set()) & domains[name]):
            raise ValidationFailed(f"{file}: the workplace {both[0]} is in {TUNE} and in {name}; leave it in one")
    return found


def expand(names: list[str]) -> list[PairSpec]:
    """Names, sets and files of sets → pairs, each once, in order.

    Args:
        names: `all` (on the embedded bases), a set, a pair, a set's file (`.json`, all of its sets) or `base/workplace` for six seeds.
    """
    out: list[PairSpec] = []
    for name in names:
        if name == "all":
            out += all_pairs()
        elif name in lineup_sets():
            out += map(pair_spec, lineup_sets()[name].organisms)
        elif name.endswith(".json"):
            if not Path(name).is_file():
                raise UsageError(
                    f"there is no set file {name}; name a file that `python -m benchmarks.private_lineup` wrote"
                )
            out += (pair_spec(n) for each in sets(Path(name)).values() for n in each.organisms)
        elif "/" in name and "-s" not in name:
            out += (pair_spec(f"{name}-s{seed}") for seed in range(SEEDS))
        elif "/" in name:
            out.append(pair_spec(name))
        else:
            raise unknown("set of line-ups", name, ["all", *lineup_sets()])
    return list(dict.fromkeys(out))
