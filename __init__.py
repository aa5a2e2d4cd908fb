"""diffbench: a benchmark of model-diffing methods. The command is `bench`; `import diffbench as db` gives the same functions.

Importing this package imports nothing heavy: a function of `api.py` is loaded when it is first asked for.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import list_methods, list_organisms, load_pair, own_pair, plot, run, score, table
    from .methods.contract import DiffResult, Finding, Gate

__version__ = version("diffbench")
__all__ = [
    "DiffResult",
    "Finding",
    "Gate",
    "list_methods",
    "list_organisms",
    "load_pair",
    "own_pair",
    "plot",
    "run",
    "score",
    "table",
]
_CONTRACT = ("DiffResult", "Finding", "Gate")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'diffbench' has no attribute {name!r}")
    if name in _CONTRACT:
        from .methods import contract

        return getattr(contract, name)
    from . import api

    return getattr(api, name)
