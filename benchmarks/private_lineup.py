"""`python -m benchmarks.private_lineup --secret FILE --out SET.json`: pairs that nobody has seen, drawn from a secret.

    head -c 32 /dev/urandom > ~/secret
    python -m benchmarks.private_lineup --secret ~/secret --out ~/private-lineup.json --n 48
    bench lineup run -s all -o ~/private-lineup.json --out ~/private-runs

Base and workplace take turns; each seed follows from HMAC-SHA256 of the secret, so whoever holds it can draw the set again and
nobody else can. The workplaces and verbs are those of the public sets; the scenes, trained, shown or tested, are drawn anew for each pair.
Nothing is printed but numbers.
"""

import hmac
import json
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer
from diffbench.harness.files import atomic_write_text
from diffbench.harness.terminal import handled
from diffbench.organisms.lineup.pairs import BASES, SEEDS, PairSpec
from diffbench.organisms.lineup.scenes import DOMAINS
from diffbench.organisms.sets import OrganismSet

from .private_set import check_hidden, read_secret


def draw(secret: bytes, n: int) -> list[PairSpec]:
    """Pairs of every workplace and base in turn, two of each with seeds 2k and 2k + 1, whose aligned twins make an identical line-up."""
    places = [(base, domain) for domain in DOMAINS for base in BASES]

    def seed(i: int) -> int:
        turn, place = divmod(i, len(places))
        drawn = hmac.digest(secret, f"lineup/{place}/{turn // 2}".encode(), sha256)
        return SEEDS + 2 * (int.from_bytes(drawn) % 2**46) + turn % 2

    return [PairSpec(*places[i % len(places)], seed(i)) for i in range(n)]


def main(
    secret: Annotated[Path, typer.Option("--secret", help="File with at least 16 bytes.")],
    out: Annotated[Path, typer.Option("--out", help="The set file, .json; out of reach of a commit.")],
    n: Annotated[int, typer.Option("--n", min=2, help="Pairs.")] = 48,
) -> None:
    """Write a private set of line-ups."""
    with handled(False):
        check_hidden(out, "the set")
        names = tuple(spec.name for spec in draw(read_secret(secret), n))
        found = OrganismSet(about="a private set of line-ups", organisms=names)
        whole = {"lineup-private": found.model_copy(update={"sha256": found.hash}).model_dump()}
        atomic_write_text(out, json.dumps(whole, indent=1) + "\n")
        typer.echo(f"{len(names)} pairs")


if __name__ == "__main__":
    typer.run(main)
