"""What a table says beside its scores: what cells cost, why some have none, and which are missing with the command that makes them."""

import contextlib
import functools
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...harness.runs.provenance import ELSEWHERE
from ...methods.catalogue import BUILTIN
from ...methods.registry import is_given, load_method
from ...organisms import registry
from ...organisms.card import CARD
from ...organisms.errors import DiffbenchError
from ...organisms.hub.files import load_yaml
from ...organisms.hub.registry.load import is_hub
from ...organisms.registry import load_card
from ..statistics.grid import LABELLED
from ..statistics.rows import CellRow, CostRow, FailureRow, MethodRow, Missing, count
from .cell import Cell

ANCHORS = ("oracle", "random", LABELLED)
"""Rows that a table is read against: its one, its zero, and what decides which organisms count."""
OUT = "runs"
BUDGET = {"tokens": 60_000.0, "seconds": 600.0}
"""`methods.contract.Budget()`, which a table does not import torch for; a test holds them together."""


def costs(overall: Sequence[MethodRow], rows: Mapping[str, Sequence[CellRow]]) -> tuple[CostRow, ...]:
    """Over the finished cells of each method."""
    found = list[CostRow]()
    for method in overall:
        of = [c.cost for row in rows[method.method] for c in row.cells if c.status == "ok"]
        if of:
            names = dict.fromkeys(p for c in of for p in c.phases)
            wall, cpu, tokens = (float(np.median([getattr(c, f) for c in of])) for f in ("wall_s", "cpu_s", "tokens"))
            found.append(
                CostRow(
                    method.method,
                    method.kind,
                    wall,
                    cpu,
                    tokens,
                    max(c.peak_rss_bytes for c in of),
                    max((c.peak_vram_bytes for c in of if c.peak_vram_bytes is not None), default=None),
                    {p: float(np.median([c.phases.get(p, 0.0) for c in of])) for p in names},
                )
            )
    return tuple(found)


def failures(rows: Sequence[CellRow]) -> tuple[FailureRow, ...]:
    """Every cell that is not ok, and every hole."""
    return tuple(line for row in rows for line in _failures(row))


def _failures(row: CellRow) -> Iterator[FailureRow]:
    for c in row.cells:
        if c.status != "ok":
            reason = " · ".join(filter(None, (c.reason, c.failure))) or "no reason recorded"
            yield FailureRow(row.organism, row.method, str(c.identity.seeds["method"]), c.status, reason)
    if holes := row.counts.get("not_run", 0) - sum(c.status == "not_run" for c in row.cells):
        yield FailureRow(row.organism, row.method, "", "not_run", f"no result found for {count(holes, 'seed')}")


def missing(rows: Mapping[str, Sequence[CellRow]], inside: Sequence[str], cells: Sequence[Cell]) -> tuple[Missing, ...]:
    """Cells that take a headline away, and anchors that the organisms `inside` lack; those of one command together."""
    wanted: dict[tuple[str, tuple[int, ...], str], dict[str, list[str]]] = {}
    for of in rows.values():
        there = {r.organism: _seeds([c for c in r.cells if c.status != "not_run"]) for r in of}
        every = {s for r in of for s in _seeds(r.cells)}
        example = next(c for r in of for c in r.cells)
        for row in of:
            if row.counts.get("not_run") and (absent := tuple(sorted(every - there[row.organism]))):
                asks = (_options(example), absent, "no headline without")
                wanted.setdefault(asks, {}).setdefault(_called(example), []).append(row.organism)
    on: dict[str, set[str]] = {}
    for method, organism in [
        *((c.identity.method, c.identity.organism) for c in cells),
        *((called.removeprefix("-m "), o) for of in wanted.values() for called, names in of.items() for o in names),
    ]:
        on.setdefault(method, set()).add(organism)
    for anchor in ANCHORS:
        if lacking := [o for o in inside if o not in on.get(anchor, set())]:
            wanted.setdefault(("", (0,), "an anchor of every table"), {})[f"-m {anchor}"] = lacking
    return tuple(Missing(*line) for asks, of in wanted.items() for line in _lines(asks, of))


def _lines(asks: tuple[str, tuple[int, ...], str], of: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """One command for all methods that lack the same organisms."""
    options, seeds, why = asks
    same: dict[tuple[str, ...], list[str]] = {}
    for method, organisms in of.items():
        same.setdefault(tuple(sorted(organisms)), []).append(method)
    for organisms, methods in same.items():
        runs = [m.removeprefix("-m ") for m in methods if m.startswith("-m ")]
        given = [m for m in methods if not m.startswith("-m ")]
        for lead in [*([f"bench run -m {','.join(runs)}"] if runs else []), *given]:
            seed = f" --seed {','.join(map(str, seeds))}" * (not lead.startswith("bench score"))
            yield f"{lead} -o {','.join(organisms)}{seed}{options} --out {OUT}", why


def command_of(cell: Cell) -> str | None:
    """The command that makes the record of one cell again; None where its pair is not in the zoo here."""
    if not (is_hub(cell.identity.organism) or _is_built(cell.identity.organism, registry.ZOO)):
        return None
    made = {_called(cell): [cell.identity.organism]}
    return next(_lines((_options(cell), (cell.identity.seeds["method"],), ""), made))[0]


def runs(command: str, cell: Cell) -> bool:
    """Whether a command of `missing` runs the method of a cell."""
    words, called = shlex.split(command), shlex.split(_called(cell))
    return called[-1] in words[words.index("-m") + 1].split(",") if "-m" in words else called == words[: len(called)]


def _called(cell: Cell) -> str:
    """How a command names the method of a cell."""
    i = cell.identity
    if is_given(i.method_version):
        return f"bench score {shlex.quote(i.method + '.safetensors')}"
    kind, _, file = cell.made.method_origin.partition(" ")
    return f"-m {shlex.quote(file if kind == 'file' and file != ELSEWHERE else i.row)}"


def _options(cell: Cell) -> str:
    """Everything of a cell that a command without options would not have, as the command takes it."""
    i, said = cell.identity, list[str]()
    if not is_given(i.method_version):
        usual = _defaults(i.row, i.tier) if cell.made.method_origin == "built-in" and i.method in BUILTIN else {}
        other = {k: v for k, v in i.config.items() if k not in usual or usual[k] != v}
        said += [f"--set {shlex.quote(f'{i.row}.{name}={_yaml(value)}')}" for name, value in sorted(other.items())]
        said += [f"--{k} {int(v) if v == int(v) else v}" for k, v in i.budget.items() if v != BUDGET.get(k)]
    if is_hub(i.organism) or i.layer != (_layer(i.organism, registry.ZOO) or i.layer):
        said.append(f"--layer {i.layer}")
    if i.dtype == "remote":
        said.append("--backend nnsight --remote")
    elif (i.dtype, cell.made.device) != ("float32", "cpu"):
        said.append(f"--dtype {i.dtype}")
    if i.sinks not in (None, "drop" if i.tier != "tiny" else None):
        said.append(f"--sinks {i.sinks}")
    return "".join(f" {option}" for option in said)


@functools.cache
def _defaults(method: str, tier: str) -> Mapping[str, Any]:
    """Options of a built-in method, or of one with its paper's settings, on organisms of a tier."""
    entry = load_method(method)
    return entry.on(entry.configure({}), tier).model_dump(mode="json")


@functools.lru_cache(maxsize=4096)
def _layer(organism: str, zoo: Path) -> int | None:
    """On which layer an organism of the zoo is run; None: it is not there, or damaged."""
    with contextlib.suppress(DiffbenchError):
        return load_card(organism, zoo).layer if _is_built(organism, zoo) else None


def _is_built(organism: str, zoo: Path) -> bool:
    return registry.WHOLE.fullmatch(organism) is not None and (zoo / organism / CARD).is_file()


def _yaml(value: object) -> str:
    """A value as `--set` reads it."""
    if isinstance(value, str):
        with contextlib.suppress(DiffbenchError):
            if load_yaml(value, "") == value:
                return value
    return re.sub(r"^(-?\d+)e", r"\1.0e", json.dumps(value))  # YAML reads 1e-05 as a word


def _seeds(cells: Sequence[Cell]) -> set[int]:
    return {c.identity.seeds["method"] for c in cells}
