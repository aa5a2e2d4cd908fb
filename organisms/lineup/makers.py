"""How line-ups are made, by base."""

from .pairs import BASES
from .train import EMBEDDED, Maker


def maker(base: str) -> Maker:
    """How line-ups on a base are made, one of `pairs.SHORT`."""
    if base in BASES:
        return EMBEDDED
    from .real import REAL

    return REAL
