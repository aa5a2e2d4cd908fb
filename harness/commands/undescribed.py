"""Pairs that options name without a behaviour, for commands that score nothing."""

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ...organisms.errors import DiffbenchError, UsageError
from ...organisms.hub.user_pair import Models, unknown_pair
from ...organisms.organism import Organism
from .settings import RunFile, configured, loader, named_organism, names_of_methods

if TYPE_CHECKING:
    from ..runs.cell import Cell


def undescribed(options: dict[str, Any], allow_other_base: bool) -> Organism:
    """Two models without a behaviour; raises as `given`."""
    said = {k: str(v) for k, v in options.items() if v is not None}
    try:
        return unknown_pair(Models.model_validate(said | {"allow_other_base": allow_other_base}))
    except ValidationError as error:
        first = error.errors()[0]
        what = "--base is missing" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{what}: a pair is --base with --adapter or --tuned") from error


def cells_of(organism: Organism, file: RunFile) -> "list[Cell]":
    """The cells of a pair that is not scored.

    Raises:
        UsageError: unknown methods or options, methods that need a behaviour, a layer that the model does not have.
    """
    from ...methods.contract import Budget
    from ..diffs.diffing import check_methods
    from ..pairs.preflight import check_layer
    from ..runs.cell import Cell
    from ..runs.stage import Machine

    left_out = dict[str, DiffbenchError]()
    names = names_of_methods(file)
    methods = configured([loader(file)(name) for name in names], file.set, left_out)
    check_methods(methods)
    if file.one_layer is not None:
        check_layer(organism.name, organism.pair.base, file.one_layer)
    budget = Budget(file.tokens or Budget.tokens, file.seconds or Budget.seconds)
    machine = Machine(file.device, file.dtype, file.device_map)
    at = organism.at(file.one_layer, None)
    return [Cell(at, m, c, file.seed[0], budget=budget, machine=machine) for m, c in methods]


def shown_organism(name: str | None, options: dict[str, Any], allow_other_base: bool) -> Organism | None:
    """As `named_organism`, where nothing is scored: a pair needs no behaviour."""
    if name is None and options.get("behaviour") is None and any(options.get(k) for k in ("base", "adapter", "tuned")):
        return undescribed({k: v for k, v in options.items() if k != "behaviour"}, allow_other_base)
    return named_organism(name, options, allow_other_base)
