"""`python -m benchmarks.private_set --secret FILE --out ZOO`: organisms that nobody has seen, drawn from a secret.

    head -c 32 /dev/urandom > ~/secret
    python -m benchmarks.private_set --secret ~/secret --out ~/private-zoo --n 16
    bench leaderboard private METHOD --zoo ~/private-zoo --out ~/private-runs --by NAME

Family, member, variant and seed of each organism follow from HMAC-SHA256 of the secret, so whoever holds it, and this version of
diffbench, can draw the set again and nobody else can. Families take turns. A member that the public zoo does not have is drawn where the
family can make one. Organisms whose gates fail are built and not counted; more are drawn in their place. The names stand in the folder and
nowhere else: nothing is printed but numbers. Secret and folder must be out of reach of a commit.
"""

import hmac
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer
from diffbench.harness.terminal import handled
from diffbench.leaderboard.submissions.private import check_hidden
from diffbench.organisms.card import CARD, Card
from diffbench.organisms.errors import PrerequisiteError, UsageError, ValidationFailed
from diffbench.organisms.families import families
from diffbench.organisms.family import Family, Spec
from diffbench.organisms.world.tokenizer import vocabulary

SHORTEST = 16
"""Bytes of a secret, without white space around it."""
TRIES = 3
"""Organisms that are drawn for one that is wanted, at most."""
Build = Callable[[Sequence[Spec], Path], object]
"""Builds specs into a folder, whatever becomes of each."""


def read_secret(path: Path) -> bytes:
    """The secret in a file.

    Raises:
        PrerequisiteError: no such file. UsageError: a short one, or one that could be committed.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise PrerequisiteError(
            f"cannot read the secret {path}: {error.strerror}; name a file with {SHORTEST} bytes"
        ) from error
    if len(secret) < SHORTEST:
        raise UsageError(
            f"the secret in {path} has {len(secret)} bytes, which can be guessed; write at least {SHORTEST}: head -c 32 /dev/urandom > FILE"
        )
    check_hidden(path, "the secret")
    return secret


class Draw:
    """Organisms in an order that only the secret knows."""

    def __init__(self, secret: bytes, kinds: Sequence[Family]):
        self._secret = secret
        pools = {k.name: pool(k) for k in kinds}
        self._pools = {name: found for name, found in pools.items() if found}
        self._families = sorted(self._pools, key=partial(self._number, "family"))

    def _number(self, *what: object) -> int:
        return int.from_bytes(hmac.digest(self._secret, "/".join(map(str, what)).encode(), sha256))

    def spec(self, i: int) -> Spec:
        """The i-th organism."""
        shapes = self._pools[self._families[i % len(self._families)]]
        found = shapes[self._number("shape", i) % len(shapes)]
        return replace(found[self._number("member", i) % len(found)], seed=1 + self._number("seed", i) % (2**31 - 1))

    def __iter__(self) -> Iterator[Spec]:
        i = 0
        while True:
            yield self.spec(i)
            i += 1


def pool(kind: Family) -> list[list[Spec]]:
    """Organisms that a family can make: for each variant, base and set of blocks that its zoo has, one a member.

    Members that its zoo does not have, where there are any; else those that it has.
    """
    zoo = kind.specs()
    known = {s.member for s in zoo}
    shapes = {(s.variant, s.base, s.whole): s for s in zoo if s.role == "organism"}
    out: list[list[Spec]] = []
    for shape in shapes.values():
        made = [m for m in sorted({*vocabulary(), *kind.members()}) if _makes(kind, m, shape.variant)]
        new = [m for m in made if m not in known]
        own = [s.member for s in zoo if (s.role, s.variant) == ("organism", shape.variant)]
        out.append([replace(shape, member=m, core=False) for m in new or sorted({*made, *own})])
    return out


def _makes(kind: Family, member: str, variant: str) -> bool:
    spec = kind.member(f"{member}-{variant}")
    return spec is not None and spec.role == "organism"


def make(secret: bytes, out: Path, n: int, build: Build, tell: Callable[[str], None]) -> list[Card]:
    """Draw and build until `n` organisms hold their gates; what an earlier call built is found again.

    Args:
        build: is given specs and the folder.
        tell: is told how many there are, and no names.

    Returns:
        Their cards.

    Raises:
        ValidationFailed: so many failed that the set would not be what was asked for.
    """
    draw, tried, good = iter(Draw(secret, list(families().values()))), list[Spec](), list[Card]()
    while len(good) < n and len(tried) < TRIES * n:
        batch = [next(draw) for _ in range(min(n - len(good), TRIES * n - len(tried)))]
        tried += batch
        build(batch, out)
        good += [c for s in batch if (c := _card(out / s.name)) is not None and c.status != "failed"]
        tell(f"{len(good)} of {n} organisms hold their gates, {len(tried) - len(good)} do not or could not be built")
    if len(good) < n:
        raise ValidationFailed(
            f"of {len(tried)} organisms that were drawn {len(good)} hold their gates, {n} were asked for; what was built is kept in {out}: "
            "ask for fewer, or take another secret"
        )
    return good


def _card(folder: Path) -> Card | None:
    return Card.model_validate_json((folder / CARD).read_text()) if (folder / CARD).is_file() else None


def built(specs: Sequence[Spec], out: Path, jobs: int) -> None:
    """`bench organisms build` of specs, which says nothing; an organism that cannot be built is not there afterwards."""
    from diffbench.harness.terminal import silenced
    from diffbench.harness.zoo.build import build_specs

    try:
        with silenced(False):
            build_specs(specs, out, lambda line: None, jobs=jobs)
    except OSError:
        raise
    except PrerequisiteError:
        raise PrerequisiteError("a base is missing; run `bench organisms build --all` first") from None
    except Exception as error:  # the message has names, and the other organisms are there
        typer.echo(f"some could not be built ({type(error).__name__}); others are drawn", err=True)


def main(
    secret: Annotated[Path, typer.Option(help="File with at least 16 bytes that nobody else has.")],
    out: Annotated[Path, typer.Option(help="Zoo folder of the set.")],
    n: Annotated[int, typer.Option(min=1, help="Organisms that hold their gates.")] = 16,
    jobs: Annotated[int, typer.Option(min=1, help="Organisms at a time, one thread each.")] = os.cpu_count() or 1,
) -> None:
    """Make a private set."""
    with handled(False):
        check_hidden(out, "the zoo folder")
        good = make(read_secret(secret), out, n, partial(built, jobs=jobs), typer.echo)
        kinds = len({c.family for c in good})
        typer.echo(
            f"{len(good)} organisms of {kinds} families; bench leaderboard private METHOD --zoo {out} scores on them"
        )


if __name__ == "__main__":
    typer.run(main)
