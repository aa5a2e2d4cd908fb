"""Files that hold records and are read by a higher room: by the ending of their name, who reads them.

A reader is added where it lives (`holders[ENDING] = read`), so that what takes a run folder or a pack takes such a file too.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

holders: dict[str, Callable[[Path], Iterable[Any]]] = {}
"""Ending → reader of the `runs.records.Record`s in one file, each checked; it raises a DiffbenchError for a file that is refused."""
