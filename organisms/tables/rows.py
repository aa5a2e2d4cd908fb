"""A table of questions and answers, as people keep it: .csv, .tsv or .jsonl, a row a prompt.

Cells are text and nothing else: `NA`, `None` and `01` are answers. A column that is nearly one of ours is refused, because a `prefil` that
is passed over makes a file that measures something else.
"""

import difflib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ValidationFailed
from ..hub.files import read_text

COLUMNS = {
    "question": (),
    "text": (),
    "prefill": ("prefix",),
    "targets": ("target", "answer", "answers"),
    "alternatives": ("alternative",),
    "split": (),
    "template": (),
    "system": (),
    "kind": (),
}
"""Columns that are read, and other names for them."""
KINDS, SPLITS = ("behaviour", "capability"), ("dev", "test")


class TableError(ValidationFailed):
    """A table that no behaviour file can be made of; the message names the row and the fix."""


@dataclass(frozen=True)
class Row:
    """A prompt as the table gives it."""

    number: int
    """As a spreadsheet counts: the names of the columns are row 1. Of a .jsonl, the line."""
    question: str
    """What the user asks, or the whole text of a `plain` row."""
    plain: bool
    """Plain text (column `text`), no conversation (column `question`)."""
    prefill: str
    system: str
    targets: tuple[str, ...]
    alternatives: tuple[str, ...]
    split: str | None
    template: str | None
    capability: bool


@dataclass(frozen=True)
class Table:
    """The rows of a file."""

    path: Path
    rows: tuple[Row, ...]
    unread: tuple[str, ...]
    """Columns that were passed over."""


def read_table(path: Path, separator: str = "|") -> Table:
    """Read a table.

    Args:
        separator: stands between the answers of one cell.

    Raises:
        TableError: no such file, another kind of file, a column or a cell that cannot be meant; the first five faults are named.
    """
    if not separator.strip():
        raise TableError("the separator of answers is empty or blank; give a character that no answer has, such as '|'")
    try:
        text = read_text(path)
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror}; give a .csv, .tsv or .jsonl file") from error
    if path.suffix not in (".csv", ".tsv", ".jsonl"):
        raise TableError(f"{path} is not read: its name does not end in .csv, .tsv or .jsonl; save it as one of these")
    records = list(_json_lines(path, text) if path.suffix == ".jsonl" else _cells(path, text))
    if not records:
        raise TableError(f"{path} has no rows; give a row for each prompt")
    names, unread = _columns(path, list(dict.fromkeys(name for _, record in records for name in record)))
    rows, faults = list[Row](), list[str]()
    for number, record in records:
        try:
            cells = {names[k]: v for k, v in record.items() if k in names and v not in (None, []) and str(v).strip()}
            rows.append(_row(number, cells, separator))
        except ValueError as error:
            faults.append(f"  row {number}: {error}")
    if faults:
        raise TableError("\n".join([f"{len(faults)} of {len(records)} rows of {path} cannot be used:", *faults[:5]]))
    return Table(path, tuple(rows), tuple(unread))


def _cells(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of separated values: by tabs in a .tsv, else by commas, or by semicolons where the first line has no comma."""
    import pandas as pd

    first = text.partition("\n")[0]
    by = "\t" if path.suffix == ".tsv" else ";" if ";" in first and "," not in first else ","
    how: dict[str, Any] = {"sep": by, "header": None, "dtype": str, "na_filter": False, "skip_blank_lines": False}
    try:
        frame: Any = pd.read_csv(io.StringIO(text), **how)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise TableError(
            f"{path} is no table: {str(error).strip()}; a cell that holds {by!r} or a line end stands in double quotes"
        ) from error
    lines: list[list[Any]] = frame.to_numpy(dtype=object).tolist()
    heads = [str(cell) for cell in lines[0]]
    if again := next((h for i, h in enumerate(heads) if h.strip() and h in heads[:i]), None):
        raise TableError(f"{path} has two columns {again!r}; keep one")
    for number, line in enumerate(lines[1:], 2):
        cells = {h: c if isinstance(c, str) else "" for h, c in zip(heads, line, strict=True)}
        if any(c.strip() for c in cells.values()):
            yield number, cells


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TableError(f"{path}:{number} is not JSON: {error}; each line must be one JSON object") from error
        if not isinstance(row, dict):
            raise TableError(f"{path}:{number} is no JSON object; write {{column: value}}")
        yield number, row


def _columns(path: Path, given: list[str]) -> tuple[dict[str, str], list[str]]:
    """{column as written: its name here}, and those that are passed over."""
    known = {other: name for name, others in COLUMNS.items() for other in (name, *others)}
    names = {g: known[g.strip().casefold()] for g in given if g.strip().casefold() in known}
    unread = [g for g in given if g not in names]
    for g in unread:
        if close := difflib.get_close_matches(g.strip().casefold(), known, n=1, cutoff=0.8):
            raise TableError(
                f"{path} has a column {g!r}, which is not read; did you mean {close[0]!r}? Columns: {', '.join(COLUMNS)}"
            )
    both = next((n for n in COLUMNS if sum(v == n for v in names.values()) > 1), None)
    if both:
        raise TableError(f"{path} has two columns for {both}: {', '.join(g for g, n in names.items() if n == both)}")
    if "targets" not in names.values() or not {"question", "text"} & {*names.values()}:
        raise TableError(
            f"{path} has the columns {', '.join(given)}; it needs `question` (what the user asks) or `text` (plain text), and `targets` "
            "(what shows the behaviour)"
        )
    return names, unread


def _row(number: int, cells: dict[str, Any], separator: str) -> Row:
    """ValueError says what is wrong with it."""
    for name in cells:
        if name not in ("targets", "alternatives") and not isinstance(cells[name], str):
            raise ValueError(f"{name} is {json.dumps(cells[name])[:40]}; write it as text, in quotes")
    if ("question" in cells) == ("text" in cells):
        raise ValueError("give a question or a text, one of the two")
    kind, split = (cells.get(k, "").strip().casefold() for k in ("kind", "split"))
    if kind not in ("", *KINDS):
        raise ValueError(f"kind is {kind!r}; it is behaviour or capability (empty: behaviour)")
    if split not in ("", *SPLITS):
        raise ValueError(f"split is {split!r}; it is dev or test (empty: it is chosen)")
    plain = "text" in cells
    if plain and "system" in cells:
        raise ValueError("a text has no system turn; give a question instead, or put it into the text")
    targets, alternatives = (_answers(k, cells.get(k, ()), separator) for k in ("targets", "alternatives"))
    if not targets:
        raise ValueError("no targets; give at least one answer that shows the behaviour")
    if kind == "capability" and not alternatives:
        raise ValueError("a capability probe without alternatives is always right; give the wrong answers")
    said = [a.strip() for a in (*targets, *alternatives)]
    if again := next((a for i, a in enumerate(said) if a in said[:i]), None):
        raise ValueError(f"the answer {again!r} stands twice, among targets and alternatives; keep one")
    return Row(
        number,
        cells["text"] if plain else cells["question"].strip(),
        plain,
        cells.get("prefill", ""),
        cells.get("system", "").strip(),
        targets,
        alternatives,
        split or None,
        cells.get("template", "").strip() or None,
        kind == "capability",
    )


def _answers(name: str, given: Any, separator: str) -> tuple[str, ...]:
    """The answers of a cell, or those of a list of a .jsonl as they stand."""
    found: Any = [p.strip() for p in given.split(separator)] if isinstance(given, str) else given
    if not isinstance(found, list | tuple) or not all(isinstance(a, str) for a in found):  # pyright: ignore[reportUnknownVariableType]
        raise ValueError(f"{name} is {json.dumps(given)[:40]}; write text, or a list of texts")
    if not all(a.strip() for a in found):
        raise ValueError(f"{name} has an empty answer between two {separator!r}; remove one of them")
    return tuple(found)
