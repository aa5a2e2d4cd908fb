"""Speed of what diffbench does, each against the formulation it replaces. Scripts, run from the repository's root; not installed.

Where diffbench itself is not installed either, as on a machine that is rented for an hour, the checkout stands in for it.
"""

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

if find_spec("diffbench") is None:
    _root, _here = Path(__file__).resolve().parent.parent, Path(tempfile.mkdtemp(prefix="diffbench-"))
    (_here / "diffbench").symlink_to(_root)  # as `package-dir` in pyproject.toml has it
    (_here / "diffbench-0.dist-info").mkdir()
    (_here / "diffbench-0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: diffbench\nVersion: 0\n")
    sys.path.insert(0, str(_here))
