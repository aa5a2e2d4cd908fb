"""What a bundle must be before anybody scores it again: whole, of one method, comparable, and of cells that a table can take.

Nothing here loads a model or runs code; docs/reliability.md says which changes that detects, and which only a fresh scoring does.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...harness.records.identity import PROTOCOL_SHA256, PROTOCOL_VERSION
from ...methods.catalogue import BUILTIN
from ...methods.registry import is_given
from ...organisms.sets import members, sets
from .bundle import Bundle, BundleError
from .cells import SubmittedCell, unpack

SEEDS = 3
"""Fewest seeds of a method that draws anything."""
PROTOCOL = (PROTOCOL_VERSION, PROTOCOL_SHA256)
SAME: dict[str, Callable[[SubmittedCell], Any]] = {
    "config": lambda c: c.identity.config,
    "budget": lambda c: c.identity.budget,
    "method_version": lambda c: "findings" if is_given(c.identity.method_version) else c.identity.method_version,
    "provenance.stochastic": lambda c: c.stochastic,
}
"""What all cells of a row share."""
MEASURED = ("organism_sha256", "prompts_sha256", "controls_sha256", "layer", "dtype", "sinks")
"""Fields of an identity that all cells on one organism share."""
Fault = tuple[str, str, str]
"""Where, why, what to do."""


def check(bundle: Bundle, folder: Path) -> list[SubmittedCell]:
    """The cells of a bundle, written below a folder, if all is as it has to be.

    Raises:
        BundleError: the first thing that is not.
    """
    cells = unpack(bundle, folder)
    for where, cause, fix in faults(bundle, cells):
        raise BundleError(bundle.path, where, cause, fix)
    return cells


def faults(bundle: Bundle, cells: Sequence[SubmittedCell]) -> Iterator[Fault]:
    """What keeps the cells from being one row of a table, first things first."""
    card = bundle.manifest.card
    if card.name in BUILTIN:
        yield (
            "card.name",
            f"{card.name!r} is taken: it is a built-in method",
            "give the method another name and run it again",
        )
    for cell in cells:
        yield from _of_one(cell, card.name, card.access)
    yield from _together(cells)
    yield from _covered(cells, bundle.manifest.organism_set)


def _of_one(cell: SubmittedCell, name: str, access: str) -> Iterator[Fault]:
    i = cell.identity
    if i.method != name:
        yield (
            f"{cell.name}: identity.method",
            f"is {i.method!r}, the card is of {name!r}",
            "leave the other method's cells out, or mend the card",
        )
    if i.access != access:
        yield f"{cell.name}: identity.access", f"is {i.access!r}, the card says {access!r}", "mend the card"
    if (i.protocol, i.protocol_sha256) != PROTOCOL:
        yield (
            f"{cell.name}: identity.protocol",
            f"is {i.protocol} ({i.protocol_sha256[:12]}): another protocol than {PROTOCOL[0]} ({PROTOCOL[1][:12]})",
            "run the cell with the published settings",
        )
    if not cell.of_zoo:
        yield (
            f"{cell.name}: identity.organism",
            "is no organism of the zoo by its name there, so nobody else could score the cell again",
            "submit cells on organisms of `bench organisms list`",
        )
    if cell.unpublished:
        yield (
            f"{cell.name}: identity",
            f"is {cell.unpublished}, which no table takes",
            "run the cell whole, without --limit and --in-process",
        )
    if i.dtype != "float32":
        yield (
            f"{cell.name}: identity.dtype",
            f"is {i.dtype}, and only fp32 can be scored again elsewhere",
            "run with --dtype float32",
        )
    if cell.status == "not_run":
        yield f"{cell.name}: status", "was not run", "run the cell"
    if cell.status == "not_applicable":
        yield (
            f"{cell.name}: status",
            "is not_applicable: that a pair cannot be scored holds for every method and is no outcome of one",
            "run the cell with this version of diffbench, with which every organism of a set can be scored",
        )


def _together(cells: Sequence[SubmittedCell]) -> Iterator[Fault]:
    for what, value in SAME.items():
        other = next((c for c in cells if value(c) != value(cells[0])), None)
        if other is not None:
            yield (
                f"{other.name}: {what}",
                f"is not that of {cells[0].name}: a row is one method with one set of options",
                "run all cells with the same file and options, or submit them under two names",
            )
    seen = dict[tuple[str, int], SubmittedCell]()
    first = dict[str, SubmittedCell]()
    for cell in cells:
        i = cell.identity
        if (i.organism, cell.seed) in seen:
            yield (
                cell.name,
                f"two cells ({seen[i.organism, cell.seed].id[:12]}, {cell.id[:12]})",
                "leave the older one out",
            )
        seen[i.organism, cell.seed] = cell
        known = first.setdefault(i.organism, cell)
        for field in MEASURED:
            if getattr(i, field) != getattr(known.identity, field):
                yield (
                    f"{cell.name}: identity.{field}",
                    f"is not that of {known.name}",
                    "run both cells with one version of diffbench",
                )


def _covered(cells: Sequence[SubmittedCell], organism_set: str | None) -> Iterator[Fault]:
    """Enough seeds, the same on every organism; of a frozen set every organism and no other."""
    seeds = dict[str, set[int]]()
    for cell in cells:
        seeds.setdefault(cell.identity.organism, set()).add(cell.seed)
    all_seeds = set[int]().union(*seeds.values())
    method = cells[0].identity.method if cells else "?"
    for organism, there in seeds.items():
        if missing := sorted(all_seeds - there):
            yield (
                organism,
                f"misses seed {', '.join(map(str, missing))}, which other organisms have",
                _run(method, organism, missing),
            )
    least = 1 if cells and cells[0].stochastic is False else SEEDS
    if len(all_seeds) < least:
        yield (
            "seeds",
            f"{len(all_seeds)} of {least} seeds: a method that draws anything needs {least}",
            _run(method, ",".join(seeds), range(least)) + " (or say `stochastic = False` if it draws nothing)",
        )
    elif chosen := sorted(all_seeds - set(range(len(all_seeds)))):
        yield (
            "seeds",
            f"{', '.join(map(str, chosen))}: a submission has the seeds from 0 on, so that none are chosen",
            _run(method, ",".join(seeds), range(len(all_seeds))),
        )
    if organism_set is None:
        return
    filled = [name for name, each in sets().items() if each.organisms]
    if organism_set not in filled:
        yield (
            "organism_set",
            f"{organism_set!r} is no set that this diffbench has",
            f"choose one of {', '.join(filled)}",
        )
        return
    whole = members(organism_set)
    if missing := [o for o in whole if o not in seeds]:
        said = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        yield (
            f"organism_set {organism_set}",
            f"{len(missing)} organisms are missing: {said}",
            _run(method, organism_set, sorted(all_seeds)),
        )
    if others := sorted(set(seeds) - set(whole)):
        yield (
            f"organism_set {organism_set}",
            f"{others[0]} is no member of it",
            "leave it out, or build the bundle without --set",
        )


def _run(method: str, organisms: str, seeds: Sequence[int]) -> str:
    return f"bench run -m {method} -o {organisms} --seed {','.join(map(str, seeds))}"
