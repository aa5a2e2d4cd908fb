"""The one intervention seam: edit a residual with findings, constant or gated, at one strength.

A token edited by add or subtract moves by the same distance whatever the findings' scale or number, so scores are invariant
to the scale of a finding, copies of one finding gain nothing, and a random control differs from a finding in direction alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...methods.contract import Finding

Move = Callable[[Tensor], Tensor]
"""Residuals [..., d_model] → where an intervention of strength 1 moves them, the same shape."""
Op = Literal["none", "add", "subtract", "project", "patch"]


@dataclass(frozen=True)
class Directions:
    """Unit directions [k, d_model] (zero stays zero) and gates [k, d_model] with thresholds [k] (−inf: always active)."""

    direction: Tensor
    read: Tensor
    threshold: Tensor

    @classmethod
    def of(cls, findings: Sequence[Finding], device: torch.device | str = "cpu") -> "Directions":
        """Stack findings as unit vectors; those without a gate are always active."""
        direction = unit(torch.stack([f.direction for f in findings]))
        read = torch.stack([f.gate.read if f.gate else torch.zeros_like(f.direction) for f in findings])
        threshold = torch.tensor([f.gate.threshold if f.gate else -float("inf") for f in findings])
        return cls(direction.to(device), read.to(device), threshold.to(device))

    @property
    def gated(self) -> bool:
        """Whether any finding has a gate."""
        return bool(torch.isfinite(self.threshold).any())

    def head(self, k: int) -> "Directions":
        """The first k findings."""
        return Directions(self.direction[:k], self.read[:k], self.threshold[:k])


@dataclass(frozen=True)
class Option:
    """One way to intervene: the first k findings, gated or constant, at a strength.

    Strength of add and subtract: multiples of the mean residual norm on neutral text. Of project: the share of the
    component along the findings' span that is removed.
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
    project: P h_t wherever A_t is not empty, P the projector on span(d_1 … d_k).
    """
    d = directions.head(k)
    if not gated:
        if op == "project":
            return _project(residual, d.direction)
        return unit(d.direction.sum(0), CANCELLED).expand_as(residual)
    active = (residual @ d.read.T > d.threshold).to(residual.dtype)  # [..., k]
    if op == "project":
        return active.amax(-1, keepdim=True) * _project(residual, d.direction)
    return unit(active @ d.direction, CANCELLED)


def coefficient(option: Option, scale: float) -> float:
    """Signed length of the move; `scale` is the mean residual norm."""
    return {"none": 0.0, "add": scale, "subtract": -scale, "project": -1.0, "patch": 0.0}[option.op] * option.strength


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


def _project(residual: Tensor, direction: Tensor) -> Tensor:
    """Component of residuals in the span of the directions."""
    basis = span(direction)
    return residual @ basis @ basis.T


def span(directions: Tensor) -> Tensor:
    """Orthonormal basis [d_model, rank] of directions [k, d_model]; those that add no rank are dropped, zeros among them."""
    u, s, _ = torch.linalg.svd(directions.T, full_matrices=False)
    return u[:, s > 1e-4 * s.max()]


def options(
    side: str, directions: Directions, ks: Sequence[int], strengths: Sequence[float], shares: Sequence[float]
) -> Iterator[Option]:
    """The whole ladder of one side: `sufficiency` adds to the base, `necessity` subtracts from or projects out of the organism."""
    for k in sorted({min(k, len(directions.direction)) for k in ks}):
        for gated in (False, True) if directions.head(k).gated else (False,):
            if side == "sufficiency":
                yield from (Option("add", k, gated, s) for s in strengths)
            else:
                yield from (Option("subtract", k, gated, s) for s in strengths)
                yield from (Option("project", k, gated, s) for s in shares)
