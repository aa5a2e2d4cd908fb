"""Simulated prompts in templates, of which the score on unlimited prompts and controls is known.

A prompt has a lower and a higher rate; an edit moves the lower towards the higher by a share of the gap (sufficiency) or
the higher towards the lower (necessity), and overshoot loses, as in the protocol. What differs between prompts is normal
with a part common to the template: `icc` of the variance. A ratio of means over prompts has the same limit whatever
belongs together, so the truth is computed on a million prompts without templates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from diffbench.harness.protocol.bootstrap import signed_isolation
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]
Index = NDArray[np.intp]
SIDES = ("sufficiency", "necessity")
SCORES = ("R", "S", "N", "isolation")
METHOD_SPREAD = 0.35
"""Standard deviation, over prompts, of the share of the gap that a method's edit moves."""
ORACLE, ORACLE_SPREAD = 0.9, 0.1
CONTROL, CONTROL_SPREAD, CONTROL_PROMPT_SPREAD = 0.03, 0.08, 0.1
"""Random controls: mean share moved, spread between controls (16 then give the null a standard error of .02), spread over prompts."""
UNLIMITED = 2**20


@dataclass(frozen=True)
class Layout:
    """How prompts and controls are laid out."""

    templates: int
    sizes: tuple[int, int]
    """Prompts of the smallest and of the largest template; sizes go round between them."""
    icc: float
    controls: int = 16

    @property
    def template(self) -> Index:
        """[prompts] template of each."""
        low, high = self.sizes
        return np.repeat(np.arange(self.templates), low + np.arange(self.templates) % (high - low + 1))

    def scatter(self, rng: np.random.Generator, *shape: int) -> Array:
        """Standard normal [*shape, prompts], correlated within templates."""
        template = self.template
        common, own = rng.standard_normal((*shape, self.templates)), rng.standard_normal((*shape, len(template)))
        return self.icc**0.5 * common[..., template] + (1 - self.icc) ** 0.5 * own


class Organism(NamedTuple):
    """What all methods share: prompts, oracle and controls. Leading axis: repetitions."""

    gap: Array
    """[reps, prompts]"""
    room: Mapping[str, Array]
    """[reps, prompts] beyond the other model's rate, by side: how far an edit can overshoot."""
    null: Mapping[str, Array]
    """[reps, prompts] effect, mean over controls."""
    null_controls: Mapping[str, Array]
    """[reps, controls] R of each."""
    oracle: Mapping[str, Array]
    """[reps, prompts] effect."""


def gaps(z_gap: Array, z_low: Array) -> tuple[Array, Array]:
    """Gap, at least .1 as of every scored prompt, and the lower rate."""
    gap = 0.1 + 0.9 * ndtr(0.3 + z_gap)
    return gap, (1 - gap) * ndtr(z_low)


def effects(gap: Array, room: Array, moved: Array) -> Array:
    """g − d of an edit that moves the rate by a share of the gap; rates stay in [0, 1], so it overshoots by at most `room`."""
    missing = np.maximum((1 - moved) * gap, -room)  # below 0: overshoot
    start = 1 - gap - room  # what an edit the wrong way can lose
    return gap - np.abs(np.minimum(missing, gap + start))


def organism(rng: np.random.Generator, reps: int, layout: Layout) -> Organism:
    """Many repetitions of one organism's prompts, oracle and controls."""
    gap, low = gaps(layout.scatter(rng, reps), layout.scatter(rng, reps))
    room = {"sufficiency": 1 - gap - low, "necessity": low}
    null, null_controls, oracle = dict[str, Array](), dict[str, Array](), dict[str, Array]()
    for side in SIDES:
        null[side], own = np.zeros_like(gap), list[Array]()
        for _ in range(layout.controls):
            strength = CONTROL + CONTROL_SPREAD * rng.standard_normal((reps, 1))
            moved = strength + CONTROL_PROMPT_SPREAD * layout.scatter(rng, reps)
            effect = effects(gap, room[side], moved)
            null[side] += effect / layout.controls
            own.append(effect.sum(-1) / gap.sum(-1))
        null_controls[side] = np.stack(own, axis=-1)
        oracle[side] = effects(gap, room[side], ORACLE + ORACLE_SPREAD * layout.scatter(rng, reps))
    return Organism(gap, room, null, null_controls, oracle)


def scores(o: Organism, effect: Mapping[str, Array], prompts: Array, controls: Array) -> dict[str, Array]:
    """Scores [reps, draws] under weights over prompts [draws, prompts] and controls [draws, controls], by the protocol's formulas.

    `R` is sufficiency's; isolation is signed.
    """
    gap = o.gap @ prompts.T
    found = dict[str, Array]()
    for name, side in zip("SN", SIDES, strict=True):
        apart = o.null_controls[side] - o.null_controls[side].mean(-1, keepdims=True)
        zero = np.maximum((o.null[side] @ prompts.T) / gap + apart @ controls.T, 0)
        r = (effect[side] @ prompts.T) / gap
        found.setdefault("R", r)
        found[name] = (r - zero) / ((o.oracle[side] @ prompts.T) / gap - zero)
    return found | {"isolation": signed_isolation(found["S"], found["N"])}


class Truth:
    """Scores on unlimited prompts and controls, as functions of the share of the gap that a method moves on average."""

    def __init__(self) -> None:
        z = np.random.default_rng(0).standard_normal((3, UNLIMITED // 2))
        z_gap, z_low, self._z = np.concatenate([z, -z], axis=1)
        self._gap, self._room = gaps(z_gap, z_low)
        self._moved = np.linspace(-1.5, 3, 91)
        self._reached = np.array([self.closeness(m, METHOD_SPREAD) for m in self._moved])
        self._null = self.closeness(CONTROL, float(np.hypot(CONTROL_SPREAD, CONTROL_PROMPT_SPREAD)))
        self._oracle = self.closeness(ORACLE, ORACLE_SPREAD)

    def closeness(self, moved: float, spread: float) -> float:
        """R, the same on both sides because lower and higher rates mirror each other."""
        return float(effects(self._gap, self._room, moved + spread * self._z).sum() / self._gap.sum())

    def score(self, moved: Any) -> Array:
        """S or N of methods that move these shares, of any shape."""
        r = np.interp(moved, self._moved, self._reached)
        return (r - max(0.0, self._null)) / (self._oracle - max(0.0, self._null))

    def isolation(self, moved: Any) -> Array:
        """Of methods that move [sides, …]."""
        return np.maximum(signed_isolation(*map(self.score, moved)), 0)

    def of(self, sufficiency: float, necessity: float) -> dict[str, float]:
        """All scores of a method that moves these shares."""
        s, n = self.score(sufficiency), self.score(necessity)
        reached = float(np.interp(sufficiency, self._moved, self._reached))
        return {
            "R": reached,
            "S": float(s),
            "N": float(n),
            "isolation": float(self.isolation([sufficiency, necessity])),
        }
