"""The record of a strategy on line-ups: what decides its verdicts, hashed, and the verdicts one by one.

A record is whole after every line-up and goes on where it was left: a verdict is known again by its line-up and the hashes of the two
models, so a pair that was built anew is judged anew. It holds the key of its orders, so each order can be checked.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ...methods.strategies.contract import Access
from ...organisms.errors import UsageError, ValidationFailed
from ...organisms.lineup.pairs import pair_spec
from ..files import atomic_write_text
from ..records.identity import Amount, Count, Hash, Line, Name, Record, Said, Share, sha256_json

FILE = "lineups.json"
Status = Literal["ok", "failed", "oom", "timeout"]


class Verdict(Record):
    """What a strategy said of one line-up."""

    lineup: Line
    """Name of the pair, or of two pairs whose aligned twins stand in it."""
    models_sha256: Hash
    domain: Name
    base: Name
    identical: bool
    a_is_faker: bool
    """The order; means nothing where both are aligned."""
    probability: Annotated[Share, Field(strict=True)] | None
    """That A is the faker; None: it failed."""
    status: Status = "ok"
    error: Said = ""
    cpu_s: Amount = 0.0
    """Of the strategy's own process."""
    wall_s: Amount = 0.0

    @model_validator(mode="after")
    def _of_its_pairs(self) -> Self:
        """Base and workplace are in the names of the pairs, and what failed has no probability."""
        specs = [pair_spec(name) for name in self.lineup.split("=")]
        if any((s.base, s.domain) != (self.base, self.domain) for s in specs) or len(specs) != 1 + self.identical:
            raise ValueError(f"base, workplace or `identical` are not those of the pairs {self.lineup}")
        if (self.probability is None) != (self.status != "ok"):
            raise ValueError(f"status {self.status} with probability {self.probability}: one that failed has none")
        return self

    @property
    def on_faker(self) -> float:
        """Probability on the model that is the faker; one half if it failed."""
        p = 0.5 if self.probability is None else self.probability
        return p if self.a_is_faker else 1 - p

    @property
    def right(self) -> float:
        """1 if the faker was named, 1/2 if both were."""
        return 0.5 if abs(self.on_faker - 0.5) < 1e-12 else float(self.on_faker > 0.5)

    @property
    def brier(self) -> float:
        """Squared distance from certainty about the faker."""
        return (1 - self.on_faker) ** 2


class Identity(Record):
    """What decides the verdicts, beside the models."""

    strategy: Name
    strategy_version: Line
    access: Access
    config: dict[str, Any]
    seed: Count
    """Of the orders and of what the strategy draws."""
    code_sha256: Hash

    def id(self) -> str:
        """sha256 of its canonical JSON."""
        return sha256_json(self.model_dump())


class LineupRecord(Record):
    """A strategy on line-ups."""

    id: Hash
    identity: Identity
    sets: list[Line]
    """What was asked for."""
    key: Hash
    """Drawn at random: which of two models is A follows from it. A record that is published gives its key away."""
    verdicts: list[Verdict]
    provenance: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Recorded, never hashed."""

    def write(self, folder: Path) -> None:
        """Into its folder, whole."""
        atomic_write_text(folder / FILE, self.model_dump_json(indent=1) + "\n")


def a_first(lineup: str, seed: int, key: str) -> bool:
    """Whether A is the faker in a line-up."""
    return int(sha256_json(["order", lineup, seed, key])[:16], 16) % 2 == 0


def same(verdict: Verdict) -> tuple[str, str]:
    """What two verdicts on the same two models have in common."""
    return verdict.lineup, verdict.models_sha256


def read(path: Path) -> LineupRecord:
    """A record.

    Raises:
        ValidationFailed: not one, its id is not the hash of its identity, an order is not the one of its key, or a line-up stands in it
            twice.
    """
    try:
        found = LineupRecord.model_validate_json(path.read_bytes())
    except UsageError as error:
        raise ValidationFailed(
            f"{path} is no record of line-ups: {error}; delete it and run the strategy again"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValidationFailed(
            f"{path} is no record of line-ups: {where}: {first['msg']}; delete it and run the strategy again"
        ) from error
    if found.id != found.identity.id():
        raise ValidationFailed(f"{path} was edited: its id is not the hash of its identity; run the strategy again")
    for v in found.verdicts:
        if v.a_is_faker != a_first(v.lineup, found.identity.seed, found.key):
            raise ValidationFailed(
                f"{path} was edited: in {v.lineup} the order is not the one that its key gives; run the strategy again"
            )
    if twice := next((name for (name, _), n in Counter(map(same, found.verdicts)).items() if n > 1), None):
        raise ValidationFailed(f"{path} was edited: {twice} stands in it twice; run the strategy again")
    return found


def records(folders: list[Path]) -> list[LineupRecord]:
    """Every record below some folders, by strategy; those of one identity are one, with the verdicts of all.

    Of two verdicts on the same two models one that did not fail is taken, and else the first. Orders were checked with each file's key.
    """
    found = dict[str, LineupRecord]()
    for path in (path for folder in folders for path in sorted(folder.rglob(FILE))):
        each = read(path)
        known = found.get(each.id, each)
        verdicts = dict[tuple[str, str], Verdict]()
        for v in sorted((*known.verdicts, *each.verdicts), key=lambda v: v.status != "ok"):
            verdicts.setdefault(same(v), v)
        sets = list(dict.fromkeys((*known.sets, *each.sets)))
        found[each.id] = known.model_copy(update={"sets": sets, "verdicts": list(verdicts.values())})
    return list(found.values())
