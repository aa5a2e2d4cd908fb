"""A loaded organism: what its cells share, and what is measured of findings on it."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from itertools import islice
from typing import Any, Literal

import torch

from ...methods.contract import DiffResult
from ...organisms.hub.shown import shown
from ...organisms.organism import Organism
from ...organisms.texts import Texts
from ..cache import Cache, Kept
from ..pairs.loading import Backend, load_pair
from ..pairs.pair import Pair
from ..pairs.sinks import TIMES, Count, Sinks
from ..protocol.controls import SCORE_SEED, VERSION
from ..protocol.discovery import Panel
from ..protocol.effects import Scored, Scorer
from ..protocol.identification import Reader
from ..protocol.intervals import summarise
from ..protocol.localisation import localise, truth_of
from ..protocol.prompts import ordinary
from ..records.control_pack import ControlPackError, key_of, matching
from ..records.making import LeftOut
from ..records.reading import prompts_sha256
from ..records.result import Behaviour, Reading
from ..records.settings import PROTOCOL_V2, NotScorable, Protocol
from .harvest import Memory
from .provenance import cpu_name, package_versions

Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total)."""


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
        protocol: Protocol = PROTOCOL_V2,
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
    def notes(self) -> list[str]:
        """What the organism and its texts leave to be said in a record, one sentence each."""
        return [*self.organism.sentences, *(self._scorer.notes if self._scorer else [])]

    @property
    def scorer(self) -> Scorer:
        """Measured on first use; NotScorable if the behaviour or the oracle is too weak."""
        return self.measured()

    def measured(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Scorer:
        """`scorer`, its measurement seen."""
        if self._scorer is None:
            o = self.organism
            shipped = matching(o.controls, self.control_key) if o.controls else None
            self._scorer = Scorer(
                self.pair, o.behaviour, self.texts, self.protocol, self.kept_of_prompts, progress, shipped
            )
        return self._scorer

    @property
    def control_key(self) -> dict[str, Any]:
        """Everything that decides what constant controls do here, but for rounding."""
        p, b = self.protocol, self.organism.behaviour
        read = [
            ordinary(self.pair, self.texts, b.of("dev"), "dev", p.dev_tokens),
            ordinary(self.pair, self.texts, b.of("test"), "test", p.test_tokens),
        ]
        return {
            "read": [text.sha256 for text in read],
            "sinks": self.pair.sinks.rule if self.pair.sinks else None,
            **_controlled(self.organism, self.pair.layer, str(self.pair.dtype), p),
        }

    @property
    def kept_of_prompts(self) -> Kept | None:
        """What is kept of the pair on these prompts."""
        return self.kept.but(prompts=prompts_sha256(self.organism)) if self.kept else None

    @cached_property
    def panel(self) -> Panel | None:
        """What a null's cells are tested on; None for any other organism."""
        if self.organism.role != "null":
            return None
        return Panel(self.pair, self.organism.behaviour, self.texts, self.protocol, kept=self.kept_of_prompts)

    @cached_property
    def reader(self) -> Reader | None:
        """Reads findings; None for an organism without candidates."""
        return Reader.of(self.organism, self.pair, self.texts, self.kept)


def _controlled(organism: Organism, layer: int, dtype: str, protocol: Protocol) -> dict[str, Any]:
    """What of `control_key` is known before a pair is loaded."""
    return {
        "organism": organism.sha256,
        "prompts": prompts_sha256(organism),
        "layer": layer,
        "dtype": dtype,
        "settings": protocol.model_dump(mode="json", exclude={"controls", "draws", "min_scored", "min_oracle"}),
        "procedure": VERSION,
    }


def shipped_controls(organism: Organism, layer: int, numbers: str, drops: bool, protocol: Protocol) -> str | None:
    """Hash of the random controls that came with an organism, if they are of this layer, precision and protocol; else they are measured.

    Args:
        numbers: float32, bfloat16 or float16, as `Machine.numbers` has it.
        drops: whether sinks are left out.
    """
    if organism.controls is None:
        return None
    with contextlib.suppress(ControlPackError):  # a damaged file is refused where it is read
        key = key_of(organism.controls)
        known = _controlled(organism, layer, f"torch.{numbers}", protocol)
        if {k: key.get(k) for k in known} != known or (key.get("sinks") is not None) != drops:
            return None
    return organism.controls_sha256


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


def measure_controls(diff: DiffResult, stage: Stage, progress: Callable[[int, int], None]) -> None:
    """Measure the constant random controls that the findings are compared with, as far as they are not known."""
    if stage.panel is None and diff.findings and not diff.patch:
        stage.scorer.controls.measure(stage.scorer.ks(len(diff.findings)), progress)


def score_findings(
    diff: DiffResult, scorer: Scorer, progress: Callable[[int, int], None] = lambda done, total: None
) -> Scored:
    """Protocol v2 on findings, or on the oracle."""
    if diff.patch:
        return Scored(scorer.oracle_samples(), [], [])
    return scorer.score(scorer.directions(diff.findings), progress)


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
