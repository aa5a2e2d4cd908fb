"""How many tokens each group of rows gave, kept on disk, so that a reading that was killed passes over them without a model.

The idea: which positions of a row count is known only after both models ran (an outlier is told by its residual), so a place in a
text cannot be found by counting rows. What a reading found is therefore written down as it goes: a line for each window of rows
taken, a line for each group run. A line that is cut off by a kill is not there.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any


@dataclass
class Window:
    """Some rows that were taken together."""

    rows: int
    """Rows that taking them passed over, skipped ones among them."""
    whole: bool = False
    """Whether all of its groups were run."""
    groups: list[tuple[int, dict[str, Any]]] = field(default_factory=list[tuple[int, dict[str, Any]]])
    """For each group run: tokens it gave, and what was left out of it."""

    @property
    def tokens(self) -> int:
        """Tokens of its groups."""
        return sum(kept for kept, _ in self.groups)


class Marks:
    """One file for one way of reading a text.

    Args:
        path: the file; None: nothing is kept.
    """

    def __init__(self, path: Path | None):
        self.windows = list[Window]()
        self._at = -1
        self._file: IO[str] | None = None
        if path is None:
            return
        good = self._load(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        self._file.truncate(good)

    def _load(self, path: Path) -> int:
        """Read the lines that are whole; their length in bytes."""
        length = 0
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except OSError:
            return 0
        for line in lines:
            try:
                kind, *values = json.loads(line)
                if not line.endswith(b"\n"):
                    break
                self._apply(kind, values)
            except (ValueError, TypeError, IndexError):
                break
            length += len(line)
        return length

    def _apply(self, kind: str, values: list[Any]) -> None:
        if kind == "window":
            self.windows.append(Window(int(values[0])))
        elif kind == "group":
            self.windows[-1].groups.append((int(values[0]), dict(values[1])))
        else:
            self.windows[-1].whole = True

    def add(self, kind: str, *values: Any) -> None:
        """Write down a `window` (rows), a `group` (tokens, what was left out) or the `end` of a window."""
        self._apply(kind, list(values))
        if self._file is not None:
            try:
                self._file.write(json.dumps([kind, *values]) + "\n")
                self._file.flush()
            except OSError:  # a full disk: the reading goes on without marks
                self._file = None

    def before(self, token: int) -> Iterator[Window]:
        """The windows that end before a token of the text."""
        for window in self.windows:
            if not window.whole or (token := token - window.tokens) < 0:
                return
            yield window

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class Counted(Iterator[list[int]]):
    """Rows, and how many were taken."""

    def __init__(self, rows: Iterator[list[int]]):
        self._rows, self.taken = rows, 0

    def __next__(self) -> list[int]:
        row = next(self._rows)
        self.taken += 1
        return row
