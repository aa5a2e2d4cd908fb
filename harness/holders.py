"""Files that hold records and are read by a higher room: by the ending of their name, who reads them.

A reader is added where it lives (`holders[ENDING] = read`), so that what takes a run folder or a pack takes such a file too.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .runs.records import Record

holders: "dict[str, Callable[[Path], Iterable[Record]]]" = {}
"""Ending → reader of the records in one file, each checked; it raises a DiffbenchError of its own for a file that is refused."""
