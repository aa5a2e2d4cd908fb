"""Specificity: what the interventions that were chosen for one behaviour do to the others, which should be nothing.

The one idea: nothing is selected here. The options that count in a run under every KL budget (gated where there are gates), at their own
strengths, are applied again while the model is asked about every behaviour of the headline set, and so are random directions in the
findings' place. In an organism's own column the mean rate on test prompts is the one that its result records. Formulas: docs/protocol.md.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...methods.contract import check_findings
from ...organisms.behaviour import Prompt
from ...organisms.errors import ValidationFailed
from ...organisms.hub.asked import encode_prompt
from ...organisms.registry import family_and_spec, load_organism
from ...organisms.sets import HEADLINE, members
from ..pairs.engine import Side
from ..pairs.interventions import NOTHING, Directions, Edits, Move, Option, edits
from ..pairs.pair import Pair
from ..parallel import in_threads
from ..protocol.clean_runs import PromptResiduals, TextResiduals
from ..protocol.controls import control as isotropic
from ..protocol.prompts import ProbeError, joint, ordinary, shares
from ..records.identity import sha256_json
from ..records.reading import prompts_sha256
from ..records.result import SideName
from ..records.settings import PROTOCOL_V2, Protocol
from ..runs.folder import read_findings
from ..runs.stage import Stage
from ..runs.verify import TOLERANCE
from .specificity_record import Array, Column, Half, Row, Specificity, summary
from .specificity_runs import Run, select

CONTROLS = 4
"""Random sets of directions in the findings' place: the first of those that the result's own controls are."""
HALVES: dict[Literal["added", "removed"], tuple[SideName, Side, float]] = {
    "added": ("sufficiency", "base", 1.0),
    "removed": ("necessity", "tuned", -1.0),
}
"""What is applied, to which side, and the sign of the wanted change."""


@dataclass(frozen=True)
class _Asking:
    """A column as one row asks it."""

    column: str
    family: str
    organism: str
    gap: float
    prompts: tuple[Prompt, ...]

    @property
    def openings(self) -> set[tuple[object, ...]]:
        """What is said before the continuations, without them."""
        return {(p.text, p.messages, p.prefill) for p in self.prompts}


@dataclass(frozen=True)
class _Model:
    """One side of one pair: the scale of strengths, and the prompts it was asked so far."""

    pair: Pair
    side: Side
    scale: float
    """Mean residual norm on ordinary dev text."""
    centre: Tensor
    """[d_model] mean residual there."""
    asked: dict[tuple[Prompt, ...], PromptResiduals] = field(default_factory=dict[tuple[Prompt, ...], PromptResiduals])

    @classmethod
    def of(cls, stage: Stage, side: Side) -> "_Model":
        """The side of a loaded organism."""
        prompts, tokens = stage.organism.behaviour.of("dev"), stage.protocol.dev_tokens
        h = TextResiduals(stage.pair, side, ordinary(stage.pair, stage.texts, prompts, "dev", tokens)).ordinary()
        return cls(stage.pair, side, float(h.norm(dim=-1).mean()), h.mean(0))

    def ask(self, asking: _Asking) -> PromptResiduals:
        """The prompts' residuals, computed once; ProbeError if this vocabulary cannot say them."""
        if asking.prompts not in self.asked:
            unknown = self.pair.tokenizer.unk_token_id
            if unknown is not None and any(
                unknown in encode_prompt(self.pair.tokenizer, p).ids for p in asking.prompts
            ):
                raise ProbeError("a prompt has words that are not in this vocabulary")
            self.asked[asking.prompts] = PromptResiduals(self.pair, self.side, list(asking.prompts))
        return self.asked[asking.prompts]

    def changes(self, asking: _Asking, sets: Sequence[Directions], options: Sequence[Option]) -> Array | str:
        """Change of the rate [sets, prompts] as a share of the gap, mean over the options; or why it cannot be asked."""
        try:
            asked = self.ask(asking)
        except ProbeError as error:
            return str(error)
        counts = Counter(o for o in options if o != NOTHING)
        changed = torch.zeros(len(sets), asked.choices.n, dtype=torch.float64)
        if counts:
            before = shares(joint(asked.clean, asked.choices), asked.choices)
            after = shares(asked.edited(_together([edits(list(counts), d, self.scale) for d in sets])), asked.choices)
            share = torch.tensor([n / len(options) for n in counts.values()], dtype=torch.float64)
            changes = (after - before).cpu().double().view(len(sets), len(counts), -1)
            changed = (share[:, None] * changes).sum(1)
        return changed.numpy() / asking.gap


def _together(each: Sequence[Edits]) -> Edits:
    """Edits of several sets of directions as one batch."""
    moves, which, lengths = list[Move](), list[int](), list[float]()
    for e in each:
        which += [len(moves) + w for w in e.which]
        moves += e.moves
        lengths += e.lengths
    return Edits(moves, which, lengths)


def specificity(
    runs: Path,
    method: str | None,
    seed: int = 0,
    protocol: Protocol = PROTOCOL_V2,
    behaviours: Sequence[str] | None = None,
    controls: int = CONTROLS,
    progress: Callable[[Row], None] = lambda row: None,
) -> Specificity:
    """Apply every chosen intervention of one method's runs to every behaviour of the headline set, or of these organisms.

    Raises:
        PrerequisiteError, UsageError: no such run. ValidationFailed: runs of different settings, damaged findings, or a
        record that does not belong to the organism, protocol or version here.
    """
    selected = select(runs, method, seed)
    behaviours = members(HEADLINE) if behaviours is None else behaviours
    askings = _askings([*behaviours, *(r.source for r in selected.runs)])
    notes, bases, rows = list(selected.notes), dict[tuple[Path, int, bool], _Model](), list[Row]()
    for run in selected.runs:
        rows.append(_row(run, askings, bases, protocol, controls, notes))
        progress(rows[-1])
    columns = [Column(name=a.column, organism=a.organism, gap=a.gap, prompts=len(a.prompts)) for a in askings]
    return Specificity(
        method=selected.method,
        seed=seed,
        protocol_sha256=sha256_json(protocol.model_dump()),
        controls=controls,
        draws=protocol.draws,
        columns=columns,
        rows=rows,
        notes=list(dict.fromkeys(notes)),
    )


def _askings(names: Sequence[str]) -> list[_Asking]:
    """One a behaviour, from the first organism that has it; nulls have none."""
    found: dict[str, _Asking] = {}
    for name in names:
        _, spec, card = family_and_spec(name)
        column = f"{spec.family}/{spec.member}"
        if card.role != "null" and column not in found:
            gap = card.measured["behaviour_test"].change.value
            prompts = tuple(load_organism(name).behaviour.of("test"))
            found[column] = _Asking(column, spec.family, card.name, gap, prompts)
    return list(found.values())


def _row(
    run: Run,
    askings: Sequence[_Asking],
    bases: dict[tuple[Path, int, bool], _Model],
    protocol: Protocol,
    controls: int,
    notes: list[str],
) -> Row:
    """Load one organism and ask both its sides everything."""
    start = time.perf_counter()
    stage, own = _stage(run, protocol), _own(run)
    found = check_findings(read_findings(run.folder), stage.pair.d_model)
    chat = any(p.messages for p in stage.organism.behaviour.of("dev"))
    key = stage.organism.base, stage.pair.layer, chat
    bases[key] = bases.get(key) or _Model.of(stage, "base")
    directions = Directions.of(found.findings, stage.pair.device, bases[key].centre)
    sets = [directions, *(control(directions, i) for i in range(controls))]
    models: dict[Side, _Model] = {"base": bases[key], "tuned": _Model.of(stage, "tuned")}
    asked = [own if a.column == own.column else a for a in askings]
    other = [a.family != own.family and not a.openings & own.openings for a in asked]
    halves: dict[str, Half] = {}
    for half, (name, side, sign) in HALVES.items():
        column = "gated" if any(c.column == "gated" for c in run.result.choices) else "constant"
        chosen = [c for c in run.result.choices if (c.column, c.side) == (column, name)]
        ask = partial(models[side].changes, sets=sets, options=[Option(c.op, c.k, c.gated, c.strength) for c in chosen])
        effects: list[Array | None] = []
        for a, changes in zip(asked, in_threads(ask, asked, stage.pair.device), strict=True):
            effects.append(None if isinstance(changes, str) else sign * changes)
            if isinstance(changes, str):
                notes.append(f"{a.column} cannot be asked of {stage.organism.name}: {changes}")
        halves[half] = summary(effects, asked.index(own), other, protocol.draws)
        behaviour = run.result.behaviour
        assert behaviour is not None  # select() takes scored runs only
        before = behaviour.b0_test if side == "base" else behaviour.b1_test
        claimed = sign * (float(np.mean([c.test_rate for c in chosen])) - before)
        if abs(halves[half].own * own.gap - claimed) > TOLERANCE:
            raise ValidationFailed(
                f"{run.folder}: its findings, {half}, move the behaviour by {halves[half].own * own.gap:.4f}, the result says "
                f"{claimed:.4f}: it was edited, or scored by another version; see `bench verify`, or run the cell again"
            )
    return Row(
        organism=stage.organism.name,
        behaviour=own.column,
        gap=own.gap,
        result=run.result.id,
        other=other,
        added=halves["added"],
        removed=halves["removed"],
        wall_s=round(time.perf_counter() - start, 2),
    )


def _stage(run: Run, protocol: Protocol) -> Stage:
    """The organism of a run, loaded; ValidationFailed if it is not the one the run was made on."""
    organism, identity = load_organism(run.source), run.result.identity
    here = {
        "organism_sha256": organism.sha256,
        "protocol_sha256": sha256_json(protocol.model_dump()),
        "prompts_sha256": prompts_sha256(organism),
    }
    for what, expected in here.items():
        if (claimed := getattr(identity, what)) != expected:
            raise ValidationFailed(
                f"{run.folder}: {what} is {claimed[:12]} in the result and {expected[:12]} here: another organism, protocol or "
                "version of diffbench; run the cell again"
            )
    return Stage.load(organism, "cpu", protocol)


def _own(run: Run) -> _Asking:
    """An organism's own column: its own prompts, and the gap its run measured."""
    _, spec, card = family_and_spec(run.source)
    behaviour = run.result.behaviour
    assert behaviour is not None  # select() takes scored runs only
    prompts = tuple(load_organism(run.source).behaviour.of("test"))
    return _Asking(
        f"{spec.family}/{spec.member}", spec.family, card.name, behaviour.b1_test - behaviour.b0_test, prompts
    )


def control(directions: Directions, index: int) -> Directions:
    """The index-th random control of a result: isotropic unit directions under the findings' gates."""
    noise = isotropic(index, directions.direction.shape[1])
    return replace(directions, direction=noise[: len(directions.direction)].to(directions.direction))
