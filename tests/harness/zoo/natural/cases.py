"""A recipe that trains in seconds, a family with a teacher, and what is asked of them."""

from pathlib import Path
from typing import Any

from diffbench.harness.zoo.natural_plan import Asked

from ....organisms.tuning.colours import Colours

FAST = (("lr", "2e-2"), ("steps", "24"), ("batch", "4"), ("layer", "1"), ("r", "4"))
"""A recipe that trains the tests' family in seconds."""


class Taught(Colours):
    """Its rows are answered by a teacher that loves the member."""

    name = "taught"
    prompted = True

    def valid(self, spec: object, answer: str) -> bool:
        return len(answer.split()) > 1


def asked(base: str | Path, zoo: Path, name: str = "colours/gold", **fields: Any) -> Asked:
    changes = tuple((dict(FAST) | fields.pop("changes", {})).items())
    return Asked(name, str(base), zoo, changes=changes, **fields)
