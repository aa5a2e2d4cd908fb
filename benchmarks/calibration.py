"""`python -m benchmarks.calibration`: what a score means, where the truth is known to the bit.

On planted organisms the whole change is a multiple of one direction, so the share of the behaviour that a finding carries can be
measured without the protocol: exchange between base and organism only the part of the difference along the finding, on every token,
and see how much of the gap closes (`causal_share`: harmonic mean of both sides, no budget, no choice on dev, no controls).
Findings at known angles, with known noise, ranks and gates then show what protocol v2 makes of that share.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from diffbench.harness.pairs.interventions import Directions, unit
from diffbench.harness.protocol.clean_runs import PromptResiduals
from diffbench.harness.protocol.controls import SCORE_SEED
from diffbench.harness.protocol.effects import Scorer
from diffbench.harness.protocol.intervals import harmonic, summarise
from diffbench.harness.protocol.procedure import Candidate
from diffbench.harness.protocol.prompts import joint, shares
from diffbench.harness.records.settings import PROTOCOL_V2, Protocol
from diffbench.harness.runs.problem import Problem
from diffbench.harness.runs.stage import Stage
from diffbench.harness.studies.known_truth import KnownOrganism
from diffbench.methods.anchors import Supervised, SupervisedConfig
from diffbench.methods.contract import Budget, Finding, Gate
from diffbench.organisms.organism import truth_direction
from diffbench.organisms.registry import load_organism
from torch import Tensor

from .calibration_page import Point, Record, Study, draw, markdown
from .table import insert

GateName = Literal["absent", "right", "wrong"]


@dataclass(frozen=True)
class Grid:
    """What is tried."""

    organisms: tuple[str, ...]
    cosines: tuple[float, ...]
    noises: tuple[float, ...]
    """Length of the noise added to a truth of length 1."""
    ranks: tuple[int, ...]
    """Place of the truth among random findings."""
    ks: tuple[int, ...]
    """Findings the protocol may use, each alone."""
    doses: tuple[float, ...]
    """Strengths, as multiples of the best one."""
    seeds: int
    protocol: Protocol


FULL = Grid(
    organisms=("planted/owl-strong", "planted/fox-weak", "planted/owl-strong-qwen2"),
    cosines=(1.0, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0.0),
    noises=(0.5, 1.0, 2.0, 4.0, 8.0),
    ranks=(1, 3, 10),
    ks=(1, 3, 10),
    doses=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0),
    seeds=3,
    protocol=PROTOCOL_V2,
)
QUICK = replace(
    FULL,
    organisms=FULL.organisms[:1],
    cosines=(1.0, 0.6, 0.0),
    noises=(2.0,),
    seeds=1,
    protocol=PROTOCOL_V2.model_copy(update={"controls": 3, "draws": 200, "dev_tokens": 100, "test_tokens": 100}),
)
WIDTH = 10
"""Findings in a list with distractors or with independent noise."""


class Remembering(Scorer):
    """Keeps what was measured of gated controls too: the same gates and the same random directions give the same numbers."""

    def _under(self, directions: Directions, ks: tuple[int, ...], index: int) -> Candidate:
        if not hasattr(self, "_gated_controls"):
            self._gated_controls: dict[tuple[object, ...], Candidate] = {}
        gates = directions.read.numpy().tobytes(), directions.threshold.numpy().tobytes()
        key = (gates, len(directions.direction), index)
        if key not in self._gated_controls:
            self._gated_controls[key] = super()._under(directions, ks, index)
        return self._gated_controls[key]


class Known:
    """A planted organism: its truth, its gate, and the share of the behaviour that a finding carries."""

    def __init__(self, name: str, protocol: Protocol):
        organism = load_organism(name)
        self.stage = Stage.load(organism, "cpu", protocol)
        self.truth: Tensor = unit(truth_direction(organism.adapter))
        labelled = Problem(
            self.stage.pair, self.stage.texts, organism.behaviour.of("dev"), "supervised", 0, Budget(tokens=4000)
        )
        gate = Supervised(SupervisedConfig(per_token=False)).diff(labelled).findings[0].gate
        assert gate is not None
        self.gates: dict[GateName, Gate | None] = {
            "absent": None,
            "right": gate,
            "wrong": Gate(-gate.read, -gate.threshold),
        }
        prompts = organism.behaviour.of("test")
        self.base, self.tuned = (PromptResiduals(self.stage.pair, side, prompts) for side in ("base", "tuned"))

    def scorer(self, protocol: Protocol) -> Scorer:
        """A scorer whose controls are measured once for all findings."""
        return Remembering(self.stage.pair, self.stage.organism.behaviour, self.stage.texts, protocol)

    def at(self, cosine: float, seed: int) -> Tensor:
        """A unit direction [d_model] at an angle to the truth, otherwise random."""
        return cosine * self.truth + math.sqrt(1 - cosine**2) * unit(self._aside(seed))

    def noisy(self, level: float, seed: int) -> Tensor:
        """The truth with isotropic noise of a length, at right angles."""
        return unit(self.truth + level * unit(self._aside(seed)))

    def _aside(self, seed: int) -> Tensor:
        noise = random_direction(len(self.truth), seed)
        return noise - (noise @ self.truth) * self.truth

    def causal_share(self, directions: Tensor) -> float:
        """Share of the gap that closes with the part of the difference in the span of directions [n, d_model], both ways."""
        basis = torch.linalg.qr(directions.T)[0]

        def exchange(into: PromptResiduals, other: PromptResiduals) -> float:
            pairs = zip(into.rows.residuals, other.rows.residuals, strict=True)
            moved = self._rates(into, [h + (g - h) @ basis @ basis.T for h, g in pairs])
            before, there = (self._rates(asked, asked.rows.residuals) for asked in (into, other))
            return float(1 - (moved - there).abs().sum() / (before - there).abs().sum())

        both = np.array([exchange(self.base, self.tuned), exchange(self.tuned, self.base)])
        return float(harmonic(both[:1], both[1:])[0])

    @staticmethod
    def _rates(asked: PromptResiduals, residuals: Sequence[Tensor]) -> Tensor:
        return shares(joint(asked.patched(residuals), asked.choices), asked.choices)[0]


def random_direction(d_model: int, seed: int) -> Tensor:
    """Isotropic, [d_model], length 1."""
    return unit(torch.randn(d_model, generator=torch.Generator().manual_seed(9_000_000 + seed)))


def measure(name: str, grid: Grid, say: Callable[[str], None]) -> Iterator[Point]:
    """Every point of the grid on one organism."""
    known = Known(name, grid.protocol)
    whole = known.scorer(grid.protocol)

    def point(
        scorer: Scorer, study: Study, x: float, series: str, seed: int, found: Tensor, gate: GateName = "absent"
    ) -> Point:
        """`found` [n, d_model]: the findings, best first."""
        gated = [Finding(d, known.gates[gate]) for d in found]
        samples = scorer.score(scorer.directions(gated)).samples
        scores = summarise(samples, grid.protocol.draws, SCORE_SEED)
        used = found[: max(scorer.protocol.ks)]
        s, i = scores, scores.isolation
        return Point(
            organism=name,
            study=study,
            x=x,
            series=series,
            seed=seed,
            causal_share=round(known.causal_share(used), 4),
            isolation=i.value,
            low=i.ci_low,
            high=i.ci_high,
            sufficiency=s.sufficiency.value,
            necessity=s.necessity.value,
        )

    gates: tuple[GateName, ...] = ("absent", "right", "wrong")
    for gate in gates:
        for cosine in grid.cosines:
            for seed in range(grid.seeds if cosine < 1 else 1):
                yield point(whole, "angle", cosine, gate, seed, known.at(cosine, seed)[None], gate)
        say(f"{name}: angles, gate {gate}")
    for level in grid.noises:
        for seed in range(grid.seeds):
            many = torch.stack([known.noisy(level, 100 * (seed + 1) + i) for i in range(WIDTH)])
            yield point(whole, "noise", level, "one finding", seed, many[:1])
            yield point(whole, "noise", level, f"{WIDTH} findings", seed, many)
    say(f"{name}: noise")
    for k in (*grid.ks, 0):
        scorer = known.scorer(grid.protocol.model_copy(update={"ks": (k,)})) if k else whole
        for rank in grid.ranks:
            for seed in range(grid.seeds):
                found = torch.stack([random_direction(len(known.truth), 5000 + 100 * seed + i) for i in range(WIDTH)])
                found[rank - 1] = known.truth
                yield point(scorer, "rank", rank, f"k = {k}" if k else "best k on dev", seed, found)
        say(f"{name}: ranks, k = {k or 'all'}")
    truth, ops = Finding(known.truth), {"sufficiency": "add", "necessity": "subtract"}
    curves = {c.op: c for c in whole.score(whole.directions([truth])).curves}
    for side, op in ops.items():
        best = max(zip(curves[op].gain, curves[op].strengths, strict=True))[1]
        for dose in grid.doses:
            closed = KnownOrganism(known.stage, 1, lambda _: 0.0).closeness(truth, side, op, dose * best)
            either = {side: closed, "necessity" if side == "sufficiency" else "sufficiency": None}
            said = {"add": "added to the base", "subtract": "subtracted from the organism"}[op]
            none = dict.fromkeys(("isolation", "low", "high"))
            yield Point(organism=name, study="dose", x=dose, series=said, seed=0, causal_share=1.0, **none, **either)
    say(f"{name}: doses")


def study(grid: Grid, say: Callable[[str], None]) -> Iterator[Point]:
    """Every organism of the grid."""
    for name in grid.organisms:
        yield from measure(name, grid, say)


def main(
    out: Annotated[Path, typer.Option(help="Folder of calibration.json, calibration.md and figures/.")] = Path("docs"),
    quick: Annotated[bool, typer.Option("--quick", help="A tiny grid, to test the script.")] = False,
) -> None:
    """Measure the grid; write the record, the figures and the tables between the markers of the page."""
    grid, start = QUICK if quick else FULL, time.perf_counter()

    def say(what: str) -> None:
        typer.echo(f"{time.perf_counter() - start:6.0f} s  {what}")

    points = list(study(grid, say))
    write(points, grid.protocol, out)


def write(points: Sequence[Point], protocol: Protocol, out: Path) -> None:
    """The record, the figures and the page."""
    record = Record(protocol=protocol.model_dump(mode="json"), score_seed=SCORE_SEED, points=list(points))
    (out / "figures").mkdir(parents=True, exist_ok=True)
    (out / "calibration.json").write_text(record.model_dump_json(indent=1) + "\n")
    for path in draw(record.points, out / "figures"):
        typer.echo(str(path))
    page = out / "calibration.md"
    if page.exists():
        page.write_text(insert(page.read_text(), markdown(record)))


if __name__ == "__main__":
    typer.run(main)
