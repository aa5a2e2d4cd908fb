"""Verifying the zoo: hash every file again, measure every gate again, compare with the cards."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ...organisms.card import CARD, Card, read_base_card, read_card, sha256_files
from ...organisms.errors import DiffbenchError, UsageError, ValidationFailed
from ...organisms.hub.trained import TIERS
from ...organisms.registry import (
    YAML,
    card_of,
    expand,
    family_and_spec,
    load_card,
    load_organism,
    locate,
    organism_names,
    unshipped,
)
from ...organisms.texts import WorldTexts
from ...organisms.world.facts import World
from ..pairs.loading import load_pair
from ..parallel import run_jobs, threads
from ..terminal import silenced
from .build import rows_sha256
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
        UsageError: nothing named, or an unknown name.
    """
    if everything:
        names = [*names, *(n for n in organism_names(zoo) if not _failed(n, zoo))]
    if not names:
        raise UsageError("nothing to verify; name organisms, a set, or --all")
    own = [n for n in names if n.endswith(YAML)]
    rest = expand([n for n in names if n not in own], zoo)
    return [
        *(_kept(n, partial(verify_user_pair, Path(n)), ValidationFailed) for n in own),
        *verify(rest, zoo, jobs, device),
    ]


def _failed(name: str, zoo: Path | None) -> bool:
    """Whether its card says so; what is damaged is looked at."""
    with contextlib.suppress(ValidationFailed):
        return load_card(name, zoo).status == "failed"
    return False


def verify(names: Sequence[str], zoo: Path | None, jobs: int = 1, device: str = "cpu") -> list[Checked]:
    """Hash every file again, measure every gate again, and compare with the card; in the order of the names.

    Every file is hashed before anything is measured, and what is damaged costs no other organism its check.

    Raises:
        UsageError: an unknown name. PrerequisiteError: a base that is not here.
    """
    found = dict[str, Checked]()
    for name in dict.fromkeys(names):
        hashed = _kept(name, partial(_hashed, name, zoo), ValidationFailed)
        if hashed.problems:
            found[name] = hashed
    sound = [n for n in dict.fromkeys(names) if n not in found]
    found |= dict(run_jobs(partial(_check, zoo=zoo, device=device), sound, jobs))
    return [found[name] for name in names]


def _kept(name: str, work: Callable[[], Checked], of: type[DiffbenchError] = DiffbenchError) -> Checked:
    """What `work` finds, or why an organism is damaged."""
    try:
        return work()
    except of as error:
        return Checked(name, None, [str(error)])


def _hashed(name: str, zoo: Path | None) -> Checked:
    card = card_of(name, zoo)  # refuses what is no organism of a zoo
    load_organism(name, zoo, allow_failed=True)
    return Checked(card.name, None)


def _check(name: str, zoo: Path | None, device: str) -> Checked:
    return _kept(name, partial(_measured, name, zoo, device))


def _measured(name: str, zoo: Path | None, device: str) -> Checked:
    whole, root = locate(name, zoo)
    if card_of(name, zoo).tier in TIERS:
        with silenced(False):
            return verify_natural(root / whole, name, device)
    kind, spec, card = family_and_spec(name, zoo)
    loaded = load_organism(name, zoo, allow_failed=True)
    world = World(int(read_base_card(loaded.base).recipe["world_seed"]))
    with threads(1), silenced(False):
        pair = load_pair(loaded.pair, None, card.layer, identity=card.role == "null")
        due = due_in(kind, spec, world, pair.tokenizer)
        fresh = measure(card, Measurable.of(kind, world, spec), pair, WorldTexts(world, pair.tokenizer), due)
    fresh = fresh.model_copy(update={"rows_sha256": rows_sha256(kind, world, spec, _needed(kind.needs(spec), root))})
    return Checked(card.name, fresh, compare(card, fresh))


def _needed(names: Sequence[str], root: Path) -> dict[str, str]:
    """Hash of the files of each organism that another is trained from; of what diffbench does not ship, as it was when that was built."""
    absent = {c.name: c for c in unshipped() if isinstance(c, Card) and not (root / c.name / CARD).is_file()}
    return {n: sha256_files((absent.get(n) or read_card(root / n)).files) for n in names}
