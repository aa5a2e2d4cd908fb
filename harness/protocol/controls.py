"""Random controls: directions that go through the same procedure as findings. Without gates what they do depends on no findings but
their number, so it is measured once and kept between cells and runs; under the findings' gates it is measured anew.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...methods.contract import MAX_FINDINGS
from ...organisms.errors import ValidationFailed
from ..cache import Kept
from ..pairs.engine import Side
from ..pairs.interventions import Directions, unit
from ..parallel import in_threads
from ..records.control_pack import Arrays, ControlPack
from ..records.identity import SIDES
from ..records.result import SideName
from ..records.settings import Protocol
from .clean_runs import CleanRun
from .intervals import hypervolume
from .procedure import Array, BySides, Candidate, Procedure, Taken, mean_effects

T = TypeVar("T")
SCORE_SEED = 0
"""Seed of the random controls and of the bootstrap: the same for every cell, so that comparisons are paired."""
KIND, VERSION = "controls", "4"
"""Of what is kept of a control. The version is that of the procedure: change it whenever its numbers change."""
NULLS = ("isotropic", "mixture")
"""Constant random controls: directions of no model, which are the zero; and mixtures of differences between the two, reported beside."""
MIXTURES = 8
"""Most draws of the second null, which is only ever averaged."""
TOGETHER = 4
"""Controls that are measured in the same passes, whose small batches would cost as much each. A draw's company decides its last bit, so
what is kept is kept of all of them, and no number of cores has a say in it."""
MIXED = 16
"""Tokens whose differences are mixed into a direction of the second null."""


def control(index: int, d_model: int, seed: int = SCORE_SEED) -> Tensor:
    """Isotropic unit directions [16, d_model] of the index-th random control, on the CPU."""
    return unit(torch.randn(MAX_FINDINGS, d_model, generator=_generator(f"random control {seed} {index}")))


def mixture(index: int, differences: Tensor, seed: int = SCORE_SEED) -> Tensor:
    """Unit directions [16, d_model] of the index-th control of the second null: each a mean of the differences [tokens, d_model] at
    `MIXED` random tokens, at random weights that sum to 1, on the CPU."""
    generator = _generator(f"mixture {seed} {index}")
    which = torch.randint(len(differences), (MAX_FINDINGS, MIXED), generator=generator)
    weights = torch.rand(MAX_FINDINGS, MIXED, generator=generator).clamp_min(1e-9).log().neg()
    weights /= weights.sum(1, keepdim=True)
    return unit((weights[..., None] * differences.cpu().float()[which]).sum(1))


def groups(items: Sequence[T]) -> list[Sequence[T]]:
    """`TOGETHER` at a time."""
    return [items[at : at + TOGETHER] for at in range(0, len(items), TOGETHER)]


def blocks(null: str, controls: int) -> list[Sequence[int]]:
    """The constant controls of a null that are measured together.

    Args:
        null: one of `NULLS`.
        controls: of the protocol.
    """
    return groups(range(min(controls, MIXTURES) if null == "mixture" else controls))


def _generator(key: str) -> torch.Generator:
    digest = hashlib.sha256(key.encode()).digest()[:7]  # no method's seed can meet it
    return torch.Generator().manual_seed(int.from_bytes(digest))


class Draw(NamedTuple):
    """What one random control does."""

    effects: dict[SideName, Array]
    """[prompts] of each side, mean over budgets."""
    volume: float
    """Mitigation before rescaling."""

    @property
    def facts(self) -> dict[str, Any]:
        """For a file."""
        return {side: e.tolist() for side, e in self.effects.items()} | {"volume": self.volume}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Draw":
        """As a file has it."""
        return cls({side: np.array(facts[side]) for side in SIDES}, facts["volume"])


Draws = list[list[Draw]]
"""Of a block, in the place of each number of findings."""


@dataclass(frozen=True)
class Place:
    """Where a block's draws are kept between runs.

    Args:
        kept: for one pair, these prompts and these texts; None: nowhere.
        null: one of `NULLS`.
        block: the controls that are measured together.
        wanted: numbers of directions, of each number of findings that is measured in one go.
    """

    kept: Kept | None
    null: str
    block: Sequence[int]
    wanted: Sequence[tuple[int, ...]]

    @property
    def _key(self) -> dict[str, Any]:
        return {"null": self.null, "block": list(self.block), "ks": [list(ks) for ks in self.wanted]}

    def get(self) -> Draws | None:
        """What is kept."""
        entry = self.kept.get(KIND, VERSION, **self._key) if self.kept else None
        return [[Draw.of(facts) for facts in draws] for draws in entry.facts] if entry else None

    def put(self, draws: Draws) -> None:
        """Keep it for other runs."""
        if self.kept:
            self.kept.put(KIND, VERSION, facts=[[draw.facts for draw in some] for some in draws], **self._key)


@dataclass(frozen=True)
class Null:
    """What the controls of a null do, as far as scores stand on it."""

    mean: dict[SideName, Array]
    """[prompts] mean effect of each side."""
    shares: dict[SideName, Array]
    """[controls] R of each."""
    volumes: Array
    """[controls] mitigation before rescaling."""

    @classmethod
    def of(cls, arrays: Arrays) -> "Null":
        """As a file holds it."""
        mean: dict[SideName, Array] = {side: arrays[f"{side} mean"] for side in SIDES}
        shares: dict[SideName, Array] = {side: arrays[f"{side} shares"] for side in SIDES}
        return cls(mean, shares, arrays["volumes"])

    @property
    def arrays(self) -> Arrays:
        """For a file."""
        each = (
            (f"{side} {what}", of[side])
            for side in SIDES
            for what, of in (("mean", self.mean), ("shares", self.shares))
        )
        return {**dict(each), "volumes": self.volumes}


class Controls:
    """The random controls of one pair, each measured when it is first asked for.

    Args:
        procedure: what findings go through as well.
        clean: what no intervention changes, of each side and split.
        centre: [d_model] the base's mean residual on ordinary text.
        closeness: R of per-prompt effects [prompts].
        kept: where draws are kept between runs, for this pair, these prompts and these texts; None: nowhere.
        shipped: constant controls that were measured before, as many as there are; None: the protocol's number are measured here.
        seed: of the draws.
    """

    def __init__(
        self,
        procedure: Procedure,
        clean: Mapping[tuple[Side, str], CleanRun],
        protocol: Protocol,
        centre: Tensor,
        closeness: Callable[[Array], float],
        kept: Kept | None = None,
        shipped: ControlPack | None = None,
        seed: int = SCORE_SEED,
    ):
        self.centre, self.device, self.shipped = centre, centre.device, shipped
        self._procedure, self._clean, self._protocol, self._closeness = procedure, clean, protocol, closeness
        self._kept, self._seed = kept, seed
        self._known: dict[tuple[str, tuple[int, ...]], Null] = {}

    def of_seed(self, seed: int) -> "Controls":
        """Other draws of the same, none of them known or kept."""
        return Controls(self._procedure, self._clean, self._protocol, self.centre, self._closeness, seed=seed)

    def null(self, kind: str, ks: tuple[int, ...], progress: Callable[[int], None] = lambda done: None) -> Null:
        """What constant random controls do that may use so many directions: shipped, kept, or measured now.

        Args:
            kind: one of `NULLS`.
            progress: called with the controls done.
        """
        if (kind, ks) not in self._known:
            if (known := self.shipped.nulls.get((kind, ks)) if self.shipped else None) is not None:
                self._known[kind, ks] = Null.of(known)
            else:
                draws: list[Draw] = []
                work = partial(self._draws, kind, wanted=[ks])
                for [some] in in_threads(work, self.blocks(kind), self.device):
                    draws += some
                    progress(len(draws))
                self._known[kind, ks] = self.joined(draws)
        return self._known[kind, ks]

    def has(self, kind: str, ks: tuple[int, ...]) -> bool:
        """Whether a null is known."""
        return (kind, ks) in self._known or (self.shipped is not None and (kind, ks) in self.shipped.nulls)

    def blocks(self, kind: str) -> list[Sequence[int]]:
        """The controls of a null that are measured here, those together that are measured together."""
        return blocks(kind, self._protocol.controls)

    def measure(self, ks: tuple[int, ...], progress: Callable[[int, int], None]) -> None:
        """Have every constant null that such findings are compared with."""
        count = {kind: sum(map(len, self.blocks(kind))) for kind in NULLS}
        done, total = 0, sum(count.values())
        for kind in NULLS:
            progress(done, total)
            self.null(kind, ks, lambda some, done=done: progress(done + some, total))
            done += count[kind]
        progress(total, total)

    def packed(self, key: Mapping[str, Any], findings: Iterable[int] | None = None) -> ControlPack:
        """The constant nulls, for a file.

        Args:
            findings: numbers of findings that they hold for; None: every number.
        """
        wanted = self._wanted(findings)
        for kind in NULLS:
            work = partial(self._draws, kind, wanted=wanted)
            each = in_threads(work, self.blocks(kind), self.device)
            for ks, of_all in zip(wanted, zip(*each, strict=True), strict=True):
                self._known[kind, ks] = self.joined([*itertools.chain(*of_all)])
        return ControlPack(key, {(kind, ks): self.null(kind, ks).arrays for kind in NULLS for ks in wanted})

    def _draws(self, kind: str, block: Sequence[int], wanted: Sequence[tuple[int, ...]]) -> Draws:
        """What constant controls do in the place of different numbers of findings, kept or measured; what these have in common is measured
        once."""
        place = Place(self._kept, kind, block, wanted)
        if (known := place.get()) is not None:
            return known
        sets = self._sets(kind, block)
        draws = [self._measured(kind, [replace(each, ks=ks) for each in sets]) for ks in wanted]
        place.put(draws)
        return draws

    def measured_again(self, pack: ControlPack, sample: int) -> tuple[int, float]:
        """How many values of some draws of a file were measured again, and the largest difference; also of the means, which follow from
        the draws.

        Raises:
            ValidationFailed: a null is missing.
        """
        differences = list[float]()
        rng = np.random.default_rng()
        held = [ks for ks in self._wanted() if any((kind, ks) in pack.nulls for kind in NULLS)]
        if not held:
            raise ValidationFailed("the file has no controls of any number of findings: build it again")
        for kind, ks in itertools.product(NULLS, held):
            if (arrays := pack.nulls.get((kind, ks))) is None:
                raise ValidationFailed(f"the file has no {kind} controls of {max(ks)} findings: build it again")
            known = Null.of(arrays)
            differences += [abs(self._closeness(known.mean[s]) - float(known.shares[s].mean())) for s in SIDES]
            for i in rng.choice(len(known.volumes), min(sample, len(known.volumes)), replace=False).tolist():
                again = self.joined(self._measured(kind, [replace(each, ks=ks) for each in self._sets(kind, [i])]))
                differences += [abs(float(again.shares[s][0] - known.shares[s][i])) for s in SIDES]
                differences += [abs(float(again.volumes[0] - known.volumes[i]))] if kind == "isotropic" else []
        return len(differences), max(differences)

    def _wanted(self, findings: Iterable[int] | None = None) -> list[tuple[int, ...]]:
        """The sets of numbers of directions that so many findings may use; None: every one that there may be."""
        return list(dict.fromkeys(map(self._procedure.ks, findings or range(1, max(self._protocol.ks) + 1))))

    def _sets(self, kind: str, indices: Sequence[int]) -> list[Candidate]:
        """Constant controls of a null, not yet in the place of so many findings."""
        return [Candidate(self._frame(kind, i), (), random=True) for i in indices]

    def _measured(self, kind: str, sets: Sequence[Candidate]) -> list[Draw]:
        both = zip(sets, self._procedure.both(sets), strict=True)
        return [self.draw(each, taken, kind == "isotropic") for each, taken in both]

    def draw(self, candidate: Candidate, taken: BySides, mitigates: bool = True) -> Draw:
        """What a control does, of what was kept of it.

        Args:
            taken: by side, an option a budget.
            mitigates: whether its volume is measured, too; else it is 0.
        """
        return Draw(mean_effects(taken), self._volume(candidate, taken["necessity"]) if mitigates else 0.0)

    def under(self, directions: Directions, ks: tuple[int, ...], index: int) -> Candidate:
        """The index-th random control under the findings' gates."""
        return Candidate(self._frame("isotropic", index).under(directions), ks, gated=True, random=True)

    def _frame(self, kind: str, index: int) -> Directions:
        """Directions [16, d_model] of a control, without gates."""
        drawn = (
            control(index, len(self.centre), self._seed)
            if kind == "isotropic"
            else mixture(index, self._differences, self._seed)
        )
        return Directions.ungated(drawn.to(self.device), self.centre)

    @cached_property
    def _differences(self) -> Tensor:
        """[tokens, d_model] what fine-tuning changed before each token of dev text, sinks left out."""
        (base, free), (tuned, also) = (self._clean[side, "dev"].read.rows.before() for side in SIDES.values())
        return (tuned - base)[free & also]

    def joined(self, draws: Sequence[Draw]) -> Null:
        """The null that these are draws of."""
        mean: dict[SideName, Array] = {side: np.mean([d.effects[side] for d in draws], axis=0) for side in SIDES}
        shares: dict[SideName, Array] = {
            side: np.array([self._closeness(d.effects[side]) for d in draws]) for side in SIDES
        }
        return Null(mean, shares, np.array([d.volume for d in draws]))

    def _volume(self, candidate: Candidate, necessity: Sequence[Taken]) -> float:
        """Normalised hypervolume of a control's front, before rescaling."""
        front = self._procedure.front(candidate, necessity)
        x, y = np.array([self._closeness(e) for e, _ in front]), np.array([kept for _, kept in front])
        off = float(hypervolume(np.ones(1), np.array([self._procedure.retention_off])))
        return min(1.0, float(hypervolume(x, y)) / off) if off else 0.0
