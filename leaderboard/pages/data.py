"""A table as plain values: JSON, and three sheets for a spreadsheet or a data frame (methods, organisms, records).

Full precision everywhere. In CSV a text that a spreadsheet would take for a formula has an apostrophe before it; Parquet needs none.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

from ...harness.escape import csv_field
from ..board.cell import NUMBERS, Cell
from ..board.resolve import RULE
from ..statistics.contrasts import CONTROL, SIMPLE
from ..statistics.finding_measures import KS
from ..statistics.rows import CellRow, Estimate, MethodRow, Table
from .legend import COLUMNS, not_counted, notes_of
from .verdicts import TITLES, verdicts, verdicts_data

ORGANISMS, CELLS = "-organisms", "-cells"
"""What the files of the second and the third sheet end with; the headline has the plain name."""
ENDS = ("", "_low", "_high")


class Sheet(NamedTuple):
    """One table of plain values, a tuple a line."""

    heads: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]

    def csv(self) -> str:
        """As text, formulas disarmed; None is empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.heads)
        writer.writerows(map(csv_field, row) for row in self.rows)
        return out.getvalue()

    def frame(self) -> pd.DataFrame:
        """As a data frame."""
        return pd.DataFrame.from_records(list(self.rows), columns=list(self.heads)).infer_objects()


def sheets(
    table: Table, methods: Sequence[MethodRow] | None = None, cells: Sequence[CellRow] | None = None
) -> dict[str, Sheet]:
    """The three sheets, by what their file's name ends with; some rows only, where they are given: their numbers are the table's."""
    rows = table.cells if cells is None else cells
    return {
        "": headline(table, table.overall if methods is None else methods),
        ORGANISMS: by_organism(table, rows),
        CELLS: by_cell(table, rows),
    }


def to_csv(table: Table) -> dict[str, str]:
    """`sheets` as text."""
    return {name: sheet.csv() for name, sheet in sheets(table).items()}


def headline(table: Table, rows: Sequence[MethodRow]) -> Sheet:
    """A line a method: ranks, scores, contrasts, what is measured of its findings, cost, and what the table stands on."""
    return _sheet([_method(table, row) for row in rows], table)


def by_organism(table: Table, rows: Sequence[CellRow]) -> Sheet:
    """A line for each organism and method; on nulls the share of false discoveries."""
    return _sheet([row.columns() for row in rows], table)


def by_cell(table: Table, rows: Sequence[CellRow]) -> Sheet:
    """A line a record: identity, scores with intervals and anchors, findings, cost, and who made it."""
    return _sheet([_record(c, row.method) for row in rows for c in row.cells], table)


def to_json(table: Table, methods: Sequence[MethodRow] | None = None, cells: Sequence[CellRow] | None = None) -> str:
    """Everything a page says, as one object, of some rows where they are given; there is no NaN in it."""
    data = {
        "header": table.header,
        "notes": notes_of(table),
        "columns": dict(COLUMNS),
        "basis": _basis(table) | {"organisms": table.organisms, "inapplicable": table.inapplicable},
        "counted": {score: list(names) for score, names in table.counted.items()},
        "not_counted": [dict(zip(("organism", "scores", "why"), line, strict=True)) for line in not_counted(table)],
        "methods": [_method(table, row) for row in (table.overall if methods is None else methods)],
        "verdicts": verdicts_data(table),
        "organisms": [
            row.columns() | {"cells": [c.id for c in row.cells]} for row in (table.cells if cells is None else cells)
        ],
        "anchors": [asdict(row) | {"mixture_score": row.mixture_score} for row in table.anchors],
        "failures": [asdict(row) for row in table.failures],
        "missing": [asdict(row) for row in table.missing],
        "set_aside": [asdict(row) for row in table.set_aside],
        "rule": RULE,
        "problems": [asdict(row) for row in table.problems],
    }
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _sheet(lines: Sequence[Mapping[str, Any]], table: Table) -> Sheet:
    heads = dict.fromkeys(name for line in lines for name in line)
    basis = _basis(table)
    rows = [(*(line.get(name) for name in heads), *basis.values()) for line in lines]
    return Sheet((*heads, *basis), rows)


def _basis(table: Table) -> dict[str, Any]:
    return {
        "protocol": table.protocol,
        "protocol_sha256": table.protocol_sha256,
        "organism_set": table.organism_set,
        "sorted_by": table.key,
        "bootstrap_draws": table.draws,
        "bootstrap_seed": table.seed,
    }


def _method(table: Table, row: MethodRow) -> dict[str, Any]:
    line = row.columns() | dict(_contrasts(table, row.method))
    found = next((f for f in table.finding_measures if f.method == row.method), None)
    measured = {"false_discovery": found and found.false_discovery}
    for what in ("located", "identified"):
        measured |= {f"{what}_{k}": found and getattr(found, what)[i] for i, k in enumerate(KS)}
    for name, estimate in measured.items():
        line |= {name + end: x for end, x in zip(ENDS, estimate or Estimate(), strict=True)}
    line |= {"findings_tested": found and found.findings, "nulls": found and found.nulls}
    line |= {"nulls_failed": found and found.nulls_failed}
    cost = next((c for c in table.costs if c.method == row.method), None)
    for name in ("cpu_s", "tokens", "peak_rss_bytes", "peak_vram_bytes"):
        line[name] = getattr(cost, name) if cost else None
    return line


def _contrasts(table: Table, method: str) -> Iterator[tuple[str, Any]]:
    """What the two lists of baselines say of a method; empty where it was not asked."""
    asked = {each.title: each for each in verdicts(table).lists}
    for baseline in (CONTROL, SIMPLE):
        each = asked.get(TITLES[f"against {baseline}"])
        o = next((o for o in each.outcomes if o.contrast.method == method), None) if each else None
        lead = f"against_{baseline}"
        yield f"{lead}_verdict", o and o.verdict
        for end, x in zip(ENDS, o.difference if o else Estimate(), strict=True):
            yield f"{lead}{end}", x
        yield f"{lead}_p", o.p if o else None
        yield f"{lead}_p_holm", o.p_holm if o else None


def _record(c: Cell, label: str) -> dict[str, Any]:
    i, f, cost, made = c.identity, c.false_discovery, c.cost, c.made
    line: dict[str, Any] = {
        "organism": i.organism,
        "method": label,
        "seed": i.seeds["method"],
        "status": c.status,
        "id": c.id,
        "reason": c.reason,
        "failure": c.failure,
        "access": i.access,
        "tier": i.tier,
        "layer": i.layer,
        "dtype": i.dtype,
        "sinks": i.sinks,
        "method_version": i.method_version,
        "code_sha256": i.code_sha256,
        "organism_sha256": i.organism_sha256,
        "config": json.dumps(i.config, sort_keys=True),
        "budget": json.dumps(i.budget, sort_keys=True),
        "prompts": c.prompts,
        "templates": c.templates,
        "gap": c.gap,
    }
    for score, numbers in c.scores.items():
        line |= {score if name == "value" else f"{score}_{name}": numbers[name] for name in NUMBERS}
    names = ("share", "ci_low", "ci_high", "expected")
    line |= {f"false_discovery_{n}": getattr(f, n) if f else None for n in names}
    for k in KS:
        at = next((x for x in c.localisation.at if x.k == k), None) if c.localisation else None
        line |= {f"located_{k}": at and at.cos, f"located_{k}_p": at and at.p}
        read = next((x for x in c.identification.at if x.k == k), None) if c.identification else None
        line |= {f"identified_{k}": read and read.value, f"identified_{k}_p": read and read.p}
    line |= {"findings": c.findings, "findings_sha256": c.findings_sha256, "first_finding_reads": c.reads_as}
    line |= {n: getattr(cost, n) for n in ("wall_s", "cpu_s", "tokens", "peak_rss_bytes", "peak_vram_bytes")}
    return (
        line
        | {n: getattr(made, n) for n in ("diffbench", "commit", "cpu", "device", "finished_utc")}
        | {"path": c.where}
    )
