"""One build of the board in a process of its own, for `benchmarks.board`: `python -m benchmarks.board_build FOLDER FORMATS`."""

import sys
from pathlib import Path

from .board import one_build

if __name__ == "__main__":
    one_build(Path(sys.argv[1]), sys.argv[2])
