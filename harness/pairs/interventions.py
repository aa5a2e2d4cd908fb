"""The one intervention seam: edit a residual with findings, constant or gated, at one strength.

A token edited by add or subtract moves by the same distance whatever the findings' scale or number, so scores are invariant
to the scale of a finding, copies of one finding gain nothing, and a random control differs from a finding in direction alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...methods.contract import Finding

Move = Callable[[Tensor], Tensor]
"""Residuals [..., d_model] → where an intervention of strength 1 moves them, the same shape."""
Op = Literal["none", "add", "subtract", "ablate", "patch"]


@dataclass(frozen=True)
class Directions:
    """Unit directions [k, d_model] (zero stays zero) and gates [k, d_model] with thresholds [k] (−inf: always active)."""

    direction: Tensor
    read: Tensor
    threshold: Tensor
    centre: Tensor | None = None
    """[d_model] the base's mean residual on ordinary text, which ablation leaves in place; None: 0."""

    @classmethod
    def of(
        cls, findings: Sequence[Finding], device: torch.device | str = "cpu", centre: Tensor | None = None
    ) -> "Directions":
        """Stack findings as unit vectors; those without a gate are always active."""
        direction = unit(torch.stack([f.direction for f in findings]))
        read = torch.stack([f.gate.read if f.gate else torch.zeros_like(f.direction) for f in findings])
        threshold = torch.tensor([f.gate.threshold if f.gate else -float("inf") for f in findings])
        return cls(direction.to(device), read.to(device), threshold.to(device), centre)

    @classmethod
    def ungated(cls, direction: Tensor, centre: Tensor | None = None) -> "Directions":
        """Unit directions [k, d_model] without gates."""
        return cls(direction, torch.zeros_like(direction), direction.new_full((len(direction),), -float("inf")), centre)

    @cached_property
    def _orthogonal(self) -> tuple[Tensor, list[int]]:
        """Gram–Schmidt of the directions in their order [rank, d_model], and the direction that each comes from; what adds no rank is
        dropped, zeros among it."""
        kept, of = list[Tensor](), list[int]()
        for j, rest in enumerate(self.direction.cpu().double()):
            for q in [*kept, *kept]:  # once more for what rounding left
                rest = rest - (rest @ q) * q
            if float(rest.norm()) > CANCELLED:
                kept.append(rest / rest.norm())
                of.append(j)
        empty = self.direction.new_zeros(0, self.direction.shape[1])
        return torch.stack(kept).to(self.direction) if kept else empty, of

    def basis(self, k: int) -> Tensor:
        """Orthonormal [rank, d_model]: the first k directions, each without what those before it hold."""
        basis, of = self._orthogonal
        return basis[: sum(j < k for j in of)]

    @property
    def gated(self) -> bool:
        """Whether any finding has a gate."""
        return bool(torch.isfinite(self.threshold).any())

    def head(self, k: int) -> "Directions":
        """The first k findings."""
        return Directions(self.direction[:k], self.read[:k], self.threshold[:k], self.centre)

    def under(self, gates: "Directions") -> "Directions":
        """These directions under another set's gates."""
        return Directions(self.direction[: len(gates.direction)], gates.read, gates.threshold, self.centre)


@dataclass(frozen=True)
class Option:
    """One way to intervene: the first k findings, gated or constant, at a strength.

    Strength of add and subtract: multiples of the mean residual norm on ordinary text. Of ablate: the share that is removed.
    """

    op: Op
    k: int
    gated: bool
    strength: float


NOTHING = Option("none", 0, False, 0.0)
CANCELLED = 1e-4
"""Unit directions whose sum is shorter than this cancel: what is left is rounding, and nothing moves."""


def unit(x: Tensor, shortest: float = 0.0) -> Tensor:
    """Rows scaled to length 1; a row no longer than `shortest` becomes zero."""
    norm = x.norm(dim=-1, keepdim=True)
    return torch.where(norm > shortest, x / norm.clamp_min(1e-30), torch.zeros_like(x))


def movement(residual: Tensor, directions: Directions, op: Op, k: int, gated: bool) -> Tensor:
    """Where an option moves residuals [..., d_model], for strength 1: the edit is `residual + coefficient(option) * movement`.

    With active set A_t = {j <= k : read_j · h_t > threshold_j} (all j if constant):
    add / subtract: unit(sum_{j in A_t} d_j), the zero vector if A_t is empty or its directions cancel;
    ablate: sum_j max(0, q_j · (h_t - c)) q_j wherever A_t is not empty, with q_1 … q_k the directions orthogonalised in their order and
    c the base's mean: a finding points from base to fine-tuned, so only what lies beyond the base is taken away.
    """
    d = directions.head(k)
    if not gated:
        if op == "ablate":
            return _beyond(residual, directions, k)
        return unit(d.direction.sum(0), CANCELLED).expand_as(residual)
    active = (residual @ d.read.T > d.threshold).to(residual.dtype)  # [..., k]
    if op == "ablate":
        return active.amax(-1, keepdim=True) * _beyond(residual, directions, k)
    return unit(active @ d.direction, CANCELLED)


def coefficient(option: Option, scale: float) -> float:
    """Signed length of the move; `scale` is the mean residual norm."""
    return {"none": 0.0, "add": scale, "subtract": -scale, "ablate": -1.0, "patch": 0.0}[option.op] * option.strength


class Edits(NamedTuple):
    """Several interventions, as what the residuals are moved by: several strengths of one movement share it."""

    moves: list[Move]
    which: list[int]
    """[edits] the movement of each."""
    lengths: list[float]
    """[edits] signed length of each move."""


def edits(chosen: Sequence[Option], directions: Directions, scale: float) -> Edits:
    """The edits that options mean; `scale` is the mean residual norm."""
    kinds = list(dict.fromkeys(replace(o, strength=1.0) for o in chosen))
    moves: list[Move] = [partial(movement, directions=directions, op=o.op, k=o.k, gated=o.gated) for o in kinds]
    which = [kinds.index(replace(o, strength=1.0)) for o in chosen]
    return Edits(moves, which, [coefficient(o, scale) for o in chosen])


def joined(several: Sequence[Edits]) -> Edits:
    """Edits one behind the other."""
    begins = accumulate([0, *(len(e.moves) for e in several)])
    which = [begin + i for begin, e in zip(begins, several, strict=False) for i in e.which]
    return Edits([m for e in several for m in e.moves], which, [x for e in several for x in e.lengths])


def _beyond(residual: Tensor, directions: Directions, k: int) -> Tensor:
    """The parts of residuals along the first k directions, orthogonalised, that lie beyond the centre."""
    basis = directions.basis(k)
    centred = residual if directions.centre is None else residual - directions.centre.to(residual)
    return (centred @ basis.T).clamp_min(0) @ basis


def span(directions: Tensor) -> Tensor:
    """Orthonormal basis [d_model, rank] of directions [k, d_model]; those that add no rank are dropped, zeros among them."""
    u, s, _ = torch.linalg.svd(directions.T, full_matrices=False)
    return u[:, s > 1e-4 * s.max()]


def kinds(side: str, directions: Directions, ks: Sequence[int], gated: bool) -> Iterator[Option]:
    """Ways to intervene on one side, at strength 1: `sufficiency` adds to the base, `necessity` subtracts from or ablates in the
    organism. Gated ones where there are gates."""
    for k in sorted({min(k, len(directions.direction)) for k in ks}):
        if not gated or directions.head(k).gated:
            for op in OPS[side]:
                yield Option(op, k, gated, 1.0)


OPS: dict[str, tuple[Op, ...]] = {"sufficiency": ("add",), "necessity": ("subtract", "ablate")}
"""What is done on each side."""
