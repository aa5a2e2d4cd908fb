"""One cell: an organism, a method, a seed. Everything that decides its numbers is in its identity, computed before it runs."""

import logging
import resource
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel

from ...methods.contract import Budget, DiffResult, FindingError, check_findings
from ...methods.entry import MethodEntry
from ...organisms.errors import DiffbenchError
from ...organisms.hub.shown import shown
from ...organisms.organism import Organism
from ...organisms.texts import Texts
from ..cache import Cache, Kept
from ..devices import OutOfMemory, release, trouble
from ..pairs.interventions import Directions
from ..pairs.loading import Backend, load_pair
from ..pairs.pair import Pair
from ..pairs.sinks import TIMES, Count, Sinks
from ..protocol.controls import SCORE_SEED
from ..protocol.discovery import Panel
from ..protocol.effects import PROTOCOL_V1, NotScorable, Protocol, Scored, Scorer
from ..protocol.identification import Reader
from ..protocol.intervals import summarise
from ..protocol.localisation import localise, truth_of
from ..protocol.reading import prompts_sha256, text_read
from ..protocol.result import (
    CUSTOM,
    PROTOCOL_SHA256,
    PROTOCOL_VERSION,
    Behaviour,
    Cost,
    Failure,
    Identity,
    LeftOut,
    Reading,
    Result,
    Status,
    sha256_json,
)
from .problem import Memory, Problem
from .provenance import cpu_name, package_versions, provenance, source_hash

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total)."""


@dataclass(frozen=True)
class Cell:
    """What is to be run."""

    organism: Organism
    method: MethodEntry
    config: BaseModel
    seed: int
    protocol: Protocol = field(default_factory=lambda: PROTOCOL_V1)
    budget: Budget = field(default_factory=Budget)
    machine: "Machine" = field(default_factory=lambda: Machine())
    sinks: Literal["drop", "keep"] | None = None
    """Whether sinks are left out; None: on real models, and on the embedded tier there are none."""
    limit: int | None = None
    """Only so many prompts a split: a partial result."""

    @property
    def drops(self) -> bool:
        """Whether sinks are left out."""
        return self.sinks == "drop" or (self.sinks is None and self.organism.tier != "tiny")

    def identity(self, layer: int) -> Identity:
        """The block whose hash names the result."""
        o, settings = self.organism, sha256_json(self.protocol.model_dump())
        return Identity(
            organism=o.name,
            organism_sha256=o.sha256,
            method=self.method.name,
            method_version=self.method.version,
            access=self.method.access,
            code_sha256=source_hash(self.method.file),
            config=self.config.model_dump(mode="json"),
            protocol=PROTOCOL_VERSION if settings == PROTOCOL_SHA256 else CUSTOM,
            protocol_sha256=settings,
            prompts_sha256=prompts_sha256(o),
            layer=layer,
            seeds={"method": self.seed, "scores": SCORE_SEED},
            budget={"tokens": self.budget.tokens, "seconds": self.budget.seconds},
            dtype=self.machine.numbers,
            tier=o.tier,
            sinks=("drop" if self.drops else "keep") if self.sinks or o.tier != "tiny" else None,
            limit=self.limit,
        )


@dataclass(frozen=True)
class Machine:
    """Where and in which numbers models run."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """None: float32 on a CPU, bfloat16 elsewhere."""
    device_map: str | None = None
    """Spread a model over several devices, as transformers does."""
    backend: Backend = "hooks"
    """What runs the passes; both give the same numbers, so it is no part of the identity."""
    remote: bool = False
    """On NDIF, whose numbers have the precision of its deployment."""

    @property
    def numbers(self) -> Literal["float32", "bfloat16", "float16", "remote"]:
        """The dtype that is used."""
        if self.remote:
            return "remote"
        return self.dtype or ("float32" if self.device == "cpu" else "bfloat16")


@dataclass
class Stage:
    """A loaded organism: what its cells share."""

    organism: Organism
    pair: Pair
    texts: Texts
    protocol: Protocol
    load_s: float
    memory: Memory = field(default_factory=Memory)
    kept: Kept | None = None
    """Where what is measured of the pair is kept between runs."""
    _scorer: Scorer | None = None

    @classmethod
    def load(
        cls,
        organism: Organism,
        machine: Machine | str = "cpu",
        protocol: Protocol = PROTOCOL_V1,
        drops: bool | None = None,
        cache: Cache | None = None,
    ) -> "Stage":
        """Load the pair; PairError if its models do not belong together.

        Args:
            machine: where it runs, or just the device.
            drops: whether sinks are left out; default: on real models.
            cache: keeps what is measured of the pair for the next run; None: everything is measured here and now.
        """
        start = time.perf_counter()
        m = Machine(machine) if isinstance(machine, str) else machine
        pair = load_pair(
            organism.pair,
            None,
            organism.layer,
            m.device,
            organism.role == "null",
            dtype=m.dtype,
            device_map=m.device_map,
            backend=m.backend,
            remote=organism.source if m.remote else None,
        )
        texts = organism.make_texts(pair.tokenizer)
        if organism.tier != "tiny" if drops is None else drops:
            pair.sinks = Sinks.of(pair, list(islice(texts.rows("neutral", "harvest"), CALIBRATION_ROWS)))
        kept = Kept(cache, organism.name, _numbers_of(organism, pair, m)) if cache and not m.remote else None
        memory = Memory(kept, pair.device, pair.dtype)
        return cls(organism, pair, texts, protocol, time.perf_counter() - start, memory, kept)

    @property
    def is_measured(self) -> bool:
        """Whether `scorer` is there."""
        return self._scorer is not None

    @property
    def scorer(self) -> Scorer:
        """Measured on first use; NotScorable if the behaviour or the oracle is too weak."""
        return self.measured()

    def measured(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Scorer:
        """`scorer`, its measurement seen."""
        if self._scorer is None:
            self._scorer = Scorer(
                self.pair, self.organism.behaviour, self.texts, self.protocol, self._kept_of_prompts, progress
            )
        return self._scorer

    @property
    def _kept_of_prompts(self) -> Kept | None:
        """What is kept of the pair on these prompts."""
        return self.kept.but(prompts=prompts_sha256(self.organism)) if self.kept else None

    @cached_property
    def panel(self) -> Panel | None:
        """What a null's cells are tested on; None for any other organism."""
        if self.organism.role != "null":
            return None
        return Panel(self.pair, self.organism.behaviour, self.texts, self.protocol, kept=self._kept_of_prompts)

    @cached_property
    def reader(self) -> Reader | None:
        """Reads findings; None for an organism without candidates."""
        return Reader.of(self.organism, self.pair, self.texts)


def _numbers_of(organism: Organism, pair: Pair, machine: Machine) -> dict[str, Any]:
    """Everything that decides a residual of a pair to the last bit: files, layer, precision, what runs it and on what."""
    on_cpu = pair.device.type == "cpu"
    return {
        "organism": organism.sha256,
        "layer": pair.layer,
        "dtype": [machine.numbers, torch.get_float32_matmul_precision()],
        "sinks": pair.sinks.rule if pair.sinks else None,
        "backend": machine.backend,
        "device": cpu_name()
        if on_cpu
        else torch.cuda.get_device_name(pair.device)
        if pair.device.type == "cuda"
        else str(pair.device),
        "device_map": machine.device_map,
        "threads": torch.get_num_threads() if on_cpu else None,
        "packages": package_versions() | {"diffbench": version("diffbench")},
    }


CALIBRATION_ROWS = 200
"""Most texts that the norms of ordinary positions are measured on."""


@dataclass
class Clock:
    """Wall seconds by phase."""

    phases: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def phase(self, name: str) -> Generator[None, None, None]:
        """Add the block's wall time to a phase, whether it succeeds or not."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - start


@dataclass
class Outcome:
    """A finished cell: the record and what the method returned (None if it failed)."""

    result: Result
    diff: DiffResult | None
    error: BaseException | None = None


def run_cell(
    cell: Cell, stage: Stage, progress: Progress = lambda phase, done, total: None, scratch: Path | None = None
) -> Outcome:
    """Run and score one cell. Failures of the method or of the measurement become the result's status; bugs propagate."""
    started, cpu0, clock = datetime.now(UTC), time.process_time(), Clock({"load": stage.load_s})
    if cell.machine.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    identity = cell.identity(stage.pair.layer)
    diff: DiffResult | None = None
    error: BaseException | None = None
    fields: dict[str, Any] = {}
    status: Status = "ok"
    problem = Problem(
        stage.pair,
        stage.texts,
        cell.organism.behaviour.of("dev"),
        cell.method.access,
        cell.seed,
        cell.budget,
        progress,
        scratch,
        stage.memory,
    )
    try:
        progress("measure", 0, 1)
        with clock.phase("measure"):
            _ = stage.panel or stage.measured(partial(progress, "measure"))
        torch.manual_seed(cell.seed)
        progress("fit", 0, 1)
        with clock.phase("diff"):
            diff = check_findings(cell.method.run(cell.config, problem), stage.pair.d_model)
            if diff.patch and cell.method.access != "anchor":
                raise FindingError("diff() returned patch=True, which only the oracle may; return findings")
        with clock.phase("score"):
            fields = measured(diff, stage, progress) | _told(diff)
    except NotScorable as e:
        status, error = "not_applicable", e
    except (DiffbenchError, MemoryError, RuntimeError) as e:
        if (error := trouble(e, cell.machine.device)) is None:
            raise
        status = "oom" if isinstance(error, OutOfMemory) else "failed"
        if error is not e:
            error.__cause__ = e
            release(e)
    clock.phases["harvest"] = problem.harvest_s + problem.spared_s
    clock.phases["fit"] = max(0.0, clock.phases.pop("diff", 0.0) - problem.harvest_s)
    cost = Cost(
        wall_s=round(sum(clock.phases.values()), 3),
        cpu_s=round(time.process_time() - cpu0, 3),
        peak_rss_bytes=peak_rss_bytes(),
        peak_vram_bytes=int(torch.cuda.max_memory_allocated()) if cell.machine.device.startswith("cuda") else None,
        phases={k: round(v, 3) for k, v in clock.phases.items()},
        tokens=problem.tokens_used,
    )
    result = Result(
        id=identity.id(),
        status=status,
        reason=str(error) if error else None,
        identity=identity,
        cost=cost,
        provenance=provenance(
            cell.method.access,
            str(stage.pair.device),
            cell.organism.source,
            cell.method.origin,
            started,
            cell.method.stochastic,
            cell.machine.backend,
            cell.machine.remote,
        ),
        failure=Failure(type=type(error).__name__, message=str(error)) if error else None,
        left_out=left_out(problem.left_out, stage.pair),
        text=text_read(problem.ended, problem.losses, stage.pair.tokenizer) if cell.organism.tier != "tiny" else None,
        **fields,
    )
    return Outcome(result, diff, error)


def unloaded(cell: Cell, layer: int, error: DiffbenchError, status: Status = "failed") -> Outcome:
    """The cell of a pair that does not load, or that was not tried.

    Args:
        layer: hooked layer, as far as it is known.
    """
    identity = cell.identity(layer)
    cost = Cost(wall_s=0, cpu_s=0, peak_rss_bytes=peak_rss_bytes(), phases={}, tokens=0)
    made = provenance(
        cell.method.access,
        cell.machine.device,
        cell.organism.source,
        cell.method.origin,
        datetime.now(UTC),
        cell.method.stochastic,
    )
    failure = Failure(type=type(error).__name__, message=str(error))
    result = Result(
        id=identity.id(),
        status=status,
        reason=str(error),
        identity=identity,
        cost=cost,
        provenance=made,
        failure=failure,
    )
    return Outcome(result, None, error)


def left_out(count: Count, pair: Pair) -> LeftOut | None:
    """What sinks took out of the harvest, for the record; None where nothing is left out."""
    if pair.sinks is None:
        return None
    often = sorted(count.tokens, key=lambda t: -count.tokens[t])[:10]
    return LeftOut(
        read=count.read,
        first=count.first,
        special=count.special,
        outliers=count.outliers,
        times=TIMES,
        median_base=pair.sinks.median["base"],
        median_tuned=pair.sinks.median["tuned"],
        largest=count.largest,
        tokens=[shown(pair.tokenizer, t) for t in often],
    )


def score_findings(
    diff: DiffResult, scorer: Scorer, progress: Callable[[int, int], None] = lambda done, total: None
) -> Scored:
    """Protocol v1 on findings, or on the oracle."""
    if diff.patch:
        return Scored(scorer.oracle_samples(), [], [])
    return scorer.samples(Directions.of(diff.findings, scorer.pair.device), SCORE_SEED, progress)


def measured(diff: DiffResult, stage: Stage, progress: Progress = lambda phase, done, total: None) -> dict[str, Any]:
    """Every field of a result that follows from the findings, and that `bench verify` measures again.

    Raises:
        NotScorable: the behaviour or the oracle is too weak, or there are no findings to test on a null.
    """
    step = partial(progress, "score")
    if stage.panel:
        if diff.patch:
            raise NotScorable("nothing is hidden in a null, so there is no oracle; run methods that return findings")
        return {
            "false_discovery": stage.panel.test(diff.findings, step),
            "readings": readings(diff, stage.pair),
        }
    scored = score_findings(diff, stage.scorer, step)
    truth, ks = truth_of(stage.organism), stage.protocol.ks
    return {
        "scores": summarise(scored.samples, stage.protocol.draws, SCORE_SEED, controls_ran=not diff.patch),
        "samples": scored.samples,
        "choices": scored.choices,
        "curves": scored.curves,
        "readings": readings(diff, stage.pair),
        "behaviour": behaviour_of(stage),
        "localisation": localise(diff.findings, truth, ks) if truth is not None and diff.findings else None,
        "identification": stage.reader.identify(diff.findings, ks) if stage.reader and diff.findings else None,
    }


def _told(diff: DiffResult) -> dict[str, Any]:
    """What the method says of itself."""
    found = [{"score": f.score, **f.evidence} for f in diff.findings]
    return {"diagnostics": {**diff.diagnostics, "findings": found}}


def behaviour_of(stage: Stage) -> Behaviour:
    """The behaviour's rates as measured on this machine."""
    scorer = stage.scorer
    return Behaviour(
        b0_dev=scorer.b0_dev,
        b1_dev=scorer.b1_dev,
        b0_test=float(scorer.b0.mean()),
        b1_test=float(scorer.b1.mean()),
        n_dev=len(stage.organism.behaviour.of("dev")),
        n_test=len(scorer.b0),
    )


def readings(diff: DiffResult, pair: Pair, top: int = 5) -> list[Reading]:
    """What the first findings read as through the logit lens: tokens promoted and suppressed most."""
    if not diff.findings:
        return []
    logits = pair.lens(torch.stack([f.direction for f in diff.findings[:top]]))

    def words(ids: torch.Tensor) -> list[str]:
        return [shown(pair.tokenizer, int(i)) for i in ids]

    return [
        Reading(
            finding=i,
            promotes=words(row.topk(8).indices),
            suppresses=words((-row).topk(5).indices),
            score=f.score,
            gated=f.gate is not None,
        )
        for i, (row, f) in enumerate(zip(logits, diff.findings, strict=False))
    ]


def peak_rss_bytes() -> int:
    """Most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
