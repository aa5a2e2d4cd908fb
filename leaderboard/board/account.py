"""What a table says beside its scores: what cells cost, why some have none, and which are missing with the command that makes them."""

import shlex
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ...harness.runs.provenance import ELSEWHERE
from ...methods.registry import is_given
from ..statistics.grid import LABELLED
from ..statistics.labels import PUBLISHED
from ..statistics.rows import CellRow, CostRow, FailureRow, MethodRow, Missing, count
from .cell import Cell

ANCHORS = ("oracle", "random", LABELLED)
"""Rows that a table is read against: its one, its zero, and what decides which organisms count."""
OUT = "runs"


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
    for label, of in rows.items():
        there = {r.organism: _seeds([c for c in r.cells if c.status != "not_run"]) for r in of}
        every = {s for r in of for s in _seeds(r.cells)}
        example = next(c for r in of for c in r.cells)
        for row in of:
            if row.counts.get("not_run") and (absent := tuple(sorted(every - there[row.organism]))):
                asks = (_options(label, example), absent, "no headline without")
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


def command_of(label: str, cell: Cell) -> str:
    """The command that makes the record of one cell again; `label` is that of its row."""
    made = {_called(cell): [cell.identity.organism]}
    return next(_lines((_options(label, cell), (cell.identity.seeds["method"],), ""), made))[0]


def _called(cell: Cell) -> str:
    """How a command names the method of a cell."""
    i = cell.identity
    if is_given(i.method_version):
        return f"bench score {shlex.quote(i.method + '.safetensors')}"
    kind, _, file = cell.made.method_origin.partition(" ")
    return f"-m {shlex.quote(file if kind == 'file' and file != ELSEWHERE else i.method)}"


def _options(label: str, cell: Cell) -> str:
    """Options that tell a row from others of its method, as the command takes them."""
    i = cell.identity
    told = [o.partition("=")[0].strip() for o in label.partition("[")[2].rstrip("]").split(",")] if "[" in label else []
    told += list(PUBLISHED[i.method]) if label.startswith(f"{i.method}@") else []
    sets = [f" --set {shlex.quote(f'{i.method}.{name}={i.config[name]}')}" for name in told if name in i.config]
    tokens = f" --tokens {i.budget['tokens']:.0f}" if "budget.tokens" in told else ""
    return "".join(sets) + tokens


def _seeds(cells: Sequence[Cell]) -> set[int]:
    return {c.identity.seeds["method"] for c in cells}
