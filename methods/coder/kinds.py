"""What the rows of a latent may be: free, tied between the models (DSF), or exclusive to one model (DFC).

Rows start as their kind demands and stay so because their gradient is projected: Adam moves equal entries that always had equal
gradients equally, and entries without a gradient not at all. So no step needs a mask or a copy of the weights.

An exclusive latent starts with one of the two rows (as in the public DFC code), so with a quarter of a free latent's score. Starting
it with longer rows was tried on planted features and is worse: it overshoots the model it writes to, and dies.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor

Kind = Literal["free", "tied", "base", "ft"]
"""free: any rows; tied: one decoder row for both models; base, ft: nothing of the other model in encoder or decoder."""


def _runs(kinds: Sequence[tuple[Kind, int]]) -> Iterator[tuple[Kind, slice]]:
    first = 0
    for kind, size in kinds:
        yield kind, slice(first, first + size)
        first += size


def project(rows_NMd: Tensor, kinds: Sequence[tuple[Kind, int]], decoder: bool) -> None:
    """Make rows [N, 2, d], or their gradient, what their kinds allow, in place; only decoder rows are tied."""
    for kind, own in _runs(kinds):
        if kind == "tied" and decoder:
            rows_NMd[own] = rows_NMd[own].mean(1, keepdim=True)
        elif kind in ("base", "ft"):
            rows_NMd[own, 1 if kind == "base" else 0] = 0
