"""Verifying the zoo: hash every file again, measure every gate again, compare with the cards."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...organisms.card import read_base_card, read_card
from ...organisms.errors import UsageError
from ...organisms.hub.trained import TIERS
from ...organisms.registry import YAML, ZOO, expand, family_and_spec, load_organism, locate, organism_names
from ...organisms.texts import WorldTexts
from ...organisms.world.facts import World
from ..pairs.loading import load_pair
from ..parallel import run_jobs, threads
from ..terminal import silenced
from .comparison import Checked, compare
from .measure import Measurable, due_in, measure
from .natural import verify_natural
from .user_pair import verify_user_pair


def verify_named(
    names: Sequence[str], everything: bool, zoo: Path | None, jobs: int, device: str = "cpu"
) -> list[Checked]:
    """`verify` of organisms, family files and YAML cards as named on the command line.

    Args:
        device: on which organisms on real models are measured.

    Raises:
        UsageError: nothing named. ValidationFailed: a damaged file or card.
    """
    if everything:
        cards = [read_card((zoo or ZOO) / n) for n in organism_names(zoo)]
        names = [*names, *(c.name for c in cards if c.status != "failed")]
    if not names:
        raise UsageError("nothing to verify; name organisms, a set, or --all")
    own = [n for n in names if n.endswith(YAML)]
    rest = expand([n for n in names if n not in own], zoo)
    return [*(verify_user_pair(Path(n)) for n in own), *verify(rest, zoo, jobs, device)]


def verify(names: Sequence[str], zoo: Path | None, jobs: int = 1, device: str = "cpu") -> list[Checked]:
    """Hash every file again, measure every gate again, and compare with the card; in the order of the names.

    Raises:
        ValidationFailed: a damaged file or card.
    """
    found = dict(run_jobs(partial(_check, zoo=zoo, device=device), list(dict.fromkeys(names)), jobs))
    return [found[name] for name in names]


def _check(name: str, zoo: Path | None, device: str) -> Checked:
    whole, root = locate(name, zoo)
    if read_card(root / whole).tier in TIERS:
        with silenced(False):
            return verify_natural(root / whole, name, device)
    kind, spec, card = family_and_spec(name, zoo)
    loaded = load_organism(name, zoo, allow_failed=True)
    world = World(int(read_base_card(loaded.base).recipe["world_seed"]))
    with threads(1), silenced(False):
        pair = load_pair(loaded.pair, None, card.layer, identity=card.role == "null")
        due = due_in(kind, spec, world, pair.tokenizer)
        fresh = measure(card, Measurable.of(kind, world, spec), pair, WorldTexts(world, pair.tokenizer), due)
    return Checked(fresh, compare(card, fresh))
