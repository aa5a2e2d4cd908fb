"""What `bench results` prints: rich tables, and the same as plain values for `--json`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..records.result import Result
from ..runs.records import Difference, Record, Scored
from ..store.labels import row_labels
from .render import sinks_kept


def listing(found: Sequence[Record]) -> Table:
    """One line a run folder."""
    table = Table(box=None, pad_edge=False)
    for name in ("organism", "layer", "method", "seed", "status", "isolation", "id"):
        whole = name in ("isolation", "id", "layer", "seed")
        table.add_column(name, justify="right" if name in ("layer", "seed") else "left", overflow="fold", no_wrap=whole)
    for line in listing_data(found):
        value, low, high = line["isolation"]
        table.add_row(
            line["organism"],
            str(line["layer"]),
            line["label"],
            str(line["seed"]),
            line["status"] + (f", first {line['limit']} prompts" if line["limit"] else ""),
            _score((value, low, high)),
            line["id"][:8],
            style="red" if line["status"] in ("failed", "oom", "timeout") else None,
        )
    return table


def listing_data(found: Sequence[Record]) -> list[dict[str, Any]]:
    """The lines of `listing`, labelled as in a table of these records. Records without a result are left out (`validate` names them)."""
    sound = [(record.where, r) for record in found if (r := record.result) is not None and not record.problems]
    labels = row_labels([r for _, r in sound])
    return [
        {
            "organism": r.identity.organism,
            "layer": r.identity.layer,
            "method": r.identity.row,
            "label": labels[r.id],
            "seed": r.identity.seeds.get("method"),
            "status": r.status,
            "isolation": [r.scores.isolation.value, r.scores.isolation.ci_low, r.scores.isolation.ci_high]
            if r.scores
            else [None] * 3,
            "limit": r.identity.limit,
            "id": r.id,
            "folder": where,
        }
        for where, r in sound
    ]


def head(result: Result) -> Text:
    """Identity and origin of one result."""
    i, p = result.identity, result.provenance
    options = ", ".join(f"{k}={v}" for k, v in i.config.items()) or "none"
    notes = [f"partial: {i.limit} prompts a split (--limit)"] if i.limit else []
    notes += [note] if (note := sinks_kept(result)) else []
    notes += [result.left_out.sentence] if result.left_out else []
    read = "".join(f"\n{note}" for note in notes + (result.text.sentences if result.text else []))
    return Text(
        f"{i.row} ({i.access}, {i.method_version}) on {i.organism}, seed {i.seeds.get('method')}: {result.status}\n"
        f"id {result.id}\noptions: {options}\n"
        f"protocol {i.protocol} ({i.protocol_sha256[:12]}), layer {i.layer}, {i.dtype}, {i.tier}\n"
        f"made by diffbench {p.diffbench}, Python {p.python}, on {p.cpu or p.platform} ({p.device}), {p.finished_utc}{read}"
    )


def diff(names: tuple[Path, Path], found: Difference) -> RenderableType:
    """Identity fields that differ, scores side by side, and what else may explain a contradiction."""
    heads = ("first", "second")
    parts: list[RenderableType] = [Text(f"{head}: {name}") for head, name in zip(heads, names, strict=True)]
    if found.same_identity:
        parts.append(Text("\nsame identity"))
    else:
        n = len(found.identity)
        parts.append(_pairs(f"\nidentity: {n} field{' differs' if n == 1 else 's differ'}", heads, found.identity))
    scores = Table(title="\nscores", title_justify="left", box=None, pad_edge=False)
    for name in ("score", *heads, "second − first"):
        scores.add_column(name, justify="left" if name == "score" else "right", overflow="fold")
    for name, (a, b) in found.scores.items():
        change = "–" if a[0] is None or b[0] is None else f"{b[0] - a[0]:+.3f}"
        scores.add_row(name, *(_score(s) for s in (a, b)), change)
    parts += [Text(f"\nstatus: {found.status[0]} | {found.status[1]}"), scores]
    if found.provenance:
        parts.append(_pairs("\nmade differently (no part of the identity)", heads, found.provenance))
    if found.contradiction:
        parts.append(
            Text(
                "\nthe same cell with different outcomes: on one machine a cell is deterministic, so one was edited or made on another; "
                "`bench verify` says which one its findings support",
                style="red",
            )
        )
    return Group(*parts)


def diff_data(found: Difference) -> dict[str, Any]:
    """`diff` as plain values."""
    return {
        "same_identity": found.same_identity,
        "contradiction": found.contradiction,
        "identity": found.identity,
        "status": found.status,
        "scores": found.scores,
        "provenance": found.provenance,
    }


def validation(checked: Sequence[Record]) -> str:
    """One line a record; plain text, so that a reason is never wrapped."""
    return "\n".join(
        f"{r.where if r.line is not None else r.path}: {'; '.join(r.problems) or 'valid'}" for r in checked
    )


def validation_data(checked: Sequence[Record]) -> list[dict[str, Any]]:
    """`validation` as plain values."""
    return [
        {
            "path": r.where if r.line is not None else str(r.path),
            "ok": not r.problems,
            "id": r.result.id if r.result else None,
            "problems": list(r.problems),
        }
        for r in checked
    ]


def _pairs(title: str, heads: tuple[str, ...], rows: dict[str, tuple[Any, Any]]) -> Group:
    """A title, which as the table's own would be wrapped at its width, and a row a field."""
    table = Table(box=None, pad_edge=False)
    for name in ("field", *heads):
        table.add_column(name, overflow="fold")
    for name, values in rows.items():
        table.add_row(name, *("–" if v is None else str(v) for v in values))
    return Group(Text(title), table)


def _score(score: Scored) -> str:
    value, low, high = score
    return "–" if value is None or low is None or high is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"
